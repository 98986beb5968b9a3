use std::{cell::Cell, pin::pin};

use futures::future::join_all;

use super::*;
use crate::error::Retry;

fn unavailable() -> Error {
    Error::new(ErrorKind::Unavailable, "refused")
}

fn rate_limited(after: Duration) -> Error {
    Error::new(ErrorKind::RateLimited, "slow down").with_retry(Retry::Transient { after: Some(after) })
}

/// Runs `policy` against an operation that always fails so; answers the error, the attempts and when each started.
async fn failing(policy: &RetryPolicy, idempotent: bool, error: Error) -> (Error, Vec<Duration>) {
    let started = Instant::now();
    let mut times = Vec::new();
    let result: Result<()> = policy
        .run(idempotent, |_| {
            times.push(started.elapsed());
            let error = error.clone();
            async move { Err(error) }
        })
        .await;
    (result.unwrap_err(), times)
}

#[tokio::test(start_paused = true)]
async fn tries_as_often_as_told_and_says_so() {
    let (error, times) = failing(&RetryPolicy::default().attempts(4), true, unavailable()).await;
    assert_eq!(times.len(), 4);
    assert!(error.context().any(|pair| pair == ("attempts", "4")), "{error}");

    let (error, times) = failing(&RetryPolicy::never(), true, unavailable()).await;
    assert_eq!(times.len(), 1);
    assert_eq!(error.context().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn stops_at_the_first_success() {
    let seen = Cell::new(0);
    let answer = RetryPolicy::default()
        .run(true, |number| {
            seen.set(number);
            async move {
                if number < 3 {
                    Err(unavailable())
                } else {
                    Ok(number)
                }
            }
        })
        .await;
    assert_eq!((answer.unwrap(), seen.get()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn delays_are_drawn_from_nothing_to_a_doubling_ceiling() {
    let policy = RetryPolicy::default()
        .attempts(5)
        .delays(Duration::from_millis(100), Duration::from_millis(400));
    let ceilings = [100, 200, 400, 400].map(Duration::from_millis);
    let mut largest = [Duration::ZERO; 4];
    for _ in 0..300 {
        let (_, times) = failing(&policy, true, unavailable()).await;
        for (i, pair) in times.windows(2).enumerate() {
            // Tokio's timer rounds up to the next millisecond.
            let delay = pair[1].abs_diff(pair[0]);
            assert!(delay <= ceilings[i] + Duration::from_millis(1), "{i}: {delay:?}");
            largest[i] = largest[i].max(delay);
        }
    }
    for (largest, ceiling) in largest.iter().zip(ceilings) {
        assert!(*largest > ceiling.mul_f64(0.9), "{largest:?} of {ceiling:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn waits_as_long_as_the_server_asked_and_a_little_more() {
    let after = Duration::from_secs(3);
    for _ in 0..50 {
        let (_, times) = failing(&RetryPolicy::default().attempts(2), true, rate_limited(after)).await;
        let delay = times[1].abs_diff(times[0]);
        assert!(
            delay >= after && delay <= after + Duration::from_millis(101),
            "{delay:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_absurd_wish_of_the_server_ends_the_retries_without_a_panic() {
    let (error, times) = failing(&RetryPolicy::default(), true, rate_limited(Duration::MAX)).await;
    assert_eq!((error.kind(), times.len()), (ErrorKind::RateLimited, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_idempotent_is_repeated_only_when_it_certainly_did_not_happen() {
    let policy = RetryPolicy::default();
    for kind in [ErrorKind::Unavailable, ErrorKind::Timeout] {
        let (_, times) = failing(&policy, false, Error::new(kind, "x")).await;
        assert_eq!(times.len(), 1, "{kind}");
    }
    let (_, times) = failing(&policy, false, rate_limited(Duration::ZERO)).await;
    assert_eq!(times.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn lasting_errors_are_not_repeated() {
    for kind in ErrorKind::ALL {
        let error = Error::new(kind, "x").with_retry(Retry::Never);
        let (_, times) = failing(&RetryPolicy::default(), true, error).await;
        assert_eq!(times.len(), 1, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_attempt_starts_after_max_elapsed() {
    let policy = RetryPolicy::default()
        .attempts(u32::MAX)
        .max_elapsed(Duration::from_secs(10));
    let (_, times) = failing(&policy, true, unavailable()).await;
    let last = times.last().copied().unwrap_or_default();
    assert!(last <= Duration::from_millis(10_001), "{last:?}");
    assert!(last >= Duration::from_secs(7), "gave up early: {last:?}");
}

/// Envoy's `retry_budget`: 20 % of the calls under way, three in any case (LESSONS 4.2).
#[tokio::test(start_paused = true)]
async fn a_budget_keeps_an_outage_from_tripling_the_load() {
    let budget = RetryBudget::default();
    let attempts = Cell::new(0);
    let calls = (0..100).map(|_| async {
        RetryPolicy::default()
            .attempts(2)
            .run_within(&budget, true, |_| {
                attempts.set(attempts.get() + 1);
                async {
                    sleep(Duration::from_millis(10)).await;
                    Err::<(), _>(unavailable())
                }
            })
            .await
    });
    let errors: Vec<_> = join_all(calls)
        .await
        .into_iter()
        .filter_map(Result::err)
        .collect();
    assert_eq!(errors.len(), 100);
    assert_eq!(attempts.get(), 120);
    let refused = errors
        .iter()
        .filter(|error| error.context().any(|pair| pair == ("retry_budget", "exhausted")))
        .count();
    assert_eq!(refused, 80);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_retry_gives_its_place_back() {
    let budget = RetryBudget::new(0, 1);
    let policy = RetryPolicy::default().delays(Duration::from_secs(3600), Duration::from_secs(3600));
    let policy = policy.max_elapsed(Duration::MAX);
    {
        let mut call = pin!(policy.run_within(&budget, true, |_| async { Err::<(), _>(unavailable()) }));
        assert!(futures::poll!(call.as_mut()).is_pending());
        assert!(budget.try_retry().is_none());
    }
    assert!(budget.try_retry().is_some());
}
