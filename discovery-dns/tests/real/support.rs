//! Servers, and what cases look at.

use std::{fmt::Write as _, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use discovery::Client;
use discovery_core::{Backend, Instance, Query, Registration, Snapshot, pick::Service};
use discovery_dns::{DnsConfig, Update, Zone, ZoneType, backend};
use discovery_testkit::{
    server::{
        Server,
        dns::{Dns, Software, TsigKey},
    },
    try_eventually,
};

/// Never an assertion about speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a case runs on.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) software: Software,
    pub(crate) binary: PathBuf,
}

impl Setup {
    /// A server with a zone `svc.test` that takes updates, and these records.
    pub(crate) async fn started(&self, records: &str) -> Dns {
        let server = Dns::of(self.software, &self.binary)
            .zone("svc.test", zone(records))
            .updates()
            .build()
            .unwrap();
        server.start().await.unwrap();
        server
    }
}

/// A zone file of these records.
pub(crate) fn zone(records: &str) -> String {
    format!("$TTL 1\n@ SOA ns root 1 3600 600 86400 1\n@ NS ns\nns A 127.0.0.1\n{records}")
}

/// A hundred instances of `_big._tcp`, with addresses that make no short answer.
pub(crate) fn big() -> String {
    (1..=100).fold(String::new(), |mut text, n| {
        let _ = writeln!(
            text,
            "_big._tcp SRV 10 10 {} host-number-{n}\nhost-number-{n} A 127.0.1.{n}",
            8000 + n
        );
        text
    })
}

/// Settings for a server, which ask again as soon as may be.
pub(crate) fn config(server: SocketAddr) -> DnsConfig {
    let mut config = DnsConfig::at(server.to_string());
    // A busy machine takes its time.
    config.timeout = Duration::from_secs(5);
    config.caching.min_ttl = Duration::from_secs(1);
    config.caching.ttl = Duration::from_secs(1);
    config.caching.negative_ttl = Duration::from_secs(1);
    config
}

/// Settings that register in `svc.test`.
pub(crate) fn writing(server: SocketAddr, key: &TsigKey) -> DnsConfig {
    let mut update = Update::signed(&key.name, key.secret.expose());
    update.ttl = Duration::from_secs(1);
    config(server)
        .zone(Zone::new("svc.test", ZoneType::DnsSd))
        .update(update)
}

/// A backend that registers in `svc.test`, asking at `server`.
pub(crate) fn writer(dns: &Dns, server: SocketAddr) -> Backend {
    backend(writing(server, dns.key().unwrap())).unwrap()
}

pub(crate) fn web(port: u16) -> Registration {
    Registration::builder("web", "127.0.0.1", port).build().unwrap()
}

pub(crate) async fn instances(backend: &Backend, service: &str) -> Vec<Arc<Instance>> {
    let query = Query::service(service).unwrap();
    let found = backend.registry.instances(&query).await.unwrap();
    found.instances.iter().cloned().collect()
}

pub(crate) async fn ports(backend: &Backend, service: &str) -> Vec<u16> {
    let mut ports: Vec<_> = instances(backend, service)
        .await
        .iter()
        .map(|one| one.port)
        .collect();
    ports.sort_unstable();
    ports
}

/// A client, and a view of one service in it.
pub(crate) fn view(backend: Backend, service: &str) -> (Client, Service) {
    let client = Client::builder(backend).build().unwrap();
    let view = client.query(&Query::service(service).unwrap()).unwrap();
    (client, view)
}

/// Waits until a view is as wanted.
pub(crate) async fn shows(view: &Service, what: &str, good: impl Fn(&Snapshot) -> bool) -> Snapshot {
    try_eventually(what, PATIENCE, || async {
        match view.instances().await {
            Ok(snapshot) if good(&snapshot) => Ok(snapshot),
            Ok(snapshot) => Err(format!(
                "{} instances, {}",
                snapshot.instances.len(),
                snapshot.source
            )),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
    .unwrap()
}
