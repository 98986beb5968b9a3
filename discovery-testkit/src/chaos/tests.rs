//! The faults themselves, under a paused clock.

use discovery_core::memory::MemoryStore;
use futures::FutureExt;
use tokio::time::{Instant, timeout};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

fn api() -> Query {
    Query::service("api").unwrap()
}

async fn register(backend: &Backend, port: u16) -> Result<Lease> {
    let registration = Registration::builder("api", "127.0.0.1", port).build().unwrap();
    backend.registry.register(&registration).await
}

#[tokio::test]
async fn a_cut_fails_calls_and_ends_even_watches_nobody_polls_meanwhile() {
    let (backend, chaos) = Chaos::wrap(MemoryStore::new().backend());
    register(&backend, 1).await.unwrap();
    let mut watch = backend.watcher.watch(&api(), None);
    assert_eq!(chaos.open_streams(), 0, "nothing is opened before it is polled");
    assert!(matches!(watch.next().await.unwrap().unwrap().change, Change::Reset(found) if found.len() == 1));
    assert_eq!(chaos.open_streams(), 1);

    chaos.cut(ErrorKind::Unavailable);
    assert_eq!(
        kind(backend.registry.instances(&api()).await),
        Some(ErrorKind::Unavailable)
    );
    assert_eq!(
        kind(backend.watcher.watch(&api(), None).next().await.unwrap()),
        Some(ErrorKind::Unavailable)
    );
    chaos.heal();
    assert_eq!(kind(watch.next().await.unwrap()), Some(ErrorKind::Unavailable));
    assert!(watch.next().await.is_none());
    assert_eq!(chaos.open_streams(), 0);
    assert_eq!(
        backend.registry.instances(&api()).await.unwrap().instances.len(),
        1
    );
    assert_eq!(
        (chaos.calls("instances"), chaos.calls("watch"), chaos.all_calls()),
        (2, 2, 5)
    );
}

#[tokio::test]
async fn errors_come_at_their_rate_and_by_their_seed() {
    let run = async |seed| {
        let (backend, chaos) = Chaos::wrap(MemoryStore::new().backend());
        chaos.error_rate(0.1, ErrorKind::Timeout, seed);
        let mut failed = Vec::new();
        for call in 0..1000 {
            if kind(backend.registry.status().await) == Some(ErrorKind::Timeout) {
                failed.push(call);
            }
        }
        failed
    };
    let first = run(7).await;
    assert!((60..140).contains(&first.len()), "{} of 1000", first.len());
    assert_eq!(first, run(7).await);
    assert_ne!(first, run(8).await);
}

#[tokio::test]
async fn every_nth_call_of_an_operation_fails() {
    let (backend, chaos) = Chaos::wrap(MemoryStore::new().backend());
    chaos.fail_every(3, ErrorKind::Unavailable);
    for call in 1..=9 {
        assert_eq!(
            backend.registry.status().await.is_err(),
            call % 3 == 0,
            "status {call}"
        );
        assert_eq!(
            backend.registry.instances(&api()).await.is_err(),
            call % 3 == 0,
            "instances {call}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn calls_are_late_by_the_latency_and_hang_while_stalled() {
    let (backend, chaos) = Chaos::wrap(MemoryStore::new().backend());
    chaos.latency(SECOND);
    let started = Instant::now();
    backend.registry.status().await.unwrap();
    assert_eq!(started.elapsed(), SECOND);
    chaos.heal();

    let mut watch = backend.watcher.watch(&api(), None);
    watch.next().await.unwrap().unwrap();
    chaos.stall();
    let mut call = backend.registry.status();
    assert!(timeout(60 * SECOND, &mut call).await.is_err());
    assert!(timeout(60 * SECOND, watch.next()).await.is_err());
    chaos.heal();
    call.await.unwrap();
    assert!(timeout(60 * SECOND, watch.next()).await.unwrap().unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn silent_watches_stay_open_and_cut_ones_end() {
    let (backend, chaos) = Chaos::wrap(MemoryStore::new().backend());
    let mut watch = backend.watcher.watch(&api(), None);
    watch.next().await.unwrap().unwrap();
    chaos.silence();
    register(&backend, 1).await.unwrap();
    assert!(timeout(60 * SECOND, watch.next()).await.is_err());
    assert_eq!(chaos.open_streams(), 1);
    chaos.cut_streams();
    assert_eq!(kind(watch.next().await.unwrap()), Some(ErrorKind::Unavailable));
    chaos.heal();
    assert!(backend.watcher.watch(&api(), None).next().await.unwrap().is_ok());
}

#[tokio::test]
async fn a_lost_lease_is_back_only_for_those_that_register_again() {
    let (backend, chaos) = Chaos::wrap(MemoryStore::new().backend());
    let (one, two) = (
        register(&backend, 1).await.unwrap(),
        register(&backend, 2).await.unwrap(),
    );
    chaos.lose_leases();
    for lease in [&one, &two] {
        let renewed = backend.registry.renew(&lease.group, &Renewal::default()).await;
        assert_eq!(kind(renewed), Some(ErrorKind::NotFound));
    }
    let again = register(&backend, 1).await.unwrap();
    backend
        .registry
        .renew(&again.group, &Renewal::default())
        .await
        .unwrap();
    let renewed = backend.registry.renew(&two.group, &Renewal::default()).await;
    assert_eq!(kind(renewed), Some(ErrorKind::NotFound));
}

#[tokio::test]
async fn suspicion_hides_everything_and_says_so_until_it_is_healed() {
    let (backend, chaos) = Chaos::wrap(MemoryStore::new().backend());
    register(&backend, 1).await.unwrap();
    chaos.suspect(Suspicion::AccessLost);
    let snapshot = backend.registry.instances(&api()).await.unwrap();
    assert!(snapshot.instances.is_empty());
    assert_eq!(snapshot.evidence.suspicion(), Some(Suspicion::AccessLost));
    let mut watch = backend.watcher.watch(&api(), None);
    let event = watch.next().await.unwrap().unwrap();
    assert_eq!(
        (event.change, event.evidence),
        (Change::Reset(Vec::new()), snapshot.evidence)
    );
    assert!(watch.next().now_or_never().is_none());
    chaos.heal();
    assert_eq!(kind(watch.next().await.unwrap()), Some(ErrorKind::Unavailable));
    let event = backend.watcher.watch(&api(), None).next().await.unwrap().unwrap();
    assert!(matches!(event.change, Change::Reset(found) if found.len() == 1));
}
