//! Makes a raw watch endless: backoff, resume by cursor, relist when the cursor has expired, and an idle deadline
//! against peers that are gone without saying so.

use std::{fmt, pin::Pin, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    error::{Error, ErrorKind, Result},
    model::Cursor,
    resilience::Backoff,
    spi::{Change, ConfigChange, ConfigEvent, WatchEvent},
};

/// The first delay after a failure is drawn under this, the next under twice as much, and so on.
const MIN_DELAY: Duration = Duration::from_millis(500);
/// The longest delay between two tries.
const MAX_DELAY: Duration = Duration::from_secs(30);
/// A watch that has run for so long starts over from the smallest delay when it fails.
const QUIET: Duration = Duration::from_secs(60);

/// An event that says where a watch can resume after it.
pub trait Resumable {
    /// Where a watch can resume after this event.
    fn cursor(&self) -> Option<&Cursor>;

    /// Whether it replaces everything before it.
    fn is_reset(&self) -> bool;
}

impl Resumable for WatchEvent {
    fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    fn is_reset(&self) -> bool {
        matches!(self.change, Change::Reset(_))
    }
}

impl Resumable for ConfigEvent {
    fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    fn is_reset(&self) -> bool {
        matches!(self.change, ConfigChange::Reset(_))
    }
}

/// What an endless watch tells.
#[derive(Debug)]
pub enum Recovered<E> {
    /// An event of the raw watch.
    Event(E),
    /// The raw watch failed; it is opened again after a delay.
    Down {
        /// Why.
        error: Error,
        /// When the next try starts.
        retry_in: Duration,
    },
}

type Open<E> = Box<dyn Fn(Option<Cursor>) -> BoxStream<'static, Result<E>> + Send + Sync>;

/// A watch that never ends.
pub struct Recover<E> {
    open: Open<E>,
    idle: Duration,
    cursor: Option<Cursor>,
    backoff: Backoff,
    state: State<E>,
    /// Whether the cursor has expired since the last event: a second time in a row waits like any failure.
    expired: bool,
}

enum State<E> {
    Waiting(Instant),
    Open {
        stream: BoxStream<'static, Result<E>>,
        since: Instant,
        last: Instant,
        /// Goes off when it has been idle for too long, or would have been before the last event.
        alarm: Pin<Box<Sleep>>,
        expect_reset: bool,
    },
}

impl<E> fmt::Debug for Recover<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recover")
            .field("cursor", &self.cursor)
            .field("idle", &self.idle)
            .finish_non_exhaustive()
    }
}

impl<E: Resumable> Recover<E> {
    /// An endless watch over raw ones made by `open`, each cut after `idle` without any event.
    pub fn new<F>(idle: Duration, open: F) -> Self
    where
        F: Fn(Option<Cursor>) -> BoxStream<'static, Result<E>> + Send + Sync + 'static,
    {
        Self {
            open: Box::new(open),
            idle,
            cursor: None,
            backoff: Backoff::new(MIN_DELAY, MAX_DELAY),
            state: State::Waiting(Instant::now()),
            expired: false,
        }
    }

    /// The next event or failure.
    ///
    /// # Cancel safety
    /// Cancel-safe: nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Recovered<E> {
        loop {
            match &mut self.state {
                State::Waiting(until) => {
                    sleep_until(*until).await;
                    let now = Instant::now();
                    self.state = State::Open {
                        stream: (self.open)(self.cursor.clone()),
                        since: now,
                        last: now,
                        alarm: Box::pin(sleep_until(now + self.idle)),
                        expect_reset: self.cursor.is_none(),
                    };
                }
                State::Open {
                    stream,
                    since,
                    last,
                    alarm,
                    expect_reset,
                } => {
                    let said = tokio::select! {
                        biased;
                        said = stream.next() => Some(said),
                        () = alarm.as_mut() => None,
                    };
                    let error = match said {
                        Some(Some(Ok(event))) if *expect_reset && !event.is_reset() => {
                            Error::new(ErrorKind::Protocol, "a fresh watch must start with all there is")
                        }
                        Some(Some(Ok(event))) => {
                            *last = Instant::now();
                            *expect_reset = false;
                            self.expired = false;
                            if last.duration_since(*since) >= QUIET {
                                self.backoff.reset();
                            }
                            if event.is_reset() || event.cursor().is_some() {
                                self.cursor = event.cursor().cloned();
                            }
                            return Recovered::Event(event);
                        }
                        Some(Some(Err(error))) => error,
                        Some(None) => Error::new(ErrorKind::Unavailable, "the watch ended"),
                        None if last.elapsed() < self.idle => {
                            alarm.as_mut().reset(*last + self.idle);
                            continue;
                        }
                        None => Error::new(ErrorKind::Timeout, "the watch went silent")
                            .with_context("silent_for", format!("{:?}", self.idle)),
                    };
                    return self.fail(error);
                }
            }
        }
    }

    fn fail(&mut self, error: Error) -> Recovered<E> {
        let retry_in = match error.kind() {
            // Only the resume point is gone: relist at once, unless that has just been tried.
            ErrorKind::WatchExpired => {
                self.cursor = None;
                if std::mem::replace(&mut self.expired, true) {
                    self.backoff.next_delay()
                } else {
                    Duration::ZERO
                }
            }
            // Nothing heals by itself soon: do not add to the server's log twice a second.
            ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => {
                MAX_DELAY + self.backoff.next_delay() / 2
            }
            ErrorKind::Protocol => {
                // The state we would resume from came from the same server.
                self.cursor = None;
                self.backoff.next_delay()
            }
            _ => self
                .backoff
                .next_delay()
                .max(error.retry_after().unwrap_or_default()),
        };
        self.state = State::Waiting(Instant::now() + retry_in);
        Recovered::Down {
            error: error.with_operation("watch"),
            retry_in,
        }
    }

    /// If it waits before the next try, it waits no longer than this: something else has shown that the way is open.
    pub fn retry_within(&mut self, delay: Duration) {
        if let State::Waiting(until) = &mut self.state {
            *until = (*until).min(Instant::now() + delay);
        }
    }
}

#[cfg(test)]
mod tests;
