//! Waiting for something to become true, with a deadline and without a bare sleep.

use std::{
    fmt::{self, Display},
    future::Future,
    panic::Location,
    time::Duration,
};

use discovery_core::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep_until, timeout_at};

/// The first pause between two polls, and the longest one it grows to.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// What one poll of [`eventually()`] may answer: `bool`, [`Option`] or [`Result`](std::result::Result).
pub trait Outcome {
    /// What the wait ends with.
    type Value;

    /// The value, or what was seen instead of it.
    fn settle(self) -> Result<Self::Value, String>;
}

impl Outcome for bool {
    type Value = ();

    fn settle(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("false".to_owned()) }
    }
}

impl<T> Outcome for Option<T> {
    type Value = T;

    fn settle(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".to_owned())
    }
}

impl<T, E: Display> Outcome for std::result::Result<T, E> {
    type Value = T;

    fn settle(self) -> Result<T, String> {
        self.map_err(|error| format!("{error:#}"))
    }
}

/// Polls until the answer is `true`, `Some` or `Ok`, and hands out what it held; for test code.
///
/// To have the last value seen in the failure, answer `Err` with it:
///
/// ```no_run
/// # async fn example(count: impl Fn() -> usize) {
/// use std::time::Duration;
/// use discovery_testkit::eventually;
///
/// eventually("three instances", Duration::from_secs(5), || async {
///     let seen = count();
///     if seen == 3 { Ok(()) } else { Err(format!("{seen} instances")) }
/// })
/// .await;
/// # }
/// ```
///
/// Polls come 1 ms apart at first and 100 ms at last, on tokio's clock; one that hangs is given up at the deadline.
///
/// # Panics
/// When `deadline` passes first, naming the caller, `what` and the last thing seen.
#[track_caller]
pub fn eventually<F, Fut>(
    what: impl Display,
    deadline: Duration,
    poll: F,
) -> impl Future<Output = <Fut::Output as Outcome>::Value>
where
    F: FnMut() -> Fut,
    Fut: Future<Output: Outcome>,
{
    let caller = Location::caller();
    async move {
        match wait(deadline, poll).await {
            Ok(value) => value,
            Err(missed) => panic!("{caller}: never saw {what}: {missed}"),
        }
    }
}

/// Like [`eventually()`], with an error in place of the panic; for conformance cases.
///
/// # Errors
/// [`ErrorKind::Timeout`] when `deadline` passes first, with the last thing seen in its message.
pub async fn try_eventually<F, Fut>(
    what: impl Display,
    deadline: Duration,
    poll: F,
) -> Result<<Fut::Output as Outcome>::Value>
where
    F: FnMut() -> Fut,
    Fut: Future<Output: Outcome>,
{
    wait(deadline, poll)
        .await
        .map_err(|missed| Error::new(ErrorKind::Timeout, format!("never saw {what}: {missed}")))
}

/// Why a wait was given up.
struct Missed {
    after: Duration,
    polls: u32,
    last: Option<String>,
    hung: bool,
}

impl Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} polls in {:?}", self.polls, self.after)?;
        if let Some(last) = &self.last {
            write!(f, "; last seen: {last}")?;
        }
        if self.hung {
            f.write_str("; the last poll did not finish")?;
        }
        Ok(())
    }
}

async fn wait<F, Fut>(deadline: Duration, mut poll: F) -> Result<<Fut::Output as Outcome>::Value, Missed>
where
    F: FnMut() -> Fut,
    Fut: Future<Output: Outcome>,
{
    let end = Instant::now() + deadline;
    let mut missed = Missed {
        after: deadline,
        polls: 0,
        last: None,
        hung: false,
    };
    let mut pause = PAUSES.0;
    loop {
        missed.polls += 1;
        match timeout_at(end, poll()).await.map(Outcome::settle) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(seen)) => missed.last = Some(seen),
            Err(_) => {
                missed.hung = true;
                return Err(missed);
            }
        }
        let now = Instant::now();
        if now >= end {
            return Err(missed);
        }
        sleep_until(end.min(now + pause)).await; // the last poll comes at the deadline itself
        pause = (pause * 3 / 2).min(PAUSES.1);
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::pending};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn hands_out_the_first_value_and_stops_polling() {
        let polls = Cell::new(0);
        let value = eventually("a third poll", SECOND, || async {
            polls.set(polls.get() + 1);
            (polls.get() == 3).then_some("there")
        })
        .await;
        assert_eq!((value, polls.get()), ("there", 3));
    }

    #[tokio::test(start_paused = true)]
    async fn ends_at_the_deadline_with_the_last_value_seen() {
        let started = Instant::now();
        let polls = Cell::new(0);
        let error = try_eventually("the impossible", SECOND, || async {
            polls.set(polls.get() + 1);
            Err::<(), _>(format!("poll {}", polls.get()))
        })
        .await
        .unwrap_err();
        assert_eq!(started.elapsed(), SECOND);
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let last = polls.get();
        assert!((10..30).contains(&last), "{last} polls");
        let expected = format!("never saw the impossible: {last} polls in 1s; last seen: poll {last}");
        assert_eq!(error.message(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_that_hangs_is_given_up() {
        let started = Instant::now();
        let error = try_eventually("an answer", SECOND, pending::<bool>)
            .await
            .unwrap_err();
        assert_eq!(started.elapsed(), SECOND);
        assert!(
            error.message().ends_with("the last poll did not finish"),
            "{error}"
        );
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "eventually.rs")]
    async fn the_panic_names_the_caller() {
        eventually("luck", SECOND, || async { false }).await;
    }
}
