//! What a query sees now: one pointer that holds instances, picker and freshness together.

use std::{
    any::Any,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use tracing::warn;

use super::{
    Balancing, Endpoints, Load, PickContext, Picked, Picker, Strategy, Verdict, round_robin::Rotation,
};
use crate::{
    error::{Error, ErrorKind, Result},
    model::{Instance, Query, Snapshot, Source, Target},
    resilience::RetryBudget,
};

/// How a view stands.
#[derive(Debug, Clone)]
pub(crate) enum State {
    /// Nothing has ever been seen; the last failure, if there was one.
    Pending(Option<Error>),
    /// It can be used.
    Ready,
    /// The registry has not confirmed it for longer than the query allows.
    Expired,
    /// The client was shut down.
    Closed,
}

/// Everything a pick needs, prepared when something changed.
///
/// What every pick reads comes first, in one cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Prepared {
    /// There is something newer: a reader that keeps this loads the view again.
    replaced: AtomicBool,
    choice: Choice,
    pub(crate) endpoints: Endpoints,
    pub(crate) snapshot: Snapshot,
    pub(crate) state: State,
    /// Instances of the target that the query's filters leave out.
    pub(crate) filtered: usize,
    /// Who takes part; `None` where all do.
    pub(super) verdicts: Option<Vec<Verdict>>,
    /// Whether the strategy looks at weights.
    pub(super) weighs: bool,
    pub(super) max_in_flight: Option<u32>,
    /// When it should be prepared again though nothing changes.
    pub(crate) next: Option<Instant>,
}

/// What chooses: the plain rotation in place, since a call through a pointer costs more than it does; others boxed.
#[derive(Debug)]
enum Choice {
    Rotation(Rotation),
    Other(Box<dyn Picker>),
}

impl Choice {
    /// Chooses nothing: for views that must not be used.
    const NOTHING: Self = Self::Rotation(Rotation::of(0));
}

impl From<Box<dyn Picker>> for Choice {
    fn from(picker: Box<dyn Picker>) -> Self {
        let any: &dyn Any = &*picker;
        match any.downcast_ref() {
            Some(rotation) => Self::Rotation(*rotation),
            None => Self::Other(picker),
        }
    }
}

impl Prepared {
    /// What a view in `state` shows. Only a ready one picks.
    pub(crate) fn new(
        snapshot: Snapshot,
        endpoints: Endpoints,
        strategy: &dyn Strategy,
        state: State,
        filtered: usize,
        balancing: &Balancing,
    ) -> Self {
        let (mut choice, mut verdicts, mut next) = (Choice::NOTHING, None, None);
        if matches!(state, State::Ready) {
            let around = balancing.prepare(strategy, &endpoints);
            if around.panicking {
                warn!(
                    target = ?snapshot.target,
                    "too few instances are left: all are used"
                );
            }
            (choice, verdicts, next) = (around.picker.into(), around.verdicts, around.next);
        }
        Self {
            replaced: AtomicBool::new(false),
            choice,
            endpoints,
            snapshot,
            state,
            filtered,
            verdicts,
            weighs: !matches!(strategy.name(), "round_robin" | "random"),
            max_in_flight: balancing.max_in_flight,
            next,
        }
    }

    fn pending(target: Target) -> Self {
        let mut snapshot = Snapshot::live(target, Vec::<Instance>::new());
        snapshot.source = Source::Stale;
        Self {
            replaced: AtomicBool::new(false),
            choice: Choice::NOTHING,
            endpoints: Endpoints::default(),
            snapshot,
            state: State::Pending(None),
            filtered: 0,
            verdicts: None,
            weighs: false,
            max_in_flight: None,
            next: None,
        }
    }

    /// Whether the endpoint at `index` takes part, and if not, why.
    pub(super) fn verdict(&self, index: usize) -> Verdict {
        match (&self.state, &self.verdicts) {
            (State::Ready, Some(verdicts)) => verdicts.get(index).copied().unwrap_or(Verdict::NoView),
            (State::Ready, None) => Verdict::Used,
            _ => Verdict::NoView,
        }
    }

    /// Each endpoint, and whether it takes part.
    pub(super) fn verdicts(&self) -> impl Iterator<Item = (&Arc<Instance>, &Arc<Load>, Verdict)> {
        let instances = self.endpoints.instances();
        let weighed = self.weighs && instances.iter().any(|instance| instance.weight.0 > 0);
        (0..self.endpoints.len()).filter_map(move |index| {
            let (instance, load) = self.endpoints.get(index)?;
            let verdict = match self.verdict(index) {
                Verdict::Used if weighed && instance.weight.0 == 0 => Verdict::NoWeight,
                verdict => verdict,
            };
            Some((instance, load, verdict))
        })
    }

    /// Takes the endpoint at `index` into use, if it may have one call more.
    pub(super) fn admit(&self, index: usize, now: Instant) -> Option<Picked> {
        let (instance, load) = self.endpoints.get(index)?;
        Picked::admitted(instance, load, self.max_in_flight, now)
    }

    /// The first endpoint from `start` on that takes part, is wanted, and may have one call more; of the lowest priority number
    /// where they differ.
    pub(super) fn first(
        &self,
        start: usize,
        now: Instant,
        wanted: impl Fn(&Instance) -> bool,
    ) -> Option<Picked> {
        let n = self.endpoints.len();
        let mut places: Vec<(u16, usize)> = (0..n)
            .map(|step| (start % n + step) % n)
            .filter(|index| self.verdict(*index).is_used())
            .filter_map(|index| {
                let instance = self.endpoints.instances.get(index)?;
                wanted(instance).then_some((instance.priority, index))
            })
            .collect();
        places.sort_by_key(|(priority, _)| *priority);
        places.into_iter().find_map(|(_, index)| self.admit(index, now))
    }

    /// Why all that take part are refused.
    pub(super) fn exhausted() -> Error {
        Error::new(ErrorKind::Unavailable, "no instance takes another call now")
            .with_hint("all are at `max_in_flight`, or on trial after failures: try again later")
    }

    /// Whether the view shows something newer by now.
    #[inline]
    pub(super) fn replaced(&self) -> bool {
        self.replaced.load(Ordering::Acquire)
    }

    /// The index of the next endpoint.
    #[inline]
    pub(crate) fn pick(&self, context: &mut PickContext) -> Option<usize> {
        match &self.choice {
            Choice::Rotation(rotation) => rotation.pick(context),
            Choice::Other(picker) => picker.pick(context),
        }
    }

    /// The same at a time that was read already.
    #[inline]
    pub(super) fn pick_at(&self, context: &mut PickContext, now: Instant) -> Option<usize> {
        match &self.choice {
            Choice::Rotation(rotation) => rotation.pick(context),
            Choice::Other(picker) => picker.pick_at(context, now),
        }
    }

    /// How many endpoints are well, counted up to `most`.
    pub(crate) fn healthy(&self, most: usize) -> usize {
        let well = |index: &usize| {
            self.endpoints.get(*index).is_some_and(|(instance, load)| {
                let verdict = self.verdicts.as_ref().and_then(|verdicts| verdicts.get(*index));
                instance.is_available() && !load.is_ejected() && verdict != Some(&Verdict::Filtered)
            })
        };
        (0..self.endpoints.len()).filter(well).take(most).count()
    }

    fn left_out(&self) -> usize {
        let left_out = |verdict: &&Verdict| !verdict.is_used();
        self.filtered + self.verdicts.iter().flatten().filter(left_out).count()
    }

    /// Why there is nothing to pick.
    pub(crate) fn refusal(&self) -> Error {
        let error = match &self.state {
            State::Pending(Some(error)) => return error.clone(),
            State::Pending(None) => Error::new(ErrorKind::Unavailable, "the registry has not answered yet")
                .with_hint("await `ready()` before the first pick"),
            State::Expired => Error::new(
                ErrorKind::Unavailable,
                "the view is older than `max_stale` allows",
            )
            .with_context("age", format!("{:?}", self.snapshot.age()))
            .with_hint("the registry has not confirmed it: look at `status()`, or allow older views"),
            State::Closed => Error::new(ErrorKind::Closed, "the client was shut down"),
            State::Ready => Error::new(ErrorKind::Unavailable, "no instance can be picked")
                .with_context("left_out", self.left_out().to_string())
                .with_hint("`health()` tells what the registry knows of its instances"),
        };
        match &self.snapshot.target {
            Target::Service(name) => error.with_context("service", name.as_str()),
            Target::All => error,
        }
    }
}

/// What a query sees now, kept up to date by the resolver.
pub struct View {
    query: Query,
    current: ArcSwap<Prepared>,
    changed: watch::Sender<()>,
    budget: RetryBudget,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = self.current.load();
        f.debug_struct("View")
            .field("query", &self.query)
            .field("state", &now.state)
            .field("instances", &now.endpoints.len())
            .finish_non_exhaustive()
    }
}

impl View {
    pub(crate) fn new(query: Query) -> Self {
        let current = ArcSwap::from_pointee(Prepared::pending(query.target.clone()));
        Self {
            query,
            current,
            changed: watch::Sender::new(()),
            budget: RetryBudget::default(),
        }
    }

    /// The query it answers.
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// Puts `prepared` in the place of what is there, tells subscribers, and answers what was there: letting go of it takes time
    /// that need not be theirs.
    pub(crate) fn publish(&self, prepared: Prepared) -> Arc<Prepared> {
        let before = self.current.swap(Arc::new(prepared));
        before.replaced.store(true, Ordering::Release);
        self.changed.send_replace(());
        before
    }

    /// What bounds retries of calls.
    pub(super) fn budget(&self) -> &RetryBudget {
        &self.budget
    }

    pub(crate) fn load_full(&self) -> Arc<Prepared> {
        self.current.load_full()
    }

    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<Prepared>> {
        self.current.load()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The snapshot, if the view can be used.
    ///
    /// # Errors
    /// `Unavailable` when nothing was ever seen or the view has expired, `Closed` after shutdown.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let now = self.load();
        match now.state {
            State::Ready => Ok(now.snapshot.clone()),
            _ => Err(now.refusal()),
        }
    }

    /// Waits until the view can be used.
    ///
    /// # Errors
    /// `Timeout` after `deadline`, with the last failure as its cause; at once a failure that time cannot heal.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn ready(&self, deadline: Duration) -> Result<Snapshot> {
        let until = Instant::now() + deadline;
        let mut changed = self.subscribe();
        loop {
            let last = {
                let now = self.load();
                match &now.state {
                    State::Ready => return Ok(now.snapshot.clone()),
                    State::Closed => return Err(now.refusal()),
                    State::Pending(Some(error)) if !heals(error) => return Err(error.clone()),
                    State::Pending(_) | State::Expired => now.refusal(),
                }
            };
            if timeout_at(until, changed.changed()).await.is_err() {
                return Err(Error::new(ErrorKind::Timeout, "no view of the service in time")
                    .with_operation("ready")
                    .with_context("service", self.query.label())
                    .with_context("waited", format!("{deadline:?}"))
                    .with_hint("is the registry reachable? `status()` tells")
                    .with_source(last));
            }
        }
    }
}

/// Whether waiting may help.
pub(crate) fn heals(error: &Error) -> bool {
    error.is_retryable() || matches!(error.kind(), ErrorKind::WatchExpired | ErrorKind::Protocol)
}
