//! What the thread of a file holds: the open database, this process's lock and the TTLs it keeps.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    time::Duration,
};

use discovery_core::{InstanceKey, Result};
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::watch;

use crate::{
    clock,
    error::of_sqlite,
    file::{self, Identity},
    log::Place,
    owner::{Owner, Owners},
    records,
};

/// How often the file is looked at while somebody watches.
const LOOK: Duration = Duration::from_millis(25);
/// How often, in ms, it is at most looked whether owners live and TTLs have run out.
const SWEEP: i64 = 50;

/// The open database.
struct Open {
    connection: Connection,
    identity: Identity,
    /// What `PRAGMA data_version` last said: it changes with the commits of others.
    seen: i64,
    owner: Owner,
    owners: Owners,
    /// Owners that have ended and whose records could not be removed yet.
    dead: HashSet<String>,
}

/// The TTL of a record that lives by this process.
struct Ttl {
    ttl: Duration,
    until: i64,
}

/// See the module.
pub(crate) struct Worker {
    path: PathBuf,
    wake: watch::Sender<()>,
    open: Option<Open>,
    /// By lease.
    ttls: HashMap<i64, Ttl>,
    /// When to look next, on the shared clock.
    look_at: i64,
    swept_at: i64,
    /// Whether the last look failed, so that watches are told once.
    failing: bool,
}

/// What a read leaves out: what has ended but could not be removed yet.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    dead: HashSet<String>,
}

impl Ended {
    /// Whether a record with this owner and end has ended.
    pub(crate) fn covers(&self, owner: Option<&str>, expires: Option<i64>, boot: Option<&str>) -> bool {
        owner.is_some_and(|owner| self.dead.contains(owner))
            || expires.is_some_and(|at| at <= clock::now() || boot != Some(clock::boot()))
    }
}

impl Worker {
    pub(crate) fn new(path: PathBuf, wake: watch::Sender<()>) -> Self {
        Self {
            path,
            wake,
            open: None,
            ttls: HashMap::new(),
            look_at: 0,
            swept_at: 0,
            failing: false,
        }
    }

    /// The database that is at the path now: opened where it is not, and again where it was moved away or deleted.
    fn open(&mut self) -> Result<&mut Open> {
        let found = file::identity(&self.path);
        if self
            .open
            .as_ref()
            .is_some_and(|open| Some(open.identity) != found)
        {
            self.open = None;
            self.ttls.clear();
        }
        if self.open.is_none() {
            let open = Open::at(&self.path)?;
            // Whatever was watched was another database.
            self.wake.send_replace(());
            self.open = Some(open);
        }
        // Just filled.
        self.open
            .as_mut()
            .ok_or_else(|| of_sqlite(rusqlite::Error::InvalidQuery))
    }

    /// The id of this process as an owner. Where the folder of locks was cleaned, it enters anew.
    pub(crate) fn owner(&mut self) -> Result<String> {
        let open = self.open()?;
        if !open.owner.is_visible() {
            self.open = None;
            self.ttls.clear();
        }
        Ok(self.open()?.owner.id.clone())
    }

    /// Looks at the database at one moment.
    pub(crate) fn read<T>(&mut self, look: impl FnOnce(&Connection, &Ended) -> Result<T>) -> Result<T> {
        self.open()?;
        self.sweep();
        let open = self.open()?;
        let ended = Ended {
            dead: open.dead.clone(),
        };
        let transaction = open.connection.transaction().map_err(of_sqlite)?;
        look(&transaction, &ended)
    }

    /// Changes the database, whole or not at all, and wakes the watches of this process where there is something to tell;
    /// those of others see it by themselves.
    pub(crate) fn write<T>(&mut self, change: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let transaction = self
            .open()?
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(of_sqlite)?;
        let before = Place::end(&transaction)?;
        let answer = change(&transaction)?;
        let after = Place::end(&transaction)?;
        transaction.commit().map_err(of_sqlite)?;
        if after != before {
            self.wake.send_replace(());
        }
        Ok(answer)
    }

    /// Starts, or starts anew, the TTL of a record that lives by this process; without one, the process is all it lives by.
    pub(crate) fn set_ttl(&mut self, lease: i64, ttl: Option<Duration>) {
        match ttl {
            None => self.ttls.remove(&lease),
            Some(ttl) => {
                let until = clock::after(ttl);
                self.ttls.insert(lease, Ttl { ttl, until })
            }
        };
    }

    /// A heartbeat: starts the TTL of a record anew where it has one.
    pub(crate) fn beat(&mut self, lease: i64) {
        if let Some(ttl) = self.ttls.get_mut(&lease) {
            ttl.until = clock::after(ttl.ttl);
        }
    }

    /// How long the thread may sleep; for ever where there is nothing to look at.
    pub(crate) fn next_look(&self) -> Option<Duration> {
        let watched = (self.wake.receiver_count() > 0).then_some(self.look_at);
        let ttl = self
            .ttls
            .values()
            .map(|ttl| ttl.until.max(self.swept_at + SWEEP))
            .min();
        let at = [watched, ttl].into_iter().flatten().min()?;
        Some(Duration::from_millis(
            u64::try_from(at - clock::now()).unwrap_or(0),
        ))
    }

    /// Sees what others changed, and what has ended, if it is time to.
    pub(crate) fn look(&mut self) {
        let now = clock::now();
        let watched = self.wake.receiver_count() > 0;
        if watched && now >= self.look_at {
            self.look_at = now + i64::try_from(LOOK.as_millis()).unwrap_or(i64::MAX);
            match self.changed() {
                Ok(changed) => {
                    if changed || self.failing {
                        self.wake.send_replace(());
                    }
                    self.failing = false;
                }
                Err(error) => {
                    // Watches find the error by themselves once they look.
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::warn!(%error, path = %self.path.display(), "cannot look at the database");
                        self.wake.send_replace(());
                    }
                }
            }
        }
        if self.open.is_some() && (watched || self.ttls.values().any(|ttl| ttl.until <= now)) {
            self.sweep();
        }
    }

    /// Whether others have changed something since this was last asked.
    fn changed(&mut self) -> Result<bool> {
        let open = self.open()?;
        let version: i64 = open
            .connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(of_sqlite)?;
        Ok(std::mem::replace(&mut open.seen, version) != version)
    }

    /// Removes the records of processes that have ended, and those whose TTL has run out. What cannot be removed now (the
    /// disk may be full) is left out of every answer, and removed later.
    fn sweep(&mut self) {
        let now = clock::now();
        if now < self.swept_at + SWEEP {
            return;
        }
        self.swept_at = now;
        if let Err(error) = self.remove_ended(now) {
            tracing::debug!(%error, path = %self.path.display(), "what has ended is still in the database");
        }
    }

    fn remove_ended(&mut self, now: i64) -> Result<()> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let owners = records::owners(&open.connection)?;
        open.owners.retain(&owners);
        let mut dead: Vec<String> = Vec::new();
        for id in owners {
            if id != open.owner.id && !open.owners.is_alive(&id) {
                dead.push(id);
            }
        }
        open.dead = dead.iter().cloned().collect();
        let own = open.owner.id.clone();
        let lapsed: Vec<i64> = (self.ttls.iter())
            .filter(|(_, ttl)| ttl.until <= now)
            .map(|(lease, _)| *lease)
            .collect();
        if dead.is_empty() && lapsed.is_empty() && records::expired(&open.connection, now)?.is_empty() {
            return Ok(());
        }
        self.write(|connection| {
            let mut keys: Vec<InstanceKey> = records::expired(connection, now)?;
            for id in &dead {
                keys.extend(records::of_owner(connection, id)?);
            }
            for lease in &lapsed {
                keys.extend(records::of_lease(connection, *lease, &own)?);
            }
            for key in &keys {
                records::remove(connection, key)?;
            }
            Ok(())
        })?;
        for lease in &lapsed {
            self.ttls.remove(lease);
        }
        if let Some(open) = &mut self.open {
            open.dead.clear();
            for id in &dead {
                open.owners.forget(id);
            }
        }
        Ok(())
    }
}

impl Open {
    fn at(path: &std::path::Path) -> Result<Self> {
        file::prepare(path)?;
        let mut owners = Owners::of(path)?;
        let opening = owners.opening()?;
        let connection = file::open(path)?;
        let owner = owners.enter(&opening)?;
        let identity = file::identity(path).ok_or_else(|| {
            crate::error::error(
                discovery_core::ErrorKind::Unavailable,
                "the database was deleted while it was opened",
            )
        })?;
        Ok(Self {
            connection,
            identity,
            seen: 0,
            owner,
            owners,
            dead: HashSet::new(),
        })
    }
}

impl Drop for Open {
    /// What lived by this process ends with it, and others need not find that out.
    fn drop(&mut self) {
        let own = self.owner.id.clone();
        let end = |connection: &mut Connection| -> Result<()> {
            let transaction = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(of_sqlite)?;
            for key in records::of_owner(&transaction, &own)? {
                records::remove(&transaction, &key)?;
            }
            transaction.commit().map_err(of_sqlite)
        };
        if let Err(error) = end(&mut self.connection) {
            tracing::debug!(%error, "others will find that this process has ended");
        }
    }
}
