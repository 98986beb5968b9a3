//! Certificates that are replaced while the program runs.

use std::{
    fmt, fs,
    hash::{DefaultHasher, Hash, Hasher},
};

use rustls::ClientConfig;
use tracing::{info, warn};

use super::client_config;
use crate::{config::TlsConfig, error::Result};

/// Notices that the files of a `tls:` block were replaced.
pub struct Reloader {
    tls: TlsConfig,
    /// Of the contents last looked at, good or not.
    seen: u64,
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reloader").field(&self.tls).finish()
    }
}

impl Reloader {
    /// What the block says now, and what will notice that it says something else.
    ///
    /// # Errors
    /// As [`client_config`].
    pub fn new(tls: TlsConfig) -> Result<(Self, ClientConfig)> {
        // Before they are read: what is replaced in between is noticed the next time.
        let seen = fingerprint(&tls);
        let config = client_config(&tls)?;
        Ok((Self { tls, seen }, config))
    }

    /// The configuration for new connections, where the files are others than the last time. Contents that are no good
    /// are warned of once, and change nothing; so does a certificate whose key is still to come.
    ///
    /// Reads the files named; blocks for as long as that takes.
    pub fn changed(&mut self) -> Option<ClientConfig> {
        let now = fingerprint(&self.tls);
        if now == std::mem::replace(&mut self.seen, now) {
            return None;
        }
        match client_config(&self.tls) {
            Ok(config) => {
                info!("certificates were replaced: new connections use the new ones");
                Some(config)
            }
            Err(error) => {
                warn!(%error, "the new certificates are no good: the last ones are used");
                None
            }
        }
    }
}

/// A number for what the files hold; a file that cannot be read is a state of its own.
fn fingerprint(tls: &TlsConfig) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in [&tls.ca_file, &tls.cert_file, &tls.key_file] {
        path.as_ref().map(|path| fs::read(path).ok()).hash(&mut hasher);
    }
    hasher.finish()
}
