//! A Consul of its own, services in it, and the two async clients that are raced.

use std::{borrow::Cow, net::SocketAddr, path::Path};

use discovery_consul::{ConsulConfig, backend};
use discovery_core::{Backend, tls};
use discovery_testkit::server::{Server, consul::Consul};
use serde::Deserialize;
use tokio::runtime::Runtime;

use super::raw::Raw;
use crate::upstream::busy;

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
        let runtime = busy();
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
