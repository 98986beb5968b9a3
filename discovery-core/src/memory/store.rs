//! The state clients share, and the handle to it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::{sync::watch, time::Instant};

use super::{MemoryConfig, backend::SCHEME, config_store::Values, records::Records};
use crate::{
    error::{Error, ErrorKind, Result},
    model::InstanceKey,
};

/// Everything a store keeps.
#[derive(Debug)]
pub(super) struct State {
    pub(super) records: Records,
    pub(super) values: Values,
}

impl State {
    fn new(config: &MemoryConfig) -> Self {
        Self {
            records: Records::new(config.log_capacity),
            values: Values::new(config.log_capacity),
        }
    }
}

/// What every handle to a store points to.
pub(super) struct Shared {
    pub(super) name: Option<Arc<str>>,
    pub(super) config: MemoryConfig,
    state: Mutex<State>,
    /// Wakes watches; its receivers are the watches there are.
    wake: watch::Sender<()>,
}

impl Shared {
    fn new(name: Option<Arc<str>>, config: MemoryConfig) -> Arc<Self> {
        Arc::new(Self {
            name,
            state: Mutex::new(State::new(&config)),
            wake: watch::Sender::new(()),
            config,
        })
    }

    /// The state as it is now, without the records whose leases have run out.
    fn lock(&self) -> (MutexGuard<'_, State>, Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        state.records.expire(now);
        (state, now)
    }

    /// Looks at the state.
    pub(super) fn read<T>(&self, look: impl FnOnce(&State, Instant) -> T) -> T {
        let (state, now) = self.lock();
        look(&state, now)
    }

    /// Changes the state and wakes the watches if that concerns them: something to tell, or a lease that runs out
    /// sooner than they sleep. A mere renewal wakes nobody.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State, Instant) -> T) -> T {
        let (mut state, now) = self.lock();
        let seen = |state: &State| (state.records.log.end(), state.values.log.end());
        let (before, deadline) = (seen(&state), state.records.next_deadline());
        let answer = change(&mut state, now);
        let sooner = match (state.records.next_deadline(), deadline) {
            (Some(after), Some(before)) => after < before,
            (after, before) => after.is_some() && before.is_none(),
        };
        if sooner || seen(&state) != before {
            self.wake.send_replace(());
        }
        answer
    }

    /// Registers a watch until the receiver is dropped.
    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.wake.subscribe()
    }

    pub(super) fn watches(&self) -> usize {
        self.wake.receiver_count()
    }
}

/// An embedded registry. Cloning gives another handle to the same one.
///
/// It lives as long as any handle, backend or watch made from it.
#[derive(Clone)]
pub struct MemoryStore(pub(super) Arc<Shared>);

impl MemoryStore {
    /// An empty private store with default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// The store of this configuration: with a name the one that everybody in this process shares under it while any of them
    /// keeps it, else an empty one of its own.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] for a TTL under a second, no log or a confirm interval of zero, and for a name that is
    /// open with other settings.
    pub fn with_config(config: MemoryConfig) -> Result<Self> {
        config.validate()?;
        match config.name.clone() {
            Some(name) => Self::named(&name, config),
            None => Ok(Self(Shared::new(None, config))),
        }
    }

    fn named(name: &str, config: MemoryConfig) -> Result<Self> {
        static NAMED: LazyLock<Mutex<HashMap<Arc<str>, Weak<Shared>>>> = LazyLock::new(Mutex::default);
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = named.get(name).and_then(Weak::upgrade) {
            if shared.config == config {
                return Ok(Self(shared));
            }
            return Err(Error::new(
                ErrorKind::ConfigInvalid,
                "the store is already open with other settings",
            )
            .with_backend(SCHEME)
            .with_context("name", name)
            .with_hint("use the same settings everywhere, or another name"));
        }
        let shared = Shared::new(Some(name.into()), config);
        named.retain(|_, store| store.strong_count() > 0);
        named.insert(name.into(), Arc::downgrade(&shared));
        Ok(Self(shared))
    }

    /// Forgets the log, as a server does now and then: only watches that have seen the latest change can go on.
    /// For tests.
    pub fn compact(&self) {
        self.0.change(|state, _| {
            state.records.log.compact();
            state.values.log.compact();
        });
    }

    /// Loses one record and its lease, as a faulty server might, and answers whether it was there. Watches are told;
    /// its owner learns it from its next renewal. For tests.
    pub fn forget(&self, key: &InstanceKey) -> bool {
        self.0.change(|state, _| state.records.remove(key))
    }

    /// Loses everything, as a server that restarts empty: records, leases, configuration values and the log, so that
    /// cursors and running watches expire. For tests.
    pub fn forget_all(&self) {
        self.0.change(|state, _| *state = State::new(&self.0.config));
    }

    /// How many watches are open. For tests.
    pub fn watchers(&self) -> usize {
        self.0.watches()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self(Shared::new(None, MemoryConfig::default()))
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("name", &self.0.name)
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}
