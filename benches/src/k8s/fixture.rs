//! An apiserver of its own, slices in it, and the two that follow them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use discovery_core::{
    Query, TaskGroup,
    pick::{RoundRobin, Service, Strategy},
    resolver::{Resolver, ResolverOptions},
};
use discovery_k8s::K8sConfig;
use discovery_testkit::{
    eventually,
    server::{Server, kube::KubeApiserver},
};
use futures::{StreamExt, stream::BoxStream};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api,
    runtime::{
        WatchStreamExt,
        reflector::{Store, store},
        watcher::{self, Event, watcher},
    },
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
/// Endpoints of a slice, as the controller of a cluster fills it.
pub(super) const FULL: usize = 100;

/// Where an apiserver is, and as whom.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) url: String,
    pub(super) ca: PathBuf,
    pub(super) token: String,
}

impl Place {
    /// A bare client.
    pub(super) fn kube(&self) -> kube::Client {
        let mut config = kube::Config::new(self.url.parse().expect("a URL"));
        config.root_cert_file = Some(self.ca.clone());
        config.auth_info.token = Some(self.token.clone().into());
        kube::Client::try_from(config).expect("a client")
    }

    /// Our view of a service, kept up to date by tasks of the runtime, once it is there.
    pub(super) async fn service(&self, name: &str) -> Service {
        let strategy: Arc<dyn Strategy> = Arc::new(RoundRobin);
        let config = K8sConfig::at(self.url.clone())
            .token(self.token.clone())
            .ca_file(&self.ca);
        let backend = discovery_k8s::backend(config).expect("a backend");
        let tasks = TaskGroup::current().expect("inside a runtime");
        let resolver = Resolver::new(backend, tasks, ResolverOptions::default());
        let query = Query::service(name).expect("a valid name");
        let view = resolver.view(&query, &strategy).expect("a view");
        let service = Service::new(view, Duration::from_secs(60));
        service.ready().await.expect("a first answer");
        service
    }

    /// What one writes with kube-rs for the same: a store of the service's slices, and the stream that fills it.
    pub(super) fn reflector(&self, name: &str) -> (Store<EndpointSlice>, Reflected) {
        let slices: Api<EndpointSlice> = Api::namespaced(self.kube(), "default");
        let (reader, writer) = store();
        let config = watcher::Config::default().labels(&format!("kubernetes.io/service-name={name}"));
        let stream = watcher(slices, config).default_backoff().reflect(writer).boxed();
        (reader, stream)
    }
}

/// The stream of a reflector.
pub(super) type Reflected = BoxStream<'static, watcher::Result<Event<EndpointSlice>>>;

/// An apiserver that ends with this.
#[derive(Debug)]
pub(super) struct Fixture {
    pub(super) runtime: Runtime,
    pub(super) place: Place,
    server: KubeApiserver,
}

impl Fixture {
    pub(super) fn start(apiserver: PathBuf, etcd: PathBuf) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let server = runtime.block_on(async {
            let server = KubeApiserver::dev(apiserver, etcd)
                .build()
                .await
                .expect("an apiserver");
            server.start().await.expect("the apiserver starts");
            server
        });
        let place = Place {
            url: server.url(),
            ca: server.authority().ca(),
            token: server.token("admin").expect("the admin").expose().to_owned(),
        };
        let client = runtime.block_on(async { place.kube() });
        // The namespace comes a moment after the server.
        runtime.block_on(eventually("the namespace", Duration::from_secs(30), || {
            let request = request(&client, "GET", "/api/v1/namespaces/default", None);
            async { request.await.map(drop).map_err(|error| error.to_string()) }
        }));
        Self {
            runtime,
            place,
            server,
        }
    }

    /// Writes a full slice of a service.
    pub(super) async fn create(client: &kube::Client, service: &str, n: usize) {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": format!("{service}-{n:03}"), "labels": { "kubernetes.io/service-name": service } },
            "addressType": "IPv4", "ports": [{ "name": "http", "port": 80 }], "endpoints": endpoints(n, 0),
        });
        request(client, "POST", SLICES, Some(&slice))
            .await
            .expect("a slice is made");
    }

    /// Changes the first endpoint of a service's first slice: its zone is the revision's from then on.
    pub(super) async fn change(client: &kube::Client, service: &str, revision: u64) {
        let path = format!("{SLICES}/{service}-000");
        let change = json!({ "endpoints": endpoints(0, revision) });
        request(client, "PATCH", &path, Some(&change))
            .await
            .expect("a slice is changed");
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.runtime.block_on(async {
            self.server.stop().await.expect("the apiserver stops");
            self.server.etcd().stop().await.expect("etcd stops");
        });
    }
}

/// A revision as a zone.
pub(super) fn marker(revision: u64) -> String {
    format!("rev-{revision:08}")
}

pub(super) fn revision(zone: &str) -> u64 {
    zone.strip_prefix("rev-")
        .and_then(|text| text.parse().ok())
        .expect("a revision")
}

fn endpoints(slice: usize, revision: u64) -> Value {
    let one = |i: usize| {
        let name = format!("p-{slice:03}-{i:03}");
        let zone = if i == 0 { marker(revision) } else { "a".to_owned() };
        json!({
            "addresses": [format!("203.{}.{}.{}", slice / 250, slice % 250, i + 1)], "nodeName": "n1", "zone": zone,
            "conditions": { "ready": true, "serving": true, "terminating": false },
            "targetRef": { "kind": "Pod", "name": name, "namespace": "default" },
        })
    };
    (0..FULL).map(one).collect()
}

fn request(
    client: &kube::Client,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> impl Future<Output = kube::Result<Value>> + use<> {
    let content = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content)
        .body(body.map(|body| body.to_string().into_bytes()).unwrap_or_default())
        .expect("a request");
    let client = client.clone();
    async move { client.request(request).await }
}
