//! A handle on one query: instances, picks, calls, changes.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{
    Explained, Load, PickContext, Picked, Reader, Verdict, View, hash_key,
    view::{Prepared, State},
};
use crate::{
    error::Result,
    model::{Instance, InstanceKey, Query, Snapshot},
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
        // Looked at once: the first answer may come between two looks.
        let now = {
            let now = self.view.load();
            match now.state {
                State::Ready => Some(Ok(now.snapshot.clone())),
                State::Pending(_) => None,
                State::Expired | State::Closed => Some(Err(now.refusal())),
            }
        };
        match now {
            Some(answer) => answer,
            None => self.ready().await,
        }
    }

    /// A reader: the fastest way to pick, one per thread.
    pub fn reader(&self) -> Reader {
        Reader::new(self.clone())
    }

    /// Picks an instance and counts the call as in flight until it is reported or dropped.
    ///
    /// # Errors
    /// `Unavailable` when there is nothing to pick or none may have another call, saying why.
    pub fn acquire(&self) -> Result<Picked> {
        self.acquire_hashed(None)
    }

    /// Like [`Self::acquire`], for `key`: under a hashing strategy, the same instance for the same key while the membership
    /// and its load allow. Other strategies take no notice of the key.
    ///
    /// # Errors
    /// As [`Self::acquire`].
    pub fn acquire_by(&self, key: impl AsRef<[u8]>) -> Result<Picked> {
        self.acquire_hashed(Some(hash_key(key)))
    }

    fn acquire_hashed(&self, key: Option<u64>) -> Result<Picked> {
        let now = self.view.load();
        let mut context = PickContext::at(self.cursor.fetch_add(1, Ordering::Relaxed));
        context.key = key;
        let at = Instant::now();
        let index = now.pick_at(&mut context, at).ok_or_else(|| now.refusal())?;
        match now.admit(index, at) {
            Some(picked) => Ok(picked),
            None => now.first(index + 1, at, |_| true).ok_or_else(Prepared::exhausted),
        }
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
        let untried = |instance: &Instance| !tried.contains(&instance.key);
        match now.first(fastrand::usize(..), Instant::now(), untried) {
            Some(picked) => Ok(picked),
            None => self.acquire(),
        }
    }

    /// For each instance of `all`, whether it is chosen now, and if not, why. `all` is what the registry knows of the
    /// service, such as a look-up that includes the unhealthy; instances of the view come first.
    pub fn explain(&self, all: &Snapshot) -> Vec<Explained> {
        let now = self.view.load();
        let mut explained: Vec<Explained> = now
            .verdicts()
            .map(|(instance, load, verdict)| Explained::of(instance, load, verdict))
            .collect();
        let serves = |source: &str| {
            let mut shown = now.endpoints.instances().iter();
            shown.any(|instance| &*instance.key.source == source)
        };
        let others = all
            .instances
            .iter()
            .filter(|other| explained.iter().all(|seen| seen.instance.key != other.key))
            .map(|other| {
                let verdict = if !other.has_tags(&self.query().tags) {
                    Verdict::Filtered
                } else if other.draining {
                    Verdict::Draining
                } else if !other.status.is_serving() {
                    Verdict::Unhealthy
                } else if !now.endpoints.is_empty() && !serves(&other.key.source) {
                    Verdict::StandBy
                } else {
                    Verdict::NoView
                };
                Explained::of(other, &Load::default(), verdict)
            })
            .collect::<Vec<_>>();
        explained.extend(others);
        explained
    }

    /// The instances that take part in picks now: what a balancer of your own would choose among.
    ///
    /// # Errors
    /// `Unavailable` when nothing was ever seen or the view has expired, `Closed` after shutdown.
    pub fn chosen(&self) -> Result<Vec<Arc<Instance>>> {
        let now = self.view.load();
        match now.state {
            State::Ready => Ok(now
                .verdicts()
                .filter(|(_, _, verdict)| verdict.is_used())
                .map(|(instance, _, _)| instance.clone())
                .collect()),
            _ => Err(now.refusal()),
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
