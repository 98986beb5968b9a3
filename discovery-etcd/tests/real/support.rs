//! Servers, and what cases look at.

use std::{fmt::Display, path::PathBuf, time::Duration};

use discovery::Client;
use discovery_core::{Backend, Query, Registration, Result};
use discovery_etcd::{EtcdConfig, backend};
use discovery_testkit::{
    eventually,
    server::{
        Server,
        etcd::{Etcd, EtcdBuilder, EtcdCluster},
    },
};

/// Never an assertion about speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The TTL of [`api`] unless it says otherwise; heartbeats come every second.
pub(crate) const TTL: Duration = Duration::from_secs(3);
/// The key of `api(1)`.
pub(crate) const KEY: &str = "/services/api/api-192.0.2.1-1";

/// What a case runs on.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) binary: PathBuf,
}

impl Setup {
    pub(crate) fn etcd(&self) -> EtcdBuilder {
        Etcd::dev(&self.binary)
    }

    pub(crate) async fn started(&self) -> Etcd {
        started(self.etcd()).await
    }

    /// Three members.
    pub(crate) async fn cluster(&self) -> EtcdCluster {
        let cluster = self.etcd().cluster().await.unwrap();
        cluster.start().await.unwrap();
        cluster
    }
}

pub(crate) async fn started(builder: EtcdBuilder) -> Etcd {
    let etcd = builder.build().await.unwrap();
    etcd.start().await.unwrap();
    etcd
}

/// Settings with short times.
pub(crate) fn config<T: Display>(endpoints: impl IntoIterator<Item = T>) -> EtcdConfig {
    let mut config = EtcdConfig::at(endpoints.into_iter().map(|endpoint| endpoint.to_string()));
    config.discovery.confirm_interval = Duration::from_secs(1);
    config.service_registration.ttl = TTL;
    config
}

pub(crate) fn at<T: Display>(endpoints: impl IntoIterator<Item = T>) -> Backend {
    backend(config(endpoints)).unwrap()
}

pub(crate) fn of(etcd: &Etcd) -> Backend {
    at([etcd.url()])
}

/// A client that does not wait long.
pub(crate) fn client(backend: Backend) -> Client {
    Client::builder(backend)
        .timeout(Duration::from_secs(5))
        .build()
        .unwrap()
}

/// One that goes by none of our code.
pub(crate) async fn plain(etcd: &Etcd) -> etcd_client::Client {
    etcd_client::Client::connect([etcd.endpoint().to_string()], None)
        .await
        .unwrap()
}

pub(crate) fn api(port: u16) -> Registration {
    Registration::builder("api", "192.0.2.1", port).build().unwrap()
}

/// One that outlives every case.
pub(crate) fn lasting(port: u16) -> Registration {
    let registration = Registration::builder("api", "192.0.2.1", port);
    registration.ttl(Duration::from_secs(600)).build().unwrap()
}

pub(crate) fn query() -> Query {
    Query::service("api").unwrap()
}

pub(crate) async fn ports(backend: &Backend) -> Result<Vec<u16>> {
    let found = backend.registry.instances(&query().include_unhealthy()).await?;
    let mut ports: Vec<_> = found.instances.iter().map(|instance| instance.port).collect();
    ports.sort_unstable();
    Ok(ports)
}

/// Waits until the registry shows these ports.
pub(crate) async fn shows(backend: &Backend, wanted: &[u16]) {
    eventually(format!("the ports {wanted:?}"), PATIENCE, || async {
        match ports(backend).await {
            Ok(found) if found == wanted => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// Waits until a view shows so many instances.
pub(crate) async fn view_shows(client: &Client, wanted: usize) {
    view_shows_within(client, wanted, PATIENCE).await;
}

pub(crate) async fn view_shows_within(client: &Client, wanted: usize, patience: Duration) {
    let view = client.query(&query()).unwrap();
    eventually(format!("{wanted} instances"), patience, || async {
        match view.instances().await {
            Ok(found) if found.instances.len() == wanted => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// The leases there are, as etcdctl names them.
pub(crate) async fn leases(etcd: &Etcd) -> Vec<String> {
    let said = etcd.ctl(&["lease", "list"]).await.unwrap();
    // `found 1 leases`, then one a line.
    let mut leases: Vec<_> = said.lines().skip(1).map(str::to_owned).collect();
    leases.sort_unstable();
    leases
}
