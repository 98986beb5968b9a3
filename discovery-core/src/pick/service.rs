//! A handle on one query: instances, picks, calls, changes.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::{PickContext, Picked, Reader, View, view::State};
use crate::{
    error::Result,
    model::{InstanceKey, Query, Snapshot},
};

/// A handle on one query. Clones share the view and keep a place of their own in a rotation.
///
/// While any handle or reader exists, one upstream watch keeps the view up to date.
pub struct Service {
    view: Arc<View>,
    cursor: AtomicUsize,
    timeout: Duration,
}

impl Clone for Service {
    fn clone(&self) -> Self {
        Self::new(self.view.clone(), self.timeout)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Service").field(&self.view).finish()
    }
}

impl Service {
    /// A handle on `view` that waits for its first answer up to `timeout`.
    pub fn new(view: Arc<View>, timeout: Duration) -> Self {
        Self {
            view,
            cursor: AtomicUsize::new(fastrand::usize(..1 << 32)),
            timeout,
        }
    }

    /// The query it answers.
    pub fn query(&self) -> &Query {
        self.view.query()
    }

    /// The view behind it.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Waits until the view can be used, up to the client's timeout.
    ///
    /// # Errors
    /// `Timeout` with the last failure as its cause; at once a failure that time cannot heal.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn ready(&self) -> Result<Snapshot> {
        self.view.ready(self.timeout).await
    }

    /// The instances now; the first call waits for them like [`Self::ready`].
    ///
    /// # Errors
    /// As [`Self::ready`], and `Unavailable` when the view is older than the query's `max_stale`.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn instances(&self) -> Result<Snapshot> {
        match self.view.snapshot() {
            Ok(snapshot) => Ok(snapshot),
            Err(_) if matches!(self.view.load().state, State::Pending(_)) => self.ready().await,
            Err(error) => Err(error),
        }
    }

    /// A reader: the fastest way to pick, one per thread.
    pub fn reader(&self) -> Reader {
        Reader::new(self.clone())
    }

    /// Picks an instance and counts the call as in flight until it is reported or dropped.
    ///
    /// # Errors
    /// `Unavailable` when there is nothing to pick, saying why.
    pub fn acquire(&self) -> Result<Picked> {
        let now = self.view.load();
        let mut context = PickContext::at(self.cursor.fetch_add(1, Ordering::Relaxed));
        now.pick(&mut context)
            .and_then(|index| now.endpoints.get(index))
            .map(|(instance, load)| Picked::new(instance.clone(), load.clone()))
            .ok_or_else(|| now.refusal())
    }

    /// Like [`Self::acquire`], but another instance than those in `tried` while there is one.
    ///
    /// # Errors
    /// As [`Self::acquire`].
    pub fn acquire_other(&self, tried: &[InstanceKey]) -> Result<Picked> {
        let now = self.view.load();
        for _ in 0..now.endpoints.len().min(2 * tried.len() + 1) {
            let picked = self.acquire()?;
            if !tried.contains(&picked.key) {
                return Ok(picked);
            }
        }
        // A random strategy may have missed them, and the rotation may be shared.
        let other = (0..now.endpoints.len())
            .filter_map(|index| now.endpoints.get(index))
            .find(|(instance, _)| !tried.contains(&instance.key));
        match other {
            Some((instance, load)) => Ok(Picked::new(instance.clone(), load.clone())),
            None => self.acquire(),
        }
    }

    /// Changes of the view, starting with what it is now.
    pub fn subscribe(&self) -> Subscription {
        let mut changed = self.view.subscribe();
        changed.mark_changed();
        Subscription {
            service: self.clone(),
            changed,
        }
    }
}

/// Changes of a view: each [`next`](Self::next) is the latest snapshot, however many changes lay between.
///
/// A slow subscriber misses intermediate states, never the last one, and holds up nobody.
#[derive(Debug)]
pub struct Subscription {
    service: Service,
    changed: watch::Receiver<()>,
}

impl Subscription {
    /// The next state: a snapshot, or why there is none any more. The first call waits for the first view.
    ///
    /// # Errors
    /// `Unavailable` when the view expired under the query's `max_stale` (a later call may succeed), `Closed` after
    /// shutdown.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn next(&mut self) -> Result<Snapshot> {
        loop {
            // The sender lives in the view this subscription keeps alive.
            let _ = self.changed.changed().await;
            let now = self.service.view.load();
            match &now.state {
                State::Ready => return Ok(now.snapshot.clone()),
                State::Pending(_) => {}
                State::Expired | State::Closed => return Err(now.refusal()),
            }
        }
    }
}
