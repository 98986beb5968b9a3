//! A Eureka of its own, instances in it, and what is read of them.

use std::{borrow::Cow, collections::HashMap, path::Path, time::Duration};

use discovery_core::{Backend, Registration, tls};
use discovery_eureka::{EurekaConfig, backend};
use discovery_testkit::server::{Server, eureka::Eureka};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use tokio::runtime::Runtime;

/// A Eureka that ends with this.
#[derive(Debug)]
pub(super) struct Fixture {
    pub(super) runtime: Runtime,
    pub(super) eureka: Eureka,
    pub(super) writer: Backend,
}

impl Fixture {
    /// One that keeps changes for a quarter of a minute and leases for long; answers are a second old at most.
    pub(super) fn start(jar: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let eureka = runtime.block_on(async {
            let eureka = Eureka::dev(jar)
                .property("eureka.server.retention-time-in-m-s-in-delta-queue", "15000")
                .build()
                .expect("a Eureka");
            eureka.start().await.expect("Eureka starts");
            eureka
        });
        let writer = backend(EurekaConfig::at([eureka.url()])).expect("a backend");
        Self {
            runtime,
            eureka,
            writer,
        }
    }

    /// Writes these instances, many at once; `revision` is in their metadata.
    pub(super) fn write(&self, instances: impl IntoIterator<Item = usize>, revision: u64) {
        let all = instances.into_iter().map(|i| registration(i, revision));
        self.runtime.block_on(async {
            stream::iter(all)
                .map(|one| async move { self.writer.registry.register(&one).await })
                .buffer_unordered(16)
                .try_collect::<Vec<_>>()
                .await
                .expect("they are registered");
        });
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.runtime.block_on(self.eureka.stop()).expect("Eureka stops");
    }
}

/// An instance, twenty of them in each application.
fn registration(i: usize, revision: u64) -> Registration {
    let builder = Registration::builder(
        format!("app-{}", i / 20),
        format!("10.1.{}.{}", i >> 8, i & 255),
        8080,
    );
    builder
        .id(format!("instance-{i}"))
        .tag("v2")
        .meta("version", "2.0.1")
        .meta("revision", revision.to_string())
        .ttl(Duration::from_secs(3600))
        .build()
        .expect("a registration")
}

/// A runtime of one thread, on which whoever blocks does all the work.
pub(super) fn quiet() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

/// reqwest as one would take it for this.
pub(super) fn reqwest() -> reqwest::Client {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls::unused().expect("a provider"))
        .no_proxy()
        .gzip(true)
        .build()
        .expect("a client")
}

/// Fetches and decodes.
pub(super) async fn fetch<T>(client: &reqwest::Client, url: String, take: impl FnOnce(&Root<'_>) -> T) -> T {
    let sent = client.get(url).header("accept", "application/json").send().await;
    let body = sent.expect("an answer").bytes().await.expect("a body");
    take(&serde_json::from_slice(&body).expect("applications"))
}

#[derive(Debug, Deserialize)]
pub(super) struct Root<'a> {
    #[serde(borrow)]
    pub(super) applications: Applications<'a>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Applications<'a> {
    #[serde(borrow)]
    pub(super) application: Vec<Application<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Application<'a> {
    #[serde(borrow)]
    pub(super) instance: Vec<Instance<'a>>,
}

/// What a program needs of an instance, borrowed where that is possible.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "decoding it is the work")]
pub(super) struct Instance<'a> {
    #[serde(borrow, rename = "instanceId")]
    pub(super) id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) host_name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) status: Cow<'a, str>,
    pub(super) port: Port,
    #[serde(borrow)]
    pub(super) metadata: HashMap<Cow<'a, str>, Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "decoding it is the work")]
pub(super) struct Port {
    #[serde(rename = "$")]
    number: u16,
}
