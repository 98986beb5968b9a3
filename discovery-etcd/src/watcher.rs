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

fn instance_of(keys: &Keys, kv: &KeyValue) -> Option<Instance> {
    let key = keys.read(&kv.key)?;
    let record = Record::read(&kv.value);
    if record.is_none() {
        warn!(%key, "left out: its value is no instance");
    }
    Some(record?.instance(key))
}

/// The instances among these keys, sorted by key.
pub(crate) fn instances_of(keys: &Keys, kvs: &[KeyValue]) -> Vec<Arc<Instance>> {
    let mut instances: Vec<_> = kvs
        .iter()
        .filter_map(|kv| instance_of(keys, kv).map(Arc::new))
        .collect();
    instances.sort_by(|a, b| a.key.cmp(&b.key));
    instances
}

/// What a watch has told so far.
#[derive(Debug)]
struct Shown {
    keys: Keys,
    instances: HashMap<InstanceKey, Arc<Instance>, RandomState>,
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
                let all = instances_of(&self.keys, &kvs);
                let by_key = all.iter().map(|one| (one.key.clone(), one.clone()));
                (self.instances, self.whole) = (by_key.collect(), true);
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
            let Some(key) = self.keys.read(&kv.key) else {
                continue;
            };
            // What is no longer an instance is gone.
            let now = if event.kind == 0 {
                instance_of(&self.keys, kv).map(Arc::new)
            } else {
                None
            };
            let shows = match &now {
                Some(now) => self.put(now, event.before.as_ref()),
                None => self.instances.remove(&key).is_some() || !self.whole,
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
    fn put(&mut self, now: &Arc<Instance>, before: Option<&KeyValue>) -> bool {
        match self.instances.insert(now.key.clone(), now.clone()) {
            Some(before) => before != *now,
            None if self.whole => true,
            None => before.and_then(|kv| instance_of(&self.keys, kv)).as_ref() != Some(&**now),
        }
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
