//! Changes as they happen.

use std::{fmt::Debug, sync::Arc};

use futures::stream::BoxStream;

use crate::{
    error::Result,
    model::{Cursor, Evidence, Instance, InstanceKey, Query},
};

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// This is all there is.
    Reset(Vec<Arc<Instance>>),
    /// These are new or changed.
    Upsert(Vec<Arc<Instance>>),
    /// These are gone.
    Remove(Vec<InstanceKey>),
    /// Nothing: the server confirms the last state.
    Confirmed,
}

/// One event of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchEvent {
    /// Where a watch can resume after this event.
    pub cursor: Option<Cursor>,
    /// What changed.
    pub change: Change,
    /// How far the backend trusts it.
    pub evidence: Evidence,
}

impl WatchEvent {
    /// An authoritative event without a cursor.
    pub fn new(change: Change) -> Self {
        Self {
            cursor: None,
            change,
            evidence: Evidence::Authoritative,
        }
    }

    /// The same event with a cursor.
    #[must_use]
    pub fn with_cursor(mut self, cursor: Cursor) -> Self {
        self.cursor = Some(cursor);
        self
    }

    /// The same event with this evidence.
    #[must_use]
    pub fn with_evidence(mut self, evidence: Evidence) -> Self {
        self.evidence = evidence;
        self
    }
}

/// A raw watch: it may fail and end at any time. Recovery exists once, in core.
pub type WatchStream = BoxStream<'static, Result<WatchEvent>>;

/// Tells what changes.
pub trait Watcher: Send + Sync + Debug + 'static {
    /// Watches what `query` means, from `since` on where that is given and the server still knows it.
    ///
    /// # Contract
    /// - Lazy: no I/O until the stream is polled. Dropping it ends the watch on the server.
    /// - Without `since`, or when it cannot be honoured silently, the first change is [`Change::Reset`]; with it, only later
    ///   changes come.
    /// - A cursor the server has forgotten is the error [`WatchExpired`](crate::ErrorKind::WatchExpired).
    /// - While nothing changes, a [`Change::Confirmed`] comes at least every
    ///   [`confirm_every`](super::Capabilities::confirm_every).
    /// - An error or the end of the stream is the end of this watch only.
    fn watch(&self, query: &Query, since: Option<Cursor>) -> WatchStream;
}
