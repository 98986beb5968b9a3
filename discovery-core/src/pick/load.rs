//! What we know of an instance from using it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::{circuit::Circuit, outlier::Alarm};
use crate::{model::Instance, resilience::CircuitState};

/// What we know of an instance from using it: shared by all handles, carried over by key when the view changes.
pub struct Load {
    /// When it was first seen; the zero of the times below.
    pub(super) since: Instant,
    in_flight: AtomicU32,
    succeeded: AtomicU64,
    failed: AtomicU64,
    last_latency_nanos: AtomicU64,
    /// The decaying peak of latencies, in seconds as `f64`'s bits; zero before the first.
    peak: AtomicU64,
    /// When the peak was set, in nanoseconds.
    peak_at: AtomicU64,
    /// Whether there are trackers: read on every change, unlike them.
    tracked: AtomicBool,
    pub(super) circuit: Circuit,
    trackers: ArcSwapOption<Vec<(Arc<dyn Tracker>, usize)>>,
}

impl fmt::Debug for Load {
    /// Without its trackers, which lead back to it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load")
            .field("in_flight", &self.in_flight())
            .field("succeeded", &self.succeeded())
            .field("failed", &self.failed())
            .field("peak_latency", &self.peak_latency())
            .finish_non_exhaustive()
    }
}

/// Follows the in-flight counts of the loads of one picker.
pub(super) trait Tracker: Send + Sync + fmt::Debug {
    /// The count of the load in `slot` has just gone up or down.
    fn changed(&self, slot: usize, up: bool);
}

/// Latencies lose their weight by a factor of e in so many nanoseconds: ten seconds (linkerd's figure).
const DECAY: f64 = 10e9;

impl Default for Load {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            in_flight: AtomicU32::default(),
            succeeded: AtomicU64::default(),
            failed: AtomicU64::default(),
            last_latency_nanos: AtomicU64::default(),
            peak: AtomicU64::default(),
            peak_at: AtomicU64::default(),
            tracked: AtomicBool::default(),
            circuit: Circuit::default(),
            trackers: ArcSwapOption::default(),
        }
    }
}

impl Load {
    /// Calls begun by [`acquire`](super::Service::acquire) and not yet ended.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Calls reported as succeeded.
    pub fn succeeded(&self) -> u64 {
        self.succeeded.load(Relaxed)
    }

    /// Calls reported as failed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// How long the last reported call took.
    pub fn last_latency(&self) -> Duration {
        Duration::from_nanos(self.last_latency_nanos.load(Relaxed))
    }

    /// The decaying peak of its latencies: a slower call counts at once, faster ones little by little, silence lets it
    /// fade. Zero before the first outcome.
    pub fn peak_latency(&self) -> Duration {
        Duration::try_from_secs_f64(self.peak(Instant::now())).unwrap_or_default()
    }

    /// In seconds.
    pub(super) fn peak(&self, now: Instant) -> f64 {
        let peak = f64::from_bits(self.peak.load(Relaxed));
        if peak == 0.0 {
            return peak;
        }
        let since = self.nanos(now).saturating_sub(self.peak_at.load(Relaxed));
        // Never back to nothing: that would be the cost of one that was never measured.
        (peak * decay(since)).max(f64::MIN_POSITIVE)
    }

    /// One whose failures are watched.
    pub(super) fn watched(alarm: Arc<Alarm>) -> Self {
        Self {
            circuit: Circuit::watched(alarm),
            ..Self::default()
        }
    }

    /// How long it has been known.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Its circuit: open while it is ejected.
    pub fn circuit(&self) -> CircuitState {
        self.circuit.state()
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.circuit() == CircuitState::Open
    }

    /// For how much longer it is ejected.
    pub fn ejected_for(&self) -> Option<Duration> {
        let until = self.circuit.ends(self)?;
        Some(until.saturating_duration_since(Instant::now()))
    }

    pub(super) fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.since).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Two reports at once may lose one of them, which an average bears.
    fn measure(&self, now: Instant, latency: Duration, outcome: Outcome) {
        let sample = latency.as_secs_f64().max(f64::MIN_POSITIVE);
        let (now, peak) = (self.nanos(now), f64::from_bits(self.peak.load(Relaxed)));
        let peak = if sample >= peak {
            sample
        } else if outcome == Outcome::Failure {
            // To fail fast is not to be fast: its peak does not even fade.
            peak
        } else {
            let kept = decay(now.saturating_sub(self.peak_at.load(Relaxed)));
            sample + (peak * kept - sample).max(0.0) * kept
        };
        self.peak.store(peak.to_bits(), Relaxed);
        self.peak_at.store(now, Relaxed);
    }

    /// Answers how many were in flight before.
    fn enter(&self) -> u32 {
        let before = self.in_flight.fetch_add(1, AcqRel);
        if self.tracked.load(Acquire) {
            self.tell(true);
        }
        before
    }

    fn leave(&self) {
        self.in_flight.fetch_sub(1, AcqRel);
        if self.tracked.load(Acquire) {
            self.tell(false);
        }
    }

    #[inline(never)]
    fn tell(&self, up: bool) {
        if let Some(trackers) = &*self.trackers.load() {
            for (tracker, slot) in &**trackers {
                tracker.changed(*slot, up);
            }
        }
    }

    /// Tells `tracker` of every change from now on, until it is untracked.
    pub(super) fn track(&self, tracker: &Arc<dyn Tracker>, slot: usize) {
        self.trackers.rcu(|trackers| {
            let mut all = trackers.as_deref().cloned().unwrap_or_default();
            all.push((tracker.clone(), slot));
            Some(Arc::new(all))
        });
        self.tracked.store(true, Release);
    }

    pub(super) fn untrack(&self, tracker: &Arc<dyn Tracker>) {
        self.trackers.rcu(|trackers| {
            let left: Vec<_> = trackers
                .iter()
                .flat_map(|trackers| trackers.iter())
                .filter(|(other, _)| !Arc::ptr_eq(other, tracker))
                .cloned()
                .collect();
            (!left.is_empty()).then(|| Arc::new(left))
        });
    }
}

/// What is left of a latency after so long.
#[expect(clippy::cast_precision_loss, reason = "of days it matters little")]
fn decay(nanos: u64) -> f64 {
    (-(nanos as f64) / DECAY).exp()
}

/// How a call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The instance did what was asked.
    Success,
    /// It did not: an error that is its fault, or no answer in time.
    Failure,
}

/// An instance in use: counted in flight until reported or dropped.
///
/// Dropped unreported it ends the in-flight count and records no outcome. It may outlive the instance's removal.
#[derive(Debug)]
pub struct Picked {
    instance: Arc<Instance>,
    load: Arc<Load>,
    since: Instant,
    /// It is the one call that a half-open circuit lets through.
    trial: bool,
}

impl Picked {
    #[cfg(test)]
    pub(crate) fn new(instance: Arc<Instance>, load: Arc<Load>) -> Self {
        load.enter();
        Self {
            instance,
            load,
            since: Instant::now(),
            trial: false,
        }
    }

    /// A call from `now` on, if the instance may have one more: its circuit lets it through, and fewer than `most` are in
    /// flight.
    pub(super) fn admitted(
        instance: &Arc<Instance>,
        load: &Arc<Load>,
        most: Option<u32>,
        now: Instant,
    ) -> Option<Self> {
        let trial = load.circuit.admit()?;
        let before = load.enter();
        // Dropped, it ends the count and the trial.
        let picked = Self {
            instance: instance.clone(),
            load: load.clone(),
            since: now,
            trial,
        };
        most.is_none_or(|most| before < most).then_some(picked)
    }

    /// The instance.
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// Its load, this call included.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// Ends the call with its outcome; the latency is the time since it was picked.
    pub fn report(self, outcome: Outcome) {
        let now = Instant::now();
        let latency = now.saturating_duration_since(self.since);
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.load.measure(now, latency, outcome);
        self.load.last_latency_nanos.store(nanos, Relaxed);
        match outcome {
            Outcome::Success => self.load.succeeded.fetch_add(1, Relaxed),
            Outcome::Failure => self.load.failed.fetch_add(1, Relaxed),
        };
        self.load.circuit.report(outcome, self.trial);
    }
}

impl std::ops::Deref for Picked {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.instance
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.load.leave();
        if self.trial {
            self.load.circuit.end_trial();
        }
    }
}
