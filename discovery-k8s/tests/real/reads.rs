//! What Services and slices of others look like to who looks them up.

use discovery_core::{Backend, Change, Instance, Query, Status};
use discovery_k8s::IpFamily;
use serde_json::{Value, json};

use crate::{
    Shared,
    servers::{ADMIN, Kube},
    support::{self, SLICES, ask, change, cluster},
};

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn backend(kube: &Kube, change: impl FnOnce(&mut discovery_k8s::K8sConfig)) -> Backend {
    let mut config = kube.config(ADMIN);
    change(&mut config);
    discovery_k8s::backend(config).unwrap()
}

async fn all(backend: &Backend, service: &str) -> Vec<Instance> {
    let query = Query::service(service).unwrap().include_unhealthy();
    let found = backend.registry.instances(&query).await.unwrap();
    found
        .instances
        .iter()
        .map(|instance| (**instance).clone())
        .collect()
}

async fn hosts(backend: &Backend, service: &str) -> Vec<String> {
    let found = all(backend, service).await;
    found.iter().map(|instance| instance.host.to_string()).collect()
}

fn service(name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name }, "spec": spec })
}

fn slice(name: &str, service: &str, family: &str, endpoints: &Value) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": service } },
        "addressType": family, "endpoints": endpoints,
        "ports": [{ "name": "http", "port": 80 }, { "name": "admin", "port": 8081 }],
    })
}

fn pod(name: &str, address: &str) -> Value {
    json!({ "addresses": [address], "targetRef": { "kind": "Pod", "name": name } })
}

pub(crate) async fn services_by_another_name_and_headless_ones_are_found(shared: Shared) {
    let kube = cluster(&shared).await;
    let named =
        json!({ "type": "ExternalName", "externalName": "db.example.com", "ports": [{ "port": 5432 }] });
    ask(&kube, "POST", SERVICES, Some(&service("elsewhere", &named))).await;
    let headless = json!({ "clusterIP": "None", "ports": [{ "port": 80 }] });
    ask(&kube, "POST", SERVICES, Some(&service("headless", &headless))).await;
    let backend = backend(&kube, |_| {});
    let found = all(&backend, "elsewhere").await;
    assert_eq!(found[0].address(), "db.example.com:5432");
    let mut watch = backend.watcher.watch(&Query::service("elsewhere").unwrap(), None);
    assert!(matches!(change(&mut watch).await.unwrap(), Change::Reset(all) if all.len() == 1));
    let moved = json!({ "spec": { "externalName": "db2.example.com" } });
    ask(&kube, "PATCH", &format!("{SERVICES}/elsewhere"), Some(&moved)).await;
    let mut now = Vec::new();
    while now != ["db2.example.com"] {
        match change(&mut watch).await.unwrap() {
            Change::Upsert(new) => now.extend(new.iter().map(|i| i.host.to_string())),
            Change::Remove(gone) => now.retain(|host| gone.iter().all(|key| !key.id.as_str().contains(host))),
            other => panic!("{other:?}"),
        }
    }
    // A headless Service has no address of its own, only its endpoints'.
    assert!(hosts(&backend, "headless").await.is_empty());
    let pods = slice(
        "headless-1",
        "headless",
        "IPv4",
        &json!([pod("h-0", "192.0.2.1")]),
    );
    ask(&kube, "POST", SLICES, Some(&pods)).await;
    assert_eq!(hosts(&backend, "headless").await, ["192.0.2.1"]);
}

pub(crate) async fn a_pod_of_two_families_is_found_at_the_one_wanted(shared: Shared) {
    let kube = cluster(&shared).await;
    for (name, family, endpoints) in [
        ("dual-4", "IPv4", json!([pod("d-0", "192.0.2.1")])),
        (
            "dual-6",
            "IPv6",
            json!([pod("d-0", "2001:db8::1"), pod("d-1", "2001:db8::2")]),
        ),
    ] {
        ask(
            &kube,
            "POST",
            SLICES,
            Some(&slice(name, "dual", family, &endpoints)),
        )
        .await;
    }
    for (family, wanted) in [
        (IpFamily::PreferIpv4, &["192.0.2.1", "2001:db8::2"][..]),
        (IpFamily::PreferIpv6, &["2001:db8::1", "2001:db8::2"]),
        (IpFamily::Ipv4, &["192.0.2.1"]),
        (IpFamily::Ipv6, &["2001:db8::1", "2001:db8::2"]),
    ] {
        let backend = backend(&kube, |config| config.endpoints.ip_family = family);
        assert_eq!(hosts(&backend, "dual").await, wanted, "{family:?}");
    }
}

pub(crate) async fn what_is_not_ready_is_healthy_only_where_it_is_asked_for(shared: Shared) {
    let kube = cluster(&shared).await;
    let mut starting = pod("n-1", "192.0.2.2");
    starting["conditions"] = json!({ "ready": false, "serving": false, "terminating": false });
    let both = slice(
        "soon-1",
        "soon",
        "IPv4",
        &json!([pod("n-0", "192.0.2.1"), starting]),
    );
    ask(&kube, "POST", SLICES, Some(&both)).await;
    let query = Query::service("soon").unwrap();
    let healthy = async |backend: &Backend| {
        let found = backend.registry.instances(&query).await.unwrap();
        let ready = found.instances.iter().filter(|instance| instance.is_available());
        ready.map(|i| (i.host.to_string(), i.status)).collect::<Vec<_>>()
    };
    let usual = backend(&kube, |_| {});
    assert_eq!(healthy(&usual).await, [("192.0.2.1".to_owned(), Status::Passing)]);
    let too = backend(&kube, |config| config.endpoints.include_not_ready = true);
    assert_eq!(
        healthy(&too).await,
        [
            ("192.0.2.1".to_owned(), Status::Passing),
            ("192.0.2.2".to_owned(), Status::Warning)
        ]
    );
}

/// Whoever says nothing is ready; and when nothing is, those that still serve while they terminate have to do.
pub(crate) async fn k_1_k_2_what_says_nothing_is_ready_and_what_still_serves_has_to_do(shared: Shared) {
    let kube = cluster(&shared).await;
    let leaving = |name, address, serving: bool| {
        let mut pod = pod(name, address);
        pod["conditions"] = json!({ "ready": false, "serving": serving, "terminating": true });
        pod
    };
    let (silent, going) = (pod("c-0", "192.0.2.1"), leaving("c-1", "192.0.2.2", true));
    let gone = leaving("c-2", "192.0.2.3", false);
    let all = slice("said-1", "said", "IPv4", &json!([silent, going, gone]));
    let stored = ask(&kube, "POST", SLICES, Some(&all)).await;
    assert_eq!(
        stored["endpoints"][0]["conditions"],
        json!({}),
        "as the server has it"
    );
    let backend = backend(&kube, |_| {});
    let query = Query::service("said").unwrap();
    let available = async || {
        let found = backend.registry.instances(&query).await.unwrap();
        let some = found.instances.iter().filter(|instance| instance.is_available());
        some.map(|i| (i.host.to_string(), i.status)).collect::<Vec<_>>()
    };
    assert_eq!(available().await, [("192.0.2.1".to_owned(), Status::Passing)]);
    let mut watch = backend.watcher.watch(&query, None);
    assert!(matches!(change(&mut watch).await.unwrap(), Change::Reset(told) if told.len() == 3));
    let (stopped, path) = (leaving("c-0", "192.0.2.1", false), format!("{SLICES}/said-1"));
    let leave = json!({ "endpoints": [stopped, going, gone] });
    ask(&kube, "PATCH", &path, Some(&leave)).await;
    assert_eq!(available().await, [("192.0.2.2".to_owned(), Status::Warning)]);
    let Change::Upsert(told) = change(&mut watch).await.unwrap() else {
        panic!("not a change")
    };
    assert!(
        told.iter().any(|i| &*i.host == "192.0.2.2" && i.is_available()),
        "{told:?}"
    );
}

pub(crate) async fn several_namespaces_all_of_them_and_selectors(shared: Shared) {
    let kube = cluster(&shared).await;
    for namespace in ["blue", "green", "red"] {
        support::namespace(&kube, namespace).await;
        let mut pods = slice("spread-1", "spread", "IPv4", &json!([pod("s-0", "192.0.2.1")]));
        pods["metadata"]["labels"]["colour"] = namespace.into();
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
        ask(&kube, "POST", &path, Some(&pods)).await;
    }
    let namespaces = async |names: &[&str], colour: Option<&str>| {
        let backend = backend(&kube, |config| {
            let block = &mut config.service_discovery;
            block.namespaces = names.iter().map(|&name| name.to_owned()).collect();
            let selector = colour.map(|colour| ("colour".to_owned(), colour.to_owned()));
            block.selectors = selector.into_iter().collect();
        });
        let mut watch = backend.watcher.watch(&Query::service("spread").unwrap(), None);
        let found = all(&backend, "spread").await;
        assert!(
            matches!(change(&mut watch).await.unwrap(), Change::Reset(told) if told.len() == found.len())
        );
        let names = found
            .iter()
            .filter_map(|instance| instance.key.namespace.as_deref());
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(namespaces(&["blue", "red"], None).await, ["blue", "red"]);
    assert_eq!(namespaces(&["*"], None).await, ["blue", "green", "red"]);
    assert_eq!(namespaces(&["*"], Some("green")).await, ["green"]);
    assert!(namespaces(&["default"], None).await.is_empty());
}

/// The annotations and labels of the specification's block, and the names that a block may give them instead.
pub(crate) async fn annotations_and_labels_are_shown(shared: Shared) {
    let kube = cluster(&shared).await;
    let mut api = service(
        "dressed",
        &json!({ "clusterIP": "None", "ports": [{ "port": 80 }] }),
    );
    api["metadata"]["annotations"] = json!({
        "service.system-control.io/port": "admin",
        "service.system-control.io/health-path": "/healthz",
        "service.system-control.io/metrics-path": "/metrics",
        "example.com/port": "9000",
    });
    api["metadata"]["labels"] = json!({
        "app.kubernetes.io/name": "api", "app.kubernetes.io/version": "2.1", "app.kubernetes.io/environment": "staging",
    });
    ask(&kube, "POST", SERVICES, Some(&api)).await;
    let mut end = pod("a-0", "192.0.2.1");
    end["zone"] = "a".into();
    end["nodeName"] = "n1".into();
    end["hints"] = json!({ "forZones": [{ "name": "a" }] });
    ask(
        &kube,
        "POST",
        SLICES,
        Some(&slice("dressed-1", "dressed", "IPv4", &json!([end]))),
    )
    .await;
    let found = all(&backend(&kube, |_| {}), "dressed").await.remove(0);
    assert_eq!(found.address(), "192.0.2.1:8081");
    let meta: Vec<_> = found.meta.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(
        meta,
        [
            ("environment", "staging"),
            ("health_path", "/healthz"),
            ("hints.zones", "a"),
            ("metrics_path", "/metrics"),
            ("service_name", "api"),
            ("service_version", "2.1"),
        ]
    );
    assert_eq!(found.locality.zone.as_deref(), Some("a"));
    assert_eq!(found.locality.node.as_deref(), Some("n1"));
    let renamed = backend(&kube, |config| {
        "example.com/port".clone_into(&mut config.annotations.service_port);
    });
    assert_eq!(all(&renamed, "dressed").await[0].port, 9000);
}
