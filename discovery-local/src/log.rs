//! The log of changes that watches replay: bounded, one for services and values.

use std::{fmt, sync::Arc};

use discovery_core::{
    ConfigEntry, ConfigKey, Cursor, Error, ErrorKind, Instance, InstanceKey, Result, Version,
};
use rusqlite::{Connection, Row, named_params};

use crate::{
    convert::{self, Shown},
    error::{error, of_sqlite},
};

/// How many changes are kept, for watches that fall behind.
const CAPACITY: i64 = 4096;

/// How many changes are read at a time.
const BATCH: u16 = 256;

/// A place in one history: after so many of its changes. Its text, `<history>:<revision>`, is what cursors, lease groups
/// and versions are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    history: Arc<str>,
    pub(crate) revision: i64,
}

impl Place {
    /// The place a text names, if it names one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (history, revision) = text.split_once(':')?;
        Some(Self {
            history: history.into(),
            revision: revision.parse().ok()?,
        })
    }

    /// The place a cursor names.
    ///
    /// # Errors
    /// `WatchExpired` when it names none; [`after`] tells whether the log still reaches back to it.
    pub(crate) fn of(cursor: &Cursor) -> Result<Self> {
        Self::parse(cursor.as_str())
            .ok_or_else(|| expired("the cursor is another registry's", cursor.as_str()))
    }

    /// The end of the log.
    pub(crate) fn end(connection: &Connection) -> Result<Self> {
        let end = |row: &Row<'_>| {
            Ok(Self {
                history: row.get::<_, String>(0)?.into(),
                revision: row.get(1)?,
            })
        };
        connection
            .prepare_cached("SELECT history, revision FROM log")
            .and_then(|mut statement| statement.query_row([], end))
            .map_err(of_sqlite)
    }

    pub(crate) fn at(&self, revision: i64) -> Self {
        Self {
            history: self.history.clone(),
            revision,
        }
    }

    pub(crate) fn cursor(&self) -> Cursor {
        Cursor::new(self.to_string())
    }

    pub(crate) fn version(&self) -> Version {
        Version::new(self.to_string())
    }

    /// Whether both are of one history.
    pub(crate) fn shares_history(&self, other: &Self) -> bool {
        self.history == other.history
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.history, self.revision)
    }
}

/// One change.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// A record is new or shows something else.
    Shown(Shown),
    /// A record shows another line, and nothing else: invisible without checks.
    Output(Shown),
    /// A record is gone.
    Gone(InstanceKey),
    /// A value is new or another.
    Put(ConfigEntry),
    /// A value is gone.
    Deleted(ConfigKey),
}

const SHOWN: i64 = 0;
const OUTPUT: i64 = 1;
const GONE: i64 = 2;
const PUT: i64 = 3;
const DELETED: i64 = 4;

impl Entry {
    fn of(row: &Row<'_>, place: &Place) -> Result<(i64, Self)> {
        let text = |column: usize| row.get::<_, String>(column).map_err(of_sqlite);
        let revision: i64 = row.get(0).map_err(of_sqlite)?;
        let entry = match row.get::<_, i64>(1).map_err(of_sqlite)? {
            GONE => Self::Gone(convert::key(&text(2)?, &text(3)?)),
            PUT => Self::Put(ConfigEntry::new(
                ConfigKey::observed(text(2)?),
                row.get::<_, Vec<u8>>(4).map_err(of_sqlite)?,
                place.at(revision).version(),
            )),
            DELETED => Self::Deleted(ConfigKey::observed(text(2)?)),
            kind => {
                let body: Vec<u8> = row.get(4).map_err(of_sqlite)?;
                let shown = Shown::read(&body, text(5)?)?;
                if kind == OUTPUT {
                    Self::Output(shown)
                } else {
                    Self::Shown(shown)
                }
            }
        };
        Ok((revision, entry))
    }
}

/// Which changes a watch reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Those of records, of one service where it is named.
    Records(Option<String>),
    /// Those of values.
    Values,
}

/// The changes after `place` that `scope` means, oldest first, and the place after the last of them; the end of the log
/// where there are no more.
///
/// # Errors
/// `WatchExpired` when the log does not know all of them.
pub(crate) fn after(
    connection: &Connection,
    place: &Place,
    scope: &Scope,
) -> Result<(Vec<(i64, Entry)>, Place)> {
    let end = Place::end(connection)?;
    if !place.shares_history(&end) || place.revision > end.revision {
        return Err(expired("the cursor is another registry's", &place.to_string()));
    }
    let oldest: Option<i64> = connection
        .prepare_cached("SELECT min(revision) FROM changes")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(of_sqlite)?;
    if place.revision < oldest.map_or(end.revision, |oldest| oldest - 1) {
        return Err(expired(
            "the changes after the cursor are forgotten",
            &place.to_string(),
        ));
    }
    let (first, last, name) = match scope {
        Scope::Records(name) => (SHOWN, GONE, name.as_deref()),
        Scope::Values => (PUT, DELETED, None),
    };
    let mut statement = connection
        .prepare_cached(
            "SELECT revision, kind, name, id, body, output FROM changes
             WHERE revision > :place AND kind BETWEEN :first AND :last AND (:name IS NULL OR name = :name)
             ORDER BY revision LIMIT :batch",
        )
        .map_err(of_sqlite)?;
    let mut rows = statement
        .query(named_params! {
            ":place": place.revision, ":first": first, ":last": last, ":name": name, ":batch": BATCH,
        })
        .map_err(of_sqlite)?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next().map_err(of_sqlite)? {
        entries.push(Entry::of(row, &end)?);
    }
    let read = match entries.last() {
        Some((revision, _)) if entries.len() == usize::from(BATCH) => end.at(*revision),
        _ => end,
    };
    Ok((entries, read))
}

/// A change on its way into the log.
pub(crate) enum Change<'a> {
    /// What a record shows now, and whether only its line changed.
    Shown {
        instance: &'a Instance,
        body: &'a str,
        output: &'a str,
        output_only: bool,
    },
    Gone(&'a InstanceKey),
    Put(&'a ConfigKey, &'a [u8]),
    Deleted(&'a ConfigKey),
}

/// Adds a change, forgetting the oldest where there are too many, and answers the place after it. To be called
/// within the transaction that makes the change.
pub(crate) fn push(connection: &Connection, change: &Change<'_>) -> Result<Place> {
    let (kind, name, id, body, output) = match change {
        Change::Shown {
            instance: Instance { key, .. },
            body,
            output,
            output_only,
        } => (
            if *output_only { OUTPUT } else { SHOWN },
            key.service.as_str(),
            key.id.as_str(),
            body.as_bytes(),
            *output,
        ),
        Change::Gone(key) => (GONE, key.service.as_str(), key.id.as_str(), &b""[..], ""),
        Change::Put(key, value) => (PUT, key.as_str(), "", *value, ""),
        Change::Deleted(key) => (DELETED, key.as_str(), "", &b""[..], ""),
    };
    let place = Place::end(connection)?;
    let place = place.at(place.revision + 1);
    let write = || {
        connection
            .prepare_cached("UPDATE log SET revision = ?1")?
            .execute([place.revision])?;
        connection
            .prepare_cached("INSERT INTO changes VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute((place.revision, kind, name, id, body, output))?;
        connection
            .prepare_cached("DELETE FROM changes WHERE revision <= ?1")?
            .execute([place.revision - CAPACITY])
    };
    write().map_err(of_sqlite)?;
    Ok(place)
}

fn expired(message: &'static str, cursor: &str) -> Error {
    error(ErrorKind::WatchExpired, message)
        .with_operation("watch")
        .with_context("cursor", cursor)
        .with_hint("watch again without a cursor")
}
