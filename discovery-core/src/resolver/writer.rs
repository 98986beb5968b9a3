//! The one writer of a view: filters what the upstream sees and publishes what a pick needs.

use std::sync::Arc;

use tokio::time::Instant;

use super::members::Members;
use crate::{
    error::Error,
    model::{Cursor, Evidence, Freshness, Held, Instance, InstanceKey, Snapshot, Source},
    pick::{Balancing, Load, Prepared, State, Strategy, View},
};

/// How the upstream stands, as far as snapshots tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) source: Source,
    pub(super) evidence: Evidence,
    pub(super) held: Option<Held>,
}

/// What upstream events changed, in order: an upsert is of one that was not there or was another.
pub(super) type Delta = Vec<Step>;

/// One change of the believed set.
#[derive(Debug)]
pub(super) enum Step {
    Upsert(Arc<Instance>, Arc<Load>),
    Remove(InstanceKey),
}

#[derive(Debug)]
pub(super) struct Writer {
    view: Arc<View>,
    strategy: Arc<dyn Strategy>,
    balancing: Arc<Balancing>,
    members: Members,
    freshness: Freshness,
    expired: bool,
    /// Since when only the hub and this writer know the view.
    unused_since: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        view: Arc<View>,
        strategy: Arc<dyn Strategy>,
        balancing: Arc<Balancing>,
        freshness: Freshness,
    ) -> Self {
        let balancing = if view.query().healthy_only {
            balancing
        } else {
            Arc::new(balancing.among_all())
        };
        Self {
            view,
            strategy,
            balancing,
            members: Members::default(),
            freshness,
            expired: false,
            unused_since: None,
        }
    }

    pub(super) fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Applies a change of the upstream; answers whether this view changed.
    pub(super) fn apply(&mut self, delta: &Delta) -> bool {
        let mut changed = false;
        for step in delta {
            changed |= match step {
                Step::Upsert(instance, load) if self.view.query().accepts(instance) => {
                    self.members.put(instance, load);
                    true
                }
                Step::Upsert(instance, _) => self.members.remove(&instance.key),
                Step::Remove(key) => self.members.remove(key),
            };
        }
        if changed {
            // A snapshot somebody kept must go on ageing when it is no longer what the registry confirms.
            self.freshness = Freshness::aged(self.freshness.age());
        }
        changed
    }

    /// The registry has just confirmed what this view shows; answers whether that revived it.
    pub(super) fn confirm(&mut self) -> bool {
        self.freshness.confirm();
        std::mem::take(&mut self.expired)
    }

    /// How old the view is after a start from disk.
    pub(super) fn age_like(&mut self, freshness: &Freshness) {
        self.freshness = Freshness::aged(freshness.age());
    }

    pub(super) fn age(&self) -> std::time::Duration {
        self.freshness.age()
    }

    /// When the view gets older than its query allows.
    pub(super) fn expires(&self, now: Instant) -> Option<Instant> {
        let max_stale = self.view.query().max_stale.filter(|_| !self.expired)?;
        Some(now + max_stale.saturating_sub(self.freshness.age()))
    }

    /// When it should be published again though nothing changes: an instance is starting slowly.
    pub(super) fn next_step(&self) -> Option<Instant> {
        self.view.load().next
    }

    /// Notes whether the view is older than its query allows; answers whether that is news.
    pub(super) fn check_expired(&mut self) -> bool {
        let expired = self
            .view
            .query()
            .max_stale
            .is_some_and(|max_stale| self.freshness.age() >= max_stale);
        expired && !std::mem::replace(&mut self.expired, true)
    }

    /// Publishes what the view shows now, and answers what it showed before. `all` is how many instances the upstream has.
    pub(super) fn publish(&self, link: Link, cursor: Option<&Cursor>, all: usize) -> Arc<Prepared> {
        let snapshot = Snapshot {
            target: self.view.query().target.clone(),
            instances: self.members.endpoints().instances().clone(),
            source: link.source,
            freshness: self.freshness.clone(),
            cursor: cursor.cloned(),
            evidence: link.evidence,
            held: link.held,
            valid_for: None,
        };
        let state = if self.expired {
            State::Expired
        } else {
            State::Ready
        };
        self.put(snapshot, state, all)
    }

    /// Tells waiters why there is nothing yet.
    pub(super) fn publish_pending(&self, error: &Error) {
        let mut snapshot = self.view.load().snapshot.clone();
        snapshot.source = Source::Stale;
        self.put(snapshot, State::Pending(Some(error.clone())), 0);
    }

    /// Ends the view.
    pub(super) fn close(&self) {
        let snapshot = self.view.load().snapshot.clone();
        self.put(snapshot, State::Closed, self.members.len());
    }

    fn put(&self, snapshot: Snapshot, state: State, all: usize) -> Arc<Prepared> {
        let endpoints = self.members.endpoints().clone();
        let filtered = all.saturating_sub(endpoints.len());
        self.view.publish(Prepared::new(
            snapshot,
            endpoints,
            &*self.strategy,
            state,
            filtered,
            &self.balancing,
        ))
    }

    /// For how long nobody outside has known the view, given that hub and writer do.
    pub(super) fn unused_since(&mut self, now: Instant) -> Option<Instant> {
        if Arc::strong_count(&self.view) > 2 {
            self.unused_since = None;
        } else {
            self.unused_since.get_or_insert(now);
        }
        self.unused_since
    }

    pub(super) fn key(&self) -> (crate::model::Query, &'static str) {
        (self.view.query().clone(), self.strategy.name())
    }
}
