//! Watching services.

use std::{collections::HashMap, sync::Arc};

use discovery_core::{
    Change, Cursor, ErrorKind, Instance, InstanceKey, Query, Result, WatchEvent, WatchStream, Watcher,
};
use foldhash::fast::RandomState;
use futures::{StreamExt, future, stream};
use tracing::warn;

use crate::{
    client::Client,
    convert::Record,
    error,
    feed::{Feed, Place, Told},
    keys::Keys,
    registry::{check_scope, check_target},
    wire::{Event, KeyValue},
};

/// The watcher of one cluster.
#[derive(Debug)]
pub(crate) struct EtcdWatcher {
    client: Client,
    keys: Keys,
}

impl EtcdWatcher {
    pub(crate) fn new(client: Client, keys: Keys) -> Self {
        Self { client, keys }
    }
}

impl Watcher for EtcdWatcher {
    fn watch(&self, query: &Query, since: Option<Cursor>) -> WatchStream {
        let refused = check_scope(&query.scope)
            .and_then(|()| check_target(&self.client, &query.target))
            .and_then(|()| place_of(since.as_ref()));
        let since = match refused {
            Ok(since) => since,
            Err(failed) => return stream::once(future::ready(Err(failed.with_operation("watch")))).boxed(),
        };
        let range = self.keys.range(&query.target);
        let mut shown = Shown::new(self.keys.clone());
        // Who resumes does not know what was there before.
        Feed::new(self.client.clone(), range, since, since.is_some()).watch(move |told| shown.events_of(told))
    }
}

/// The place a cursor names. One of another make stands for no history here.
pub(crate) fn place_of(since: Option<&Cursor>) -> Result<Option<Place>> {
    let Some(cursor) = since else { return Ok(None) };
    match Place::read(cursor) {
        Some(place) => Ok(Some(place)),
        None => Err(error::error(ErrorKind::WatchExpired, "this cursor is not etcd's")),
    }
}

fn instance_of(key: &InstanceKey, kv: &KeyValue) -> Option<Instance> {
    let record = Record::read(&kv.value);
    if record.is_none() {
        warn!(%key, "left out: its value is no instance");
    }
    Some(record?.instance(key.clone()))
}

/// The instances among these keys, sorted by key.
pub(crate) fn instances_of(keys: &Keys, kvs: &[KeyValue]) -> Vec<Arc<Instance>> {
    let found = kvs.iter().filter_map(|kv| instance_of(&keys.read(&kv.key)?, kv));
    sorted(found.map(Arc::new).collect())
}

fn sorted(mut instances: Vec<Arc<Instance>>) -> Vec<Arc<Instance>> {
    instances.sort_by(|a, b| a.key.cmp(&b.key));
    instances
}

/// What a watch has told so far.
#[derive(Debug)]
struct Shown {
    keys: Keys,
    /// By their keys in etcd.
    instances: HashMap<Vec<u8>, Arc<Instance>, RandomState>,
    /// It began with all there was. One that resumed knows of the others only what the server says was there before.
    whole: bool,
}

impl Shown {
    fn new(keys: Keys) -> Self {
        Self {
            keys,
            instances: HashMap::default(),
            whole: false,
        }
    }

    /// The events that tell it, in its order.
    fn events_of(&mut self, told: Told) -> Vec<WatchEvent> {
        let whole = |change, place: Place| vec![WatchEvent::new(change).with_cursor(place.cursor())];
        let (events, place) = match told {
            Told::All(kvs, place) => {
                let found = kvs.into_iter().filter_map(|kv| {
                    let instance = instance_of(&self.keys.read(&kv.key)?, &kv)?;
                    Some((kv.key, Arc::new(instance)))
                });
                (self.instances, self.whole) = (found.collect(), true);
                let all = sorted(self.instances.values().cloned().collect());
                return whole(Change::Reset(all), place);
            }
            Told::Confirmed(place) => return whole(Change::Confirmed, place),
            Told::Changed(events, place) => (events, place),
        };
        let changes = self.changes_of(&events);
        if changes.is_empty() {
            return whole(Change::Confirmed, place);
        }
        let with_cursor = |(change, last): (Change, usize)| match place.after(&events, last) {
            Some(place) => WatchEvent::new(change).with_cursor(place.cursor()),
            None => WatchEvent::new(change),
        };
        changes.into_iter().map(with_cursor).collect()
    }

    /// What changed, and the number of the last event of each change.
    fn changes_of(&mut self, events: &[Event]) -> Vec<(Change, usize)> {
        let mut changes: Vec<(Change, usize)> = Vec::new();
        for (i, event) in events.iter().enumerate() {
            let Some(kv) = &event.kv else { continue };
            // The key of one that was told already is the one it was told with: who compares them sees that at once.
            let told = self.instances.get(&kv.key).map(|told| told.key.clone());
            let Some(key) = told.or_else(|| self.keys.read(&kv.key)) else {
                continue;
            };
            // What is no longer an instance is gone.
            let now = if event.kind == 0 {
                instance_of(&key, kv).map(Arc::new)
            } else {
                None
            };
            let shows = match &now {
                Some(now) => self.put(&kv.key, now, event.before.as_ref()),
                None => self.instances.remove(&kv.key).is_some() || !self.whole,
            };
            // what changed does not show; it was registered again as it was, or explains its status in other words.
            if !shows {
                continue;
            }
            match (now, changes.last_mut()) {
                (Some(instance), Some((Change::Upsert(upserts), last))) => {
                    upserts.push(instance);
                    *last = i;
                }
                (Some(instance), _) => changes.push((Change::Upsert(vec![instance]), i)),
                (None, Some((Change::Remove(removals), last))) => {
                    push_once(removals, key);
                    *last = i;
                }
                (None, _) => changes.push((Change::Remove(vec![key]), i)),
            }
        }
        changes
    }

    /// Notes an instance as it is now, and answers whether it was not there before or another.
    fn put(&mut self, key: &[u8], now: &Arc<Instance>, before: Option<&KeyValue>) -> bool {
        if let Some(told) = self.instances.get_mut(key) {
            return *now != std::mem::replace(told, now.clone());
        }
        self.instances.insert(key.to_vec(), now.clone());
        self.whole || before.and_then(|kv| instance_of(&now.key, kv)).as_ref() != Some(&**now)
    }
}

fn push_once(keys: &mut Vec<InstanceKey>, key: InstanceKey) {
    if keys.last() != Some(&key) {
        keys.push(key);
    }
}

#[cfg(test)]
#[path = "watcher_tests.rs"]
mod tests;
