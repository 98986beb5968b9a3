//! A bounded log of changes that watches replay.

use std::{
    collections::VecDeque,
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use super::backend::SCHEME;
use crate::{
    error::{Error, ErrorKind, Result},
    model::Cursor,
};

/// A place in one log: after so many of its changes. Its text, `<log>:<revision>`, is what cursors, lease groups and
/// versions are made of: no two logs of a process share an id, and no revision comes twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    log: u64,
    revision: u64,
}

impl Place {
    /// The place a cursor names.
    ///
    /// # Errors
    /// `WatchExpired` when it names none; [`Log::after`] tells whether a log still reaches back to it.
    pub(super) fn of(cursor: &Cursor) -> Result<Self> {
        let parsed = cursor.as_str().split_once(':').and_then(|(log, revision)| {
            Some(Self {
                log: log.parse().ok()?,
                revision: revision.parse().ok()?,
            })
        });
        parsed.ok_or_else(|| expired("the cursor belongs to another store", cursor.as_str()))
    }

    pub(super) fn cursor(self) -> Cursor {
        Cursor::new(self.to_string())
    }

    /// The place so many changes later.
    pub(super) fn plus(self, changes: u64) -> Self {
        Self {
            revision: self.revision + changes,
            ..self
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.log, self.revision)
    }
}

/// The last changes, oldest first. The change at index `i` has the revision `compacted + i + 1`.
#[derive(Debug)]
pub(super) struct Log<T> {
    id: u64,
    compacted: u64,
    entries: VecDeque<T>,
    capacity: usize,
}

impl<T> Log<T> {
    /// A new history, keeping up to `capacity` changes.
    pub(super) fn new(capacity: usize) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            compacted: 0,
            entries: VecDeque::new(),
            capacity,
        }
    }

    /// The place after the latest change.
    pub(super) fn end(&self) -> Place {
        Place {
            log: self.id,
            revision: self.compacted + self.entries.len() as u64,
        }
    }

    /// Adds a change, forgetting the oldest where there are too many.
    pub(super) fn push(&mut self, entry: T) {
        self.entries.push_back(entry);
        if self.entries.len() > self.capacity {
            self.entries.pop_front();
            self.compacted += 1;
        }
    }

    /// Forgets every change: only a watch that has seen the latest can go on.
    pub(super) fn compact(&mut self) {
        self.compacted = self.end().revision;
        self.entries.clear();
    }

    /// The changes after `place`.
    ///
    /// # Errors
    /// `WatchExpired` when this log does not know all of them.
    pub(super) fn after(&self, place: Place) -> Result<impl Iterator<Item = &T>> {
        if place.log != self.id || place.revision > self.end().revision {
            return Err(expired(
                "the cursor belongs to another history",
                &place.to_string(),
            ));
        }
        let seen = place.revision.checked_sub(self.compacted);
        match seen.and_then(|seen| usize::try_from(seen).ok()) {
            Some(seen) => Ok(self.entries.range(seen..)),
            None => Err(expired(
                "the changes after the cursor are compacted",
                &place.to_string(),
            )),
        }
    }
}

fn expired(message: &'static str, cursor: &str) -> Error {
    Error::new(ErrorKind::WatchExpired, message)
        .with_backend(SCHEME)
        .with_operation("watch")
        .with_context("cursor", cursor)
        .with_hint("watch again without a cursor")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn only_places_whose_later_changes_are_all_known_can_be_replayed() {
        let mut log = Log::new(3);
        let start = log.end();
        (1..=5).for_each(|n| log.push(n));
        assert_eq!(log.end(), start.plus(5));
        let replay = |n| {
            log.after(start.plus(n))
                .map(|changes| changes.copied().collect::<Vec<_>>())
        };
        assert_eq!(replay(2).unwrap(), [3, 4, 5]);
        assert_eq!(replay(4).unwrap(), [5]);
        assert!(replay(5).unwrap().is_empty());
        for gone in [0, 1, 6] {
            assert_eq!(kind(replay(gone)), Some(ErrorKind::WatchExpired), "{gone}");
        }
        log.compact();
        assert_eq!(kind(log.after(start.plus(4))), Some(ErrorKind::WatchExpired));
        assert_eq!(log.after(start.plus(5)).unwrap().count(), 0);
    }

    #[test]
    fn cursors_of_others_and_garbage_are_expired() {
        let (log, other) = (Log::<u8>::new(1), Log::<u8>::new(1));
        assert_eq!(Place::of(&log.end().cursor()).unwrap(), log.end());
        assert_eq!(kind(log.after(other.end())), Some(ErrorKind::WatchExpired));
        for garbage in ["", ":", "1", "x:1", "1:-1", "1:99999999999999999999999"] {
            assert_eq!(
                kind(Place::of(&Cursor::new(garbage))),
                Some(ErrorKind::WatchExpired),
                "{garbage:?}"
            );
        }
    }
}
