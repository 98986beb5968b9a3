use std::pin::pin;

use futures::{future::pending, poll};
use tokio::time::{advance, sleep};

use super::*;

const FAILING: [ErrorKind; 4] = [
    ErrorKind::Unavailable,
    ErrorKind::Timeout,
    ErrorKind::RateLimited,
    ErrorKind::Protocol,
];

fn breaker() -> Breaker {
    Breaker::new("memory", BreakerOptions::default())
}

async fn fail(breaker: &Breaker, kind: ErrorKind) -> Error {
    let outcome = breaker.run(async { Err::<(), _>(Error::new(kind, "x")) }).await;
    outcome.unwrap_err()
}

async fn succeed(breaker: &Breaker) -> Result<()> {
    breaker.run(async { Ok(()) }).await
}

/// Opens a closed circuit.
async fn open(breaker: &Breaker) {
    for _ in 0..5 {
        assert_eq!(breaker.state(), CircuitState::Closed);
        fail(breaker, ErrorKind::Unavailable).await;
    }
    assert_eq!(breaker.state(), CircuitState::Open);
}

fn is_refused(error: &Error) -> bool {
    error.context().any(|pair| pair == ("circuit", "open"))
}

/// How long an open circuit stays open, to the tick of ten milliseconds.
async fn measured(breaker: &Breaker) -> Duration {
    let started = Instant::now();
    loop {
        let error = fail(breaker, ErrorKind::Unavailable).await;
        if !is_refused(&error) {
            return started.elapsed();
        }
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_open_it_and_a_success_starts_the_count_over() {
    let breaker = breaker();
    for _ in 0..4 {
        fail(&breaker, ErrorKind::Timeout).await;
    }
    succeed(&breaker).await.unwrap();
    open(&breaker).await;
    let error = succeed(&breaker).await.unwrap_err();
    assert!(
        is_refused(&error) && error.kind() == ErrorKind::Unavailable,
        "{error}"
    );
    assert!(
        error
            .retry_after()
            .is_some_and(|after| after <= Duration::from_secs(1))
    );
    assert_eq!(error.backend(), Some("memory"));
}

#[tokio::test(start_paused = true)]
async fn only_failures_of_the_registry_count() {
    for kind in ErrorKind::ALL {
        let breaker = breaker();
        for _ in 0..10 {
            fail(&breaker, kind).await;
        }
        let opened = breaker.state() == CircuitState::Open;
        assert_eq!(opened, FAILING.contains(&kind), "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn half_open_admits_one_and_its_success_closes() {
    let breaker = breaker();
    open(&breaker).await;
    advance(Duration::from_secs(1)).await;
    let probe = breaker.run(async {
        sleep(Duration::from_millis(50)).await;
        Ok(())
    });
    let other = async {
        sleep(Duration::from_millis(10)).await;
        assert_eq!(breaker.state(), CircuitState::HalfOpen);
        succeed(&breaker).await
    };
    let (probe, other) = tokio::join!(probe, other);
    assert!(probe.is_ok());
    assert!(is_refused(&other.unwrap_err()));
    assert_eq!(breaker.state(), CircuitState::Closed);
    open(&breaker).await;
}

#[tokio::test(start_paused = true)]
async fn each_failed_probe_opens_it_for_longer_up_to_the_maximum() {
    let breaker = breaker();
    open(&breaker).await;
    for ceiling in [1, 2, 4, 8, 16, 30, 30] {
        let ceiling = Duration::from_secs(ceiling);
        let time = measured(&breaker).await;
        let slack = Duration::from_millis(20);
        assert!(
            time + slack >= ceiling / 2 && time <= ceiling + slack,
            "{time:?} of {ceiling:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_probe_makes_room_for_another() {
    let breaker = breaker();
    open(&breaker).await;
    advance(Duration::from_secs(1)).await;
    {
        let mut probe = pin!(breaker.run(pending::<Result<()>>()));
        assert!(poll!(probe.as_mut()).is_pending());
        assert!(is_refused(&succeed(&breaker).await.unwrap_err()));
    }
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    succeed(&breaker).await.unwrap();
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_never_reached_the_registry_decides_nothing() {
    let breaker = breaker();
    open(&breaker).await;
    advance(Duration::from_secs(1)).await;
    fail(&breaker, ErrorKind::Unsupported).await;
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    fail(&breaker, ErrorKind::PermissionDenied).await;
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn late_outcomes_of_an_earlier_state_do_not_count() {
    let breaker = breaker();
    let late = breaker.run(async {
        sleep(Duration::from_millis(10)).await;
        Ok(())
    });
    let (late, ()) = tokio::join!(late, open(&breaker));
    late.unwrap();
    assert_eq!(breaker.state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn stays_open_as_long_as_the_server_asked_within_the_maximum() {
    for (asked, kept) in [(10, 10), (3600, 30)] {
        let breaker = breaker();
        for _ in 0..5 {
            let limited = Error::new(ErrorKind::RateLimited, "x").with_retry(Retry::Transient {
                after: Some(Duration::from_secs(asked)),
            });
            breaker.run(async { Err::<(), _>(limited) }).await.unwrap_err();
        }
        let after = succeed(&breaker).await.unwrap_err().retry_after();
        assert_eq!(after, Some(Duration::from_secs(kept)));
    }
}
