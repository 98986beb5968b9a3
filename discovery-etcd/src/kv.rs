//! Values under a prefix as a store of configuration.

use async_trait::async_trait;
use discovery_core::{
    ConfigChange, ConfigEntry, ConfigEvent, ConfigKey, ConfigSnapshot, ConfigStore, ConfigStream, Cursor,
    Error, ErrorKind, PutMode, Result, Version,
};
use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp, TxnResponse};
use futures::{StreamExt, future, stream};

use crate::{
    client::{Client, Kind},
    error,
    feed::{self, Feed, Place, Told},
    keys::Range,
    watcher::place_of,
    wire::KeyValue,
};

/// Values in etcd; a version is the revision of a key's last change.
#[derive(Debug, Clone)]
pub(crate) struct EtcdValues {
    client: Client,
    prefix: String,
}

fn conflict(message: &'static str, key: &ConfigKey) -> Error {
    error::error(ErrorKind::Conflict, message)
        .with_context("key", key.as_str())
        .with_hint("read the key and decide again")
}

/// The revision a version stands for; one that cannot be ours matches nothing.
fn revision_of(version: &Version, key: &ConfigKey) -> Result<i64> {
    match version.as_str().parse() {
        Ok(revision) if revision > 0 => Ok(revision),
        _ => Err(conflict("the key has another version", key)),
    }
}

fn revision_now(answer: &TxnResponse) -> Result<Version> {
    let header = answer
        .header()
        .ok_or_else(|| error::error(ErrorKind::Protocol, "the server's answer has no header"))?;
    Ok(Version::new(header.revision().to_string()))
}

impl EtcdValues {
    pub(crate) fn new(client: Client) -> Self {
        let config = client.config();
        let prefix = format!("{}{}", config.namespace, config.config.prefix);
        Self { client, prefix }
    }

    fn key(&self, key: &ConfigKey) -> String {
        format!("{}{key}", self.prefix)
    }

    fn key_of(&self, kv: &KeyValue) -> Option<ConfigKey> {
        let key = std::str::from_utf8(&kv.key).ok()?.strip_prefix(&self.prefix)?;
        (!key.is_empty()).then(|| ConfigKey::observed(key))
    }

    fn entry(&self, kv: KeyValue) -> Option<ConfigEntry> {
        let key = self.key_of(&kv)?;
        Some(ConfigEntry::new(
            key,
            kv.value,
            Version::new(kv.mod_revision.to_string()),
        ))
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        self.client
            .call(Kind::Write, |client| {
                let txn = txn.clone();
                async move { client.kv_client().txn(txn).await }
            })
            .await
    }

    async fn do_put(&self, key: &ConfigKey, value: &[u8], mode: PutMode) -> Result<Version> {
        let name = self.key(key);
        let (compare, refused) = match &mode {
            PutMode::Upsert => (None, ""),
            PutMode::Create => (
                Some(Compare::create_revision(&*name, CompareOp::Equal, 0)),
                "the key exists",
            ),
            PutMode::IfVersion(version) => (
                Some(Compare::mod_revision(
                    &*name,
                    CompareOp::Equal,
                    revision_of(version, key)?,
                )),
                "the key has another version",
            ),
        };
        let txn = Txn::new()
            .when(compare.into_iter().collect::<Vec<_>>())
            .and_then([TxnOp::put(&*name, value, None::<PutOptions>)]);
        let answer = self.txn(txn).await?;
        if !answer.succeeded() {
            return Err(conflict(refused, key));
        }
        revision_now(&answer)
    }

    async fn do_delete(&self, key: &ConfigKey, version: Option<Version>) -> Result<bool> {
        let name = self.key(key);
        let revision = version
            .as_ref()
            .map(|version| revision_of(version, key))
            .transpose()?;
        let compare = match revision {
            // There: deleted; not there: nothing to delete.
            None => Compare::create_revision(&*name, CompareOp::Greater, 0),
            Some(revision) => Compare::mod_revision(&*name, CompareOp::Equal, revision),
        };
        let txn = Txn::new()
            .when([compare])
            .and_then([TxnOp::delete(&*name, None)])
            .or_else([TxnOp::get(&*name, None)]);
        let answer = self.txn(txn).await?;
        if answer.succeeded() {
            return Ok(true);
        }
        let there = answer.op_responses().iter().any(|op| match op {
            etcd_client::TxnOpResponse::Get(got) => !got.kvs().is_empty(),
            _ => false,
        });
        if there {
            return Err(conflict("the key has another version", key));
        }
        Ok(false)
    }

    fn events_of(&self, told: Told) -> Vec<ConfigEvent> {
        let whole = |change, place: Place| vec![ConfigEvent::new(change, Some(place.cursor()))];
        let (events, place) = match told {
            Told::All(kvs, place) => {
                let entries = kvs.into_iter().filter_map(|kv| self.entry(kv)).collect();
                // Sorted, as the contract has it.
                return whole(
                    ConfigChange::Reset(ConfigSnapshot::new(entries, None).entries),
                    place,
                );
            }
            Told::Confirmed(place) => return whole(ConfigChange::Confirmed, place),
            Told::Changed(events, place) => (events, place),
        };
        let cursors: Vec<_> = (0..events.len()).map(|i| place.after(&events, i)).collect();
        let told: Vec<_> = events
            .into_iter()
            .zip(cursors)
            .filter_map(|(event, place)| {
                let kv = event.kv?;
                let change = if event.kind == 0 {
                    ConfigChange::Put(self.entry(kv)?)
                } else {
                    ConfigChange::Delete(self.key_of(&kv)?)
                };
                Some(ConfigEvent::new(change, place.map(Place::cursor)))
            })
            .collect();
        if told.is_empty() {
            whole(ConfigChange::Confirmed, place)
        } else {
            told
        }
    }
}

#[async_trait]
impl ConfigStore for EtcdValues {
    async fn get(&self, key: &ConfigKey) -> Result<Option<ConfigEntry>> {
        let name = self.key(key);
        let got = self
            .client
            .call(Kind::Read, |client| {
                let name = name.clone();
                async move { Client::kv(&client).get(name, None).await }
            })
            .await
            .map_err(|failed| failed.with_operation("get"))?;
        Ok(got.kvs().first().and_then(|kv| self.entry(kv.into())))
    }

    async fn put(&self, key: &ConfigKey, value: &[u8], mode: PutMode) -> Result<Version> {
        let put = self.do_put(key, value, mode).await;
        put.map_err(|failed| failed.with_operation("put"))
    }

    async fn delete(&self, key: &ConfigKey, version: Option<Version>) -> Result<bool> {
        let deleted = self.do_delete(key, version).await;
        deleted.map_err(|failed| failed.with_operation("delete"))
    }

    async fn list(&self, prefix: &str) -> Result<ConfigSnapshot> {
        let range = Range::prefix(&format!("{}{prefix}", self.prefix));
        let (kvs, place) = feed::list(&self.client, &range)
            .await
            .map_err(|failed| failed.with_operation("list"))?;
        let entries = kvs.into_iter().filter_map(|kv| self.entry(kv)).collect();
        Ok(ConfigSnapshot::new(entries, Some(place.cursor())))
    }

    fn watch(&self, prefix: &str, since: Option<Cursor>) -> ConfigStream {
        let since = match place_of(since.as_ref()) {
            Ok(since) => since,
            Err(failed) => return stream::once(future::ready(Err(failed.with_operation("watch")))).boxed(),
        };
        let range = Range::prefix(&format!("{}{prefix}", self.prefix));
        let store = self.clone();
        Feed::new(self.client.clone(), range, since, false).watch(move |told| store.events_of(told))
    }
}
