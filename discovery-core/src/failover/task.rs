//! One view over tiers of sources: looks at them, chooses, publishes.

use std::{sync::Arc, time::Duration};

use futures::future::select_all;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use super::{
    Hub, Kept, Key, Leg, lock, merge,
    tiers::{Standing, Worth, choose},
};
use crate::{
    error::Error,
    metrics,
    model::Source,
    pick::{Prepared, State, Strategy, heals},
};

/// A source that has just been asked has so long to answer before it is passed over.
const START: Duration = Duration::from_secs(1);
/// How often the task looks whether somebody still uses its view.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

pub(super) struct Task {
    hub: Arc<Hub>,
    key: Key,
    kept: Kept,
    strategy: Arc<dyn Strategy>,
    tiers: Vec<Tier>,
    current: usize,
    /// What the view was last made of; nothing while there is nothing to show.
    shown: Vec<Arc<Prepared>>,
    started: Instant,
    unused_since: Option<Instant>,
}

struct Tier {
    feeds: Vec<Feed>,
    /// Since when it has been good by sources that answer.
    sound_since: Option<Instant>,
}

/// A source and what is known of it.
struct Feed {
    leg: Leg,
    changed: watch::Receiver<()>,
    now: Arc<Prepared>,
    /// Since when its registry has not answered.
    lost: Option<Instant>,
    trust: Trust,
}

/// How far the view of a source counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Its registry answers.
    Live,
    /// Its registry has not answered for a moment.
    Recent,
    /// Its registry has not answered for too long, or not since the start: better than nothing.
    Old,
    /// There is no view.
    Nothing,
}

impl Feed {
    fn new(leg: Leg) -> Self {
        Self {
            changed: leg.view.subscribe(),
            now: leg.view.load_full(),
            leg,
            lost: None,
            trust: Trust::Nothing,
        }
    }

    fn look(&mut self, now: Instant, max_outage: Duration) {
        // Marked as seen first, so that what comes while it is looked at is looked at again.
        self.changed.borrow_and_update();
        self.now = self.leg.view.load_full();
        let ready = matches!(self.now.state, State::Ready);
        let source = self.now.snapshot.source;
        self.trust = if ready && source == Source::Live {
            self.lost = None;
            Trust::Live
        } else {
            let lost = *self.lost.get_or_insert(now);
            match source {
                _ if !ready => Trust::Nothing,
                Source::Stale if now < lost + max_outage => Trust::Recent,
                _ => Trust::Old,
            }
        };
    }

    fn is_fresh(&self) -> bool {
        matches!(self.trust, Trust::Live | Trust::Recent)
    }

    fn failure(&self) -> Option<&Error> {
        match &self.now.state {
            State::Pending(error) => error.as_ref(),
            _ => None,
        }
    }
}

impl Tier {
    fn healthy(&self, most: usize, counts: impl Fn(&Feed) -> bool) -> usize {
        let feeds = self.feeds.iter().filter(|feed| counts(feed));
        feeds.map(|feed| feed.now.healthy(most)).sum()
    }

    /// How it stands, after its sources were looked at.
    fn standing(&mut self, now: Instant, min_healthy: usize, starting: bool) -> Standing {
        let enough = |healthy: usize| healthy >= min_healthy;
        if enough(self.healthy(min_healthy, |feed| feed.trust == Trust::Live)) {
            self.sound_since.get_or_insert(now);
        } else {
            self.sound_since = None;
        }
        let unheard = |feed: &Feed| matches!(feed.now.state, State::Pending(None));
        let all = |feed: &Feed| feed.trust != Trust::Nothing;
        Standing {
            worth: if enough(self.healthy(min_healthy, Feed::is_fresh)) {
                Worth::Good
            } else if self.healthy(1, all) > 0 {
                Worth::Few
            } else if self.feeds.iter().any(all) {
                Worth::Empty
            } else {
                Worth::Nothing
            },
            sound_since: self.sound_since,
            waiting: starting && self.feeds.iter().any(unheard),
        }
    }

    /// The views to show: those that are fresh, or all there are where that is not enough.
    fn views(&self, good: bool) -> Vec<Arc<Prepared>> {
        let counts = |feed: &&Feed| feed.is_fresh() || (!good && feed.trust != Trust::Nothing);
        let feeds = self.feeds.iter().filter(counts);
        feeds.map(|feed| feed.now.clone()).collect()
    }
}

impl Task {
    pub(super) fn new(
        hub: Arc<Hub>,
        key: Key,
        kept: Kept,
        strategy: Arc<dyn Strategy>,
        tiers: Vec<Vec<Leg>>,
    ) -> Self {
        let tiers = tiers
            .into_iter()
            .map(|legs| Tier {
                feeds: legs.into_iter().map(Feed::new).collect(),
                sound_since: None,
            })
            .collect();
        Self {
            hub,
            key,
            kept,
            strategy,
            tiers,
            current: 0,
            shown: Vec::new(),
            started: Instant::now(),
            unused_since: None,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.turn();
            if self.is_unused() {
                break;
            }
            if !self.wait().await {
                self.close();
                break;
            }
        }
        if self.current > 0 {
            metrics::failover_active(self.key.0.label(), -1.0);
        }
    }

    /// Waits until there may be news; answers false when the client ends.
    async fn wait(&mut self) -> bool {
        let next = self.next();
        let feeds = self.tiers.iter_mut().flat_map(|tier| &mut tier.feeds);
        // The senders live in the views this task keeps.
        let changed = select_all(feeds.map(|feed| Box::pin(feed.changed.changed())));
        tokio::select! {
            biased;
            () = self.hub.tasks.cancelled().cancelled() => false,
            () = sleep_until(next) => true,
            _ = changed => true,
        }
    }

    /// Looks at all sources, chooses, and publishes what is news.
    fn turn(&mut self) {
        let now = Instant::now();
        let policy = &self.hub.policy;
        let starting = now < self.started + START;
        let mut standings = Vec::with_capacity(self.tiers.len());
        for tier in &mut self.tiers {
            for feed in &mut tier.feeds {
                feed.look(now, policy.max_outage);
            }
            standings.push(tier.standing(now, policy.min_healthy, starting));
        }
        let before = self.current;
        self.current = choose(&standings, before, now, policy.hold);
        let good = standings.get(self.current).is_some_and(Standing::is_good);
        // Before it can be seen, so that who sees it and asks is told the same.
        self.tell(before, good);
        // Nothing is no answer yet while another source has had no time for one.
        let nothing = standings
            .get(self.current)
            .is_some_and(|tier| tier.worth == Worth::Empty);
        if nothing && self.shown.is_empty() && standings.iter().any(|tier| tier.waiting) {
            return;
        }
        let views = self
            .tiers
            .get(self.current)
            .map_or_else(Vec::new, |tier| tier.views(good));
        let same = views.len() == self.shown.len()
            && views
                .iter()
                .zip(&self.shown)
                .all(|(one, other)| Arc::ptr_eq(one, other));
        let due = self.kept.view.load().next.is_some_and(|next| next <= now);
        if views.is_empty() {
            if !same || !matches!(self.kept.view.load().state, State::Expired) {
                self.shown.clear();
                self.publish_nothing();
            }
        } else if !same || due {
            let (snapshot, endpoints, filtered) = merge::views(&self.key.0.target, &views);
            self.put(Prepared::new(
                snapshot,
                endpoints,
                &*self.strategy,
                State::Ready,
                filtered,
                &self.hub.balancing,
            ));
            self.shown = views;
        }
    }

    fn put(&self, prepared: Prepared) {
        self.kept.view.publish(prepared);
    }

    /// Shows why there is nothing to use: too old, or not yet seen.
    fn publish_nothing(&self) {
        let feeds = || self.tiers.iter().flat_map(|tier| &tier.feeds);
        let expired = feeds().find(|feed| matches!(feed.now.state, State::Expired));
        let (seen, state) = if let Some(expired) = expired {
            (&expired.now, State::Expired)
        } else {
            let all_failed = feeds().all(|feed| feed.failure().is_some());
            let told = feeds()
                .find_map(Feed::failure)
                // Another source may still answer: what time cannot heal here is not final.
                .filter(|error| all_failed || heals(error));
            let Some(first) = feeds().next() else {
                return;
            };
            (&first.now, State::Pending(told.cloned()))
        };
        self.put(Prepared::new(
            seen.snapshot.clone(),
            seen.endpoints.clone(),
            &*self.strategy,
            state,
            seen.filtered,
            &self.hub.balancing,
        ));
    }

    /// Tells people and metrics which tier serves.
    fn tell(&self, before: usize, good: bool) {
        let using: Vec<_> = self
            .tiers
            .get(self.current)
            .iter()
            .flat_map(|tier| &tier.feeds)
            .filter(|feed| feed.is_fresh() || (!good && feed.trust != Trust::Nothing))
            .map(|feed| feed.leg.source.clone())
            .collect();
        let mut doing = lock(&self.kept.doing);
        if self.current != before {
            let names = using.join(", ");
            if self.current > before {
                warn!(
                    tier = self.current,
                    using = names,
                    "failover: other sources step in"
                );
            } else {
                info!(
                    tier = self.current,
                    using = names,
                    "failover: better sources are used again"
                );
            }
            let change = f64::from(u8::from(self.current > 0)) - f64::from(u8::from(before > 0));
            metrics::failover_active(self.key.0.label(), change);
        }
        if doing.using != using || doing.tier != self.current {
            doing.since = Instant::now();
        }
        doing.using = using;
        doing.tier = self.current;
    }

    /// When to look again though no source has news.
    fn next(&self) -> Instant {
        let now = Instant::now();
        let policy = &self.hub.policy;
        let look = HOUSEKEEPING
            .min(self.hub.linger / 2)
            .max(Duration::from_millis(10));
        let feeds = self.tiers.iter().flat_map(|tier| &tier.feeds);
        let lost = feeds.filter_map(|feed| Some(feed.lost? + policy.max_outage));
        let proved = self
            .tiers
            .iter()
            .take(self.current)
            .filter_map(|tier| Some(tier.sound_since? + policy.hold));
        let step = self.kept.view.load().next;
        lost.chain(proved)
            .chain([self.started + START])
            .filter(|at| *at > now)
            .chain(step)
            .chain([now + look])
            .min()
            .unwrap_or(now + look)
    }

    /// Whether nobody has used the view for a while; then it is let go.
    fn is_unused(&mut self) -> bool {
        // Under the lock, nobody can take the view from the hub while it is being let go.
        let mut views = lock(&self.hub.views);
        if Arc::strong_count(&self.kept.view) > 2 {
            self.unused_since = None;
            return false;
        }
        let since = *self.unused_since.get_or_insert_with(Instant::now);
        let unused = since.elapsed() >= self.hub.linger;
        if unused {
            views.remove(&self.key);
        }
        unused
    }

    fn close(&self) {
        let now = self.kept.view.load_full();
        self.put(Prepared::new(
            now.snapshot.clone(),
            now.endpoints.clone(),
            &*self.strategy,
            State::Closed,
            now.filtered,
            &self.hub.balancing,
        ));
    }
}
