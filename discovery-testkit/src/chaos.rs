//! Failures for a backend that has none: errors, latency, cut and silent streams, lost leases, suspect answers.
//!
//! For what no real server can be made to show on demand, and for proofs under a paused clock.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use discovery_core::{
    Backend, BackendInfo, BackendStatus, Capabilities, Change, Cursor, Error, ErrorKind, Evidence,
    HealthReport, Instance, InstanceKey, Lease, LeaseGroup, MetaChange, Query, Registration, Renewal, Result,
    Scope, ServiceRegistry, ServiceSummary, Snapshot, Suspicion, WatchEvent, WatchStream, Watcher,
};
use futures::{StreamExt, stream};
use tokio::{sync::watch, time::sleep};

use crate::sync::lock;

/// The faults of a wrapped backend, switched while it runs. Cloning copies one pointer.
///
/// ```
/// use discovery_core::{ErrorKind, memory::MemoryStore};
/// use discovery_testkit::chaos::Chaos;
///
/// let (backend, chaos) = Chaos::wrap(MemoryStore::new().backend());
/// chaos.cut(ErrorKind::Unavailable); // every call fails, every open watch ends
/// chaos.heal();
/// # drop(backend);
/// ```
#[derive(Debug, Clone)]
pub struct Chaos(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    faults: Mutex<Faults>,
    /// Moves on whenever open streams must look at the faults again.
    turned: watch::Sender<()>,
    open_streams: AtomicUsize,
    calls: Mutex<BTreeMap<&'static str, usize>>,
}

#[derive(Debug, Default)]
struct Faults {
    cut: Option<ErrorKind>,
    /// One call in so many fails with this.
    error_rate: Option<(f64, ErrorKind)>,
    /// One call of each operation in so many fails with this.
    fail_every: Option<(usize, ErrorKind)>,
    latency: Duration,
    /// Calls hang.
    stalled: bool,
    /// Streams hang.
    silent: bool,
    /// Streams that were opened before this many cuts end.
    stream_cuts: usize,
    /// The only leases the registry still knows, once it has lost all it knew.
    known_leases: Option<HashSet<LeaseGroup>>,
    suspect: Option<Suspicion>,
    rng: fastrand::Rng,
}

impl Chaos {
    /// `backend` with faults, none of them on yet, and the switches. Its configuration store is left out.
    pub fn wrap(backend: Backend) -> (Backend, Self) {
        let chaos = Self(Arc::new(Shared {
            faults: Mutex::default(),
            turned: watch::Sender::new(()),
            open_streams: AtomicUsize::new(0),
            calls: Mutex::default(),
        }));
        let registry = Arc::new(ChaosRegistry {
            inner: backend.registry,
            chaos: chaos.clone(),
        });
        let watcher = Arc::new(ChaosWatcher {
            inner: backend.watcher,
            chaos: chaos.clone(),
        });
        (Backend::new(registry, watcher), chaos)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.0.faults)
    }

    fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.faults());
        self.0.turned.send_replace(());
    }

    /// The way to the registry is gone: every call fails with `kind`, and every watch, open ones included.
    pub fn cut(&self, kind: ErrorKind) {
        self.set(|faults| {
            faults.cut = Some(kind);
            faults.stream_cuts += 1;
        });
    }

    /// Takes every fault back. What hangs goes on; watches that showed nothing on suspicion end.
    pub fn heal(&self) {
        self.set(|faults| {
            *faults = Faults {
                stream_cuts: faults.stream_cuts + usize::from(faults.suspect.is_some()),
                ..Faults::default()
            };
        });
    }

    /// A share `rate` of all calls fails with `kind`, by chance from this seed.
    pub fn error_rate(&self, rate: f64, kind: ErrorKind, seed: u64) {
        self.set(|faults| {
            faults.error_rate = Some((rate, kind));
            faults.rng = fastrand::Rng::with_seed(seed);
        });
    }

    /// Every `n`-th call of each operation fails with `kind`: so many failures, and never many in a row.
    pub fn fail_every(&self, n: usize, kind: ErrorKind) {
        self.set(|faults| faults.fail_every = Some((n, kind)));
    }

    /// Every call takes so much longer.
    pub fn latency(&self, latency: Duration) {
        self.set(|faults| faults.latency = latency);
    }

    /// Calls and watches hang until it is taken back: a black hole.
    pub fn stall(&self) {
        self.set(|faults| (faults.stalled, faults.silent) = (true, true));
    }

    /// Open watches end now, once.
    pub fn cut_streams(&self) {
        self.set(|faults| faults.stream_cuts += 1);
    }

    /// Watches say nothing more, without ending.
    pub fn silence(&self) {
        self.set(|faults| faults.silent = true);
    }

    /// The registry loses every lease it knows: renewals are `NotFound` until their instance is registered again.
    pub fn lose_leases(&self) {
        self.set(|faults| faults.known_leases = Some(HashSet::new()));
    }

    /// The registry shows nothing, successfully, with this suspicion as its evidence.
    pub fn suspect(&self, suspicion: Suspicion) {
        self.set(|faults| {
            faults.suspect = Some(suspicion);
            faults.stream_cuts += 1;
        });
    }

    /// How many calls of this operation (`register`, `renew`, `watch`, …) have been made.
    pub fn calls(&self, operation: &'static str) -> usize {
        lock(&self.0.calls).get(operation).copied().unwrap_or_default()
    }

    /// How many calls have been made, all operations taken together.
    pub fn all_calls(&self) -> usize {
        lock(&self.0.calls).values().sum()
    }

    /// How many watches are open.
    pub fn open_streams(&self) -> usize {
        self.0.open_streams.load(Ordering::SeqCst)
    }

    /// Counts a call and answers which of its operation it is.
    fn count(&self, operation: &'static str) -> usize {
        let mut calls = lock(&self.0.calls);
        let calls = calls.entry(operation).or_default();
        *calls += 1;
        *calls
    }

    /// What a call of `operation` meets on its way.
    async fn way(&self, operation: &'static str) -> Result<()> {
        let nth = self.count(operation);
        let mut turned = self.0.turned.subscribe();
        let latency = loop {
            {
                let faults = self.faults();
                if !faults.stalled {
                    break faults.latency;
                }
            }
            // The sender lives in what `self` points to.
            let _ = turned.changed().await;
        };
        if !latency.is_zero() {
            sleep(latency).await;
        }
        let mut faults = self.faults();
        let unlucky = match faults.error_rate {
            Some((rate, kind)) => (faults.rng.f64() < rate).then_some(kind),
            None => None,
        };
        let due = faults
            .fail_every
            .filter(|(n, _)| nth.is_multiple_of(*n))
            .map(|(_, kind)| kind);
        match faults.cut.or(unlucky).or(due) {
            Some(kind) => Err(Error::new(kind, "injected failure").with_operation(operation)),
            None => Ok(()),
        }
    }
}

#[derive(Debug)]
struct ChaosRegistry {
    inner: Arc<dyn ServiceRegistry>,
    chaos: Chaos,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ServiceRegistry for ChaosRegistry {
    fn info(&self) -> BackendInfo {
        self.inner.info()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn register(&self, registration: &Registration) -> Result<Lease> {
        self.chaos.way("register").await?;
        let lease = self.inner.register(registration).await?;
        if let Some(known) = &mut self.chaos.faults().known_leases {
            known.insert(lease.group.clone());
        }
        Ok(lease)
    }

    async fn renew(&self, group: &LeaseGroup, renewal: &Renewal) -> Result<()> {
        self.chaos.way("renew").await?;
        let lost = self
            .chaos
            .faults()
            .known_leases
            .as_ref()
            .is_some_and(|known| !known.contains(group));
        if lost {
            return Err(Error::new(ErrorKind::NotFound, "injected loss of the lease"));
        }
        self.inner.renew(group, renewal).await
    }

    async fn deregister(&self, key: &InstanceKey) -> Result<()> {
        self.chaos.way("deregister").await?;
        self.inner.deregister(key).await
    }

    async fn release(&self, group: &LeaseGroup) -> Result<()> {
        self.chaos.way("release").await?;
        self.inner.release(group).await
    }

    async fn update_meta(&self, key: &InstanceKey, change: &MetaChange) -> Result<()> {
        self.chaos.way("update_meta").await?;
        self.inner.update_meta(key, change).await
    }

    async fn report_health(&self, key: &InstanceKey, report: &HealthReport) -> Result<()> {
        self.chaos.way("report_health").await?;
        self.inner.report_health(key, report).await
    }

    async fn instance(&self, key: &InstanceKey) -> Result<Option<Instance>> {
        self.chaos.way("instance").await?;
        self.inner.instance(key).await
    }

    async fn instances(&self, query: &Query) -> Result<Snapshot> {
        self.chaos.way("instances").await?;
        let suspect = self.chaos.faults().suspect;
        match suspect {
            Some(suspicion) => Ok(Snapshot::live(query.target.clone(), Vec::<Instance>::new())
                .with_evidence(Evidence::Suspect(suspicion))),
            None => self.inner.instances(query).await,
        }
    }

    async fn services(&self, scope: &Scope) -> Result<Vec<ServiceSummary>> {
        self.chaos.way("services").await?;
        self.inner.services(scope).await
    }

    async fn status(&self) -> Result<BackendStatus> {
        self.chaos.way("status").await?;
        self.inner.status().await
    }
}

#[derive(Debug)]
struct ChaosWatcher {
    inner: Arc<dyn Watcher>,
    chaos: Chaos,
}

/// Counts one open stream.
struct OpenStream(Chaos);

impl OpenStream {
    fn new(chaos: &Chaos) -> Self {
        chaos.0.open_streams.fetch_add(1, Ordering::SeqCst);
        Self(chaos.clone())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.0.open_streams.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Faulty {
    inner: WatchStream,
    turned: watch::Receiver<()>,
    cuts: usize,
    open: OpenStream,
}

impl Watcher for ChaosWatcher {
    fn watch(&self, query: &Query, since: Option<Cursor>) -> WatchStream {
        let (inner, chaos, query) = (self.inner.clone(), self.chaos.clone(), query.clone());
        stream::once(async move {
            chaos.way("watch").await?;
            let turned = chaos.0.turned.subscribe();
            let (suspect, cuts) = {
                let faults = chaos.faults();
                (faults.suspect, faults.stream_cuts)
            };
            let raw =
                match suspect {
                    Some(suspicion) => stream::once(async move {
                        Ok(WatchEvent::new(Change::Reset(Vec::new()))
                            .with_evidence(Evidence::Suspect(suspicion)))
                    })
                    .chain(stream::pending())
                    .boxed(),
                    None => inner.watch(&query, since),
                };
            let state = Faulty {
                inner: raw,
                turned,
                cuts,
                open: OpenStream::new(&chaos),
            };
            Ok::<_, Error>(stream::unfold(Some(state), |state| async { next(state?).await }).boxed())
        })
        .flat_map(|opened| match opened {
            Ok(stream) => stream,
            Err(error) => stream::once(async move { Err(error) }).boxed(),
        })
        .boxed()
    }
}

async fn next(mut state: Faulty) -> Option<(Result<WatchEvent>, Option<Faulty>)> {
    loop {
        let silent = {
            let faults = state.open.0.faults();
            let cut = faults
                .cut
                .or((faults.stream_cuts > state.cuts).then_some(ErrorKind::Unavailable));
            if let Some(kind) = cut {
                return Some((Err(Error::new(kind, "injected cut")), None));
            }
            faults.silent
        };
        tokio::select! {
            biased;
            turned = state.turned.changed() => turned.ok()?,
            event = state.inner.next(), if !silent => return event.map(|event| (event, Some(state))),
        }
    }
}

#[cfg(test)]
mod tests;
