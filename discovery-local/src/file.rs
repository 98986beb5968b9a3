//! Opening the file: where it may lie, who may read it, whose it is and which version of the schema it has.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
    time::Duration,
};

use discovery_core::{Error, ErrorKind, Result};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::error::{error, of_io, of_sqlite};

/// How long a change waits for other processes that change something.
const BUSY: Duration = Duration::from_secs(2);

/// What marks a database as ours: `SCdl`, in the header of the file.
const APPLICATION: i32 = 0x5343_646c;

/// The shortest page a database may have, in bytes (the file format of `SQLite`, 1.3.2).
const SHORTEST: u64 = 512;

/// The version of the schema below.
pub(crate) const VERSION: i32 = 1;

/// One log for both planes, so that a cursor is one number. A revision never comes twice in a history.
const SCHEMA: &str = "
    CREATE TABLE log (history TEXT NOT NULL, revision INTEGER NOT NULL, leases INTEGER NOT NULL);
    CREATE TABLE changes (
        revision INTEGER PRIMARY KEY, kind INTEGER NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL,
        body BLOB NOT NULL, output TEXT NOT NULL
    );
    CREATE TABLE instances (
        service TEXT NOT NULL, id TEXT NOT NULL, lease INTEGER NOT NULL UNIQUE,
        body TEXT NOT NULL, output TEXT NOT NULL, registered TEXT NOT NULL,
        owner TEXT, ttl INTEGER, expires INTEGER, boot TEXT,
        PRIMARY KEY (service, id)
    ) WITHOUT ROWID;
    CREATE INDEX instances_owner ON instances (owner) WHERE owner IS NOT NULL;
    CREATE INDEX instances_expires ON instances (expires) WHERE expires IS NOT NULL;
    CREATE TABLE config (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID;
";

/// File systems of other hosts, by the number `statfs` tells (`linux/magic.h`, and the sources of those not in it). A
/// write-ahead log needs memory that all its users share.
const NETWORK: &[(u32, &str)] = &[
    (0x0000_6969, "NFS"),
    (0x0000_517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0102_1997, "9p"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x1983_0326, "BeeGFS"),
    (0x4750_4653, "GPFS"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x564c, "NCP"),
];

/// Which file a path names: its device and number there.
pub(crate) type Identity = (u64, u64);

/// Which file is at `path`; `None` where there is none.
pub(crate) fn identity(path: &Path) -> Option<Identity> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Makes the folders that are missing, for this user only, and refuses those of other hosts.
pub(crate) fn prepare(path: &Path) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| of_io(source, "the folder of the database cannot be made", dir))?;
    #[cfg(target_os = "linux")]
    {
        let found = rustix::fs::statfs(dir).map_err(|source| {
            of_io(
                source.into(),
                "the folder of the database cannot be looked at",
                dir,
            )
        })?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the number has 32 bits; its type differs between architectures"
        )]
        refuse_network(found.f_type as u32, dir)?;
    }
    Ok(())
}

fn refuse_network(number: u32, dir: &Path) -> Result<()> {
    match NETWORK.iter().find(|(network, _)| *network == number) {
        None => Ok(()),
        Some((_, name)) => Err(error(
            ErrorKind::ConfigInvalid,
            format!("the database may not lie on a network file system ({name})"),
        )
        .with_context("folder", dir.display().to_string())
        .with_hint(
            "name a path on a disk of this host, such as `local:///var/tmp/discovery.db`; to share between hosts, use \
             another backend",
        )),
    }
}

/// Opens the database, and makes it where there is nothing. No file of anybody else is changed.
pub(crate) fn open(path: &Path) -> Result<Connection> {
    let at = |error: Error| error.with_context("path", path.display().to_string());
    create(path).map_err(|source| of_io(source, "the database cannot be opened", path))?;
    if is_foreign(path) {
        return Err(at(error(ErrorKind::ConfigInvalid, "the file is not a database")
            .with_hint("it was left as it is: name another path, or move it away")));
    }
    // Two threads never share the connection: the library's own lock would be idle work.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|source| at(of_sqlite(source)))?;
    set_up(&mut connection).map_err(at)?;
    Ok(connection)
}

/// Makes the file where there is none. One that is there is not opened: closing it would end the locks that `SQLite`
/// holds on it in this process.
fn create(path: &Path) -> io::Result<()> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Whether there is something that is no database by its size alone: one shorter than the shortest page would be taken
/// for an empty one, and written over.
fn is_foreign(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() || (1..SHORTEST).contains(&found.len()))
}

fn set_up(connection: &mut Connection) -> Result<()> {
    connection.busy_timeout(BUSY).map_err(of_sqlite)?;
    // Nothing is written before it is known whose the file is.
    let fresh = is_fresh(connection)?;
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA trusted_schema = OFF;")
        .map_err(of_sqlite)?;
    if fresh {
        create_schema(connection)?;
    }
    Ok(())
}

/// Whether there is nothing in it yet.
fn is_fresh(connection: &Connection) -> Result<bool> {
    let number = |sql: &str| {
        connection
            .query_row(sql, [], |row| row.get::<_, i32>(0))
            .map_err(of_sqlite)
    };
    let objects = number("SELECT count(*) FROM sqlite_schema")?;
    match (number("PRAGMA application_id")?, number("PRAGMA user_version")?) {
        (APPLICATION, VERSION) => Ok(false),
        (APPLICATION, version) if version > VERSION => Err(error(
            ErrorKind::ConfigInvalid,
            "a newer version of this library made the database",
        )
        .with_context("version", version.to_string())
        .with_context("known", VERSION.to_string())
        .with_hint("update this program, or name another path")),
        (0, 0) if objects == 0 => Ok(true),
        _ => Err(
            error(ErrorKind::ConfigInvalid, "the database is another program's")
                .with_hint("it was left as it is: name another path"),
        ),
    }
}

fn create_schema(connection: &mut Connection) -> Result<()> {
    let make = |connection: &mut Connection| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(SCHEMA)?;
        transaction.execute(
            "INSERT INTO log VALUES (?1, 0, 0)",
            [format!("{:016x}", fastrand::u64(..))],
        )?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()
    };
    make(connection).map_err(of_sqlite)
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
