//! How instances are registered.

use std::{path::PathBuf, time::Duration};

use discovery_core::{
    Result,
    config::{Secret, SecretSource, duration},
};
use serde::{Deserialize, Serialize};

use super::invalid;

/// The algorithm of a TSIG key (RFC 8945).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum KeyAlgorithm {
    /// HMAC-SHA256.
    #[default]
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    /// HMAC-SHA384.
    #[serde(rename = "hmac-sha384")]
    HmacSha384,
    /// HMAC-SHA512.
    #[serde(rename = "hmac-sha512")]
    HmacSha512,
}

/// Registration by dynamic update (RFC 2136), in the first zone of DNS-SD records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Update {
    /// The zone's primary as `ip` or `ip:port`; the servers asked for it where not set.
    pub server: Option<String>,
    /// The name of the TSIG key; updates are not signed without.
    pub key_name: Option<String>,
    /// Its algorithm.
    pub key_algorithm: KeyAlgorithm,
    /// The key in base64. Of this and the next two, one is set where there is a `key_name`.
    pub secret: Option<Secret>,
    /// The environment variable that holds it; read for every update.
    pub secret_env: Option<String>,
    /// The file that holds it; read for every update.
    pub secret_file: Option<PathBuf>,
    /// The TTL of every record we register: of one record set they have one TTL (D-26); 30 s, at least 1 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub ttl: Duration,
}

impl Default for Update {
    fn default() -> Self {
        Self {
            server: None,
            key_name: None,
            key_algorithm: KeyAlgorithm::default(),
            secret: None,
            secret_env: None,
            secret_file: None,
            ttl: Duration::from_secs(30),
        }
    }
}

impl Update {
    /// Updates under this TSIG key; `secret` is base64.
    pub fn signed(key_name: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            key_name: Some(key_name.into()),
            secret: Some(Secret::from(secret.into())),
            ..Self::default()
        }
    }

    /// Where the key comes from, if there is one.
    pub(crate) fn source(&self) -> Result<Option<SecretSource>> {
        let source = SecretSource::choose(
            "secret",
            self.secret.clone(),
            self.secret_env.clone(),
            self.secret_file.clone(),
        )?;
        match (&self.key_name, &source) {
            (Some(_), None) => Err(invalid("update.secret", "missing")
                .with_hint("name where the key is: `secret_env` or `secret_file`; or remove `key_name`")),
            (None, Some(_)) => {
                Err(invalid("update.key_name", "missing")
                    .with_hint("give the name the server knows the key by"))
            }
            _ => Ok(source),
        }
    }
}
