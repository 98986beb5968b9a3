use futures::future::join_all;
use tokio::time::{Instant, advance};

use super::*;
use crate::{
    model::{Source, Status},
    resilience::fake::{FOREVER, Fake, ids, key, query},
};

const SECOND: Duration = Duration::from_secs(1);

fn options() -> ResilienceOptions {
    ResilienceOptions::default()
}

fn once() -> ResilienceOptions {
    ResilienceOptions {
        retry: RetryPolicy::never(),
        ..options()
    }
}

/// Every write of `registry`, in the order of the trait.
async fn write_all(registry: &Resilient) -> Vec<(&'static str, Duration, Option<Error>)> {
    let registration = Registration::builder("api", "127.0.0.1", 80).build().unwrap();
    let (group, key) = (LeaseGroup::new("group"), key("a"));
    let (renewal, change) = (Renewal::default(), MetaChange::new());
    let report = HealthReport::new(Status::Passing);
    let mut outcomes = Vec::new();
    let mut started = Instant::now();
    let mut note = |operation, outcome: Result<()>| {
        outcomes.push((operation, started.elapsed(), outcome.err()));
        started = Instant::now();
    };
    note("register", registry.register(&registration).await.map(drop));
    note("renew", registry.renew(&group, &renewal).await);
    note("deregister", registry.deregister(&key).await);
    note("release", registry.release(&group).await);
    note("update_meta", registry.update_meta(&key, &change).await);
    note("report_health", registry.report_health(&key, &report).await);
    outcomes
}

#[tokio::test(start_paused = true)]
async fn reads_are_repeated_and_writes_are_not() {
    let fake = Fake::new(&["a"]);
    let registry = Resilient::new(fake.clone(), options());
    fake.fails(ErrorKind::Unavailable);
    let error = registry.instances(&query()).await.unwrap_err();
    assert_eq!(fake.calls(), 3);
    assert_eq!(
        (error.operation(), error.backend()),
        (Some("instances"), Some("fake"))
    );
    assert!(error.context().any(|pair| pair == ("attempts", "3")), "{error}");

    for (operation, _, error) in write_all(&registry).await {
        let error = error.expect("told to fail");
        assert_eq!(
            (error.operation(), error.backend()),
            (Some(operation), Some("fake"))
        );
    }
    assert_eq!(fake.calls(), 3 + 6);
}

#[tokio::test(start_paused = true)]
async fn every_operation_ends_at_its_deadline() {
    let fake = Fake::new(&["a"]);
    fake.takes(FOREVER);
    let mut options = once();
    (options.register_timeout, options.write_timeout) = (SECOND * 10, SECOND * 7);
    options.breaker = None;
    let registry = Resilient::new(fake.clone(), options);
    for (operation, time, error) in write_all(&registry).await {
        assert_eq!(
            error.map(|error| error.kind()),
            Some(ErrorKind::Timeout),
            "{operation}"
        );
        let deadline = if operation == "register" { 10 } else { 7 };
        assert_eq!(time, SECOND * deadline, "{operation}");
    }
    let started = Instant::now();
    let kinds = [
        registry.instances(&query()).await.unwrap_err().kind(),
        registry.services(&Scope::default()).await.unwrap_err().kind(),
        registry.instance(&key("a")).await.unwrap_err().kind(),
        registry.status().await.unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::Timeout; 4]);
    assert_eq!(started.elapsed(), SECOND * 20);
}

/// LESSONS 2.17, fault 10: pending with no deadline.
#[tokio::test(start_paused = true)]
async fn a_read_waits_for_a_place_within_its_own_deadline() {
    let fake = Fake::new(&["a"]);
    let mut options = once();
    options.limit = 2;
    options.cache = None;
    options.breaker = None;
    let registry = Resilient::new(fake.clone(), options);
    let query = query();

    fake.takes(SECOND);
    let answers = join_all((0..8).map(|_| registry.instances(&query))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!((fake.calls(), fake.most_running()), (8, 2));

    fake.takes(FOREVER);
    let started = Instant::now();
    let answers = join_all((0..8).map(|_| registry.instances(&query))).await;
    assert!(
        answers
            .iter()
            .all(|a| a.as_ref().is_err_and(|e| e.kind() == ErrorKind::Timeout))
    );
    assert_eq!(started.elapsed(), SECOND * 5);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_passes_a_full_limit_and_an_open_circuit() {
    let fake = Fake::new(&["a"]);
    fake.takes(FOREVER);
    let mut options = once();
    options.limit = 1;
    options.cache = None;
    let registry = Resilient::new(fake.clone(), options);
    let query = query();
    let crowd = join_all((0..10).map(|_| registry.instances(&query)));
    let heartbeat = async {
        tokio::task::yield_now().await;
        fake.takes(Duration::ZERO);
        let started = Instant::now();
        registry
            .renew(&LeaseGroup::new("group"), &Renewal::default())
            .await
            .unwrap();
        started.elapsed()
    };
    let (_, time) = tokio::join!(crowd, heartbeat);
    assert_eq!(time, Duration::ZERO);

    fake.fails(ErrorKind::Unavailable);
    while registry.circuit() != CircuitState::Open {
        registry.instances(&query).await.unwrap_err();
    }
    let calls = fake.calls();
    assert!(
        write_all(&registry)
            .await
            .iter()
            .all(|(_, _, error)| error.is_some())
    );
    assert_eq!(fake.calls(), calls + 6, "every write was tried");
}

#[tokio::test(start_paused = true)]
async fn the_cache_serves_while_the_circuit_is_open_and_heals_after() {
    let fake = Fake::new(&["a"]);
    let registry = Resilient::new(fake.clone(), once());
    registry.instances(&query()).await.unwrap();
    advance(SECOND * 10).await;
    fake.fails(ErrorKind::Unavailable);
    for _ in 0..5 {
        assert_eq!(registry.instances(&query()).await.unwrap().source, Source::Stale);
    }
    assert_eq!(registry.circuit(), CircuitState::Open);
    let calls = fake.calls();
    let snapshot = registry.instances(&query()).await.unwrap();
    assert_eq!((snapshot.source, ids(&snapshot)), (Source::Stale, vec!["a"]));
    assert_eq!(fake.calls(), calls, "an open circuit asks nobody");
    assert!(registry.status().await.is_err());
    assert_eq!(fake.calls(), calls + 1, "status asks all the same");

    fake.answers(crate::resilience::fake::answer(&["b"]));
    advance(SECOND).await;
    let snapshot = registry.instances(&query()).await.unwrap();
    assert_eq!((snapshot.source, ids(&snapshot)), (Source::Live, vec!["b"]));
    assert_eq!(registry.circuit(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn uncached_reads_see_the_registry_and_share_the_circuit() {
    let fake = Fake::new(&["a"]);
    let registry = Resilient::new(fake.clone(), once());
    let uncached = registry.uncached();
    for _ in 0..3 {
        assert_eq!(uncached.instances(&query()).await.unwrap().source, Source::Live);
    }
    assert_eq!(fake.calls(), 3);
    assert_eq!(
        uncached.instance(&key("a")).await.unwrap().map(|i| i.port),
        Some(1)
    );
    fake.fails(ErrorKind::Unavailable);
    for _ in 0..5 {
        uncached.instances(&query()).await.unwrap_err();
    }
    assert_eq!(registry.circuit(), CircuitState::Open);
}

/// Registries may ignore filters: the client's are kept with a cache and without.
#[tokio::test]
async fn a_look_up_keeps_its_filters_without_a_cache() {
    let filtered = query().tag("nobody has it");
    for cache in [None, options().cache] {
        let options = ResilienceOptions { cache, ..options() };
        let registry = Resilient::new(Fake::new(&["a"]), options);
        assert_eq!(ids(&registry.instances(&query()).await.unwrap()), ["a"]);
        assert!(ids(&registry.instances(&filtered).await.unwrap()).is_empty());
        let uncached = registry.uncached().instances(&filtered).await;
        assert!(ids(&uncached.unwrap()).is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn hostile_limits_are_put_right() {
    for limit in [0, usize::MAX] {
        let fake = Fake::new(&["a"]);
        let registry = Resilient::new(fake.clone(), ResilienceOptions { limit, ..once() });
        assert!(registry.instances(&query()).await.is_ok());
    }
}
