use std::sync::Arc;

use futures::future::join_all;
use tokio::time::advance;

use super::*;
use crate::{
    resilience::{
        ResilienceOptions, Resilient, RetryPolicy,
        fake::{Fake, answer, ids, query},
    },
    spi::ServiceRegistry,
    testing::Counts,
};

const SECOND: Duration = Duration::from_secs(1);

/// A cached registry around `fake` that tries once.
fn cached(fake: &Arc<Fake>) -> Resilient {
    let options = ResilienceOptions {
        retry: RetryPolicy::never(),
        ..ResilienceOptions::default()
    };
    Resilient::new(fake.clone(), options)
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_fresh_until_its_ttl_passes() {
    let fake = Fake::new(&["a"]);
    let registry = cached(&fake);
    assert_eq!(registry.instances(&query()).await.unwrap().source, Source::Live);
    advance(SECOND * 9).await;
    let snapshot = registry.instances(&query()).await.unwrap();
    assert_eq!((snapshot.source, ids(&snapshot)), (Source::Cache, vec!["a"]));
    assert_eq!(snapshot.age(), SECOND * 9);
    fake.answers(answer(&["b"]));
    advance(SECOND).await;
    let snapshot = registry.instances(&query()).await.unwrap();
    assert_eq!((snapshot.source, ids(&snapshot)), (Source::Live, vec!["b"]));
    assert_eq!(fake.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_registrys_own_ttl_wins_and_empty_answers_are_kept_for_less() {
    let empty = || answer(&[]);
    for (answer, ttl) in [
        (answer(&["a"]).with_valid_for(SECOND * 60), SECOND * 60),
        (answer(&["a"]).with_valid_for(SECOND * 2), SECOND * 2),
        (empty(), SECOND),
        (empty().with_valid_for(SECOND * 60), SECOND),
    ] {
        let fake = Fake::new(&[]);
        fake.answers(answer);
        let registry = cached(&fake);
        registry.instances(&query()).await.unwrap();
        advance(ttl.saturating_sub(Duration::from_millis(1))).await;
        registry.instances(&query()).await.unwrap();
        assert_eq!(fake.calls(), 1);
        advance(Duration::from_millis(1)).await;
        registry.instances(&query()).await.unwrap();
        assert_eq!(fake.calls(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_ttl_of_zero_keeps_nothing_and_an_endless_one_is_no_panic() {
    for (ttl, calls) in [(Duration::ZERO, 2), (Duration::MAX, 1)] {
        let fake = Fake::new(&["a"]);
        fake.answers(answer(&["a"]).with_valid_for(ttl));
        let registry = cached(&fake);
        registry.instances(&query()).await.unwrap();
        registry.instances(&query()).await.unwrap();
        assert_eq!(fake.calls(), calls);
    }
}

/// smallrye-stork#1021: several fetches for one invalidation.
#[tokio::test(start_paused = true)]
async fn issue_stork_1021_a_thousand_callers_of_a_miss_make_one_request() {
    let counts = Counts::default();
    let _local = ::metrics::set_default_local_recorder(&counts);
    let fake = Fake::new(&["a"]);
    fake.takes(SECOND);
    let registry = cached(&fake);
    let query = query();
    for round in 1..=3 {
        let answers = join_all((0..1000).map(|_| registry.instances(&query))).await;
        assert!(
            answers
                .iter()
                .all(|answer| answer.as_ref().is_ok_and(|s| ids(s) == ["a"]))
        );
        assert_eq!(fake.calls(), round, "one request for each time it ran out");
        advance(SECOND * 10).await;
    }
    fake.takes(Duration::ZERO);
    registry.instances(&query).await.unwrap();
    registry.instances(&query).await.unwrap();
    assert_eq!(counts.get("discovery_cache_misses_total{backend=fake}"), 3001);
    assert_eq!(counts.get("discovery_cache_hits_total{backend=fake}"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failure_too_is_shared_by_all_who_waited_and_kept_for_nobody() {
    let fake = Fake::new(&["a"]);
    fake.takes(SECOND);
    fake.fails(ErrorKind::Unavailable);
    let registry = cached(&fake);
    let query = query();
    let answers = join_all((0..1000).map(|_| registry.instances(&query))).await;
    assert!(answers.iter().all(Result::is_err));
    assert_eq!(fake.calls(), 1);
    fake.answers(answer(&["a"]));
    assert!(registry.instances(&query).await.is_ok());
    assert_eq!(fake.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn when_the_one_who_fetches_is_dropped_another_takes_over() {
    let fake = Fake::new(&["a"]);
    fake.takes(SECOND);
    let registry = cached(&fake);
    let query = query();
    let impatient = tokio::time::timeout(Duration::from_millis(100), registry.instances(&query));
    let (impatient, patient) = tokio::join!(impatient, registry.instances(&query));
    assert!(impatient.is_err());
    assert_eq!(ids(&patient.unwrap()), ["a"]);
    assert_eq!(fake.calls(), 2);
}

/// smallrye-stork#231, #1232: when discovery is down, calls fail although a list is known.
#[tokio::test(start_paused = true)]
async fn issue_stork_231_an_outage_serves_the_last_good_answer_with_its_age() {
    for kind in ErrorKind::ALL {
        let fake = Fake::new(&["a"]);
        let registry = cached(&fake);
        registry.instances(&query()).await.unwrap();
        fake.fails(kind);
        advance(SECOND * 30).await;
        let outcome = registry.instances(&query()).await;
        let lost_access = matches!(kind, ErrorKind::Unauthenticated | ErrorKind::PermissionDenied);
        let outage = matches!(
            kind,
            ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::RateLimited | ErrorKind::Protocol
        );
        match outcome {
            Ok(snapshot) => {
                assert!(outage || lost_access, "{kind}");
                assert_eq!((snapshot.source, ids(&snapshot)), (Source::Stale, vec!["a"]));
                assert_eq!(snapshot.age(), SECOND * 30);
                let suspicion = lost_access.then_some(Suspicion::AccessLost);
                assert_eq!(snapshot.evidence.suspicion(), suspicion, "rule A-1");
            }
            Err(error) => assert!(!outage && !lost_access && error.kind() == kind, "{error}"),
        }
        fake.answers(answer(&["b"]));
        let snapshot = registry.instances(&query()).await.unwrap();
        assert_eq!((snapshot.source, ids(&snapshot)), (Source::Live, vec!["b"]));
    }
}

#[tokio::test(start_paused = true)]
async fn max_stale_bounds_cached_and_stale_answers() {
    let fake = Fake::new(&["a"]);
    let registry = cached(&fake);
    registry.instances(&query()).await.unwrap();
    advance(SECOND * 5).await;
    let strict = query().max_stale(SECOND * 4);
    assert_eq!(registry.instances(&strict).await.unwrap().source, Source::Live);
    fake.fails(ErrorKind::Unavailable);
    advance(SECOND * 20).await;
    let error = registry.instances(&strict).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let lenient = query().max_stale(SECOND * 20);
    assert_eq!(registry.instances(&lenient).await.unwrap().source, Source::Stale);
}

#[tokio::test(start_paused = true)]
async fn suspect_answers_are_passed_on_but_never_kept() {
    let fake = Fake::new(&["a"]);
    let registry = cached(&fake);
    registry.instances(&query()).await.unwrap();
    advance(SECOND * 10).await;
    fake.answers(answer(&[]).with_evidence(Evidence::Suspect(Suspicion::UnverifiedEmpty)));
    for calls in 2..4 {
        let snapshot = registry.instances(&query()).await.unwrap();
        assert_eq!(snapshot.evidence.suspicion(), Some(Suspicion::UnverifiedEmpty));
        assert_eq!(fake.calls(), calls);
    }
    fake.fails(ErrorKind::Unavailable);
    assert_eq!(ids(&registry.instances(&query()).await.unwrap()), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn an_authoritative_empty_answer_replaces_the_last_good_one() {
    let fake = Fake::new(&["a"]);
    let registry = cached(&fake);
    registry.instances(&query()).await.unwrap();
    advance(SECOND * 10).await;
    fake.answers(answer(&[]));
    registry.instances(&query()).await.unwrap();
    fake.fails(ErrorKind::Unavailable);
    advance(SECOND * 10).await;
    let snapshot = registry.instances(&query()).await.unwrap();
    assert_eq!((snapshot.source, snapshot.instances.len()), (Source::Stale, 0));
}

#[tokio::test(start_paused = true)]
async fn queries_that_differ_in_filters_share_one_request_and_get_what_they_asked_for() {
    let fake = Fake::new(&["a", "b"]);
    let registry = cached(&fake);
    assert_eq!(ids(&registry.instances(&query().tag("b")).await.unwrap()), ["b"]);
    assert_eq!(ids(&registry.instances(&query().tag("a")).await.unwrap()), ["a"]);
    assert_eq!(ids(&registry.instances(&query()).await.unwrap()), ["a", "b"]);
    assert_eq!(fake.calls(), 1);
    registry.instances(&query().datacenter("dc2")).await.unwrap();
    assert_eq!(fake.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn services_are_cached_but_never_served_stale() {
    let fake = Fake::new(&["a"]);
    let registry = cached(&fake);
    let scope = Scope::default();
    registry.services(&scope).await.unwrap();
    registry.services(&scope).await.unwrap();
    assert_eq!(fake.calls(), 1);
    fake.fails(ErrorKind::Unavailable);
    advance(SECOND * 10).await;
    let error = registry.services(&scope).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}
