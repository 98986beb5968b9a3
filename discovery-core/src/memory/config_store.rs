//! Configuration values beside the services of a store.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;

use super::{
    backend::SCHEME,
    follow::{Feed, follow},
    log::Log,
    store::{Shared, State},
};
use crate::{
    error::{Error, ErrorKind, Result},
    model::Cursor,
    spi::{
        ConfigChange, ConfigEntry, ConfigEvent, ConfigKey, ConfigSnapshot, ConfigStore, ConfigStream,
        PutMode, Version,
    },
};

/// All values and the log of their changes.
#[derive(Debug)]
pub(super) struct Values {
    map: BTreeMap<ConfigKey, ConfigEntry>,
    pub(super) log: Log<ConfigChange>,
}

impl Values {
    pub(super) fn new(log_capacity: usize) -> Self {
        Self {
            map: BTreeMap::new(),
            log: Log::new(log_capacity),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// Writes a value; the same value again keeps its version.
    fn put(&mut self, key: &ConfigKey, value: &[u8], mode: &PutMode) -> Result<Version> {
        let old = self.map.get(key);
        match (mode, old) {
            (PutMode::Create, Some(_)) => return Err(conflict("the key is there already", key)),
            (PutMode::IfVersion(_), None) => return Err(conflict("the key is absent", key)),
            (PutMode::IfVersion(version), Some(old)) if *version != old.version => {
                return Err(conflict("the key has another version", key));
            }
            _ => {}
        }
        if let Some(old) = old.filter(|old| *old.value == *value) {
            return Ok(old.version.clone());
        }
        let version = Version::new(self.log.end().plus(1).to_string());
        let entry = ConfigEntry::new(key.clone(), value, version.clone());
        self.map.insert(key.clone(), entry.clone());
        self.log.push(ConfigChange::Put(entry));
        Ok(version)
    }

    fn delete(&mut self, key: &ConfigKey, version: Option<&Version>) -> Result<bool> {
        let Some(old) = self.map.get(key) else {
            return Ok(false);
        };
        if version.is_some_and(|version| *version != old.version) {
            return Err(conflict("the key has another version", key));
        }
        self.map.remove(key);
        self.log.push(ConfigChange::Delete(key.clone()));
        Ok(true)
    }

    fn list(&self, prefix: &str) -> Vec<ConfigEntry> {
        self.map
            .range(ConfigKey::observed(prefix)..)
            .take_while(|(key, _)| key.as_str().starts_with(prefix))
            .map(|(_, entry)| entry.clone())
            .collect()
    }
}

fn conflict(message: &'static str, key: &ConfigKey) -> Error {
    Error::new(ErrorKind::Conflict, message)
        .with_backend(SCHEME)
        .with_context("key", key.as_str())
        .with_hint("read the key and decide again")
}

/// The configuration store of a store.
pub(super) struct MemoryValues(pub(super) Arc<Shared>);

impl fmt::Debug for MemoryValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryValues").field(&self.0.name).finish()
    }
}

#[async_trait]
impl ConfigStore for MemoryValues {
    async fn get(&self, key: &ConfigKey) -> Result<Option<ConfigEntry>> {
        Ok(self.0.read(|state, _| state.values.map.get(key).cloned()))
    }

    async fn put(&self, key: &ConfigKey, value: &[u8], mode: PutMode) -> Result<Version> {
        self.0
            .change(|state, _| state.values.put(key, value, &mode))
            .map_err(|error| error.with_operation("put"))
    }

    async fn delete(&self, key: &ConfigKey, version: Option<Version>) -> Result<bool> {
        self.0
            .change(|state, _| state.values.delete(key, version.as_ref()))
            .map_err(|error| error.with_operation("delete"))
    }

    async fn list(&self, prefix: &str) -> Result<ConfigSnapshot> {
        Ok(self.0.read(|state, _| {
            ConfigSnapshot::new(state.values.list(prefix), Some(state.values.log.end().cursor()))
        }))
    }

    fn watch(&self, prefix: &str, since: Option<Cursor>) -> ConfigStream {
        follow(self.0.clone(), Prefix(prefix.to_owned()), since)
    }
}

struct Prefix(String);

impl Feed for Prefix {
    type Entry = ConfigChange;
    type Change = ConfigChange;
    type Event = ConfigEvent;

    fn log(state: &State) -> &Log<ConfigChange> {
        &state.values.log
    }

    fn all(&self, state: &State) -> ConfigChange {
        ConfigChange::Reset(state.values.list(&self.0))
    }

    fn first<'a>(&self, entries: impl Iterator<Item = &'a ConfigChange>) -> (u64, Option<ConfigChange>) {
        let mut used = 0;
        for entry in entries {
            used += 1;
            let key = match entry {
                ConfigChange::Put(entry) => &entry.key,
                ConfigChange::Delete(key) => key,
                ConfigChange::Reset(_) | ConfigChange::Confirmed => continue,
            };
            if key.as_str().starts_with(&self.0) {
                return (used, Some(entry.clone()));
            }
        }
        (used, None)
    }

    fn confirmed() -> ConfigChange {
        ConfigChange::Confirmed
    }

    fn event(change: ConfigChange, cursor: Cursor) -> ConfigEvent {
        ConfigEvent::new(change, Some(cursor))
    }
}
