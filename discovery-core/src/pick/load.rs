//! What we know of an instance from using it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::model::Instance;

/// What we know of an instance from using it: shared by all handles, carried over by key when the view changes.
#[derive(Debug, Default)]
pub struct Load {
    in_flight: AtomicU32,
    succeeded: AtomicU64,
    failed: AtomicU64,
    last_latency_nanos: AtomicU64,
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
}

impl Picked {
    pub(crate) fn new(instance: Arc<Instance>, load: Arc<Load>) -> Self {
        load.in_flight.fetch_add(1, Relaxed);
        Self {
            instance,
            load,
            since: Instant::now(),
        }
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
        let nanos = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.load.last_latency_nanos.store(nanos, Relaxed);
        match outcome {
            Outcome::Success => self.load.succeeded.fetch_add(1, Relaxed),
            Outcome::Failure => self.load.failed.fetch_add(1, Relaxed),
        };
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
        self.load.in_flight.fetch_sub(1, Relaxed);
    }
}
