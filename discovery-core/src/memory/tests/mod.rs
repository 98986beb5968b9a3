//! The embedded registry against the contract, on a paused clock.

mod leases;
mod model;
mod values;
mod watches;

use std::time::Duration;

use futures::{FutureExt, StreamExt};

use super::{MemoryConfig, MemoryStore};
use crate::{
    error::{ErrorKind, Result},
    model::{InstanceKey, Lease, Query, Registration, RegistrationBuilder, Renewal},
    spi::{
        Backend, Change, ConfigStore, HealthCheck, ServiceRegistry, WatchEvent, WatchMode, WatchStream,
        Watcher,
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// A registration of `api` that lives ten seconds.
fn api(port: u16) -> RegistrationBuilder {
    Registration::builder("api", "127.0.0.1", port).ttl(10 * SECOND)
}

async fn register(backend: &Backend, registration: RegistrationBuilder) -> Lease {
    backend
        .registry
        .register(&registration.build().unwrap())
        .await
        .unwrap()
}

async fn advance(duration: Duration) {
    tokio::time::advance(duration).await;
}

/// The ports of the instances of `api`, in the registry's order.
async fn ports(backend: &Backend) -> Vec<u16> {
    let query = Query::service("api").unwrap();
    let snapshot = backend.registry.instances(&query).await.unwrap();
    snapshot.instances.iter().map(|instance| instance.port).collect()
}

fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// The next event; waits as long as the stream does.
async fn next(stream: &mut WatchStream) -> WatchEvent {
    stream.next().await.unwrap().unwrap()
}

/// Whether the stream has something to tell without waiting.
fn quiet(stream: &mut WatchStream) -> bool {
    stream.next().now_or_never().is_none()
}

/// An event in short: `=`, `+` or `-` with ids, or `.` for a confirmation.
fn sketch(event: &WatchEvent) -> String {
    let ids = |keys: Vec<&InstanceKey>| {
        keys.iter()
            .map(|key| key.id.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    };
    match &event.change {
        Change::Reset(all) => format!("={}", ids(all.iter().map(|i| &i.key).collect())),
        Change::Upsert(some) => format!("+{}", ids(some.iter().map(|i| &i.key).collect())),
        Change::Remove(keys) => format!("-{}", ids(keys.iter().collect())),
        Change::Confirmed => ".".to_owned(),
    }
}

#[test]
fn the_parts_of_a_backend_are_shareable_objects() {
    fn shareable<T: ?Sized + Send + Sync + 'static>() {}
    shareable::<dyn ServiceRegistry>();
    shareable::<dyn Watcher>();
    shareable::<dyn ConfigStore>();
    shareable::<dyn HealthCheck>();
    shareable::<Backend>();
    shareable::<MemoryStore>();
    let capabilities = MemoryStore::new().backend().registry.capabilities();
    assert_eq!(capabilities.watch, WatchMode::Push);
    assert_eq!(
        capabilities.confirm_every,
        MemoryConfig::default().confirm_interval
    );
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let good = MemoryConfig::default;
    for bad in [
        good().ttl(Duration::from_millis(999)),
        good().log_capacity(0),
        good().confirm_interval(Duration::ZERO),
    ] {
        let error = MemoryStore::with_config(bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        assert!(error.hint().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_is_shared_while_it_is_held_and_private_stores_are_not() {
    let open = || MemoryStore::with_config(MemoryConfig::default().name("tests/shared")).unwrap();
    let backend = open().backend();
    register(&backend, api(1)).await;
    assert_eq!(ports(&open().backend()).await, [1]);
    assert_eq!(backend.registry.info().address, "tests/shared");
    assert!(ports(&MemoryStore::new().backend()).await.is_empty());

    let other = MemoryStore::with_config(MemoryConfig::default().name("tests/shared").ttl(SECOND));
    assert_eq!(kind(other), Some(ErrorKind::ConfigInvalid));

    drop(backend);
    assert!(ports(&open().backend()).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_it_cannot_do_is_unsupported() {
    let backend = MemoryStore::new().backend();
    let lease = register(&backend, api(1)).await;
    let registry = &backend.registry;
    let elsewhere = [
        Query::service("api").unwrap().datacenter("dc1"),
        Query::service("api").unwrap().namespace("ns"),
    ];
    for query in elsewhere {
        assert_eq!(
            kind(registry.instances(&query).await),
            Some(ErrorKind::Unsupported)
        );
        assert_eq!(
            kind(registry.services(&query.scope).await),
            Some(ErrorKind::Unsupported)
        );
        let mut stream = backend.watcher.watch(&query, None);
        assert_eq!(kind(stream.next().await.unwrap()), Some(ErrorKind::Unsupported));
        assert!(stream.next().await.is_none());
    }
    assert_eq!(
        kind(registry.release(&lease.group).await),
        Some(ErrorKind::Unsupported)
    );
}

/// An empty renewal.
fn beat() -> Renewal {
    Renewal::default()
}
