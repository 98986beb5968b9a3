//! Watching the records of a file.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use discovery_core::{
    Change, Cursor, Instance, InstanceKey, Query, Result, Target, WatchEvent, WatchStream, Watcher,
};
use futures::{StreamExt, future, stream};
use rusqlite::Connection;

use crate::{
    config::LocalConfig,
    follow::{Feed, follow},
    log::{Entry, Scope},
    records,
    registry::refuse_scope,
    store::Store,
    worker::Ended,
};

/// The watcher of a file. It filters nothing but target and scope, as the registry.
#[derive(Debug)]
pub(crate) struct LocalWatcher {
    pub(crate) store: Arc<Store>,
    pub(crate) config: LocalConfig,
}

impl Watcher for LocalWatcher {
    fn watch(&self, query: &Query, since: Option<Cursor>) -> WatchStream {
        if let Err(error) = refuse_scope(&query.scope) {
            return stream::once(future::ready(Err(error.with_operation("watch")))).boxed();
        }
        let feed = Instances {
            target: query.target.clone(),
            with_checks: query.with_checks,
        };
        follow(self.store.clone(), self.config.clone(), feed, since)
    }
}

#[derive(Clone)]
struct Instances {
    target: Target,
    with_checks: bool,
}

/// What one entry tells.
enum Told {
    Shown(Arc<Instance>),
    Gone(InstanceKey),
}

impl Instances {
    fn told(&self, entry: &Entry) -> Option<Told> {
        match entry {
            Entry::Shown(shown) => Some(Told::Shown(shown.instance(self.with_checks))),
            Entry::Output(shown) => self.with_checks.then(|| Told::Shown(shown.instance(true))),
            Entry::Gone(key) => Some(Told::Gone(key.clone())),
            Entry::Put(_) | Entry::Deleted(_) => None,
        }
    }
}

impl Feed for Instances {
    type Change = Change;
    type Event = WatchEvent;

    fn scope(&self) -> Scope {
        Scope::Records(match &self.target {
            Target::All => None,
            Target::Service(name) => Some(name.as_str().to_owned()),
        })
    }

    fn all(&self, connection: &Connection, ended: &Ended) -> Result<Change> {
        let shown = records::of(connection, &self.target, ended)?;
        let instances = shown.iter().map(|shown| shown.instance(self.with_checks));
        Ok(Change::Reset(instances.collect()))
    }

    /// A run of one kind in which no key comes twice, so that every event says what really changed.
    fn first(&self, entries: &mut VecDeque<(i64, Entry)>) -> Option<Change> {
        let (mut upserts, mut removals) = (Vec::new(), Vec::new());
        let mut keys: HashSet<InstanceKey> = HashSet::new();
        while let Some((_, entry)) = entries.front() {
            match self.told(entry) {
                None => {}
                Some(Told::Shown(instance)) => {
                    if !removals.is_empty() || !keys.insert(instance.key.clone()) {
                        break;
                    }
                    upserts.push(instance);
                }
                Some(Told::Gone(key)) => {
                    if !upserts.is_empty() || !keys.insert(key.clone()) {
                        break;
                    }
                    removals.push(key);
                }
            }
            entries.pop_front();
        }
        match (upserts.is_empty(), removals.is_empty()) {
            (true, true) => None,
            (false, _) => Some(Change::Upsert(upserts)),
            (_, false) => Some(Change::Remove(removals)),
        }
    }

    fn confirmed() -> Change {
        Change::Confirmed
    }

    fn event(change: Change, cursor: Cursor) -> WatchEvent {
        WatchEvent::new(change).with_cursor(cursor)
    }
}
