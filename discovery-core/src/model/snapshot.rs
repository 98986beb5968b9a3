//! An answer: instances, where they came from, how old they are and how far they can be trusted.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

use super::{Instance, Instances, Target};

/// Where a snapshot came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Source {
    /// From the registry, and the way to it is open.
    Live,
    /// From a cache entry that has not expired.
    Cache,
    /// From the registry, but the way to it is now broken: the last good view.
    Stale,
    /// From the last-good snapshot on disk: the registry has not answered since this process started.
    Disk,
}

impl Source {
    /// The lower-case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Cache => "cache",
            Self::Stale => "stale",
            Self::Disk => "disk",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why an answer may not be the whole truth although the server said "success".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Suspicion {
    /// The credentials see only a part, or were refused while watching.
    AccessLost,
    /// The server's index or revision went backwards.
    IndexRegressed,
    /// The server answered without a leader, from data it may no longer own.
    NoLeader,
    /// Nothing, where there was something, and the server cannot say whether it hides results.
    UnverifiedEmpty,
    /// More than half of five or more instances gone at once.
    MassRemoval,
}

impl Suspicion {
    /// The name used in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccessLost => "access_lost",
            Self::IndexRegressed => "index_regressed",
            Self::NoLeader => "no_leader",
            Self::UnverifiedEmpty => "unverified_empty",
            Self::MassRemoval => "mass_removal",
        }
    }
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How far an answer can be trusted, as far as the backend can tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// The server knows.
    #[default]
    Authoritative,
    /// The server may not know.
    Suspect(Suspicion),
}

impl Evidence {
    /// The suspicion, if there is one.
    pub const fn suspicion(self) -> Option<Suspicion> {
        match self {
            Self::Authoritative => None,
            Self::Suspect(suspicion) => Some(suspicion),
        }
    }
}

/// Removals that the guard holds back until they are confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Held {
    /// Why.
    pub reason: Suspicion,
    /// How many instances the registry no longer shows but this snapshot does.
    pub instances: usize,
}

impl Held {
    /// So many instances held back for this reason.
    pub fn new(reason: Suspicion, instances: usize) -> Self {
        Self { reason, instances }
    }
}

/// A place in one server's history, opaque to all but the backend that made it; never persisted.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Cursor(Arc<str>);

impl Cursor {
    /// A cursor of this text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The backend's own text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor({})", self.0)
    }
}

/// When the registry last confirmed an answer: one atomic, shared by all copies of a view's snapshots.
///
/// It takes no part in equality, and a confirmation wakes nobody.
#[derive(Clone)]
pub struct Freshness(Confirmed);

#[derive(Clone)]
enum Confirmed {
    At(Arc<AtomicU64>),
    /// As long ago as the one of these that was longest ago.
    Oldest(Arc<Vec<Freshness>>),
}

/// The moment ages are counted from; an hour back, so that a snapshot loaded from disk can be older than the process.
fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(|| {
        let now = Instant::now();
        now.checked_sub(Duration::from_secs(3600)).unwrap_or(now)
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Freshness {
    /// Confirmed now.
    pub fn now() -> Self {
        Self::aged(Duration::ZERO)
    }

    /// Last confirmed so long ago (at most about an hour more than this process is old).
    pub fn aged(age: Duration) -> Self {
        Self(Confirmed::At(Arc::new(AtomicU64::new(
            millis(epoch().elapsed()).saturating_sub(millis(age)),
        ))))
    }

    /// That of an answer put together from several: as old as the oldest of them, now and whenever it is asked.
    pub fn oldest(parts: impl IntoIterator<Item = Self>) -> Self {
        Self(Confirmed::Oldest(Arc::new(parts.into_iter().collect())))
    }

    /// Notes that the registry has just confirmed it.
    pub fn confirm(&self) {
        match &self.0 {
            Confirmed::At(at) => {
                at.fetch_max(millis(epoch().elapsed()), Ordering::Relaxed);
            }
            Confirmed::Oldest(parts) => parts.iter().for_each(Self::confirm),
        }
    }

    /// How long ago the registry last confirmed it, to the millisecond.
    pub fn age(&self) -> Duration {
        match &self.0 {
            Confirmed::At(at) => {
                Duration::from_millis(millis(epoch().elapsed()).saturating_sub(at.load(Ordering::Relaxed)))
            }
            Confirmed::Oldest(parts) => parts.iter().map(Self::age).max().unwrap_or_default(),
        }
    }
}

impl Default for Freshness {
    fn default() -> Self {
        Self::now()
    }
}

impl fmt::Debug for Freshness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Freshness({:?} ago)", self.age())
    }
}

/// An answer: instances, where they came from, how old they are and how far they can be trusted.
///
/// Immutable and cheap to clone. Two snapshots are equal when target, instances, source and what is held back are.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Snapshot {
    /// What was asked for.
    pub target: Target,
    /// The instances.
    pub instances: Instances,
    /// Where they came from.
    pub source: Source,
    /// When the registry last confirmed them.
    pub freshness: Freshness,
    /// Where a watch can resume from.
    pub cursor: Option<Cursor>,
    /// How far the backend trusts its own answer.
    pub evidence: Evidence,
    /// What the guard holds back.
    pub held: Option<Held>,
    /// How long the registry says the answer stays valid (a DNS TTL).
    pub valid_for: Option<Duration>,
}

impl Snapshot {
    /// A live, authoritative answer, confirmed now.
    pub fn live(target: Target, instances: impl Into<Instances>) -> Self {
        Self {
            target,
            instances: instances.into(),
            source: Source::Live,
            freshness: Freshness::now(),
            cursor: None,
            evidence: Evidence::Authoritative,
            held: None,
            valid_for: None,
        }
    }

    /// The same snapshot from this source.
    #[must_use]
    pub fn with_source(mut self, source: Source) -> Self {
        self.source = source;
        self
    }

    /// The same snapshot with a cursor.
    #[must_use]
    pub fn with_cursor(mut self, cursor: Cursor) -> Self {
        self.cursor = Some(cursor);
        self
    }

    /// The same snapshot with this evidence.
    #[must_use]
    pub fn with_evidence(mut self, evidence: Evidence) -> Self {
        self.evidence = evidence;
        self
    }

    /// The same snapshot, valid for so long.
    #[must_use]
    pub fn with_valid_for(mut self, valid_for: Duration) -> Self {
        self.valid_for = Some(valid_for);
        self
    }

    /// How long ago the registry last confirmed it.
    pub fn age(&self) -> Duration {
        self.freshness.age()
    }
}

impl PartialEq for Snapshot {
    fn eq(&self, other: &Self) -> bool {
        self.target == other.target
            && self.source == other.source
            && self.held == other.held
            && self.instances == other.instances
    }
}

impl Eq for Snapshot {}

impl From<Vec<Instance>> for Instances {
    fn from(instances: Vec<Instance>) -> Self {
        instances.into_iter().collect()
    }
}

impl From<Vec<Arc<Instance>>> for Instances {
    fn from(instances: Vec<Arc<Instance>>) -> Self {
        instances.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn age_counts_from_the_last_confirmation_and_is_no_part_of_equality() {
        let snapshot = Snapshot::live(Target::All, Vec::<Instance>::new());
        let same = snapshot.clone();
        let other = Snapshot::live(Target::All, Vec::<Instance>::new());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(snapshot.age() >= Duration::from_secs(5));
        snapshot.freshness.confirm();
        assert!(same.age() < Duration::from_secs(1));
        assert!(other.age() >= Duration::from_secs(5));
        assert_eq!(same, other);

        let both = Freshness::oldest([same.freshness.clone(), other.freshness.clone()]);
        assert!(both.age() >= Duration::from_secs(5));
        other.freshness.confirm();
        assert!(both.age() < Duration::from_secs(1));
    }
}
