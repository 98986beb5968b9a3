//! One upstream watch: folds what the registry says into a believed set, and tells the views.

mod fold;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use super::{
    Hub,
    members::Members,
    writer::{Delta, Link, Step, Writer},
};
use crate::{
    error::{Error, ErrorKind, Result},
    metrics,
    model::{Cursor, Evidence, Freshness, Query, Snapshot, Source, Target},
    pick::{Outliers, Prepared},
    resilience::full_jitter,
    spi::WatchEvent,
    watch::{Guard, Recover, Recovered},
};

/// A registry that has not answered for so long after the start is stood in for by the snapshot on disk.
pub(super) const COLD_START: Duration = Duration::from_secs(1);
/// Once one watch is back, the others try again within this time, not all at once.
const NUDGE: Duration = Duration::from_secs(1);
/// How often housekeeping looks round.
const HOUSEKEEPING: Duration = Duration::from_secs(5);
/// How many events that are already there are folded into one publication.
const COALESCE: usize = 256;
/// How many times in a row the watch is looked at before everything else.
const IN_A_ROW: u8 = 8;
/// The time between two reads that could confirm what the guard holds.
const READ_GAP: Duration = Duration::from_millis(1050);

pub(super) struct Upstream {
    pub(super) hub: Arc<Hub>,
    pub(super) query: Query,
    backend: &'static str,
    /// What the gauges call the registry.
    source: Arc<str>,
    attached: Arc<Notify>,
    healed: watch::Receiver<()>,
    watch: Recover<WatchEvent>,
    guard: Guard,
    pub(super) members: Members,
    pub(super) writers: Vec<Writer>,
    pub(super) link: Link,
    /// Where the watch stands in the server's history.
    cursor: Option<Cursor>,
    /// When the registry last confirmed the believed set, for views made later.
    pub(super) freshness: Freshness,
    /// Whether there is anything to believe, be it nothing.
    pub(super) seen: bool,
    /// Why there is not, while there is not.
    failure: Option<Error>,
    pub(super) started: Instant,
    read: Option<BoxFuture<'static, Result<Snapshot>>>,
    next_read: Instant,
    pub(super) disk: Option<BoxFuture<'static, Option<Snapshot>>>,
    /// The content changed since it was last saved to disk.
    pub(super) unsaved: bool,
    /// Something changed that the metrics have not been told of.
    pub(super) unobserved: bool,
    /// What views showed before, let go of when who was told of the change has run.
    outdated: Vec<Arc<Prepared>>,
    /// How many times in a row the watch had something at once; zero after a rest.
    in_a_row: u8,
    /// Who watches for instances that fail, if anybody does.
    pub(super) outliers: Option<Outliers>,
}

/// What woke the task.
enum Wake {
    Watch(Recovered<WatchEvent>),
    Attached,
    Healed,
    Read(Result<Snapshot>),
    Disk(Option<Snapshot>),
    Timer,
    Housekeeping,
    Cancelled,
}

impl Upstream {
    pub(super) fn new(hub: Arc<Hub>, query: Query, attached: Arc<Notify>) -> Self {
        let now = Instant::now();
        let registry = &hub.backend.registry;
        let idle = registry.capabilities().confirm_every * 2;
        let (watcher, asked) = (hub.backend.watcher.clone(), query.clone());
        Self {
            backend: registry.info().scheme,
            source: registry.info().source,
            watch: Recover::new(idle, move |cursor| watcher.watch(&asked, cursor)),
            query,
            attached,
            healed: hub.healed.subscribe(),
            guard: Guard::default(),
            members: Members::default(),
            writers: Vec::new(),
            link: Link {
                source: Source::Stale,
                evidence: Evidence::Authoritative,
                held: None,
            },
            cursor: None,
            freshness: Freshness::now(),
            seen: false,
            failure: None,
            started: now,
            read: None,
            next_read: now,
            disk: None,
            unsaved: false,
            unobserved: false,
            outdated: Vec::new(),
            in_a_row: 0,
            outliers: hub.options.balancing.outlier.clone().map(Outliers::new),
            hub,
        }
    }

    pub(super) async fn run(mut self) {
        debug!(
            service = self.query.label(),
            backend = self.backend,
            "watch starts"
        );
        self.load_from_disk();
        let mut housekeeping = interval(
            HOUSEKEEPING
                .min(self.hub.options.linger / 2)
                .max(Duration::from_millis(10)),
        );
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wake = self.wait(&mut housekeeping).await;
            match wake {
                Wake::Watch(recovered) => {
                    self.on_watch(recovered);
                    // A watch that is never short of events must not keep the thread to itself.
                    tokio::task::coop::consume_budget().await;
                }
                Wake::Attached => self.attach(),
                Wake::Healed => self.watch.retry_within(full_jitter(NUDGE)),
                Wake::Read(answer) => self.on_read(answer),
                Wake::Disk(snapshot) => self.on_disk(snapshot),
                Wake::Timer => self.on_timer(),
                Wake::Housekeeping => {
                    if self.housekeep() {
                        break;
                    }
                }
                Wake::Cancelled => {
                    self.attach();
                    self.writers.iter().for_each(Writer::close);
                    break;
                }
            }
            if std::mem::take(&mut self.unobserved) {
                // Who was told of the change runs first.
                tokio::task::yield_now().await;
                self.observe();
            }
            self.outdated.clear();
        }
        self.save().await;
        metrics::watch_up(self.query.label(), &self.source, false);
        debug!(
            service = self.query.label(),
            backend = self.backend,
            "watch stops"
        );
    }

    async fn wait(&mut self, housekeeping: &mut tokio::time::Interval) -> Wake {
        let now = Instant::now();
        let guard = self.guard.deadline();
        let read = (self.link.held.is_some() && self.read.is_none()).then_some(self.next_read);
        let expiry = self.writers.iter().filter_map(|writer| writer.expires(now)).min();
        let step = self.writers.iter().filter_map(Writer::next_step).min();
        let look = self.outliers.as_ref().map(Outliers::next);
        let timer = [guard, read, expiry, step, look].into_iter().flatten().min();
        let watch_first = self.in_a_row < IN_A_ROW;
        self.in_a_row += 1;
        let others = async {
            self.in_a_row = 0;
            tokio::select! {
                biased;
                () = self.hub.tasks.cancelled().cancelled() => Wake::Cancelled,
                () = self.attached.notified() => Wake::Attached,
                // The sender lives in the hub this task keeps.
                _ = self.healed.changed() => Wake::Healed,
                () = sleep_until(timer.unwrap_or(now)), if timer.is_some() => Wake::Timer,
                () = alarmed(self.outliers.as_ref()) => Wake::Timer,
                _ = housekeeping.tick() => Wake::Housekeeping,
                answer = maybe(&mut self.read) => { self.read = None; Wake::Read(answer) }
                snapshot = maybe(&mut self.disk) => { self.disk = None; Wake::Disk(snapshot) }
            }
        };
        let watch = async { Wake::Watch(self.watch.next().await) };
        // Most often it is the watch, and who waits for a change waits until it has been looked at. It may never fall silent.
        if watch_first {
            either(watch, others).await
        } else {
            either(others, watch).await
        }
    }

    // === confirmation reads ===

    fn on_timer(&mut self) {
        let now = Instant::now();
        let before = self.link;
        let mut delta = Delta::default();
        if let Some(gone) = self.guard.expired(now) {
            info!(instances = gone.len(), "held removals are believed now");
            self.remove(gone.into_iter().collect(), &mut delta);
        }
        if self.guard.held().is_some() && self.read.is_none() && self.next_read <= now {
            let (registry, query) = (self.hub.backend.registry.clone(), self.query.clone());
            let deadline = self.hub.options.read_timeout;
            self.read = Some(Box::pin(async move {
                timeout(deadline, registry.instances(&query))
                    .await
                    .unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "confirmation read timed out")))
            }));
            self.next_read = now + READ_GAP;
        }
        let all = self.members.len();
        let moved = match &mut self.outliers {
            Some(outliers) => outliers.look(self.members.iter()),
            None => false,
        };
        for writer in &mut self.writers {
            let step = writer.next_step().is_some_and(|step| step <= now);
            if writer.check_expired() {
                warn!(age = ?writer.age(), "view is older than max_stale");
            } else if !self.seen || !(moved || step) {
                continue;
            }
            writer.publish(self.link, self.cursor.as_ref(), all);
        }
        self.settle(before, &delta, false);
    }

    fn on_read(&mut self, answer: Result<Snapshot>) {
        self.next_read = Instant::now() + READ_GAP;
        match answer {
            Ok(snapshot) => {
                let before = self.link;
                let mut delta = Delta::default();
                let instances = snapshot.instances.iter().cloned().collect();
                let confirmed = self.fold_answer(instances, snapshot.evidence, &mut delta);
                // A read says nothing of the watch: whether that is up is not touched.
                self.settle(before, &delta, confirmed);
            }
            Err(error) => debug!(%error, "confirmation read failed"),
        }
    }

    // === views ===

    fn attach(&mut self) {
        let fresh = match self.hub.upstreams().get_mut(&self.query) {
            Some(shared) => std::mem::take(&mut shared.fresh),
            None => Vec::new(),
        };
        let all: Delta = self
            .members
            .iter()
            .map(|(i, load)| Step::Upsert(i.clone(), load.clone()))
            .collect();
        for (view, strategy) in fresh {
            let mut writer = Writer::new(
                view,
                strategy,
                self.hub.options.balancing.clone(),
                Freshness::aged(self.freshness.age()),
            );
            writer.apply(&all);
            if self.seen {
                writer.check_expired();
                writer.publish(self.link, self.cursor.as_ref(), self.members.len());
            } else if let Some(error) = &self.failure {
                writer.publish_pending(error);
            }
            self.writers.push(writer);
        }
    }

    /// Lets go of views that nobody uses; answers whether the task can end.
    fn housekeep(&mut self) -> bool {
        self.observe();
        self.observe_services();
        self.save_in_background();
        let now = Instant::now();
        let linger = self.hub.options.linger;
        let hub = self.hub.clone();
        // Under the lock, nobody can take a view from the hub while it is being let go.
        let mut upstreams = hub.upstreams();
        let Some(shared) = upstreams.get_mut(&self.query) else {
            return true;
        };
        if !shared.fresh.is_empty() {
            return false;
        }
        self.writers.retain_mut(|writer| {
            let unused = writer
                .unused_since(now)
                .is_some_and(|since| now.duration_since(since) >= linger);
            if unused {
                shared.views.remove(&writer.key());
            }
            !unused
        });
        if shared.views.is_empty() {
            upstreams.remove(&self.query);
            return true;
        }
        false
    }

    /// Tells the metrics what every change touches; costs the same however many instances there are.
    fn observe(&self) {
        let label = self.query.label();
        metrics::watch_up(label, &self.source, self.failure.is_none() && self.seen);
        metrics::held(
            label,
            &self.source,
            self.link.held.map_or(0, |held| held.instances),
        );
        metrics::view_age(label, &self.source, self.freshness.age());
        if let (true, Target::Service(name)) = (self.seen, &self.query.target) {
            metrics::healthy(name.as_str(), &self.source, self.members.available());
        }
    }

    /// Tells the metrics of every service, where one watch spans them: now and then, for it looks at every instance.
    fn observe_services(&self) {
        if self.query.target != Target::All {
            return;
        }
        let mut healthy: HashMap<&str, usize> = HashMap::new();
        for (instance, _) in self.members.iter() {
            *healthy.entry(instance.key.service.as_str()).or_default() +=
                usize::from(instance.is_available());
        }
        for (service, count) in healthy {
            metrics::healthy(service, &self.source, count);
        }
    }
}

/// When instances fail that are watched, or never.
async fn alarmed(outliers: Option<&Outliers>) {
    match outliers {
        Some(outliers) => outliers.alarmed().await,
        None => std::future::pending().await,
    }
}

/// What is there first; `one` is looked at before the other.
async fn either(one: impl Future<Output = Wake>, other: impl Future<Output = Wake>) -> Wake {
    tokio::select! {
        biased;
        wake = one => wake,
        wake = other => wake,
    }
}

/// The future in `slot`, or never.
async fn maybe<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    match slot {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
