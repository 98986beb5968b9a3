//! The embedded registry as a provider: the reference.

use std::time::Duration;

use async_trait::async_trait;
use discovery_core::{
    Backend, Error, ErrorKind, Result,
    memory::{MemoryConfig, MemoryStore},
};

use super::{Case, Fault, Provider, Subject, Tool};
use crate::chaos::Chaos;

/// Under chaos one call in ten fails. Not by chance: three in a row would be an outage, and rightly an error.
const ONE_IN: usize = 10;

/// The embedded registry: a store of its own for every case.
#[derive(Debug)]
pub struct MemoryProvider {
    chaos: bool,
}

impl MemoryProvider {
    /// The registry as it is. It has no wire, so that no fault can be shown.
    pub fn bare() -> Self {
        Self { chaos: false }
    }

    /// The registry behind [`Chaos`], one call in ten failing, for the groups about clients.
    pub fn chaotic() -> Self {
        Self { chaos: true }
    }
}

#[async_trait]
impl Provider for MemoryProvider {
    fn name(&self) -> &'static str {
        if self.chaos { "memory+chaos" } else { "memory" }
    }

    fn groups(&self) -> Option<&'static [&'static str]> {
        self.chaos.then_some(&super::cases::CLIENT_GROUPS)
    }

    fn shows(&self, fault: Fault) -> bool {
        self.chaos && fault != Fault::Garbage
    }

    fn has(&self, tool: Tool) -> bool {
        self.chaos || tool != Tool::Requests
    }

    async fn subject(&self, _: &Case) -> Result<Box<dyn Subject>> {
        let store =
            MemoryStore::with_config(MemoryConfig::default().confirm_interval(Duration::from_millis(200)))?;
        let chaos = self.chaos.then(|| Chaos::wrap(store.backend()));
        if let Some((_, chaos)) = &chaos {
            chaos.fail_every(ONE_IN, ErrorKind::Unavailable);
        }
        Ok(Box::new(Memory { store, chaos }))
    }
}

#[derive(Debug)]
struct Memory {
    store: MemoryStore,
    chaos: Option<(Backend, Chaos)>,
}

impl Memory {
    fn chaos(&self) -> Result<&Chaos> {
        let without = || Error::new(ErrorKind::Unsupported, "there is no way to break");
        self.chaos.as_ref().map(|(_, chaos)| chaos).ok_or_else(without)
    }
}

#[async_trait]
impl Subject for Memory {
    async fn connect(&self) -> Result<Backend> {
        Ok(match &self.chaos {
            Some((backend, _)) => backend.clone(),
            None => self.store.backend(),
        })
    }

    async fn direct(&self) -> Result<Backend> {
        Ok(self.store.backend())
    }

    async fn break_way(&self, fault: Fault) -> Result<()> {
        let chaos = self.chaos()?;
        match fault {
            Fault::Refuse => chaos.cut(ErrorKind::Unavailable),
            Fault::Cut => chaos.cut_streams(),
            Fault::Stall => chaos.stall(),
            Fault::Delay(delay) => chaos.latency(delay),
            Fault::Error(kind) => chaos.cut(kind),
            Fault::Garbage => return Err(Error::new(ErrorKind::Unsupported, "there is no wire to garble")),
        }
        Ok(())
    }

    async fn heal(&self) -> Result<()> {
        let chaos = self.chaos()?;
        chaos.heal();
        chaos.fail_every(ONE_IN, ErrorKind::Unavailable);
        Ok(())
    }

    async fn forget(&self) -> Result<()> {
        self.store.forget_all();
        Ok(())
    }

    async fn compact(&self) -> Result<()> {
        self.store.compact();
        Ok(())
    }

    fn open_watches(&self) -> Option<usize> {
        Some(self.store.watchers())
    }

    fn requests(&self) -> Option<usize> {
        self.chaos.as_ref().map(|(_, chaos)| chaos.all_calls())
    }

    fn visible_within(&self) -> Duration {
        Duration::from_millis(500)
    }
}
