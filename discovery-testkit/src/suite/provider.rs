//! What the suite runs on: where backends come from, and how their registry is broken.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use discovery_core::{Backend, ErrorKind, Result};

use super::Case;

/// A way to break the way to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// Nobody answers: new connections are refused, open ones closed.
    Refuse,
    /// Open connections are closed, once; new ones are let in.
    Cut,
    /// A black hole: connections stay open and nothing comes back.
    Stall,
    /// Answers are random bytes.
    Garbage,
    /// Answers come so much later.
    Delay(Duration),
    /// The registry answers with its own form of this error.
    Error(ErrorKind),
}

/// What a provider may be able to do beside showing faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tool {
    /// [`Subject::forget`].
    Forget,
    /// [`Subject::compact`].
    Compact,
    /// [`Subject::open_watches`] answers.
    OpenWatches,
    /// [`Subject::requests`] answers.
    Requests,
}

/// Where the suite gets its backends from: one per backend under test.
#[async_trait]
pub trait Provider: Debug + Send + Sync + 'static {
    /// The first part of its trials' names.
    fn name(&self) -> &str;

    /// The groups it runs; all where `None`, and only then must every claimed flag be proved.
    fn groups(&self) -> Option<&'static [&'static str]> {
        None
    }

    /// Whether its subjects can show this fault. A case that needs another is not run.
    fn shows(&self, fault: Fault) -> bool;

    /// Whether its subjects have this tool. A case that needs another is not run.
    fn has(&self, tool: Tool) -> bool;

    /// A registry for one case: none of its faults may reach another case. A server may be shared by all cases that are not
    /// [`exclusive`](Case::exclusive), since names are unique.
    ///
    /// # Errors
    /// A registry that cannot be had fails the case; it is never a reason to skip it.
    async fn subject(&self, case: &Case) -> Result<Box<dyn Subject>>;
}

/// A registry as one case sees it.
#[async_trait]
pub trait Subject: Debug + Send + Sync + 'static {
    /// A new client's backend, over the way that faults break.
    async fn connect(&self) -> Result<Backend>;

    /// A backend over a way that faults leave alone, to see and change the truth.
    async fn direct(&self) -> Result<Backend>;

    /// Breaks the way until it is healed.
    async fn break_way(&self, fault: Fault) -> Result<()>;

    /// Takes every fault back.
    async fn heal(&self) -> Result<()>;

    /// Has the registry lose everything, as one that restarts empty.
    async fn forget(&self) -> Result<()>;

    /// Has the registry forget its history, so that cursors expire.
    async fn compact(&self) -> Result<()>;

    /// How many watches the registry serves this subject's clients, where it can be told.
    fn open_watches(&self) -> Option<usize>;

    /// How many requests of this subject's clients reached the registry, where they can be counted.
    fn requests(&self) -> Option<usize>;

    /// How long a change may take until everybody sees it.
    fn visible_within(&self) -> Duration;

    /// The shortest TTL the registry keeps.
    fn min_ttl(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// How long a registration of this TTL may stay in service after its last heartbeat.
    fn gone_within(&self, ttl: Duration) -> Duration {
        ttl + self.visible_within()
    }
}
