//! A watcher for registries that cannot tell: it asks again and again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use tokio::time::sleep;

use crate::{
    error::Result,
    model::{Cursor, Evidence, Instance, InstanceKey, Query, Snapshot},
    spi::{Change, ServiceRegistry, WatchEvent, WatchStream, Watcher},
};

/// How long to wait between two questions. Every wait is drawn from ±10 % around it, so that a fleet spreads out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PollPace {
    /// The wait where the answer does not say how long it stays valid.
    pub interval: Duration,
    /// The shortest wait, whatever the answer or `interval` says.
    pub floor: Duration,
    /// The longest wait, whatever the answer or `interval` says.
    pub ceiling: Duration,
}

impl PollPace {
    /// Every `interval`, or as long as the answer stays valid within 1 s and 5 min (or `interval`, if that is longer).
    pub fn every(interval: Duration) -> Self {
        Self {
            interval,
            floor: Duration::from_secs(1),
            ceiling: interval.max(Duration::from_secs(300)),
        }
    }

    /// The same pace with these bounds; a ceiling below the floor counts as the floor.
    #[must_use]
    pub fn between(mut self, floor: Duration, ceiling: Duration) -> Self {
        (self.floor, self.ceiling) = (floor, ceiling.max(floor));
        self
    }

    /// The wait after an answer valid for so long, before jitter.
    fn wait(&self, valid_for: Option<Duration>) -> Duration {
        valid_for
            .unwrap_or(self.interval)
            .min(self.ceiling)
            .max(self.floor)
    }
}

/// `wait` ± 10 %.
pub(super) fn jittered(wait: Duration) -> Duration {
    let span = wait / 10;
    let width = u64::try_from(span.saturating_mul(2).as_nanos()).unwrap_or(u64::MAX);
    wait.saturating_sub(span)
        .saturating_add(Duration::from_nanos(fastrand::u64(..=width)))
}

/// Turns any registry into a watcher by asking for its instances at a [`PollPace`].
///
/// The first event is a [`Change::Reset`]; later ones are only when instances or evidence changed, in whatever order the
/// registry lists them, and a [`Change::Confirmed`] otherwise. Evidence passes through. There are no cursors: one given
/// is ignored and answered by a reset, as the contract allows. An error ends the stream.
#[derive(Debug, Clone)]
pub struct PollingWatcher {
    registry: Arc<dyn ServiceRegistry>,
    pace: PollPace,
}

impl PollingWatcher {
    /// A watcher that asks `registry` at this pace.
    pub fn new(registry: Arc<dyn ServiceRegistry>, pace: PollPace) -> Self {
        Self { registry, pace }
    }
}

impl Watcher for PollingWatcher {
    fn watch(&self, query: &Query, _since: Option<Cursor>) -> WatchStream {
        let poller = Poller {
            registry: self.registry.clone(),
            pace: self.pace,
            query: query.clone(),
            wait: None,
            told: None,
        };
        stream::try_unfold(poller, |mut poller| async move {
            let event = poller.next().await?;
            Ok(Some((event, poller)))
        })
        .boxed()
    }
}

/// What was last told: compared as a set, since registries list in any order.
type Told = (BTreeMap<InstanceKey, Arc<Instance>>, Evidence);

struct Poller {
    registry: Arc<dyn ServiceRegistry>,
    pace: PollPace,
    query: Query,
    /// How long to wait before the next question; none before the first.
    wait: Option<Duration>,
    told: Option<Told>,
}

impl Poller {
    async fn next(&mut self) -> Result<WatchEvent> {
        if let Some(wait) = self.wait {
            sleep(jittered(wait)).await;
        }
        let snapshot = self.registry.instances(&self.query).await?;
        self.wait = Some(self.pace.wait(snapshot.valid_for));
        let change = self.change(&snapshot);
        Ok(WatchEvent::new(change).with_evidence(snapshot.evidence))
    }

    fn change(&mut self, snapshot: &Snapshot) -> Change {
        let instances = snapshot.instances.iter();
        let content = instances
            .map(|instance| (instance.key.clone(), instance.clone()))
            .collect();
        let answer = (content, snapshot.evidence);
        if self.told.as_ref() == Some(&answer) {
            return Change::Confirmed;
        }
        self.told = Some(answer);
        Change::Reset(snapshot.instances.iter().cloned().collect())
    }
}

#[cfg(test)]
mod tests;
