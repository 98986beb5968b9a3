//! Takes what the registry says into the believed set.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{COALESCE, READ_GAP, Upstream};
use crate::{
    error::{Error, ErrorKind},
    metrics,
    model::{Evidence, Instance, InstanceKey, Source, Suspicion},
    pick::Load,
    resolver::writer::{Delta, Link, Step},
    spi::{Change, WatchEvent},
    watch::{Recovered, Verdict},
};

impl Upstream {
    pub(super) fn on_watch(&mut self, first: Recovered<WatchEvent>) {
        let mut delta = Delta::default();
        let mut confirmed = false;
        // Who waits for the first change after a rest is told before more is looked for, where it is a state of its own.
        let whole = matches!(&first, Recovered::Event(event) if event.cursor.is_some());
        let most = if whole && self.in_a_row == 0 { 1 } else { COALESCE };
        let before = self.link;
        let (mut next, mut taken) = (Some(first), 0);
        while let Some(recovered) = next {
            match recovered {
                Recovered::Event(event) => confirmed |= self.fold(event, &mut delta),
                Recovered::Down { error, retry_in } => {
                    self.on_down(&error, retry_in);
                    confirmed = false;
                }
            }
            taken += 1;
            next = if taken < most {
                self.watch.next().now_or_never()
            } else {
                None
            };
        }
        self.settle(before, &delta, confirmed);
    }

    /// Takes an event into the believed set; answers whether it confirms that set.
    fn fold(&mut self, event: WatchEvent, delta: &mut Delta) -> bool {
        let sure = event.evidence == Evidence::Authoritative;
        if event.cursor.is_some() {
            self.cursor = event.cursor;
        }
        if !matches!(event.change, Change::Confirmed) {
            // A read under way may be older than this.
            self.read = None;
        }
        match event.change {
            Change::Reset(instances) => {
                let confirms = self.fold_answer(instances, event.evidence, delta);
                self.link_up(event.evidence);
                return confirms;
            }
            Change::Upsert(instances) => {
                self.guard.shown(instances.iter().map(|instance| &instance.key));
                self.upsert(instances, delta);
            }
            Change::Remove(keys) => {
                if self.guard.removal(Instant::now(), &keys, event.evidence) == Verdict::Believe {
                    self.remove(keys, delta);
                }
            }
            Change::Confirmed => {}
        }
        self.link_up(event.evidence);
        sure && self.guard.held().is_none()
    }

    /// Takes a complete answer; answers whether it confirms the believed set.
    pub(super) fn fold_answer(
        &mut self,
        instances: Vec<Arc<Instance>>,
        evidence: Evidence,
        delta: &mut Delta,
    ) -> bool {
        if !self.seen
            && instances.is_empty()
            && let Some(error) = evidence.suspicion().and_then(no_first_answer)
        {
            self.refuse(&error);
            return false;
        }
        let shown: BTreeSet<&InstanceKey> = instances.iter().map(|instance| &instance.key).collect();
        let missing: BTreeSet<InstanceKey> = self
            .members
            .iter()
            .map(|(instance, _)| &instance.key)
            .filter(|key| !shown.contains(key))
            .cloned()
            .collect();
        let gone: Vec<_> = missing.iter().cloned().collect();
        let verdict = self
            .guard
            .answer(Instant::now(), self.members.len(), missing, evidence);
        self.upsert(instances, delta);
        if verdict == Verdict::Believe {
            self.remove(gone, delta);
        }
        if !std::mem::replace(&mut self.seen, true) {
            metrics::discovery_duration(self.backend, "watch", self.started.elapsed());
        }
        evidence == Evidence::Authoritative && verdict == Verdict::Believe
    }

    pub(in crate::resolver) fn upsert(&mut self, instances: Vec<Arc<Instance>>, delta: &mut Delta) {
        for instance in instances {
            let new = || match &self.outliers {
                Some(outliers) => Arc::new(outliers.load()),
                None => Arc::<Load>::default(),
            };
            if let Some(load) = self.members.upsert(&instance, new) {
                let load = load.clone();
                delta.push(Step::Upsert(instance, load));
            }
        }
    }

    pub(super) fn remove(&mut self, keys: Vec<InstanceKey>, delta: &mut Delta) {
        for key in keys {
            if self.members.remove(&key) {
                delta.push(Step::Remove(key));
            }
        }
    }

    fn link_up(&mut self, evidence: Evidence) {
        if !self.seen {
            return;
        }
        if self.failure.take().is_some() {
            info!("watch is back");
            self.hub.healed.send_replace(());
        }
        self.link.source = Source::Live;
        self.link.evidence = evidence;
    }

    fn on_down(&mut self, error: &Error, retry_in: Duration) {
        metrics::watch_failed(self.backend, error.kind());
        let error = error.clone().with_backend(self.backend);
        if self.failure.is_none() {
            warn!(%error, ?retry_in, "watch is down, the last good view stays");
        } else {
            debug!(%error, ?retry_in, "watch is still down");
        }
        if self.link.source == Source::Live {
            self.link.source = Source::Stale;
        }
        self.refuse(&error);
    }

    /// There is a failure: waiters that have nothing are told.
    fn refuse(&mut self, error: &Error) {
        self.failure = Some(error.clone());
        if !self.seen {
            self.writers
                .iter()
                .for_each(|writer| writer.publish_pending(error));
        }
    }

    /// Publishes what changed, and tells the views that are confirmed.
    pub(in crate::resolver) fn settle(&mut self, before: Link, delta: &Delta, confirmed: bool) {
        self.link.held = self.guard.held();
        if let (None, Some(held)) = (before.held, self.link.held) {
            warn!(
                reason = held.reason.as_str(),
                instances = held.instances,
                "removals are held back until they are confirmed"
            );
            self.next_read = Instant::now() + READ_GAP;
        }
        if !self.seen {
            return;
        }
        if confirmed {
            self.freshness.confirm();
        }
        let all = self.members.len();
        for writer in &mut self.writers {
            let changed = writer.apply(delta);
            let revived = confirmed && writer.confirm();
            let pending = matches!(writer.view().load().state, crate::pick::State::Pending(_));
            if changed || revived || pending || before != self.link {
                let outdated = writer.publish(self.link, self.cursor.as_ref(), all);
                self.outdated.push(outdated);
            }
        }
        if !delta.is_empty() || before != self.link {
            self.unsaved |= confirmed && self.link.source == Source::Live;
            self.unobserved = true;
        }
    }
}

/// Why a first answer without instances is no answer, if it is none.
fn no_first_answer(suspicion: Suspicion) -> Option<Error> {
    match suspicion {
        Suspicion::AccessLost => Some(
            Error::new(
                ErrorKind::PermissionDenied,
                "the registry hides instances from these credentials",
            )
            .with_hint("grant the token the right to read this service"),
        ),
        Suspicion::NoLeader => Some(Error::new(
            ErrorKind::Unavailable,
            "the registry has no leader and shows nothing",
        )),
        _ => None,
    }
}
