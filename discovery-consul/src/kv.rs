//! The key/value store as a store of configuration.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
};

use async_trait::async_trait;
use discovery_core::{
    ConfigChange, ConfigEntry, ConfigEvent, ConfigKey, ConfigSnapshot, ConfigStore, ConfigStream, Cursor,
    Error, ErrorKind, Evidence, PutMode, Result, Suspicion, Version,
};
use futures::{StreamExt, future, stream};

use crate::{
    client::{Answer, Call, segment},
    convert::{self, Meta},
    error,
    poll::Poll,
    reader::Reader,
    wire,
};

/// Values in Consul. Writes are transactions of one key, which answer the version and are safe from redirects.
#[derive(Clone)]
pub(crate) struct ConsulValues(pub(crate) Reader);

impl fmt::Debug for ConsulValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConsulValues")
            .field(&self.0.client.display())
            .finish()
    }
}

/// C-14: a path that servers clean up, and so take for another key.
fn check(key: &str) -> Result<()> {
    let fault = if key.contains("//") || key.split('/').any(|part| matches!(part, "." | "..")) {
        "has an empty or relative segment"
    } else if key.starts_with('/') {
        "starts with `/`"
    } else if key.trim() != key {
        "starts or ends with white space"
    } else if key.chars().any(char::is_control) {
        "contains a control character"
    } else {
        return Ok(());
    };
    Err(error::error(ErrorKind::InvalidInput, "invalid configuration key")
        .with_context("key", format!("{key:?} {fault}"))
        .with_hint("use segments separated by single slashes, such as `database/url`"))
}

fn path(key: &str) -> String {
    let segments: Vec<_> = key.split('/').map(|part| segment(part).to_string()).collect();
    format!("/v1/kv/{}", segments.join("/"))
}

fn conflict(message: &'static str, key: &ConfigKey) -> Error {
    error::error(ErrorKind::Conflict, message)
        .with_context("key", key.as_str())
        .with_hint("read the key and decide again")
}

/// The index a version stands for; one that cannot be ours matches nothing.
fn index_of(version: &Version, key: &ConfigKey) -> Result<u64> {
    match version.as_str().parse() {
        Ok(index) if index > 0 => Ok(index),
        _ => Err(conflict("the key has another version", key)),
    }
}

impl ConsulValues {
    fn read_call(&self, key: &str) -> Call {
        let call = self.0.client.scoped(Call::get(path(key)), None, None);
        self.0.client.consistency(call)
    }

    fn list_call(&self, prefix: &str) -> Call {
        self.read_call(prefix).query("recurse", "")
    }

    /// The entries of an answer about a prefix; 404 is "none" (C-9).
    fn entries(answer: &Answer, prefix: &str) -> Result<Vec<ConfigEntry>> {
        if answer.status == 404 {
            return Ok(Vec::new());
        }
        let pairs: Vec<wire::Pair> = answer.json::<Option<_>>("keys and values")?.unwrap_or_default();
        pairs
            .iter()
            .filter(|pair| pair.key.starts_with(prefix))
            .map(convert::entry)
            .collect()
    }

    /// Carries out operations together, or answers the first that failed.
    async fn transact(&self, ops: &[wire::TxnOp]) -> Result<Result<wire::TxnAnswer, wire::TxnError>> {
        let call = Call::put("/v1/txn".to_owned()).json(&ops)?;
        let answer = self
            .0
            .client
            .send(&self.0.client.scoped(call, None, None))
            .await?;
        if answer.status != 409 {
            return answer.ok()?.json("the results of a transaction").map(Ok);
        }
        let refused: wire::TxnAnswer = answer.json("the errors of a transaction")?;
        let first = refused.errors.into_iter().next().unwrap_or_default();
        if first.what.contains("ermission denied") {
            return Err(error::of_status(403, &first.what, None));
        }
        Ok(Err(first))
    }
}

fn op(verb: &'static str, key: &ConfigKey, value: Option<&[u8]>, index: Option<u64>) -> wire::TxnOp {
    wire::TxnOp {
        kv: wire::TxnKv {
            verb,
            key: key.as_str().to_owned(),
            value: value.map(convert::encode),
            index,
        },
    }
}

#[async_trait]
impl ConfigStore for ConsulValues {
    async fn get(&self, key: &ConfigKey) -> Result<Option<ConfigEntry>> {
        let get = async {
            check(key.as_str())?;
            let answer = self.0.client.send(&self.read_call(key.as_str())).await?;
            if answer.status == 404 {
                return Ok(None);
            }
            let pairs: Vec<wire::Pair> = answer.ok()?.json("a key and its value")?;
            pairs.first().map(convert::entry).transpose()
        };
        get.await.map_err(|error: Error| error.with_operation("get"))
    }

    async fn put(&self, key: &ConfigKey, value: &[u8], mode: PutMode) -> Result<Version> {
        let put = async {
            check(key.as_str())?;
            let (op, refused) = match &mode {
                PutMode::Upsert => (op("set", key, Some(value), None), "the key cannot be written"),
                PutMode::Create => (op("cas", key, Some(value), Some(0)), "the key is there already"),
                PutMode::IfVersion(version) => (
                    op("cas", key, Some(value), Some(index_of(version, key)?)),
                    "the key has another version",
                ),
            };
            match self.transact(&[op]).await? {
                Err(_) => Err(conflict(refused, key)),
                Ok(answer) => answer
                    .results
                    .first()
                    .map(|result| convert::version(result.kv.modify_index))
                    .ok_or_else(|| error::error(ErrorKind::Protocol, "the transaction has no result")),
            }
        };
        put.await.map_err(|error: Error| error.with_operation("put"))
    }

    async fn delete(&self, key: &ConfigKey, version: Option<Version>) -> Result<bool> {
        let delete = async {
            check(key.as_str())?;
            let index = version
                .as_ref()
                .map(|version| index_of(version, key))
                .transpose()?;
            let verb = if index.is_some() { "delete-cas" } else { "delete" };
            // Reading it in the same transaction tells whether it was there.
            match self
                .transact(&[op("get", key, None, None), op(verb, key, None, index)])
                .await?
            {
                Ok(_) => Ok(true),
                Err(refused) if refused.op_index == 0 => Ok(false),
                Err(_) => Err(conflict("the key has another version", key)),
            }
        };
        delete
            .await
            .map_err(|error: Error| error.with_operation("delete"))
    }

    async fn list(&self, prefix: &str) -> Result<ConfigSnapshot> {
        let list = async {
            check(prefix)?;
            let answer = self.0.client.send(&self.list_call(prefix)).await?;
            let answer = if answer.status == 404 {
                answer
            } else {
                answer.ok()?
            };
            let index = Meta::of(&answer.headers).index;
            let cursor = index.map(|index| Cursor::new(index.to_string()));
            Ok(ConfigSnapshot::new(Self::entries(&answer, prefix)?, cursor))
        };
        list.await.map_err(|error: Error| error.with_operation("list"))
    }

    fn watch(&self, prefix: &str, since: Option<Cursor>) -> ConfigStream {
        if let Err(error) = check(prefix) {
            return stream::once(future::ready(Err(error.with_operation("watch")))).boxed();
        }
        let since = since
            .and_then(|cursor| cursor.as_str().parse().ok())
            .unwrap_or_default();
        let (values, prefix) = (self.clone(), prefix.to_owned());
        stream::once(async move {
            Follower {
                poll: Poll::new(&values.0.client, since, true),
                values,
                prefix: prefix.into(),
                told: None,
                queue: VecDeque::new(),
            }
        })
        .flat_map(|follower| {
            stream::try_unfold(follower, |mut follower| async move {
                let event = follower
                    .next()
                    .await
                    .map_err(|error| error.with_operation("watch"))?;
                Ok(Some((event, follower)))
            })
        })
        .boxed()
    }
}

struct Follower {
    values: ConsulValues,
    prefix: Arc<str>,
    poll: Poll,
    told: Option<(BTreeMap<ConfigKey, ConfigEntry>, Evidence)>,
    queue: VecDeque<ConfigEvent>,
}

impl Follower {
    async fn next(&mut self) -> Result<ConfigEvent> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Ok(event);
            }
            let (values, prefix) = (&self.values, &self.prefix);
            let polled = self.poll.next(|| values.list_call(prefix)).await?;
            let entries = ConsulValues::entries(&polled.answer, prefix)?;
            let scope = format!("kv {prefix}");
            let mut evidence = values.0.judge(&polled.meta, entries.is_empty(), &scope).await;
            if polled.regressed && evidence == Evidence::Authoritative {
                evidence = Evidence::Suspect(Suspicion::IndexRegressed);
            }
            self.take(entries, evidence);
        }
    }

    fn take(&mut self, entries: Vec<ConfigEntry>, evidence: Evidence) {
        let cursor = Cursor::new(self.poll.pacer.seen().to_string());
        let event = |change| ConfigEvent::new(change, Some(cursor.clone())).with_evidence(evidence);
        let now: BTreeMap<_, _> = entries
            .into_iter()
            .map(|entry| (entry.key.clone(), entry))
            .collect();
        match &self.told {
            Some((told, before)) if *before == evidence && *told == now => {
                self.queue.push_back(event(ConfigChange::Confirmed));
                return;
            }
            Some((told, Evidence::Authoritative)) if evidence == Evidence::Authoritative => {
                let gone = told.keys().filter(|key| !now.contains_key(*key));
                self.queue
                    .extend(gone.map(|key| event(ConfigChange::Delete(key.clone()))));
                let mut changed: Vec<_> = now
                    .values()
                    .filter(|entry| told.get(&entry.key) != Some(entry))
                    .collect();
                // In the order they were written.
                changed.sort_by_key(|entry| entry.version.as_str().parse::<u64>().unwrap_or_default());
                self.queue.extend(
                    changed
                        .into_iter()
                        .map(|entry| event(ConfigChange::Put(entry.clone()))),
                );
            }
            _ => self
                .queue
                .push_back(event(ConfigChange::Reset(now.values().cloned().collect()))),
        }
        self.told = Some((now, evidence));
    }
}

#[cfg(test)]
#[path = "kv_tests.rs"]
mod tests;
