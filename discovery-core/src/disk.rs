//! The last good answer on disk: for a start while the registry is down.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize, de::IgnoredAny};
use tokio::task::spawn_blocking;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    model::{Evidence, Freshness, Instance, Query, Snapshot, Source, Target},
    spi::BackendInfo,
};

/// The first word of every file, then the format's version.
const MAGIC: &str = "discovery-snapshot";
const FORMAT: u32 = 1;

/// The largest file written or read, in bytes: some hundred thousand instances.
const MAX_BYTES: u64 = 64 << 20;

/// Keeps the last good answer of each query of one backend in a directory.
///
/// One file a query, readable by its owner only, replaced whole or not at all. It holds the instances and when the
/// registry last confirmed them: no cursor, no credentials. The wall clock serves to tell the age, nothing else.
///
/// Nothing here fails a caller: what cannot be written or read is logged and gone without.
#[derive(Debug, Clone)]
pub struct SnapshotStore(Arc<Store>);

#[derive(Debug)]
struct Store {
    dir: PathBuf,
    backend: BackendInfo,
    /// Whether the last write failed, so that a full disk is told of once.
    failing: AtomicBool,
}

impl SnapshotStore {
    /// The answers of `backend` in `dir`, which is made when first needed.
    ///
    /// Two registries, told apart by source and address, can share a directory.
    pub fn new(dir: impl Into<PathBuf>, backend: BackendInfo) -> Self {
        Self(Arc::new(Store {
            dir: dir.into(),
            backend,
            failing: AtomicBool::new(false),
        }))
    }

    /// Writes `snapshot` as the answer to the unfiltered `query`, and answers whether it did. Only what the registry
    /// itself said and knew is written: neither suspect answers, nor stale ones, nor those that hold something back.
    ///
    /// # Cancel safety
    /// Cancel-safe: once begun, a write goes on in the background.
    pub async fn save(&self, query: &Query, snapshot: &Snapshot) -> bool {
        let good = snapshot.evidence == Evidence::Authoritative
            && snapshot.held.is_none()
            && matches!(snapshot.source, Source::Live | Source::Cache);
        if !good {
            return false;
        }
        let (store, query, snapshot) = (self.0.clone(), query.upstream(), snapshot.clone());
        spawn_blocking(move || match store.write(&query, &snapshot) {
            Ok(()) => {
                store.failing.store(false, Ordering::Relaxed);
                true
            }
            Err(error) => {
                let again = store.failing.swap(true, Ordering::Relaxed);
                if again {
                    tracing::debug!(dir = %store.dir.display(), %error, "last good answer still not written");
                } else {
                    tracing::warn!(
                        dir = %store.dir.display(), %error,
                        "cannot write the last good answer: a start while the registry is down will find none"
                    );
                }
                false
            }
        })
        .await
        .unwrap_or(false)
    }

    /// The last good answer to the unfiltered `query`, with its age, unless there is none, it is damaged, of another
    /// format, or older than the query's `max_stale`.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn load(&self, query: &Query) -> Option<Snapshot> {
        let (store, key) = (self.0.clone(), query.upstream());
        let (snapshot, age) = spawn_blocking(move || {
            let path = store.path(&key);
            store.read(&path, &key).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "the last good answer on disk is not usable");
                None
            })
        })
        .await
        .ok()??;
        query.max_stale.is_none_or(|max| age <= max).then_some(snapshot)
    }
}

impl Store {
    /// What a file is the answer to.
    fn identity(&self, query: &Query) -> Identity {
        Identity {
            source: self.backend.source.to_string(),
            address: self.backend.address.clone(),
            service: match &query.target {
                Target::Service(name) => Some(name.as_str().to_owned()),
                Target::All => None,
            },
            datacenter: query.scope.datacenter.as_deref().map(str::to_owned),
            namespace: query.scope.namespace.as_deref().map(str::to_owned),
            with_checks: query.with_checks,
        }
    }

    fn path(&self, query: &Query) -> PathBuf {
        let hash = xxh3_64(format!("{:?}", self.identity(query)).as_bytes());
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        };
        let source: String = self.backend.source.chars().take(64).map(plain).collect();
        self.dir.join(format!("{source}-{hash:016x}.snapshot"))
    }

    fn write(&self, query: &Query, snapshot: &Snapshot) -> io::Result<()> {
        let confirmed_at = SystemTime::now()
            .checked_sub(snapshot.age())
            .unwrap_or(SystemTime::UNIX_EPOCH);
        let body = serde_json::to_vec(&Body {
            identity: self.identity(query),
            confirmed_at,
            instances: snapshot.instances.iter().map(Kept::Good).collect(),
        })?;
        let header = format!("{MAGIC} {FORMAT} {:016x}\n", xxh3_64(&body));
        if (header.len() + body.len()) as u64 > MAX_BYTES {
            return Err(io::Error::other(format!("larger than {MAX_BYTES} bytes")));
        }
        make_dir(&self.dir)?;
        // Made for its owner only; renamed over the old one once it is whole on disk.
        let mut file = tempfile::Builder::new()
            .prefix(".snapshot-")
            .tempfile_in(&self.dir)?;
        file.write_all(header.as_bytes())?;
        file.write_all(&body)?;
        file.as_file().sync_data()?;
        file.persist(self.path(query)).map_err(|error| error.error)?;
        Ok(())
    }

    fn read(&self, path: &Path, query: &Query) -> io::Result<Option<(Snapshot, Duration)>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(damaged("larger than any we write"));
        }
        let body: Body<Arc<Instance>> = serde_json::from_slice(checked(&bytes)?)?;
        if body.identity != self.identity(query) {
            return Err(damaged("the answer to another query"));
        }
        let all = body.instances.len();
        let instances: Vec<_> = body.instances.into_iter().filter_map(Kept::good).collect();
        if instances.len() < all {
            tracing::warn!(path = %path.display(), left_out = all - instances.len(), "instances not understood");
        }
        // A clock set back since makes the moment lie ahead: then it is as good as new.
        let age = body.confirmed_at.elapsed().unwrap_or_default();
        let mut snapshot = Snapshot::live(query.target.clone(), instances).with_source(Source::Disk);
        snapshot.freshness = Freshness::aged(age);
        Ok(Some((snapshot, age)))
    }
}

/// The body of a whole file of our format.
fn checked(bytes: &[u8]) -> io::Result<&[u8]> {
    let end = bytes.iter().take(64).position(|&byte| byte == b'\n');
    let (header, body) = bytes.split_at(end.ok_or_else(|| damaged("no header"))?);
    let body = &body[1..];
    let header = String::from_utf8_lossy(header);
    let mut words = header.split(' ');
    if words.next() != Some(MAGIC) {
        return Err(damaged("not a snapshot"));
    }
    if words.next() != Some(FORMAT.to_string().as_str()) {
        return Err(damaged("of another format"));
    }
    if words.next() != Some(format!("{:016x}", xxh3_64(body)).as_str()) {
        return Err(damaged("truncated or changed"));
    }
    Ok(body)
}

fn damaged(how: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, how)
}

/// Makes a directory for its owner only, unless it is there.
fn make_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    source: String,
    address: String,
    service: Option<String>,
    datacenter: Option<String>,
    namespace: Option<String>,
    with_checks: bool,
}

#[derive(Serialize, Deserialize)]
struct Body<I> {
    identity: Identity,
    /// When the registry last confirmed it.
    confirmed_at: SystemTime,
    instances: Vec<Kept<I>>,
}

/// An instance, or one this version cannot read: a bad one must not take its siblings along.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Kept<I> {
    Good(I),
    #[serde(skip_serializing)]
    Bad(IgnoredAny),
}

impl<I> Kept<I> {
    fn good(self) -> Option<I> {
        match self {
            Self::Good(instance) => Some(instance),
            Self::Bad(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
