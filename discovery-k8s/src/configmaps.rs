//! Configuration values in ConfigMaps.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use discovery_core::{
    ConfigEntry, ConfigKey, ConfigSnapshot, ConfigStore, ConfigStream, Cursor, Error, ErrorKind, PutMode,
    Result, Retry, Version,
};
use serde_json::json;
use tokio::time::{sleep, timeout};
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    call::{CONFIGMAPS, Call, Patch},
    client::Client,
    config::ConfigMapKeys,
    error,
    record::{APP_MANAGED_BY, MANAGER},
    wire::ConfigMap,
};

mod keys;
mod watch;

use self::keys::{decode, encode};

/// How long an operation of several requests may take.
const OPERATION: Duration = Duration::from_secs(12);
/// K-14: how often a write is tried on a ConfigMap that others write at the same time.
const TRIES: u32 = 20;
/// The most a ConfigMap may hold.
const LARGEST: usize = 1 << 20;

/// Configuration values in the ConfigMaps that the settings name.
#[derive(Debug, Clone)]
pub(crate) struct K8sValues(pub(crate) Client);

/// Where a value is.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    map: &'a ConfigMapKeys,
    /// The key's text within the map.
    key: &'a str,
}

impl K8sValues {
    fn maps(&self) -> &[ConfigMapKeys] {
        &self.0.config().configmap.configmaps
    }

    async fn namespace(&self) -> Result<Arc<str>> {
        match &self.0.config().configmap.namespace {
            Some(namespace) => Ok(namespace.as_str().into()),
            None => self.0.own_namespace().await,
        }
    }

    /// What keys of a map start with: its name, where there are several.
    fn prefix(&self, map: &ConfigMapKeys) -> String {
        match self.maps() {
            [_] => String::new(),
            _ => format!("{}/", map.name),
        }
    }

    fn place<'a>(&'a self, key: &'a ConfigKey) -> Result<Place<'a>> {
        let text = key.as_str();
        let place = match self.maps() {
            [map] => Some(Place { map, key: text }),
            maps => text.split_once('/').and_then(|(name, key)| {
                let map = maps.iter().find(|map| map.name == name)?;
                Some(Place { map, key })
            }),
        };
        let names = || {
            self.maps()
                .iter()
                .map(|map| map.name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let Some(place) = place else {
            return Err(
                error::error(ErrorKind::InvalidInput, "the key names no ConfigMap")
                    .with_context("key", text)
                    .with_hint(format!("start it with one of these and a slash: {}", names())),
            );
        };
        if !place.map.shows(place.key) {
            return Err(
                error::error(ErrorKind::InvalidInput, "the key is none of those configured")
                    .with_context("key", text)
                    .with_hint("add it to the `keys` of its ConfigMap"),
            );
        }
        if encode(place.key).len() > 253 {
            return Err(
                error::error(ErrorKind::InvalidInput, "the key is too long for a ConfigMap")
                    .with_context("key", text)
                    .with_hint("253 bytes; what is no letter, digit, `-`, `_` or `.` takes four"),
            );
        }
        Ok(place)
    }

    async fn read(&self, map: &ConfigMapKeys) -> Result<Option<ConfigMap>> {
        let call = Call::get(&CONFIGMAPS, &self.namespace().await?, &map.name);
        let answer = self.0.send(&call).await?;
        match answer.status {
            404 => Ok(None),
            _ => answer.ok(&call)?.json("a ConfigMap").map(Some),
        }
    }

    /// The entries of a map.
    fn entries(&self, map: &ConfigMapKeys, found: &ConfigMap) -> Result<BTreeMap<ConfigKey, ConfigEntry>> {
        let prefix = self.prefix(map);
        let names = found.data.keys().chain(found.binary_data.keys());
        let mut entries = BTreeMap::new();
        for name in names {
            let key = decode(name);
            if map.shows(&key) {
                let key = ConfigKey::observed(format!("{prefix}{key}"));
                if let Some(entry) = entry(found, name, key.clone())? {
                    entries.insert(key, entry);
                }
            }
        }
        Ok(entries)
    }

    async fn do_list(&self, prefix: &str) -> Result<ConfigSnapshot> {
        let mut entries = Vec::new();
        for map in self.maps() {
            if let Some(found) = self.read(map).await? {
                let all = self.entries(map, &found)?.into_values();
                entries.extend(all.filter(|entry| entry.key.as_str().starts_with(prefix)));
            }
        }
        Ok(ConfigSnapshot::new(entries, None))
    }

    async fn do_put(&self, key: &ConfigKey, value: &[u8], mode: PutMode) -> Result<Version> {
        let place = self.place(key)?;
        if value.len() > LARGEST {
            return Err(error::error(ErrorKind::InvalidInput, "the value is too large")
                .with_context("bytes", value.len().to_string())
                .with_hint("a ConfigMap holds 1 MiB in all"));
        }
        let namespace = self.namespace().await?;
        for attempt in 1..=TRIES {
            let found = self.read(place.map).await?;
            let known = found.as_ref().map(|map| (map, name_in(map, place.key)));
            let before = known.as_ref().and_then(|(map, name)| version(map, name));
            let agrees = match &mode {
                PutMode::Upsert => true,
                PutMode::Create => before.is_none(),
                PutMode::IfVersion(wanted) => before.as_ref() == Some(wanted),
            };
            if !agrees {
                return Err(conflict(key, before.is_some()));
            }
            let name = known.map_or_else(|| encode(place.key), |(_, name)| name);
            let mut body = match std::str::from_utf8(value) {
                Ok(text) => json!({ "data": { &name: text }, "binaryData": { &name: null } }),
                Err(_) => json!({ "data": { &name: null }, "binaryData": { &name: STANDARD.encode(value) } }),
            };
            let call = if let Some(found) = &found {
                // K-14: only while nobody else has written it.
                body["metadata"] = json!({ "resourceVersion": found.metadata.resource_version });
                Call::patch(&CONFIGMAPS, &namespace, &place.map.name, Patch::Merge, &body)
            } else {
                strip_nulls(&mut body);
                body["metadata"] = json!({ "name": place.map.name, "labels": { APP_MANAGED_BY: MANAGER } });
                Call::create(&CONFIGMAPS, &namespace, &body)
            };
            let call = call.query("fieldManager", MANAGER);
            let answer = self.0.send(&call).await?;
            match answer.status {
                404 if found.is_some() => {}
                409 => {}
                _ => return answer.ok(&call).map(|_| version_of(value)),
            }
            pause(attempt).await;
        }
        Err(busy())
    }

    async fn do_delete(&self, key: &ConfigKey, wanted: Option<Version>) -> Result<bool> {
        let place = self.place(key)?;
        let namespace = self.namespace().await?;
        for attempt in 1..=TRIES {
            let Some(found) = self.read(place.map).await? else {
                return wanted.map_or(Ok(false), |_| Err(conflict(key, false)));
            };
            let name = name_in(&found, place.key);
            match (version(&found, &name), &wanted) {
                (None, None) => return Ok(false),
                (before, Some(wanted)) if before.as_ref() != Some(wanted) => {
                    return Err(conflict(key, before.is_some()));
                }
                _ => {}
            }
            let body = json!({
                "metadata": { "resourceVersion": found.metadata.resource_version },
                "data": { &name: null }, "binaryData": { &name: null },
            });
            let call = Call::patch(&CONFIGMAPS, &namespace, &place.map.name, Patch::Merge, &body)
                .query("fieldManager", MANAGER);
            let answer = self.0.send(&call).await?;
            match answer.status {
                404 | 409 => pause(attempt).await,
                _ => return answer.ok(&call).map(|_| true),
            }
        }
        Err(busy())
    }
}

async fn pause(attempt: u32) {
    sleep(Duration::from_millis(15 * u64::from(attempt)).mul_f32(fastrand::f32())).await;
}

fn strip_nulls(body: &mut serde_json::Value) {
    for part in ["data", "binaryData"] {
        if let Some(values) = body[part].as_object_mut() {
            values.retain(|_, value| !value.is_null());
        }
    }
}

fn conflict(key: &ConfigKey, present: bool) -> Error {
    let message = if present {
        "the key has another version"
    } else {
        "the key is absent"
    };
    error::error(ErrorKind::Conflict, message)
        .with_context("key", key.as_str())
        .with_hint("read it again and decide anew")
}

fn busy() -> Error {
    error::error(ErrorKind::Unavailable, "others keep writing the ConfigMap")
        .with_retry(Retry::Transient { after: None })
}

/// The version of a value: what it says. The ConfigMap's own covers all of its keys, and is compared when one is written.
fn version_of(value: &[u8]) -> Version {
    Version::new(format!("{:032x}", xxh3_128(value)))
}

fn value(map: &ConfigMap, name: &str) -> Result<Option<Vec<u8>>> {
    if let Some(text) = map.data.get(name) {
        return Ok(Some(text.as_bytes().to_vec()));
    }
    let Some(text) = map.binary_data.get(name) else {
        return Ok(None);
    };
    let value = STANDARD.decode(text).map_err(|failed| {
        error::error(ErrorKind::Protocol, "a value is not Base64")
            .with_context("key", name)
            .with_source(failed)
    })?;
    Ok(Some(value))
}

fn entry(map: &ConfigMap, name: &str, key: ConfigKey) -> Result<Option<ConfigEntry>> {
    Ok(value(map, name)?.map(|value| {
        let version = version_of(&value);
        ConfigEntry::new(key, value, version)
    }))
}

fn version(map: &ConfigMap, name: &str) -> Option<Version> {
    value(map, name).ok()?.map(|value| version_of(&value))
}

/// The name in the map under which a key is, or would be.
fn name_in(map: &ConfigMap, key: &str) -> String {
    let encoded = encode(key);
    let has = |name: &str| map.data.contains_key(name) || map.binary_data.contains_key(name);
    // Somebody else may have written what we would write otherwise.
    if !has(&encoded) && has(key) {
        key.to_owned()
    } else {
        encoded
    }
}
async fn within<T>(operation: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(OPERATION, work)
        .await
        .unwrap_or_else(|_| Err(error::late(OPERATION)))
        .map_err(|error| error.with_operation(operation))
}

#[async_trait]
impl ConfigStore for K8sValues {
    async fn get(&self, key: &ConfigKey) -> Result<Option<ConfigEntry>> {
        within("get", async {
            let place = self.place(key)?;
            match self.read(place.map).await? {
                Some(found) => entry(&found, &name_in(&found, place.key), key.clone()),
                None => Ok(None),
            }
        })
        .await
    }

    async fn put(&self, key: &ConfigKey, value: &[u8], mode: PutMode) -> Result<Version> {
        within("put", self.do_put(key, value, mode)).await
    }

    async fn delete(&self, key: &ConfigKey, version: Option<Version>) -> Result<bool> {
        within("delete", self.do_delete(key, version)).await
    }

    async fn list(&self, prefix: &str) -> Result<ConfigSnapshot> {
        within("list", self.do_list(prefix)).await
    }

    fn watch(&self, prefix: &str, _since: Option<Cursor>) -> ConfigStream {
        watch::watch(self.clone(), prefix)
    }
}

#[cfg(test)]
#[path = "configmaps_tests.rs"]
mod tests;
