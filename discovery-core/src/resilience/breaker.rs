//! The circuit breaker of a registry.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

use super::backoff::full_jitter;
use crate::error::{Error, ErrorKind, Result, Retry};

/// When a circuit opens and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerOptions {
    /// How many failures in a row open it (at least one).
    pub failures: u32,
    /// How long it stays open the first time; doubled each time the probe fails.
    pub open_for: Duration,
    /// The longest it stays open before it probes again.
    pub max_open_for: Duration,
}

impl Default for BreakerOptions {
    /// Five failures, 1 s doubling to 30 s.
    fn default() -> Self {
        Self {
            failures: 5,
            open_for: Duration::from_secs(1),
            max_open_for: Duration::from_secs(30),
        }
    }
}

/// What a circuit lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitState {
    /// Every call.
    Closed,
    /// No call.
    Open,
    /// One call at a time, to see whether the registry is back.
    HalfOpen,
}

impl CircuitState {
    /// The name used in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

impl fmt::Display for CircuitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A circuit breaker: after some failures in a row it is open and refuses calls at once; after a while it is half open
/// and lets one through; that one's success closes it, its failure opens it for longer.
///
/// Only failures of the registry count (unavailable, timeout, rate limited, protocol). Any other answer of the registry,
/// such as "not found" or "forbidden", shows that it works. What never reached it shows nothing.
///
/// Calls that were under way when the state changed no longer count. No lock is held while a call runs.
#[derive(Debug)]
pub struct Breaker {
    backend: Arc<str>,
    options: BreakerOptions,
    circuit: Mutex<Circuit>,
}

#[derive(Debug)]
struct Circuit {
    phase: Phase,
    /// How often it has opened since it was last closed.
    openings: u32,
    /// Counts changes of phase, so that late outcomes of earlier phases are told apart.
    epoch: u64,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen { probing: bool },
}

impl Breaker {
    /// A closed circuit in front of `backend`, whose name goes into logs and errors.
    pub fn new(backend: impl Into<Arc<str>>, options: BreakerOptions) -> Self {
        Self {
            backend: backend.into(),
            options,
            circuit: Mutex::new(Circuit {
                phase: Phase::Closed { failures: 0 },
                openings: 0,
                epoch: 0,
            }),
        }
    }

    /// What it lets through now. Open turns half open with the first call after its time.
    pub fn state(&self) -> CircuitState {
        match self.lock().phase {
            Phase::Closed { .. } => CircuitState::Closed,
            Phase::Open { .. } => CircuitState::Open,
            Phase::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }

    /// Runs `call` if the circuit lets it through, and learns from its outcome.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] at once, with `circuit: open` in its context and the time until the next probe as its
    /// advice; otherwise the call's own.
    ///
    /// # Cancel safety
    /// As cancel-safe as `call`; a cancelled probe makes room for another and shows nothing.
    pub async fn run<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let pass = self.admit()?;
        let result = call.await;
        pass.settle(result.as_ref().err());
        result
    }

    fn admit(&self) -> Result<Pass<'_>> {
        let mut circuit = self.lock();
        let now = Instant::now();
        match circuit.phase {
            Phase::Closed { .. } => {}
            Phase::HalfOpen { probing: false } => circuit.phase = Phase::HalfOpen { probing: true },
            Phase::Open { until } if until <= now => circuit.enter(Phase::HalfOpen { probing: true }),
            Phase::Open { until } => return Err(self.refusal(Some(until - now))),
            Phase::HalfOpen { probing: true } => return Err(self.refusal(None)),
        }
        Ok(Pass {
            breaker: self,
            epoch: circuit.epoch,
        })
    }

    fn refusal(&self, after: Option<Duration>) -> Error {
        Error::new(
            ErrorKind::Unavailable,
            "not asked: it has failed too often of late",
        )
        .with_retry(Retry::Transient { after })
        .with_backend(self.backend.to_string())
        .with_context("circuit", "open")
    }

    fn lock(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long to stay open for the `openings`-th time: half of it is jitter, so that a fleet does not probe as one.
    fn open_time(&self, openings: u32, wish: Option<Duration>) -> Duration {
        let doubled = self.options.open_for.saturating_mul(1 << openings.min(16));
        let ceiling = doubled.min(self.options.max_open_for);
        let drawn = ceiling / 2 + full_jitter(ceiling / 2);
        wish.map_or(drawn, |wish| drawn.max(wish.min(self.options.max_open_for)))
    }
}

impl Circuit {
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.epoch += 1;
    }
}

/// Leave for one call. Dropped unsettled, it gives back its place as the probe.
#[derive(Debug)]
struct Pass<'a> {
    breaker: &'a Breaker,
    epoch: u64,
}

impl Pass<'_> {
    fn settle(self, error: Option<&Error>) {
        let verdict = Verdict::of(error);
        let mut circuit = self.breaker.lock();
        if circuit.epoch != self.epoch {
            return;
        }
        match (circuit.phase, verdict) {
            (Phase::Closed { .. }, Verdict::Works) => circuit.phase = Phase::Closed { failures: 0 },
            (Phase::Closed { failures }, Verdict::Fails { .. })
                if failures + 1 < self.breaker.options.failures =>
            {
                circuit.phase = Phase::Closed {
                    failures: failures + 1,
                };
            }
            (Phase::HalfOpen { .. }, Verdict::Works) => {
                circuit.openings = 0;
                circuit.enter(Phase::Closed { failures: 0 });
                tracing::info!(backend = %self.breaker.backend, "the registry works again: circuit closed");
            }
            (Phase::Closed { .. } | Phase::HalfOpen { .. }, Verdict::Fails { wish }) => {
                let time = self.breaker.open_time(circuit.openings, wish);
                circuit.openings += 1;
                circuit.enter(Phase::Open {
                    until: Instant::now() + time,
                });
                tracing::warn!(backend = %self.breaker.backend, open_for = ?time, "the registry fails: circuit open");
            }
            (Phase::Open { .. }, _) | (_, Verdict::Unknown) => {}
        }
        // Dropping `self` ends an undecided probe.
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut circuit = self.breaker.lock();
        if circuit.epoch == self.epoch
            && let Phase::HalfOpen { probing } = &mut circuit.phase
        {
            *probing = false;
        }
    }
}

/// What an outcome shows of the registry.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    Works,
    Fails { wish: Option<Duration> },
    Unknown,
}

impl Verdict {
    fn of(error: Option<&Error>) -> Self {
        let Some(error) = error else {
            return Self::Works;
        };
        match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::RateLimited | ErrorKind::Protocol => {
                Self::Fails {
                    wish: error.retry_after(),
                }
            }
            ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::Unauthenticated
            | ErrorKind::PermissionDenied
            | ErrorKind::WatchExpired => Self::Works,
            ErrorKind::ConfigInvalid
            | ErrorKind::InvalidInput
            | ErrorKind::Unsupported
            | ErrorKind::Closed
            | ErrorKind::Unexpected => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests;
