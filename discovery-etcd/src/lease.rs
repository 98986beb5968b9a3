//! Leases: who lives by which.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use discovery_core::{Error, ErrorKind, HealthReport, InstanceKey, LeaseGroup, Result};
use foldhash::fast::RandomState;
use indexmap::IndexMap;
use tokio::time::Instant;

use crate::{
    client::{Client, Kind},
    config::LeaseSharing,
    error,
    keepalive::KeepAlives,
    keys::Name,
};

/// The leases of one client.
#[derive(Debug)]
pub(crate) struct Leases {
    client: Client,
    state: Mutex<State>,
    /// Held while a shared lease is granted, so that all wait for one.
    granting: tokio::sync::Mutex<()>,
    alive: KeepAlives,
}

#[derive(Debug, Default)]
struct State {
    /// The lease that new registrations of this TTL, in seconds as asked for, live by.
    shared: HashMap<i64, i64>,
    held: HashMap<i64, Held, RandomState>,
    /// The lease that each of our records lives by. It may be gone.
    lease_of: HashMap<Name, i64, RandomState>,
}

/// A lease we were granted.
#[derive(Debug)]
struct Held {
    ttl: Duration,
    confirmed: Instant,
    /// The records that live by it, and the health that each was last made to show.
    members: IndexMap<Name, Option<HealthReport>, RandomState>,
    /// The records of which a write may still be on its way.
    unsure: HashSet<Name>,
    /// It is let expire: its members register again, by another one.
    retired: bool,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of a lease, as etcd's tools print it.
pub(crate) fn group(id: i64) -> LeaseGroup {
    LeaseGroup::new(format!("{id:016x}"))
}

/// The lease a group names; 64 bits, never through a float (E-8).
pub(crate) fn id_of(group: &LeaseGroup) -> Option<i64> {
    let digits = group.as_str().as_bytes();
    if !(1..=16).contains(&digits.len()) {
        return None;
    }
    let id = digits.iter().try_fold(0, |id: u64, digit| {
        Some(id << 4 | u64::from(char::from(*digit).to_digit(16)?))
    });
    id.map(u64::cast_signed)
}

pub(crate) fn gone() -> Error {
    error::error(ErrorKind::NotFound, "the lease is gone")
}

impl State {
    /// Forgets what a record lives by.
    fn leave(&mut self, name: &Name) {
        let id = self.lease_of.remove(name);
        if let Some(held) = id.and_then(|id| self.held.get_mut(&id)) {
            held.members.swap_remove(name);
        }
    }
}

impl Leases {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            alive: KeepAlives::new(client.clone()),
            client,
            state: Mutex::default(),
            granting: tokio::sync::Mutex::default(),
        }
    }

    fn single(&self) -> bool {
        self.client.config().service_registration.lease == LeaseSharing::Single
    }

    /// The lease that a record lives by, if we wrote it.
    pub(crate) fn of(&self, name: &Name) -> Option<i64> {
        let state = lock(&self.state);
        let id = *state.lease_of.get(name)?;
        state.held.contains_key(&id).then_some(id)
    }

    /// How long a lease lives without renewal, as the server said (E-1).
    pub(crate) fn ttl(&self, id: i64) -> Option<Duration> {
        lock(&self.state).held.get(&id).map(|held| held.ttl)
    }

    /// A lease for a record to live by, alive for a while yet: the one it has, the shared one, or a new one.
    pub(crate) async fn obtain(&self, name: &Name, ttl: Duration) -> Result<i64> {
        let asked = i64::try_from(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)).unwrap_or(i64::MAX);
        let one = self.granting.lock().await;
        let found = {
            let state = lock(&self.state);
            let id = if self.single() {
                None
            } else {
                state.shared.get(&asked).copied()
            };
            let held = id.and_then(|id| Some((id, state.held.get(&id)?)));
            held.map(|(id, held)| (id, held.confirmed.elapsed() * 3 < held.ttl))
        };
        match found {
            Some((id, true)) => return Ok(id),
            // A registration is a heartbeat; and a lease that is gone is found out here.
            Some((id, false)) => match self.beat(id).await {
                Ok(()) => return Ok(id),
                Err(failed) if failed.kind() != ErrorKind::NotFound => return Err(failed),
                Err(_) => {}
            },
            None if self.single() => {
                if let Some(id) = self.of(name) {
                    match self.beat(id).await {
                        Ok(()) => return Ok(id),
                        Err(failed) if failed.kind() != ErrorKind::NotFound => return Err(failed),
                        Err(_) => {}
                    }
                }
            }
            None => {}
        }
        // An id of the server's own choice: asking twice cannot collide (E-8).
        let granted = self
            .client
            .call(Kind::Write, |client| async move {
                client.lease_client().grant(asked, None).await
            })
            .await?;
        let mut state = lock(&self.state);
        state.held.insert(
            granted.id(),
            Held {
                ttl: Duration::from_secs(u64::try_from(granted.ttl()).unwrap_or_default()),
                confirmed: Instant::now(),
                members: IndexMap::default(),
                unsure: HashSet::new(),
                retired: false,
            },
        );
        if !self.single() {
            state.shared.insert(asked, granted.id());
        }
        drop(one);
        Ok(granted.id())
    }

    /// Notes that a write of a record under this lease is under way; what is not told to have ended may happen late.
    pub(crate) fn writing(&self, id: i64, name: &Name) {
        if let Some(held) = lock(&self.state).held.get_mut(&id) {
            held.unsure.insert(name.clone());
        }
    }

    /// Notes how a write of a record ended, where that is known: written, or not.
    pub(crate) fn wrote(&self, id: i64, name: &Name, written: bool) {
        let mut state = lock(&self.state);
        if let Some(held) = state.held.get_mut(&id) {
            held.unsure.remove(name);
        }
        if written {
            state.leave(name);
            state.lease_of.insert(name.clone(), id);
            if let Some(held) = state.held.get_mut(&id) {
                held.members.insert(name.clone(), None);
            }
        }
    }

    /// Notes that a record is withdrawn. Where a write of it may still arrive, its lease is let expire, so that what is written
    /// late does not live on: members that are left register again, by another lease.
    pub(crate) fn withdrawn(&self, name: &Name) {
        let mut state = lock(&self.state);
        state.leave(name);
        let mut retired = Vec::new();
        for (id, held) in &mut state.held {
            if held.unsure.remove(name) {
                held.retired = true;
                retired.push(*id);
            }
        }
        state.shared.retain(|_, id| !retired.contains(id));
    }

    /// Notes the health a record shows by now.
    pub(crate) fn shown(&self, id: i64, name: &Name, report: &HealthReport) {
        let mut state = lock(&self.state);
        let held = state.held.get_mut(&id);
        if let Some(shown) = held.and_then(|held| held.members.get_mut(name)) {
            *shown = Some(report.clone());
        }
    }

    /// Forgets a lease.
    pub(crate) fn forget(&self, id: i64) {
        let mut state = lock(&self.state);
        state.held.remove(&id);
        state.shared.retain(|_, other| *other != id);
    }

    /// Ends a lease with all that lives by it; one that is gone already is success (E-11).
    pub(crate) async fn revoke(&self, id: i64) -> Result<()> {
        let revoked = self
            .client
            .call(Kind::Write, |client| async move {
                client.lease_client().revoke(id).await
            })
            .await;
        match revoked {
            Err(failed) if failed.kind() != ErrorKind::NotFound => Err(failed),
            _ => {
                self.forget(id);
                Ok(())
            }
        }
    }

    /// Keeps a lease alive once.
    ///
    /// # Errors
    /// `NotFound` when the server no longer knows it (E-2), or when it is let expire.
    pub(crate) async fn beat(&self, id: i64) -> Result<()> {
        if lock(&self.state).held.get(&id).is_none_or(|held| held.retired) {
            return Err(gone());
        }
        self.ask(id).await
    }

    /// Keeps a lease alive once, for those of its records that are named, and answers the places of those that were not known
    /// to show this health.
    ///
    /// # Errors
    /// As [`Self::beat`], and `NotFound` when one of them does not live by it, as far as we know.
    pub(crate) async fn renew(&self, id: i64, records: &[(InstanceKey, HealthReport)]) -> Result<Vec<usize>> {
        let changed = self.unlike(id, records).ok_or_else(gone)?;
        self.ask(id).await?;
        Ok(changed)
    }

    async fn ask(&self, id: i64) -> Result<()> {
        // The server counts from later on.
        let now = Instant::now();
        let ttl = self.alive.ask(id, now).await?;
        self.answered(id, now, ttl)
    }

    /// The places of those records that are not known to show this health; nothing unless all of them live by this lease, as
    /// far as we know, and it is not let expire.
    fn unlike(&self, id: i64, records: &[(InstanceKey, HealthReport)]) -> Option<Vec<usize>> {
        let state = lock(&self.state);
        let held = state.held.get(&id).filter(|held| !held.retired)?;
        let mut unlike = Vec::new();
        for (place, (key, report)) in records.iter().enumerate() {
            // Most often they come in the order they were registered in.
            let same = held.members.get_index(place).filter(|(name, _)| *name == key);
            let shown = match same {
                Some((_, shown)) => shown,
                None => held.members.get(&Name::from(key))?,
            };
            if shown.as_ref() != Some(report) {
                unlike.push(place);
            }
        }
        Some(unlike)
    }

    /// Notes what the server said of a lease when it was asked: gone when no time is left, which is no error to it (E-2, E-9).
    fn answered(&self, id: i64, asked: Instant, ttl: i64) -> Result<()> {
        if ttl <= 0 {
            self.forget(id);
            return Err(gone());
        }
        if let Some(held) = lock(&self.state).held.get_mut(&id) {
            held.confirmed = asked;
            held.ttl = Duration::from_secs(u64::try_from(ttl).unwrap_or_default());
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
