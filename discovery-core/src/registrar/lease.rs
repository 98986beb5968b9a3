//! Lease groups: who lives by one lease, and the heart that renews it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};
use tracing::{Instrument, debug, info, info_span, warn};

use super::{
    Inner, pace,
    record::{Name, Record, lock},
};
use crate::{
    error::{Error, ErrorKind},
    model::{Lease, LeaseGroup, Renewal},
    resilience::Backoff,
    spi::LeaseMode,
};

/// The members of a lease. One task, its heart, renews it for all of them.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: LeaseGroup,
    state: Mutex<GroupState>,
    /// The number of the last renewal that ended.
    ended: watch::Sender<u64>,
    wake: Notify,
}

#[derive(Debug)]
struct GroupState {
    members: HashMap<Name, Arc<Record>>,
    ttl: Duration,
    /// The time between two renewals.
    period: Duration,
    /// The number of the last renewal that began.
    begun: u64,
    stopped: bool,
}

/// One renewal under way; dropping it says that it ended.
struct Beat<'a> {
    group: &'a Group,
    number: u64,
    members: Vec<Arc<Record>>,
    ttl: Duration,
    period: Duration,
}

impl Drop for Beat<'_> {
    fn drop(&mut self) {
        self.group.ended.send_replace(self.number);
    }
}

impl Group {
    fn new(lease: &Lease, ttl: Duration, period: Duration) -> Self {
        Self {
            id: lease.group.clone(),
            state: Mutex::new(GroupState {
                members: HashMap::new(),
                ttl,
                period,
                begun: 0,
                stopped: false,
            }),
            ended: watch::Sender::new(0),
            wake: Notify::new(),
        }
    }

    /// Begins a renewal, unless the group was stopped.
    fn begin(&self) -> Option<Beat<'_>> {
        let mut state = lock(&self.state);
        if state.stopped {
            return None;
        }
        state.begun += 1;
        Some(Beat {
            group: self,
            number: state.begun,
            members: state.members.values().cloned().collect(),
            ttl: state.ttl,
            period: state.period,
        })
    }

    /// Waits for the renewal under way, if there is one: when it has ended, the registry has seen nothing of the members'
    /// state before this call any later than what the caller sends next.
    ///
    /// A renewal has a deadline, so this has one.
    pub(super) async fn settle(&self) {
        let begun = lock(&self.state).begun;
        // The sender lives in `self`: this cannot fail.
        let _ = self.ended.subscribe().wait_for(|ended| *ended >= begun).await;
    }

    /// Takes `name` out: no renewal that begins later names it.
    pub(super) fn remove(&self, name: &Name) {
        lock(&self.state).members.remove(name);
        self.wake.notify_one();
    }

    /// Begins no further renewal.
    pub(super) fn stop(&self) {
        lock(&self.state).stopped = true;
        self.wake.notify_one();
    }

    fn period(&self) -> Duration {
        lock(&self.state).period
    }
}

impl Inner {
    /// The group a lease names, while it is being renewed.
    pub(super) fn group(&self, id: &LeaseGroup) -> Option<Arc<Group>> {
        lock(&self.groups).get(id).cloned()
    }

    /// Puts `record` under its lease, and starts the lease's heart where it is the first.
    pub(super) fn join(self: &Arc<Self>, lease: &Lease, ttl: Duration, record: &Arc<Record>) {
        let period = pace::period(ttl, lease.renew_every.or(self.config.renew_every));
        let mut groups = lock(&self.groups);
        let mut fresh = false;
        let group = groups.entry(lease.group.clone()).or_insert_with(|| {
            fresh = true;
            Arc::new(Group::new(lease, ttl, period))
        });
        {
            let mut state = lock(&group.state);
            state.members.insert(record.name.clone(), record.clone());
            state.stopped = self.stop.is_cancelled();
            let before = (state.ttl, state.period);
            (state.ttl, state.period) = (ttl, period);
            if before != (ttl, period) {
                group.wake.notify_one();
            }
        }
        if fresh {
            let (inner, group) = (self.clone(), group.clone());
            let cancelled = self.tasks.cancelled().clone();
            let span = info_span!(parent: None, "discovery.renew", backend = self.scheme(), group = group.id.as_str());
            let heart = async move { cancelled.run_until_cancelled(inner.beat(&group)).await };
            self.tasks.spawn(heart.instrument(span));
        }
    }

    /// Ends a group nobody lives by. A shared lease goes on: the next registration will live by it.
    fn retire(&self, group: &Arc<Group>) -> bool {
        let mut groups = lock(&self.groups);
        let idle = self.can.lease != LeaseMode::Shared && lock(&group.state).members.is_empty();
        if idle
            && groups
                .get(&group.id)
                .is_some_and(|known| Arc::ptr_eq(known, group))
        {
            groups.remove(&group.id);
        }
        idle
    }

    /// Renews a group until it is stopped, forgotten by the registry or empty. It never gives up.
    async fn beat(&self, group: &Arc<Group>) {
        let mut failing: Option<Failing> = None;
        let mut confirmed = Instant::now();
        let mut due = confirmed + pace::phase(group.period());
        loop {
            tokio::select! {
                () = group.wake.notified() => {
                    if self.retire(group) {
                        return;
                    }
                    due = due.min(Instant::now() + group.period());
                    if !lock(&group.state).stopped {
                        continue;
                    }
                }
                () = sleep_until(due) => {}
            }
            let Some(beat) = group.begin() else { return };
            match self.renew(&beat).await {
                Ok(()) => {
                    confirmed = Instant::now();
                    beat.members.iter().for_each(|record| record.confirm());
                    if failing.take().is_some() {
                        info!("lease renewed again");
                    }
                    // Counted from the answer, so that slow answers do not crowd the beats.
                    due = confirmed + pace::jittered(beat.period);
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    drop(beat);
                    self.forgotten(group, &error);
                    return;
                }
                Err(error) => {
                    let failing = failing.get_or_insert_with(|| Failing::new(beat.ttl));
                    let delay = failing.next(self, &error, confirmed.elapsed(), &beat);
                    due = Instant::now() + delay;
                }
            }
        }
    }

    async fn renew(&self, beat: &Beat<'_>) -> Result<(), Error> {
        let renewal = Renewal::new(beat.members.iter().map(|record| {
            let state = record.state();
            (state.key.clone(), state.desired.health.clone())
        }));
        let limit = pace::renewal_timeout(beat.ttl, self.config.request_timeout);
        self.request("renew", limit, self.registry.renew(&beat.group.id, &renewal))
            .await
    }

    /// The registry no longer knows the lease or one of its members: all of them register again.
    fn forgotten(&self, group: &Arc<Group>, error: &Error) {
        let members = {
            let mut groups = lock(&self.groups);
            if groups
                .get(&group.id)
                .is_some_and(|known| Arc::ptr_eq(known, group))
            {
                groups.remove(&group.id);
            }
            std::mem::take(&mut lock(&group.state).members)
        };
        info!(members = members.len(), %error, "lease lost: registering its members again");
        for record in members.values() {
            record.lose(error);
        }
    }
}

/// Renewals that fail in a row.
struct Failing {
    backoff: Backoff,
    lapsed: bool,
}

impl Failing {
    fn new(ttl: Duration) -> Self {
        Self {
            backoff: pace::renewal_backoff(ttl),
            lapsed: false,
        }
    }

    /// Tells of a failure and answers when to try again; `silent` is how long the registry has confirmed nothing.
    fn next(&mut self, inner: &Inner, error: &Error, silent: Duration, beat: &Beat<'_>) -> Duration {
        for record in &beat.members {
            record.state().error = Some(error.clone());
        }
        if silent > beat.ttl && !std::mem::replace(&mut self.lapsed, true) {
            // The record is gone by now, if the server lives: there is no more need for haste, only for patience.
            self.backoff = Backoff::new(beat.ttl / 8, pace::period(beat.ttl, None));
            if inner.may_warn() {
                warn!(%error, ttl = ?beat.ttl, "lease not renewed within its TTL: trying for ever");
            }
        } else {
            debug!(%error, ?silent, "renewal failed");
        }
        if pace::is_denied(error) && !self.lapsed {
            // Rights that come and go (rotation, replication) should not cost the lease: no faster than in good times.
            return pace::jittered(beat.period);
        }
        pace::after(error, &mut self.backoff)
    }
}
