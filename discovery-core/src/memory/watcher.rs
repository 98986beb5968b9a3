//! Watching the records of a store.

use std::{collections::HashSet, fmt, sync::Arc};

use futures::{StreamExt, future, stream};

use super::{
    follow::{Feed, follow},
    log::Log,
    records::Entry,
    registry::local,
    store::{Shared, State},
};
use crate::{
    model::{Cursor, InstanceKey, Query, ServiceName, Target},
    spi::{Change, WatchEvent, WatchStream, Watcher},
};

/// The watcher of a store. It filters nothing but target and scope, as the registry.
pub(super) struct MemoryWatcher(pub(super) Arc<Shared>);

impl fmt::Debug for MemoryWatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryWatcher").field(&self.0.name).finish()
    }
}

impl Watcher for MemoryWatcher {
    fn watch(&self, query: &Query, since: Option<Cursor>) -> WatchStream {
        if let Err(error) = local(&query.scope) {
            return stream::once(future::ready(Err(error.with_operation("watch")))).boxed();
        }
        let feed = Instances {
            target: query.target.clone(),
            with_checks: query.with_checks,
        };
        follow(self.0.clone(), feed, since)
    }
}

struct Instances {
    target: Target,
    with_checks: bool,
}

impl Instances {
    fn wants(&self, service: &ServiceName) -> bool {
        match &self.target {
            Target::All => true,
            Target::Service(name) => name == service,
        }
    }
}

impl Feed for Instances {
    type Entry = Entry;
    type Change = Change;
    type Event = WatchEvent;

    fn log(state: &State) -> &Log<Entry> {
        &state.records.log
    }

    fn all(&self, state: &State) -> Change {
        let shown = state.records.of(&self.target);
        Change::Reset(
            shown
                .iter()
                .map(|shown| shown.instance(self.with_checks))
                .collect(),
        )
    }

    /// A run of one kind in which no key comes twice, so that every event says what really changed.
    fn first<'a>(&self, entries: impl Iterator<Item = &'a Entry>) -> (u64, Option<Change>) {
        let (mut used, mut upserts, mut removals) = (0, Vec::new(), Vec::new());
        let mut keys: HashSet<&InstanceKey> = HashSet::new();
        for entry in entries {
            let key = match entry {
                Entry::Put { shown, .. } => shown.key(),
                Entry::Gone(key) => key,
            };
            let hidden = matches!(
                entry,
                Entry::Put {
                    output_only: true,
                    ..
                }
            ) && !self.with_checks;
            if self.wants(&key.service) && !hidden {
                let breaks = match entry {
                    Entry::Put { .. } => !removals.is_empty(),
                    Entry::Gone(_) => !upserts.is_empty(),
                };
                if breaks || !keys.insert(key) {
                    break;
                }
                match entry {
                    Entry::Put { shown, .. } => upserts.push(shown.instance(self.with_checks)),
                    Entry::Gone(key) => removals.push(key.clone()),
                }
            }
            used += 1;
        }
        let change = match (upserts.is_empty(), removals.is_empty()) {
            (true, true) => None,
            (false, _) => Some(Change::Upsert(upserts)),
            (_, false) => Some(Change::Remove(removals)),
        };
        (used, change)
    }

    fn confirmed() -> Change {
        Change::Confirmed
    }

    fn event(change: Change, cursor: Cursor) -> WatchEvent {
        WatchEvent::new(change).with_cursor(cursor)
    }
}
