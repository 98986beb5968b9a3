//! The records of services, as the database keeps them: what is registered, by which lease, by whom, until when.
//!
//! Every function is to be called within a transaction.

use std::{sync::Arc, time::Duration};

use discovery_core::{
    HealthReport, Instance, InstanceKey, Registration, Renewal, Result, ServiceName, ServiceSummary, Target,
};
use rusqlite::{Connection, OptionalExtension, Params, Row};

use crate::{
    clock, convert,
    convert::Shown,
    error::{not_found, of_sqlite},
    log::{Change, push},
    worker::Ended,
};

/// A record as the database has it.
struct Record {
    shown: Shown,
    /// The health its last registration asked for.
    registered: String,
    lease: i64,
    owner: Option<String>,
    /// How long a record without owner lives after its last heartbeat.
    ttl: Option<i64>,
}

const RECORD: &str =
    "SELECT body, output, registered, lease, owner, ttl FROM instances WHERE service = ?1 AND id = ?2";

fn record(connection: &Connection, key: &InstanceKey) -> Result<Option<Record>> {
    let row = |row: &Row<'_>| {
        Ok((
            row.get::<_, String>(0)?,
            row.get::<_, String>(1)?,
            row.get::<_, String>(2)?,
            row.get::<_, i64>(3)?,
            row.get::<_, Option<String>>(4)?,
            row.get::<_, Option<i64>>(5)?,
        ))
    };
    let found = connection
        .prepare_cached(RECORD)
        .and_then(|mut statement| {
            statement
                .query_row((key.service.as_str(), key.id.as_str()), row)
                .optional()
        })
        .map_err(of_sqlite)?;
    let Some((body, output, registered, lease, owner, ttl)) = found else {
        return Ok(None);
    };
    Ok(Some(Record {
        shown: Shown::read(body.as_bytes(), output)?,
        registered,
        lease,
        owner,
        ttl,
    }))
}

/// Creates or replaces a record and answers its lease: the one it had, unless another process takes it over. It lives by
/// `owner` where there is one, else for its TTL where it has one, else until it is withdrawn. Health is kept unless the
/// registration asks for another than the last one did: re-registering must not flap it.
pub(crate) fn register(
    connection: &Connection,
    registration: &Registration,
    owner: Option<&str>,
) -> Result<i64> {
    let mut shown = Shown::of(registration);
    let registered = convert::asked(&registration.health)?;
    let old = record(connection, &shown.instance.key)?;
    if let Some(old) = old.as_ref().filter(|old| old.registered == registered) {
        shown.set_health(&old.shown.health());
    }
    let same_owner = old.as_ref().filter(|old| old.owner.as_deref() == owner);
    let lease = match same_owner {
        Some(old) => old.lease,
        None => connection
            .prepare_cached("UPDATE log SET leases = leases + 1 RETURNING leases")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(of_sqlite)?,
    };
    let detached = owner.is_none().then_some(registration.ttl).flatten();
    let same = old.as_ref().is_some_and(|old| old.shown == shown);
    let unchanged = same && same_owner.is_some_and(|old| old.registered == registered);
    if unchanged && detached.is_none() && same_owner.is_some_and(|old| old.ttl.is_none()) {
        // Nothing to write: it succeeds on a full disk as well.
        return Ok(lease);
    }
    let body = shown.body()?;
    let key = &shown.instance.key;
    run(
        connection,
        "INSERT OR REPLACE INTO instances VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        (
            key.service.as_str(),
            key.id.as_str(),
            lease,
            &body,
            &shown.output,
            &registered,
            owner,
            detached.map(millis),
            detached.map(clock::after),
            detached.map(|_| clock::boot()),
        ),
    )?;
    if !same {
        log_shown(connection, &shown, &body, false)?;
    }
    Ok(lease)
}

/// The record of a lease and its owner.
///
/// # Errors
/// `NotFound` when there is none, or a member is not of this lease.
fn of_group(connection: &Connection, lease: i64, renewal: &Renewal) -> Result<Record> {
    let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
    let found = connection
        .prepare_cached("SELECT service, id FROM instances WHERE lease = ?1")
        .and_then(|mut statement| statement.query_row([lease], row).optional())
        .map_err(of_sqlite)?;
    let key = found.map(|(service, id)| convert::key(&service, &id));
    let Some((key, record)) = key
        .map(|key| Ok(record(connection, &key)?.map(|record| (key, record))))
        .transpose()?
        .flatten()
    else {
        return Err(not_found("unknown or expired lease", "lease", lease.to_string()));
    };
    match renewal.members.iter().find(|(member, _)| *member != key) {
        None => Ok(record),
        Some((member, _)) => Err(not_found(
            "not a member of this lease",
            "member",
            member.to_string(),
        )),
    }
}

/// Whether a renewal of this process's `lease` has something to write.
///
/// # Errors
/// `NotFound` when the lease is gone, another process's, or not that of a member.
pub(crate) fn needs_writing(
    connection: &Connection,
    lease: i64,
    renewal: &Renewal,
    own: &str,
    ended: &Ended,
) -> Result<bool> {
    let record = of_group(connection, lease, renewal)?;
    let expires = connection
        .prepare_cached("SELECT expires, boot FROM instances WHERE lease = ?1")
        .and_then(|mut statement| {
            statement.query_row([lease], |row| {
                Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<String>>(1)?))
            })
        })
        .map_err(of_sqlite)?;
    if record.owner.as_deref().is_some_and(|owner| owner != own)
        || ended.covers(None, expires.0, expires.1.as_deref())
    {
        return Err(not_found(
            "the lease ended, or another process's",
            "lease",
            lease.to_string(),
        ));
    }
    let wanted = |(_, health): &(InstanceKey, HealthReport)| *health == record.shown.health();
    Ok(record.ttl.is_some() || !renewal.members.iter().all(wanted))
}

/// Shows the health the members want, and starts the TTL of a record without owner anew.
pub(crate) fn renew(connection: &Connection, lease: i64, renewal: &Renewal) -> Result<()> {
    let record = of_group(connection, lease, renewal)?;
    if let Some(ttl) = record.ttl {
        let expires = clock::now().saturating_add(ttl);
        run(
            connection,
            "UPDATE instances SET expires = ?2, boot = ?3 WHERE lease = ?1",
            (lease, expires, clock::boot()),
        )?;
    }
    for (member, health) in &renewal.members {
        edit(connection, member, |shown| shown.set_health(health))?;
    }
    Ok(())
}

/// Changes what a record shows and logs that, if it made a difference.
pub(crate) fn edit(
    connection: &Connection,
    key: &InstanceKey,
    change: impl FnOnce(&mut Shown),
) -> Result<()> {
    let Some(Record { shown: before, .. }) = record(connection, key)? else {
        return Err(not_found("no such record", "key", key.to_string()));
    };
    let mut shown = before.clone();
    change(&mut shown);
    if shown == before {
        return Ok(());
    }
    let body = shown.body()?;
    run(
        connection,
        "UPDATE instances SET body = ?3, output = ?4 WHERE service = ?1 AND id = ?2",
        (key.service.as_str(), key.id.as_str(), &body, &shown.output),
    )?;
    log_shown(connection, &shown, &body, shown.instance == before.instance)
}

fn log_shown(connection: &Connection, shown: &Shown, body: &str, output_only: bool) -> Result<()> {
    let change = Change::Shown {
        instance: &shown.instance,
        body,
        output: &shown.output,
        output_only,
    };
    push(connection, &change).map(drop)
}

/// Removes a record. An absent one is no error.
pub(crate) fn remove(connection: &Connection, key: &InstanceKey) -> Result<()> {
    let removed = run(
        connection,
        "DELETE FROM instances WHERE service = ?1 AND id = ?2",
        (key.service.as_str(), key.id.as_str()),
    )?;
    if removed > 0 {
        push(connection, &Change::Gone(key))?;
    }
    Ok(())
}

/// The record of this key.
pub(crate) fn instance(
    connection: &Connection,
    key: &InstanceKey,
    ended: &Ended,
) -> Result<Option<Arc<Instance>>> {
    let sql = "SELECT body, output, owner, expires, boot FROM instances WHERE service = ?1 AND id = ?2";
    let found = shown(connection, sql, (key.service.as_str(), key.id.as_str()), ended)?;
    Ok(found.first().map(|shown| shown.instance(true)))
}

/// The records of a target, sorted by key.
pub(crate) fn of(connection: &Connection, target: &Target, ended: &Ended) -> Result<Vec<Shown>> {
    match target {
        Target::All => shown(
            connection,
            "SELECT body, output, owner, expires, boot FROM instances ORDER BY service, id",
            [],
            ended,
        ),
        Target::Service(name) => shown(
            connection,
            "SELECT body, output, owner, expires, boot FROM instances WHERE service = ?1 ORDER BY id",
            [name.as_str()],
            ended,
        ),
    }
}

fn shown(connection: &Connection, sql: &str, params: impl Params, ended: &Ended) -> Result<Vec<Shown>> {
    let mut statement = connection.prepare_cached(sql).map_err(of_sqlite)?;
    let mut rows = statement.query(params).map_err(of_sqlite)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next().map_err(of_sqlite)? {
        let read = |row: &Row<'_>| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, Option<String>>(2)?,
                row.get::<_, Option<i64>>(3)?,
                row.get::<_, Option<String>>(4)?,
            ))
        };
        let (body, output, owner, expires, boot) = read(row).map_err(of_sqlite)?;
        if !ended.covers(owner.as_deref(), expires, boot.as_deref()) {
            all.push(Shown::read(body.as_bytes(), output)?);
        }
    }
    Ok(all)
}

/// The services, sorted by name.
pub(crate) fn services(connection: &Connection, ended: &Ended) -> Result<Vec<ServiceSummary>> {
    let mut services: Vec<(ServiceName, Vec<String>, usize)> = Vec::new();
    for shown in of(connection, &Target::All, ended)? {
        let instance = shown.instance;
        match services.last_mut() {
            Some((name, tags, instances)) if *name == instance.key.service => {
                tags.extend_from_slice(&instance.tags);
                *instances += 1;
            }
            _ => services.push((instance.key.service.clone(), instance.tags.clone(), 1)),
        }
    }
    Ok(services
        .into_iter()
        .map(|(name, tags, instances)| ServiceSummary::new(name, tags, Some(instances)))
        .collect())
}

/// Everybody who owns records.
pub(crate) fn owners(connection: &Connection) -> Result<Vec<String>> {
    list(
        connection,
        "SELECT DISTINCT owner FROM instances WHERE owner IS NOT NULL",
        [],
        |row| row.get(0),
    )
}

/// The records of an owner.
pub(crate) fn of_owner(connection: &Connection, owner: &str) -> Result<Vec<InstanceKey>> {
    list(
        connection,
        "SELECT service, id FROM instances WHERE owner = ?1",
        [owner],
        key_of,
    )
}

/// The record of a lease, while it is this owner's.
pub(crate) fn of_lease(connection: &Connection, lease: i64, owner: &str) -> Result<Vec<InstanceKey>> {
    list(
        connection,
        "SELECT service, id FROM instances WHERE lease = ?1 AND owner = ?2",
        (lease, owner),
        key_of,
    )
}

/// The records without owner whose TTL has run out.
pub(crate) fn expired(connection: &Connection, now: i64) -> Result<Vec<InstanceKey>> {
    list(
        connection,
        "SELECT service, id FROM instances WHERE expires IS NOT NULL AND (expires <= ?1 OR boot <> ?2)",
        (now, clock::boot()),
        key_of,
    )
}

fn key_of(row: &Row<'_>) -> rusqlite::Result<InstanceKey> {
    Ok(convert::key(&row.get::<_, String>(0)?, &row.get::<_, String>(1)?))
}

fn list<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_map(params, row)?.collect())
        .map_err(of_sqlite)
}

fn run(connection: &Connection, sql: &str, params: impl Params) -> Result<usize> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.execute(params))
        .map_err(of_sqlite)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
