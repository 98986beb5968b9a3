//! The `etcd:` block.

use std::{path::PathBuf, time::Duration};

use discovery_core::{
    Error, ErrorKind, Result,
    config::{EnvVar, KnownBlock, Secret, SecretSource, TlsConfig, UriForm, duration},
};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error;

/// Settings of an etcd backend: the `etcd:` block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct EtcdConfig {
    /// Members of one cluster, as `host:port`, `http://…` or `https://…`; 127.0.0.1:2379.
    pub endpoints: Vec<String>,
    /// Who we are.
    pub authentication: Authentication,
    /// How connections are secured.
    pub tls: TlsConfig,
    /// How registrations are kept.
    pub service_registration: ServiceRegistration,
    /// How services are found.
    pub discovery: Discovery,
    /// Where configuration values are kept.
    pub config: ConfigKv,
    /// What every key starts with, before `key_prefix`: several tenants in one cluster. Empty for none.
    pub namespace: String,
    /// How long connecting to a member may take; 2 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub dial_timeout: Duration,
    /// How long one request may take, over all members it is tried on; 5 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub request_timeout: Duration,
    /// How long a connection with streams may be silent before it is probed, 5 s at least: servers end connections that
    /// probe more often. 6 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub keep_alive_interval: Duration,
    /// How long a member may take to answer a probe; 3 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub keep_alive_timeout: Duration,
}

impl Default for EtcdConfig {
    fn default() -> Self {
        Self {
            endpoints: vec!["127.0.0.1:2379".to_owned()],
            authentication: Authentication::default(),
            tls: TlsConfig::default(),
            service_registration: ServiceRegistration::default(),
            discovery: Discovery::default(),
            config: ConfigKv::default(),
            namespace: String::new(),
            dial_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
            keep_alive_interval: Duration::from_secs(6),
            keep_alive_timeout: Duration::from_secs(3),
        }
    }
}

/// Who we are: nobody, unless there is a user. What is set here goes before what `ETCDCTL_…` variables say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Authentication {
    /// The user's name.
    pub username: Option<String>,
    /// The environment variable that holds it.
    pub username_env: Option<String>,
    /// The password itself.
    pub password: Option<Secret>,
    /// The environment variable that holds it; read for every new token.
    pub password_env: Option<String>,
    /// The file that holds it; read for every new token.
    pub password_file: Option<PathBuf>,
    /// What `ETCDCTL_USER` holds: `name` or `name:password`.
    pub etcdctl_password: Option<Secret>,
    /// What `ETCDCTL_PASSWORD` holds.
    pub etcdctl_user_password: Option<Secret>,
}

/// Where a name and its password come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) name: SecretSource,
    pub(crate) password: SecretSource,
}

impl Authentication {
    /// Where name and password come from, if there are any.
    pub(crate) fn credentials(&self) -> Result<Option<Credentials>> {
        let name = SecretSource::choose(
            "username",
            self.username.clone().map(Secret::from),
            self.username_env.clone(),
            None,
        )?;
        let password = SecretSource::choose(
            "password",
            self.password.clone(),
            self.password_env.clone(),
            self.password_file.clone(),
        )?;
        let half = |set, missing| {
            Err(invalid("authentication", &format!("`{set}` without `{missing}`"))
                .with_hint("give both a user name and a password, or neither"))
        };
        match (name, password) {
            (Some(name), Some(password)) => return Ok(Some(Credentials { name, password })),
            (Some(_), None) => return half("username", "password"),
            (None, Some(_)) => return half("password", "username"),
            (None, None) => {}
        }
        let Some(user) = &self.etcdctl_password else {
            return Ok(None);
        };
        let (name, password) = match (user.expose().split_once(':'), &self.etcdctl_user_password) {
            (_, Some(password)) => (user.expose(), password.clone()),
            (Some((name, password)), None) => (name, Secret::new(password)),
            (None, None) => return half("ETCDCTL_USER", "ETCDCTL_PASSWORD"),
        };
        Ok(Some(Credentials {
            name: SecretSource::Value(Secret::new(name)),
            password: SecretSource::Value(password),
        }))
    }
}

/// How a registration is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// This library's own, with everything a registration holds.
    #[default]
    Native,
    /// That of etcd's gRPC naming, for Go clients; what it has no field for is in its `Metadata`.
    Grpc,
}

/// How many registrations live by one lease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LeaseSharing {
    /// All of a process that have the same TTL.
    #[default]
    Shared,
    /// One.
    Single,
}

/// How registrations are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ServiceRegistration {
    /// What the keys of services start with; `/services/`. May be empty, for Go services that use their name as target:
    /// then services can be looked up by name only.
    pub key_prefix: String,
    /// How long a registration outlives its last heartbeat, unless it says so itself; 30 s, in whole seconds.
    #[serde(with = "duration::or_seconds")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "discovery_core::config::DurationOrSeconds")
    )]
    pub ttl: Duration,
    /// The time between two heartbeats, half of the TTL at most, so that one may fail; a third of it where not set.
    #[serde(
        serialize_with = "duration::option::serialize",
        deserialize_with = "option_or_seconds"
    )]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<discovery_core::config::DurationOrSeconds>")
    )]
    pub refresh_interval: Option<Duration>,
    /// How a registration is written; both are read.
    pub format: Format,
    /// How many registrations live by one lease.
    pub lease: LeaseSharing,
}

impl Default for ServiceRegistration {
    fn default() -> Self {
        Self {
            key_prefix: "/services/".to_owned(),
            ttl: Duration::from_secs(30),
            refresh_interval: None,
            format: Format::default(),
            lease: LeaseSharing::default(),
        }
    }
}

fn option_or_seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    #[derive(Deserialize)]
    struct Wrapped(#[serde(with = "duration::or_seconds")] Duration);
    Ok(Option::<Wrapped>::deserialize(from)?.map(|wrapped| wrapped.0))
}

/// How services are found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Discovery {
    /// What is watched: `service_registration.key_prefix`, and no other prefix.
    pub watch_prefix: Option<String>,
    /// Whether all below the prefix is watched; it always is.
    pub recursive: bool,
    /// How often a watch makes sure that it has missed nothing; 10 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub confirm_interval: Duration,
    /// How many keys one answer holds when all are read; 500.
    pub page_size: u32,
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            watch_prefix: None,
            recursive: true,
            confirm_interval: Duration::from_secs(10),
            page_size: 500,
        }
    }
}

/// Where configuration values are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ConfigKv {
    /// What the keys of values start with; `/config/`.
    pub prefix: String,
}

impl Default for ConfigKv {
    fn default() -> Self {
        Self {
            prefix: "/config/".to_owned(),
        }
    }
}

impl EtcdConfig {
    /// The block, for [`Loader::new`](discovery_core::config::Loader::new).
    pub const BLOCK: KnownBlock = KnownBlock::of::<Self>(error::SCHEME)
        .env(&[
            EnvVar::new("ETCDCTL_ENDPOINTS", "endpoints"),
            EnvVar::new("ETCDCTL_USER", "authentication.etcdctl_password"),
            EnvVar::new("ETCDCTL_PASSWORD", "authentication.etcdctl_user_password"),
            EnvVar::new("ETCDCTL_CACERT", "tls.ca_file"),
            EnvVar::new("ETCDCTL_CERT", "tls.cert_file"),
            EnvVar::new("ETCDCTL_KEY", "tls.key_file"),
            EnvVar::new("ETCDCTL_DIAL_TIMEOUT", "dial_timeout"),
            EnvVar::new("ETCDCTL_KEEPALIVE_TIMEOUT", "keep_alive_timeout"),
        ])
        .uri(UriForm {
            schemes: &[error::SCHEME],
            endpoints: Some("endpoints"),
            path: Some("service_registration.key_prefix"),
            params: &[
                ("namespace", "namespace"),
                ("prefix", "service_registration.key_prefix"),
                ("ttl", "service_registration.ttl"),
                ("format", "service_registration.format"),
                ("lease", "service_registration.lease"),
                ("config_prefix", "config.prefix"),
                ("username", "authentication.username"),
                ("username_env", "authentication.username_env"),
                ("password_env", "authentication.password_env"),
                ("password_file", "authentication.password_file"),
                ("tls", "tls.enabled"),
                ("ca_file", "tls.ca_file"),
                ("cert_file", "tls.cert_file"),
                ("key_file", "tls.key_file"),
            ],
        });

    /// The settings for a cluster with these members.
    pub fn at<T: Into<String>>(endpoints: impl IntoIterator<Item = T>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// The same settings with this user and password, instead of any other source of them.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.authentication = Authentication {
            username: Some(name.into()),
            password: Some(Secret::from(password.into())),
            ..Authentication::default()
        };
        self
    }
}

pub(crate) fn invalid(field: &'static str, fault: &str) -> Error {
    error::error(
        ErrorKind::ConfigInvalid,
        format!("invalid settings: etcd.{field}: {fault}"),
    )
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
