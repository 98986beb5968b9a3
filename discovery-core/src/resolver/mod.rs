//! The resolver: one upstream watch for every question asked of the registry, one writer for every view of it.

mod cold_start;
mod members;
mod upstream;
mod writer;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, watch};
use tracing::{Instrument, info_span};

use crate::{
    disk::SnapshotStore,
    error::{Error, ErrorKind, Result},
    model::{Query, Target},
    pick::{Balancing, Strategy, View},
    spi::{Backend, Capabilities},
    task::TaskGroup,
};

/// How a [`Resolver`] behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ResolverOptions {
    /// How long a watch goes on after its last user is gone.
    pub linger: Duration,
    /// The deadline of one uncached read.
    pub read_timeout: Duration,
    /// What goes around every strategy.
    pub balancing: Arc<Balancing>,
    /// Where last-good snapshots are kept for a cold start; nowhere where `None`.
    pub disk: Option<SnapshotStore>,
}

impl Default for ResolverOptions {
    fn default() -> Self {
        Self {
            linger: Duration::from_secs(30),
            read_timeout: Duration::from_secs(5),
            balancing: Arc::default(),
            disk: None,
        }
    }
}

/// Keeps views up to date: the first view of a question starts an upstream watch, later ones share it, and it stops when
/// the last one has been unused for a while.
#[derive(Debug, Clone)]
pub struct Resolver(Arc<Hub>);

#[derive(Debug)]
struct Hub {
    backend: Backend,
    options: ResolverOptions,
    tasks: TaskGroup,
    upstreams: Mutex<HashMap<Query, Shared>>,
    /// Moves on when a broken watch is back: the way to the registry is open, so the others need not wait out theirs.
    healed: watch::Sender<()>,
}

/// What the hub and an upstream task share.
#[derive(Debug, Clone, Default)]
struct Shared {
    /// The views of this upstream. A view here and in its writer only is unused.
    views: HashMap<(Query, &'static str), Arc<View>>,
    /// Views the task has not taken over yet.
    fresh: Vec<(Arc<View>, Arc<dyn Strategy>)>,
    attached: Arc<Notify>,
}

impl Hub {
    fn upstreams(&self) -> MutexGuard<'_, HashMap<Query, Shared>> {
        self.upstreams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolver {
    /// A resolver over `backend`, whose registry must answer uncached.
    pub fn new(backend: Backend, tasks: TaskGroup, options: ResolverOptions) -> Self {
        Self(Arc::new(Hub {
            backend,
            options,
            tasks,
            upstreams: Mutex::default(),
            healed: watch::Sender::new(()),
        }))
    }

    /// The view of `query` balanced by `strategy`: made on first use, shared after.
    ///
    /// # Errors
    /// `Unsupported` when the backend cannot answer such a query, `ConfigInvalid` when its `max_stale` is shorter than the
    /// backend confirms, `Closed` after shutdown.
    pub fn view(&self, query: &Query, strategy: &Arc<dyn Strategy>) -> Result<Arc<View>> {
        if self.0.tasks.cancelled().is_cancelled() {
            return Err(Error::new(ErrorKind::Closed, "the client was shut down"));
        }
        let info = self.0.backend.registry.info();
        check_query(query, &self.0.backend.registry.capabilities())
            .map_err(|error| error.with_backend(info.scheme).with_operation("watch"))?;
        let upstream = query.upstream();
        let mut upstreams = self.0.upstreams();
        let running = upstreams.contains_key(&upstream);
        let shared = upstreams.entry(upstream.clone()).or_default();
        let key = (query.clone(), strategy.name());
        if let Some(view) = shared.views.get(&key) {
            return Ok(view.clone());
        }
        let view = Arc::new(View::new(query.clone()));
        shared.views.insert(key, view.clone());
        shared.fresh.push((view.clone(), strategy.clone()));
        shared.attached.notify_one();
        if !running {
            let attached = shared.attached.clone();
            let span = info_span!(
                "discovery.watch",
                service = upstream.label(),
                backend = info.scheme
            );
            let task = upstream::Upstream::new(self.0.clone(), upstream, attached);
            self.0.tasks.spawn(task.run().instrument(span));
        }
        Ok(view)
    }

    /// The upstream watches that run now.
    pub fn upstreams(&self) -> usize {
        self.0.upstreams().len()
    }
}

/// Whether a backend with these capabilities can answer `query`.
///
/// # Errors
/// `Unsupported` naming what it cannot do, `ConfigInvalid` for a `max_stale` it cannot keep.
pub fn check_query(query: &Query, can: &Capabilities) -> Result<()> {
    let unsupported = if query.target == Target::All && !can.watch_all {
        Some("this backend cannot look at every service at once")
    } else if query.scope.datacenter.is_some() && !can.datacenters {
        Some("this backend has no datacenters")
    } else if query.scope.namespace.is_some() && !can.namespaces {
        Some("this backend has no namespaces")
    } else {
        None
    };
    if let Some(message) = unsupported {
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    query
        .max_stale
        .map_or(Ok(()), |max_stale| check_max_stale(max_stale, can))
}

/// Whether a backend with these capabilities confirms its answers often enough for `max_stale`.
///
/// # Errors
/// `ConfigInvalid` saying what would be long enough.
pub fn check_max_stale(max_stale: Duration, can: &Capabilities) -> Result<()> {
    if max_stale >= can.confirm_every {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::ConfigInvalid,
        "`max_stale` is shorter than the backend confirms its answers",
    )
    .with_context("max_stale", format!("{max_stale:?}"))
    .with_hint(format!("use {:?} or more", can.confirm_every)))
}

#[cfg(test)]
mod tests;
