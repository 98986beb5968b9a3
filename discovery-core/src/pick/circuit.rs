//! The circuit of one instance.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU8, AtomicU32, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{Load, Outcome, outlier::Alarm};
use crate::resilience::CircuitState;

const CLOSED: u8 = 0;
const OPEN: u8 = 1;
const HALF_OPEN: u8 = 2;

/// Counters that calls keep, and a state that one task moves by them.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    state: AtomicU8,
    alarm: OnceLock<Arc<Alarm>>,
    /// Failures since the last success.
    failures: AtomicU32,
    /// A call of a half-open one is under way.
    trying: AtomicBool,
    /// A trial ended, and how.
    tried: AtomicU8,
    /// In nanoseconds of its load's age: when it is half open.
    until: AtomicU64,
    ejections: AtomicU32,
    /// Outcomes that were there when rates were last compared.
    compared: (AtomicU64, AtomicU64),
}

const NOT_TRIED: u8 = 0;
const TRIED_WELL: u8 = 1;
const TRIED_IN_VAIN: u8 = 2;

impl Circuit {
    pub(super) fn watched(alarm: Arc<Alarm>) -> Self {
        Self {
            alarm: OnceLock::from(alarm),
            ..Self::default()
        }
    }

    pub(super) fn state(&self) -> CircuitState {
        match self.state.load(Acquire) {
            CLOSED => CircuitState::Closed,
            OPEN => CircuitState::Open,
            _ => CircuitState::HalfOpen,
        }
    }

    // === what calls do ===

    /// Whether a call may begin; `Some(true)` when it is the trial of a half-open one.
    #[inline]
    pub(super) fn admit(&self) -> Option<bool> {
        // An open one is only asked in panic, or by who has not seen it open.
        if self.state.load(Relaxed) != HALF_OPEN {
            return Some(false);
        }
        (!self.trying.swap(true, AcqRel)).then_some(true)
    }

    pub(super) fn end_trial(&self) {
        self.trying.store(false, Release);
    }

    #[inline]
    pub(super) fn report(&self, outcome: Outcome, trial: bool) {
        let Some(alarm) = self.alarm.get() else { return };
        match outcome {
            Outcome::Success if trial => self.tried.store(TRIED_WELL, Release),
            Outcome::Failure if trial => self.tried.store(TRIED_IN_VAIN, Release),
            Outcome::Success => {
                if self.failures.load(Relaxed) > 0 {
                    self.failures.store(0, Relaxed);
                }
                return;
            }
            Outcome::Failure => {
                let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
                if failures < alarm.failures {
                    return;
                }
            }
        }
        alarm.wake.notify_one();
    }

    // === what the one task does ===

    pub(super) fn is_closed(&self) -> bool {
        self.state.load(Acquire) == CLOSED
    }

    pub(super) fn failed_too_often(&self, failures: u32) -> bool {
        self.is_closed() && self.failures.load(Relaxed) >= failures
            || self.state.load(Acquire) == HALF_OPEN && self.tried.load(Acquire) == TRIED_IN_VAIN
    }

    /// Closes it where a trial went well; answers whether that is so.
    pub(super) fn settle(&self) -> bool {
        if self.state.load(Acquire) != HALF_OPEN || self.tried.load(Acquire) != TRIED_WELL {
            return false;
        }
        self.excuse();
        self.state.store(CLOSED, Release);
        true
    }

    /// Its failures are of no account: it works again, or may not be ejected.
    pub(super) fn excuse(&self) {
        self.failures.store(0, Relaxed);
        self.tried.store(NOT_TRIED, Release);
    }

    /// One ejection more; answers the how manyth it is.
    pub(super) fn eject(&self) -> u32 {
        self.ejections.fetch_add(1, Relaxed).saturating_add(1)
    }

    /// A clean interval.
    pub(super) fn forgive(&self) {
        let ejections = self.ejections.load(Relaxed);
        self.ejections.store(ejections.saturating_sub(1), Relaxed);
    }

    pub(super) fn open(&self, load: &Load, until: Instant) {
        self.excuse();
        self.until.store(load.nanos(until), Relaxed);
        self.state.store(OPEN, Release);
    }

    pub(super) fn half_open(&self) {
        self.excuse();
        self.state.store(HALF_OPEN, Release);
    }

    /// When it is half open, while it is open.
    pub(super) fn ends(&self, load: &Load) -> Option<Instant> {
        (self.state.load(Acquire) == OPEN)
            .then(|| load.since + Duration::from_nanos(self.until.load(Relaxed)))
    }

    /// Outcomes, good and bad, since this was last asked.
    pub(super) fn window(&self, load: &Load) -> (u64, u64) {
        let (good, bad) = (load.succeeded(), load.failed());
        let before = (
            self.compared.0.swap(good, Relaxed),
            self.compared.1.swap(bad, Relaxed),
        );
        (good.saturating_sub(before.0), bad.saturating_sub(before.1))
    }
}
