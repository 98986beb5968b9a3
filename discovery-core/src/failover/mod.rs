//! Failover: one view over several sources, each with its own watch, guard, cursor and freshness.
//!
//! Sources stand in tiers. Those of one tier serve together; the next tier steps in when a tier has too few healthy
//! instances or its registry has not answered for too long, and gives back what it took once the better one has been good
//! for a while. Nothing is ever taken out of a source's view to that end: which tier is shown is all that changes, so that
//! instances keep their identity and load, and all are watched all the time.

mod merge;
mod task;
mod tiers;

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use tokio::time::Instant;
use tracing::{Instrument, info_span, warn};

use crate::{
    error::{Error, ErrorKind, Result},
    model::{Query, Snapshot, Source},
    pick::{Balancing, Strategy, View},
    resolver::ResolverOptions,
    task::TaskGroup,
};

/// When a tier of sources gives way to the next, and when it is used again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailoverPolicy {
    /// With fewer healthy instances than this, at once; one unless set.
    pub min_healthy: usize,
    /// A source whose registry has not answered for so long counts no more; until then its last good view is used. 30 s.
    pub max_outage: Duration,
    /// A tier that gave way is used again after it has been good for so long, its registry answering without a break, or
    /// at once where nothing else is good. 30 s.
    pub hold: Duration,
}

impl Default for FailoverPolicy {
    fn default() -> Self {
        Self {
            min_healthy: 1,
            max_outage: Duration::from_secs(30),
            hold: Duration::from_secs(30),
        }
    }
}

impl FailoverPolicy {
    /// The same with so many healthy instances, at least one.
    #[must_use]
    pub fn min_healthy(mut self, instances: usize) -> Self {
        self.min_healthy = instances.max(1);
        self
    }

    /// The same with so long an outage.
    #[must_use]
    pub fn max_outage(mut self, outage: Duration) -> Self {
        self.max_outage = outage;
        self
    }

    /// The same with so long a probation.
    #[must_use]
    pub fn hold(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }
}

/// The view of one source.
#[derive(Debug, Clone)]
pub struct Leg {
    /// What the source is called.
    pub source: Arc<str>,
    /// Its view of the same question, unbalanced.
    pub view: Arc<View>,
}

impl Leg {
    /// The view of the source of this name.
    pub fn new(source: impl Into<Arc<str>>, view: Arc<View>) -> Self {
        Self {
            source: source.into(),
            view,
        }
    }
}

/// How the failover of one view stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailoverState {
    /// The service.
    pub service: String,
    /// The sources that serve now.
    pub using: Vec<Arc<str>>,
    /// Their tier: zero is the first.
    pub tier: usize,
    /// For how long it has been so.
    pub since: Duration,
}

/// Composes views of several sources into one. Cloning copies one pointer.
#[derive(Debug, Clone)]
pub struct Failover(Arc<Hub>);

#[derive(Debug)]
struct Hub {
    policy: FailoverPolicy,
    balancing: Arc<Balancing>,
    linger: Duration,
    tasks: TaskGroup,
    views: Mutex<HashMap<Key, Kept>>,
}

type Key = (Query, &'static str);

/// A view, and what its task is doing. A view here and in its task only is unused.
#[derive(Debug, Clone)]
struct Kept {
    view: Arc<View>,
    doing: Arc<Mutex<Doing>>,
}

/// What a view shows now.
#[derive(Debug)]
struct Doing {
    using: Vec<Arc<str>>,
    tier: usize,
    since: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Failover {
    /// Failover by `policy`, balanced and kept as `options` say.
    pub fn new(policy: FailoverPolicy, tasks: TaskGroup, options: &ResolverOptions) -> Self {
        Self(Arc::new(Hub {
            policy,
            balancing: options.balancing.clone(),
            linger: options.linger,
            tasks,
            views: Mutex::default(),
        }))
    }

    /// The view of `query` balanced by `strategy` over tiers of sources: made on first use, shared after. `tiers` opens
    /// the views of the sources, which are kept while this one is.
    ///
    /// # Errors
    /// What `tiers` fails with, `ConfigInvalid` where there is no source, `Closed` after shutdown.
    pub fn view(
        &self,
        query: &Query,
        strategy: &Arc<dyn Strategy>,
        tiers: impl FnOnce() -> Result<Vec<Vec<Leg>>>,
    ) -> Result<Arc<View>> {
        let hub = &self.0;
        if hub.tasks.cancelled().is_cancelled() {
            return Err(Error::new(ErrorKind::Closed, "the client was shut down"));
        }
        let key = (query.clone(), strategy.name());
        let mut views = lock(&hub.views);
        if let Some(kept) = views.get(&key) {
            return Ok(kept.view.clone());
        }
        let mut tiers = tiers()?;
        tiers.retain(|tier| !tier.is_empty());
        if tiers.is_empty() {
            return Err(Error::new(ErrorKind::ConfigInvalid, "no source to read from"));
        }
        let kept = Kept {
            view: Arc::new(View::new(query.clone())),
            doing: Arc::new(Mutex::new(Doing {
                using: Vec::new(),
                tier: 0,
                since: Instant::now(),
            })),
        };
        views.insert(key.clone(), kept.clone());
        let view = kept.view.clone();
        let span = info_span!("discovery.failover", service = query.label());
        let task = task::Task::new(hub.clone(), key, kept, strategy.clone(), tiers);
        hub.tasks.spawn(task.run().instrument(span));
        Ok(view)
    }

    /// How each view stands, by service.
    pub fn states(&self) -> Vec<FailoverState> {
        let views = lock(&self.0.views);
        let mut states: Vec<_> = views
            .iter()
            .map(|((query, _), kept)| {
                let doing = lock(&kept.doing);
                FailoverState {
                    service: query.label().to_owned(),
                    using: doing.using.clone(),
                    tier: doing.tier,
                    since: doing.since.elapsed(),
                }
            })
            .collect();
        states.sort_by(|a, b| a.service.cmp(&b.service));
        states
    }

    /// Looks once: tier by tier, until one is good by the policy. Where none is, the first answer with a healthy instance
    /// counts, then the first answer at all.
    ///
    /// # Errors
    /// The first error, where no source answers.
    ///
    /// # Cancel safety
    /// As the look-ups.
    pub async fn lookup<F>(&self, query: &Query, tiers: Vec<Vec<F>>) -> Result<Snapshot>
    where
        F: Future<Output = Result<Snapshot>> + Send,
    {
        let (mut spare, mut failure) = (None::<(bool, Snapshot)>, None);
        for tier in tiers {
            let (answers, error) = answers(join_all(tier).await);
            failure = failure.or(error);
            if answers.is_empty() {
                continue;
            }
            let fresh: Vec<_> = answers.iter().filter(|answer| self.is_fresh(answer)).collect();
            let healthy = |snapshots: &[&Snapshot]| -> usize {
                let all = snapshots.iter().flat_map(|snapshot| snapshot.instances.iter());
                all.filter(|instance| instance.is_available()).count()
            };
            if healthy(&fresh) >= self.0.policy.min_healthy {
                return Ok(merge::snapshots(&query.target, &fresh));
            }
            let all: Vec<_> = answers.iter().collect();
            let any = healthy(&all) > 0;
            if spare.as_ref().is_none_or(|(some, _)| any && !some) {
                spare = Some((any, merge::snapshots(&query.target, &all)));
            }
        }
        match (spare, failure) {
            (Some((_, snapshot)), _) => Ok(snapshot),
            (None, Some(error)) => Err(error),
            (None, None) => Err(Error::new(ErrorKind::ConfigInvalid, "no source to read from")),
        }
    }

    /// Looks at all sources once: all instances there are, whichever serve now. What does not answer is left out, and
    /// logged.
    ///
    /// # Errors
    /// The first error, where no source answers.
    ///
    /// # Cancel safety
    /// As the look-ups.
    pub async fn lookup_everywhere<F>(&self, query: &Query, sources: Vec<F>) -> Result<Snapshot>
    where
        F: Future<Output = Result<Snapshot>> + Send,
    {
        let (answers, failure) = answers(join_all(sources).await);
        match failure {
            Some(error) if answers.is_empty() => Err(error),
            failure => {
                if let Some(error) = failure {
                    warn!(%error, service = query.label(), "a source is left out of the answer");
                }
                Ok(merge::snapshots(
                    &query.target,
                    &answers.iter().collect::<Vec<_>>(),
                ))
            }
        }
    }

    fn is_fresh(&self, snapshot: &Snapshot) -> bool {
        match snapshot.source {
            Source::Live | Source::Cache => true,
            Source::Stale => snapshot.age() < self.0.policy.max_outage,
            Source::Disk => false,
        }
    }
}

/// The answers, and the first error.
fn answers(all: Vec<Result<Snapshot>>) -> (Vec<Snapshot>, Option<Error>) {
    let (mut good, mut failure) = (Vec::new(), None);
    for one in all {
        match one {
            Ok(snapshot) => good.push(snapshot),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    (good, failure)
}

#[cfg(test)]
mod tests;
