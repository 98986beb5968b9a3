//! Configuration values that a registry keeps beside its services.

use std::{fmt, fmt::Debug, str::FromStr, sync::Arc};

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::{
    error::{Error, ErrorKind, Result},
    model::{Cursor, Evidence},
};

/// A key: segments separated by single slashes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConfigKey(Arc<str>);

impl ConfigKey {
    /// A validated key.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when it is empty, longer than 512 bytes, starts or ends with `/`, has an empty, `.` or
    /// `..` segment (servers would silently redirect those to another key), or a control character.
    pub fn new(key: impl AsRef<str>) -> Result<Self> {
        let key = key.as_ref();
        let fault = if key.is_empty() {
            "is empty"
        } else if key.len() > 512 {
            "is longer than 512 bytes"
        } else if key.chars().any(char::is_control) {
            "contains a control character"
        } else if key.split('/').any(|part| matches!(part, "" | "." | "..")) {
            "has an empty or relative segment"
        } else if key.trim() != key {
            "starts or ends with white space"
        } else {
            return Ok(Self(key.into()));
        };
        Err(Error::new(ErrorKind::InvalidInput, "invalid configuration key")
            .with_context("key", format!("{key:?} {fault}"))
            .with_hint("use segments separated by single slashes, such as `database/url`"))
    }

    /// A key as a registry reported it, whatever it looks like; for backends.
    pub fn observed(key: impl Into<Arc<str>>) -> Self {
        Self(key.into())
    }

    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConfigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Debug for ConfigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(&*self.0, f)
    }
}

impl FromStr for ConfigKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

/// The version of a value, opaque to all but the backend that made it; equal versions mean an unchanged value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version(Arc<str>);

impl Version {
    /// A version of this text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The backend's own text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A key with its value and version.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigEntry {
    /// The key.
    pub key: ConfigKey,
    /// The value: any bytes.
    pub value: Arc<[u8]>,
    /// Its version.
    pub version: Version,
}

impl ConfigEntry {
    /// An entry.
    pub fn new(key: ConfigKey, value: impl Into<Arc<[u8]>>, version: Version) -> Self {
        Self {
            key,
            value: value.into(),
            version,
        }
    }
}

impl Debug for ConfigEntry {
    /// Shows the value's length only: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigEntry")
            .field("key", &self.key)
            .field("bytes", &self.value.len())
            .field("version", &self.version)
            .finish()
    }
}

/// Every entry under a prefix at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigSnapshot {
    /// The entries, sorted by key.
    pub entries: Vec<ConfigEntry>,
    /// Where a watch can go on from.
    pub cursor: Option<Cursor>,
}

impl ConfigSnapshot {
    /// A snapshot; entries are sorted.
    pub fn new(mut entries: Vec<ConfigEntry>, cursor: Option<Cursor>) -> Self {
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Self { entries, cursor }
    }
}

/// When a write or a delete may happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutMode {
    /// Always.
    Upsert,
    /// Only while the key is absent.
    Create,
    /// Only while the key has this version.
    IfVersion(Version),
}

/// What changed under a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// This is all there is.
    Reset(Vec<ConfigEntry>),
    /// This is new or changed.
    Put(ConfigEntry),
    /// This is gone.
    Delete(ConfigKey),
    /// Nothing: the server confirms the last state.
    Confirmed,
}

/// One event of a configuration watch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigEvent {
    /// Where a watch can resume after this event.
    pub cursor: Option<Cursor>,
    /// What changed.
    pub change: ConfigChange,
    /// How far the backend trusts it.
    pub evidence: Evidence,
}

impl ConfigEvent {
    /// An authoritative event.
    pub fn new(change: ConfigChange, cursor: Option<Cursor>) -> Self {
        Self {
            cursor,
            change,
            evidence: Evidence::Authoritative,
        }
    }

    /// The same event with this evidence.
    #[must_use]
    pub fn with_evidence(mut self, evidence: Evidence) -> Self {
        self.evidence = evidence;
        self
    }
}

/// A raw configuration watch: it may fail and end at any time.
pub type ConfigStream = BoxStream<'static, Result<ConfigEvent>>;

/// Keeps configuration values.
///
/// # Contract
/// Every method is cancel-safe and ends by itself within the backend's own deadline.
#[async_trait]
pub trait ConfigStore: Send + Sync + Debug + 'static {
    /// The value of `key`, or nothing where it is absent.
    async fn get(&self, key: &ConfigKey) -> Result<Option<ConfigEntry>>;

    /// Writes `key` and answers its new version.
    ///
    /// # Errors
    /// `Conflict` when `mode` does not hold; nothing was written.
    async fn put(&self, key: &ConfigKey, value: &[u8], mode: PutMode) -> Result<Version>;

    /// Deletes `key` and answers whether it was there; with a version, only while the key has it.
    ///
    /// # Errors
    /// `Conflict` when the key has another version; nothing was deleted.
    async fn delete(&self, key: &ConfigKey, version: Option<Version>) -> Result<bool>;

    /// Every entry whose key starts with `prefix` (all where it is empty).
    async fn list(&self, prefix: &str) -> Result<ConfigSnapshot>;

    /// Watches every key that starts with `prefix`, under the rules of [`Watcher::watch`](super::Watcher::watch).
    fn watch(&self, prefix: &str, since: Option<Cursor>) -> ConfigStream;
}
