//! The launcher on a real kube-apiserver; `scripts/test` gets it. What cannot run is shown as ignored.
#![expect(
    clippy::unwrap_used,
    reason = "these are tests, without the harness that would say so"
)]

mod support;

use std::{path::PathBuf, time::Duration};

use discovery_core::ErrorKind;
use discovery_testkit::{
    eventually,
    server::{
        Server,
        etcd::Age,
        kube::{APISERVER, KubeApiserver, KubeBuilder},
    },
};
use hyper::Method;
use libtest_mimic::Failed;
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(90);
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

type Case = (&'static str, fn(KubeBuilder) -> Result<(), Failed>);

macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        [$((stringify!($name), |builder| support::run($name(builder)))),+]
    };
}

fn main() {
    let cases: [Case; 4] = cases![
        serves_and_says_its_version,
        users_may_do_what_they_are_bound_to,
        killed_and_restarted_it_remembers,
        compacted_an_old_watch_ends_with_410,
    ];
    // Both programs are needed; the one that is missing is named.
    let etcd = Age::New.binary();
    let (program, variable, both) = match APISERVER.binary() {
        Some(_) if etcd.is_none() => (APISERVER.name(), Age::New.variable(), None),
        binary => (APISERVER.name(), APISERVER.variable(), binary),
    };
    let trials = cases.map(|(name, case)| {
        let etcd = etcd.clone().unwrap_or_default();
        let run = move |binary: PathBuf| case(KubeApiserver::dev(binary, etcd));
        support::trial(program, variable, both.clone(), name, run)
    });
    support::conclude(trials.into());
}

fn slice(name: &str) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": 80 }],
        "endpoints": [{ "addresses": ["192.0.2.1"] }],
    })
}

async fn serves_and_says_its_version(builder: KubeBuilder) {
    let kube = builder.build().await.unwrap();
    let down = kube.get("/version").await.unwrap_err();
    assert_eq!(down.kind(), ErrorKind::Unavailable, "{down}");
    kube.start().await.unwrap();
    let version = kube.version().await.unwrap();
    assert!(version.starts_with("1."), "{version}");

    kube.create(SLICES, &slice("web-1")).await.unwrap();
    let change = json!({ "metadata": { "annotations": { "a": "b" } } });
    let path = format!("{SLICES}/web-1");
    kube.patch(&path, &change).await.unwrap();
    let found = kube.get(SLICES).await.unwrap();
    assert_eq!(found["items"][0]["metadata"]["annotations"]["a"], "b");
    kube.delete(&path).await.unwrap();
    let gone = kube
        .request(Some("admin"), Method::GET, &path, None)
        .await
        .unwrap();
    assert_eq!(gone.status, 404);

    let etcd = kube.etcd().pid();
    support::ends(&kube, kube.pid()).await;
    support::ends(kube.etcd(), etcd).await;
}

async fn users_may_do_what_they_are_bound_to(builder: KubeBuilder) {
    let builder = builder.user("reader", &["readers"]).user("nobody", &[]);
    let kube = builder.build().await.unwrap();
    assert!(!format!("{kube:?}").contains(kube.token("reader").unwrap().expose()));
    kube.start().await.unwrap();
    kube.create_namespace("other").await.unwrap();
    let status = async |user: Option<&str>, path: &str| {
        let reply = kube.request(user, Method::GET, path, None).await.unwrap();
        reply.status.as_u16()
    };
    assert_eq!(status(Some("reader"), SLICES).await, 403);
    let rules =
        json!([{ "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list"] }]);
    kube.allow("default", "reader", &rules).await.unwrap();
    eventually("the role", DEADLINE, async || {
        status(Some("reader"), SLICES).await == 200
    })
    .await;
    let other = SLICES.replace("default", "other");
    assert_eq!(status(Some("reader"), &other).await, 403);
    assert_eq!(status(Some("nobody"), SLICES).await, 403);
    assert_eq!(status(None, SLICES).await, 403, "nobody is anonymous");
    let error = kube
        .request(Some("unknown"), Method::GET, SLICES, None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    kube.allow_everywhere("reader", &rules).await.unwrap();
    eventually("the role", DEADLINE, async || {
        status(Some("reader"), &other).await == 200
    })
    .await;

    let config = std::fs::read_to_string(kube.kubeconfig("reader").unwrap()).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    let token = kube.token("reader").unwrap().expose();
    assert_eq!(config["users"][0]["user"]["token"], token);
    assert_eq!(config["clusters"][0]["cluster"]["server"], kube.url());
    assert_eq!(
        kube.kubeconfig("unknown").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let config = kube
        .kubeconfig_with_certificate("reader", &["readers"])
        .await
        .unwrap();
    let config: Value = serde_json::from_slice(&std::fs::read(config).unwrap()).unwrap();
    for file in ["client-certificate", "client-key"] {
        let path = config["users"][0]["user"][file].as_str().unwrap();
        assert!(std::fs::read_to_string(path).unwrap().starts_with("-----BEGIN "));
    }
}

async fn killed_and_restarted_it_remembers(builder: KubeBuilder) {
    let kube = builder.build().await.unwrap();
    kube.start().await.unwrap();
    kube.create(SLICES, &slice("web-1")).await.unwrap();
    kube.kill().await.unwrap();
    assert!(kube.etcd().pid().is_some(), "etcd goes on");
    kube.start().await.unwrap();
    assert_eq!(
        kube.get(SLICES).await.unwrap()["items"][0]["metadata"]["name"],
        "web-1"
    );
}

async fn compacted_an_old_watch_ends_with_410(builder: KubeBuilder) {
    let kube = builder.without_watch_cache().build().await.unwrap();
    kube.start().await.unwrap();
    let before = kube.create(SLICES, &slice("web-1")).await.unwrap();
    let before = before["metadata"]["resourceVersion"].as_str().unwrap();
    kube.create(SLICES, &slice("web-2")).await.unwrap();
    kube.create(SLICES, &slice("web-3")).await.unwrap();
    kube.compact().await.unwrap();
    let path = format!("{SLICES}?watch=true&resourceVersion={before}&timeoutSeconds=5");
    let watch = kube
        .request(Some("admin"), Method::GET, &path, None)
        .await
        .unwrap();
    assert!(watch.text().contains("410"), "{}: {}", watch.status, watch.text());
}
