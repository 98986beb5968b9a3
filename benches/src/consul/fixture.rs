//! A Consul of its own, services in it, and the two async clients that are raced.

use std::{borrow::Cow, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use discovery_consul::{ConsulConfig, backend};
use discovery_core::{
    Backend, Query, TaskGroup,
    pick::{RoundRobin, Service, Strategy},
    resolver::{Resolver, ResolverOptions},
    tls,
};
use discovery_testkit::server::{Server, consul::Consul};
use serde::Deserialize;
use tokio::runtime::Runtime;

use super::raw::Raw;

/// A runtime of one thread, on which whoever blocks does all the work.
pub(super) fn quiet() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

/// A Consul that ends with this.
#[derive(Debug)]
pub(super) struct Fixture {
    pub(super) runtime: Runtime,
    pub(super) consul: Consul,
}

impl Fixture {
    /// One that forgets everything.
    pub(super) fn start(binary: &Path) -> Self {
        Self::of(binary, false)
    }

    /// One that remembers, as those in use do, and so does not indent its answers.
    pub(super) fn persistent(binary: &Path) -> Self {
        Self::of(binary, true)
    }

    fn of(binary: &Path, persistent: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let consul = runtime.block_on(async {
            let mut builder = Consul::dev(binary);
            if persistent {
                builder = builder.persistent();
            }
            let consul = builder.build().await.expect("a Consul");
            consul.start().await.expect("Consul starts");
            consul
        });
        Self { runtime, consul }
    }

    pub(super) fn endpoint(&self) -> SocketAddr {
        self.consul.endpoint()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.runtime.block_on(self.consul.stop()).expect("Consul stops");
    }
}

/// Writes an instance, on a node of its own, with a check that passes; `revision` is in its metadata.
pub(super) fn write(raw: &mut Raw, service: &str, i: usize, revision: u64) {
    let address = format!("10.1.{}.{}", i >> 8, i & 255);
    let (node, id) = (format!("{service}-node-{i}"), format!("{service}-{i}"));
    let body = serde_json::json!({
        "Node": node,
        "Address": address,
        "NodeMeta": { "rack": "r1", "consul-network-segment": "" },
        "Service": {
            "ID": id, "Service": service, "Address": address, "Port": 8080, "Tags": ["primary", "v2"],
            "Meta": { "version": "2.0.1", "zone": "a", "revision": marker(revision) },
            "Weights": { "Passing": 10, "Warning": 1 },
        },
        "Check": {
            "Node": node, "CheckID": format!("service:{id}"), "Name": "alive", "Status": "passing",
            "ServiceID": id, "ServiceName": service, "Output": "HTTP GET: 200 OK",
        },
    });
    raw.put("/v1/catalog/register", body.to_string().as_bytes());
}

/// A revision as it is in the metadata: nothing else in an answer looks like it.
pub(super) fn marker(revision: u64) -> String {
    format!("rev-{revision:08}")
}

/// Our backend on this agent.
pub(super) fn ours(address: SocketAddr) -> Backend {
    backend(ConsulConfig::at(format!("http://{address}"))).expect("a backend")
}

/// A service handle over it, kept up to date by tasks of `runtime`, whose view is ready.
pub(super) fn service(runtime: &Runtime, backend: Backend, name: &str) -> Service {
    let strategy: Arc<dyn Strategy> = Arc::new(RoundRobin);
    runtime.block_on(async {
        let tasks = TaskGroup::current().expect("inside a runtime");
        let resolver = Resolver::new(backend, tasks, ResolverOptions::default());
        let query = Query::service(name).expect("a valid name");
        let view = resolver.view(&query, &strategy).expect("a view");
        let service = Service::new(view, Duration::from_secs(10));
        service.ready().await.expect("a first answer");
        service
    })
}

/// reqwest as one would take it for this.
pub(super) fn reqwest() -> reqwest::Client {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls::unused().expect("a provider"))
        .no_proxy()
        .no_gzip()
        .build()
        .expect("a client")
}

/// What a program needs of an answer, borrowed from it where that is possible.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[expect(dead_code, reason = "decoding it is the work")]
pub(super) struct Entry<'a> {
    #[serde(borrow)]
    pub(super) node: Node<'a>,
    #[serde(borrow)]
    pub(super) service: Record<'a>,
    #[serde(borrow)]
    pub(super) checks: Vec<Status<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[expect(dead_code, reason = "decoding it is the work")]
pub(super) struct Node<'a> {
    #[serde(borrow)]
    pub(super) address: Cow<'a, str>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[expect(dead_code, reason = "decoding it is the work")]
pub(super) struct Record<'a> {
    #[serde(rename = "ID", borrow)]
    pub(super) id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) address: Cow<'a, str>,
    pub(super) port: u16,
    #[serde(borrow)]
    pub(super) tags: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow)]
    pub(super) meta: Option<std::collections::HashMap<Cow<'a, str>, Cow<'a, str>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[expect(dead_code, reason = "decoding it is the work")]
pub(super) struct Status<'a> {
    #[serde(borrow)]
    pub(super) status: Cow<'a, str>,
}
