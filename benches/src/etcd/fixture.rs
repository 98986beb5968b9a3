//! An etcd of its own, and the clients that are raced.

use std::path::Path;

use discovery_core::Backend;
use discovery_etcd::{EtcdConfig, LeaseSharing, backend};
use discovery_testkit::server::{Server, etcd::Etcd};
use tokio::runtime::Runtime;

use crate::upstream::busy;

/// An etcd of one member that ends with this.
#[derive(Debug)]
pub(super) struct Fixture {
    pub(super) runtime: Runtime,
    pub(super) etcd: Etcd,
}

impl Fixture {
    pub(super) fn start(binary: &Path) -> Self {
        let runtime = busy();
        let etcd = runtime.block_on(async {
            let etcd = Etcd::dev(binary).build().await.expect("an etcd");
            etcd.start().await.expect("etcd starts");
            etcd
        });
        Self { runtime, etcd }
    }

    /// etcd-client on a connection of its own.
    pub(super) async fn client(&self) -> etcd_client::Client {
        let connected = etcd_client::Client::connect([self.etcd.url()], None).await;
        connected.expect("etcd is there")
    }

    /// Our backend; each registration has a lease of its own.
    pub(super) fn ours(&self) -> Backend {
        let mut config = EtcdConfig::at([self.etcd.url()]);
        config.service_registration.lease = LeaseSharing::Single;
        backend(config).expect("a backend")
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.runtime.block_on(self.etcd.stop()).expect("etcd stops");
    }
}

/// The value of an instance; `revision` is in its metadata.
pub(super) fn value(revision: u64) -> String {
    serde_json::json!({
        "address": "10.1.0.1", "port": 8080, "tags": ["primary", "v2"],
        "meta": { "version": "2.0.1", "zone": "a", "revision": revision.to_string() },
    })
    .to_string()
}
