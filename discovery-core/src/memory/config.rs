//! Settings of the embedded registry.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// Settings of a [`MemoryStore`](super::MemoryStore).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryConfig {
    /// How long a record lives without renewal where its registration does not say; 30 s.
    pub ttl: Duration,
    /// How many changes a watch can fall behind before it expires; 1024.
    pub log_capacity: usize,
    /// How often a quiet watch confirms that nothing changed; 5 s.
    pub confirm_interval: Duration,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(30),
            log_capacity: 1024,
            confirm_interval: Duration::from_secs(5),
        }
    }
}

impl MemoryConfig {
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
