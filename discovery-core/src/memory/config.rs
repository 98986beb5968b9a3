//! Settings of the embedded registry.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    config::{EnvVar, KnownBlock, UriForm, duration},
    error::{Error, ErrorKind, Result},
};

/// Settings of a [`MemoryStore`](super::MemoryStore): the `memory:` block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MemoryConfig {
    /// The name of a store that this process shares; a store of its own where there is none. The host of a URI.
    pub name: Option<String>,
    /// How long a record lives without renewal where its registration does not say; 30 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub ttl: Duration,
    /// How many changes a watch can fall behind before it expires; 1024.
    pub log_capacity: usize,
    /// How often a quiet watch confirms that nothing changed; 5 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub confirm_interval: Duration,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            name: None,
            ttl: Duration::from_secs(30),
            log_capacity: 1024,
            confirm_interval: Duration::from_secs(5),
        }
    }
}

impl MemoryConfig {
    /// The block, for [`Loader::new`](crate::config::Loader::new).
    pub const BLOCK: KnownBlock = KnownBlock::of::<Self>("memory")
        .env(&[
            EnvVar::new("DISCOVERY_MEMORY_NAME", "name"),
            EnvVar::new("DISCOVERY_MEMORY_TTL", "ttl"),
        ])
        .uri(UriForm {
            schemes: &["memory"],
            endpoints: Some("name"),
            path: None,
            params: &[],
        });

    /// The same settings for the store shared under this name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The same settings with this lifetime of records.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// The same settings keeping so many changes.
    #[must_use]
    pub fn log_capacity(mut self, changes: usize) -> Self {
        self.log_capacity = changes;
        self
    }

    /// The same settings confirming this often.
    #[must_use]
    pub fn confirm_interval(mut self, interval: Duration) -> Self {
        self.confirm_interval = interval;
        self
    }

    /// Refuses what could not work.
    pub(super) fn validate(&self) -> Result<()> {
        let (field, hint) = if self.ttl < Duration::from_secs(1) {
            ("ttl", "give a second or more")
        } else if self.log_capacity == 0 {
            ("log_capacity", "give one or more")
        } else if self.confirm_interval.is_zero() {
            ("confirm_interval", "give more than zero")
        } else {
            return Ok(());
        };
        Err(
            Error::new(ErrorKind::ConfigInvalid, "invalid settings of the memory backend")
                .with_backend(super::backend::SCHEME)
                .with_context("field", field)
                .with_hint(hint),
        )
    }
}
