//! Configuration values beside the services of a file.

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use discovery_core::{
    ConfigChange, ConfigEntry, ConfigEvent, ConfigKey, ConfigSnapshot, ConfigStore, ConfigStream, Cursor,
    Error, ErrorKind, PutMode, Result, Version,
};
use rusqlite::{Connection, OptionalExtension};

use crate::{
    config::LocalConfig,
    error::{error, of_sqlite},
    follow::{Feed, follow},
    log::{Change, Entry, Place, Scope, push},
    store::Store,
    worker::{Ended, Worker},
};

/// The configuration store of a file.
#[derive(Debug)]
pub(crate) struct LocalValues {
    pub(crate) store: Arc<Store>,
    pub(crate) config: LocalConfig,
}

impl LocalValues {
    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        job: impl FnOnce(&mut Worker) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.store.run(operation, self.config.timeout, job).await
    }
}

#[async_trait]
impl ConfigStore for LocalValues {
    async fn get(&self, key: &ConfigKey) -> Result<Option<ConfigEntry>> {
        let key = key.clone();
        self.run("get", move |worker| {
            worker.read(|connection, _| get(connection, &key))
        })
        .await
    }

    async fn put(&self, key: &ConfigKey, value: &[u8], mode: PutMode) -> Result<Version> {
        let (key, value) = (key.clone(), value.to_vec());
        self.run("put", move |worker| {
            worker.write(|connection| put(connection, &key, &value, &mode))
        })
        .await
    }

    async fn delete(&self, key: &ConfigKey, version: Option<Version>) -> Result<bool> {
        let key = key.clone();
        self.run("delete", move |worker| {
            worker.write(|connection| delete(connection, &key, version.as_ref()))
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<ConfigSnapshot> {
        let prefix = prefix.to_owned();
        self.run("list", move |worker| {
            worker.read(|connection, _| {
                let cursor = Place::end(connection)?.cursor();
                Ok(ConfigSnapshot::new(list(connection, &prefix)?, Some(cursor)))
            })
        })
        .await
    }

    fn watch(&self, prefix: &str, since: Option<Cursor>) -> ConfigStream {
        let feed = Prefix(prefix.to_owned());
        follow(self.store.clone(), self.config.clone(), feed, since)
    }
}

fn get(connection: &Connection, key: &ConfigKey) -> Result<Option<ConfigEntry>> {
    let history = Place::end(connection)?;
    let found = connection
        .prepare_cached("SELECT value, revision FROM config WHERE key = ?1")
        .and_then(|mut statement| {
            statement
                .query_row([key.as_str()], |row| {
                    Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?))
                })
                .optional()
        })
        .map_err(of_sqlite)?;
    Ok(found.map(|(value, revision)| ConfigEntry::new(key.clone(), value, history.at(revision).version())))
}

/// Writes a value; the same value again keeps its version.
fn put(connection: &Connection, key: &ConfigKey, value: &[u8], mode: &PutMode) -> Result<Version> {
    let old = get(connection, key)?;
    match (mode, &old) {
        (PutMode::Create, Some(_)) => return Err(conflict("the key is there already", key)),
        (PutMode::IfVersion(_), None) => return Err(conflict("the key is absent", key)),
        (PutMode::IfVersion(version), Some(old)) if *version != old.version => {
            return Err(conflict("the key has another version", key));
        }
        _ => {}
    }
    if let Some(old) = old.filter(|old| *old.value == *value) {
        return Ok(old.version);
    }
    let place = push(connection, &Change::Put(key, value))?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO config VALUES (?1, ?2, ?3)")
        .and_then(|mut statement| statement.execute((key.as_str(), value, place.revision)))
        .map_err(of_sqlite)?;
    Ok(place.version())
}

fn delete(connection: &Connection, key: &ConfigKey, version: Option<&Version>) -> Result<bool> {
    let Some(old) = get(connection, key)? else {
        return Ok(false);
    };
    if version.is_some_and(|version| *version != old.version) {
        return Err(conflict("the key has another version", key));
    }
    connection
        .prepare_cached("DELETE FROM config WHERE key = ?1")
        .and_then(|mut statement| statement.execute([key.as_str()]))
        .map_err(of_sqlite)?;
    push(connection, &Change::Deleted(key))?;
    Ok(true)
}

/// The entries under a prefix. Text is compared byte by byte, so that they lie together, from the prefix on.
fn list(connection: &Connection, prefix: &str) -> Result<Vec<ConfigEntry>> {
    let history = Place::end(connection)?;
    let mut statement = connection
        .prepare_cached("SELECT key, value, revision FROM config WHERE key >= ?1 ORDER BY key")
        .map_err(of_sqlite)?;
    let mut rows = statement.query([prefix]).map_err(of_sqlite)?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next().map_err(of_sqlite)? {
        let key: String = row.get(0).map_err(of_sqlite)?;
        if !key.starts_with(prefix) {
            break;
        }
        let value: Vec<u8> = row.get(1).map_err(of_sqlite)?;
        let version = history.at(row.get(2).map_err(of_sqlite)?).version();
        entries.push(ConfigEntry::new(ConfigKey::observed(key), value, version));
    }
    Ok(entries)
}

fn conflict(message: &'static str, key: &ConfigKey) -> Error {
    error(ErrorKind::Conflict, message)
        .with_context("key", key.as_str())
        .with_hint("read the key and decide again")
}

#[derive(Clone)]
struct Prefix(String);

impl Feed for Prefix {
    type Change = ConfigChange;
    type Event = ConfigEvent;

    fn scope(&self) -> Scope {
        Scope::Values
    }

    fn all(&self, connection: &Connection, _: &Ended) -> Result<ConfigChange> {
        Ok(ConfigChange::Reset(list(connection, &self.0)?))
    }

    fn first(&self, entries: &mut VecDeque<(i64, Entry)>) -> Option<ConfigChange> {
        while let Some((_, entry)) = entries.pop_front() {
            let change = match entry {
                Entry::Put(entry) => ConfigChange::Put(entry),
                Entry::Deleted(key) => ConfigChange::Delete(key),
                Entry::Shown(_) | Entry::Output(_) | Entry::Gone(_) => continue,
            };
            let (ConfigChange::Put(ConfigEntry { key, .. }) | ConfigChange::Delete(key)) = &change else {
                continue;
            };
            if key.as_str().starts_with(&self.0) {
                return Some(change);
            }
        }
        None
    }

    fn confirmed() -> ConfigChange {
        ConfigChange::Confirmed
    }

    fn event(change: ConfigChange, cursor: Cursor) -> ConfigEvent {
        ConfigEvent::new(change, Some(cursor))
    }
}
