//! The `consul:` block.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use discovery_core::{
    Error, ErrorKind, Result,
    config::{EnvVar, KnownBlock, Secret, SecretSource, TlsConfig, UriForm, duration},
};
use serde::{Deserialize, Serialize};

use crate::error;

/// Settings of a Consul backend: the `consul:` block.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ConsulConfig {
    /// Which agent, and where it looks.
    pub server: Server,
    /// What the agent is shown.
    pub authentication: Authentication,
    /// How the connection is secured.
    pub tls: TlsConfig,
    /// What every registration gets.
    pub service_registration: ServiceRegistration,
    /// The heartbeat of registrations.
    pub health_checks: HealthChecks,
    /// How services are found.
    pub discovery: Discovery,
    /// The service mesh; not acted on in this release.
    pub connect: Connect,
}

/// Which agent, and where it looks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Server {
    /// `host:port`, `http://…`, `https://…`, `unix:///path` or a path; 127.0.0.1:8500.
    pub address: String,
    /// The datacenter to read from; the agent's own where there is none.
    pub datacenter: Option<String>,
    /// The namespace (Consul Enterprise).
    pub namespace: Option<String>,
    /// The partition (Consul Enterprise).
    pub partition: Option<String>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:8500".to_owned(),
            datacenter: None,
            namespace: None,
            partition: None,
        }
    }
}

/// What the agent is shown. Of the first three at most one is set; they go before what the environment says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Authentication {
    /// The token itself.
    pub token: Option<Secret>,
    /// The environment variable that holds it; read for every request.
    pub token_env: Option<String>,
    /// The file that holds it; read for every request.
    pub token_file: Option<PathBuf>,
    /// What `CONSUL_HTTP_TOKEN` holds.
    pub http_token: Option<Secret>,
    /// What `CONSUL_HTTP_TOKEN_FILE` holds; goes before `http_token`.
    pub http_token_file: Option<PathBuf>,
    /// `user:password` of a proxy before the agent, as `CONSUL_HTTP_AUTH` holds it.
    pub http_password: Option<Secret>,
}

impl Authentication {
    /// Where the token comes from, if there is one.
    pub(crate) fn source(&self) -> Result<Option<SecretSource>> {
        let explicit = SecretSource::choose(
            "token",
            self.token.clone(),
            self.token_env.clone(),
            self.token_file.clone(),
        )?;
        Ok(explicit
            .or(self.http_token_file.clone().map(SecretSource::File))
            .or(self.http_token.clone().map(SecretSource::Value)))
    }
}

/// What every registration gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ServiceRegistration {
    /// Whether a client registers what its `service_definition:` declares as soon as it starts; only where nothing says so
    /// where not set.
    pub auto_register: Option<bool>,
    /// Whether shutting a client down withdraws what it registered. It does so only where this and
    /// `high_availability.service_registration.deregister_on_shutdown` both say so. True.
    pub deregister_on_exit: bool,
    /// Tags that every registration also carries.
    pub tags: Vec<String>,
    /// Metadata that every registration also carries, unless it sets the key itself.
    pub meta: BTreeMap<String, String>,
    /// Whether tags may be changed in the catalogue, by others.
    pub enable_tag_override: bool,
}

impl Default for ServiceRegistration {
    fn default() -> Self {
        Self {
            auto_register: None,
            deregister_on_exit: true,
            tags: Vec::new(),
            meta: BTreeMap::new(),
            enable_tag_override: false,
        }
    }
}

/// The heartbeat of registrations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HealthChecks {
    /// Whether registrations live by a TTL; without, they stay until deregistered and report no health.
    pub enabled: bool,
    /// The time between two heartbeats; a registration without a TTL of its own gets one of three times as long. 10 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub interval: Duration,
    /// How long a heartbeat may take; 5 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub timeout: Duration,
    /// Have the agent drop a registration without heartbeat for so long; zero for never, and at least a minute. 10 min.
    #[serde(with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub deregister_after: Duration,
}

impl Default for HealthChecks {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            deregister_after: Duration::from_secs(600),
        }
    }
}

/// What a read may answer from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Consistency {
    /// From the leader, which may have lost its office a moment ago.
    #[default]
    Default,
    /// From any server, however far behind; see `max_staleness`.
    Stale,
    /// From a leader that has just made sure that it is one.
    Consistent,
}

/// How services are found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Discovery {
    /// How often services are read where they are not watched; 30 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub refresh_interval: Duration,
    /// How long a look-up may be answered from the client's cache, views needing none; zero for no cache, the client's
    /// 10 s where not set.
    #[serde(with = "duration::option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Duration>"))]
    pub cache_ttl: Option<Duration>,
    /// Whether the server tells what changes; else it is asked every `refresh_interval`.
    pub watch_services: bool,
    /// How long the server may hold a watch without news; 55 s, from 1 s to 60 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub wait: Duration,
    /// How many watches are open at a time, of the 200 connections an agent allows; more take turns. 128.
    pub max_watches: usize,
    /// What a read may answer from.
    pub consistency: Consistency,
    /// With `stale`: how long a server may have been without its leader before its answers are suspect; 10 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub max_staleness: Duration,
    /// The node to sort instances by round trip to, such as `_agent`; their order is kept then.
    pub near: Option<String>,
    /// A filter expression for the server.
    pub filter: Option<String>,
    /// Metadata a node must carry.
    pub node_meta: BTreeMap<String, String>,
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            refresh_interval: Duration::from_secs(30),
            cache_ttl: None,
            watch_services: true,
            wait: Duration::from_secs(55),
            max_watches: 128,
            consistency: Consistency::Default,
            max_staleness: Duration::from_secs(10),
            near: None,
            filter: None,
            node_meta: BTreeMap::new(),
        }
    }
}

/// The service mesh; not acted on in this release.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Connect {
    /// Whether registrations take part.
    pub enabled: bool,
    /// Whether a sidecar is registered beside them.
    pub sidecar_proxy: bool,
    /// Who may talk to whom.
    pub intentions: Vec<serde_json::Value>,
}

impl ConsulConfig {
    /// The block, for [`Loader::new`](discovery_core::config::Loader::new).
    pub const BLOCK: KnownBlock = KnownBlock::of::<Self>(error::SCHEME)
        .env(&[
            EnvVar::new("CONSUL_HTTP_ADDR", "server.address"),
            EnvVar::new("CONSUL_NAMESPACE", "server.namespace"),
            EnvVar::new("CONSUL_PARTITION", "server.partition"),
            EnvVar::new("CONSUL_HTTP_TOKEN", "authentication.http_token"),
            EnvVar::new("CONSUL_HTTP_TOKEN_FILE", "authentication.http_token_file"),
            EnvVar::new("CONSUL_HTTP_AUTH", "authentication.http_password"),
            EnvVar::new("CONSUL_HTTP_SSL", "tls.enabled"),
            EnvVar::new("CONSUL_HTTP_SSL_VERIFY", "tls.verify_ssl"),
            EnvVar::new("CONSUL_CACERT", "tls.ca_file"),
            EnvVar::new("CONSUL_CLIENT_CERT", "tls.cert_file"),
            EnvVar::new("CONSUL_CLIENT_KEY", "tls.key_file"),
            EnvVar::new("CONSUL_TLS_SERVER_NAME", "tls.server_name"),
        ])
        .uri(UriForm {
            schemes: &[error::SCHEME],
            endpoints: Some("server.address"),
            path: Some("server.address"),
            params: &[
                ("dc", "server.datacenter"),
                ("datacenter", "server.datacenter"),
                ("namespace", "server.namespace"),
                ("partition", "server.partition"),
                ("tls", "tls.enabled"),
                ("ca_file", "tls.ca_file"),
                ("cert_file", "tls.cert_file"),
                ("key_file", "tls.key_file"),
                ("token_env", "authentication.token_env"),
                ("token_file", "authentication.token_file"),
                ("consistency", "discovery.consistency"),
                ("near", "discovery.near"),
            ],
        });

    /// The settings for an agent at this address.
    pub fn at(address: impl Into<String>) -> Self {
        let mut config = Self::default();
        config.server.address = address.into();
        config
    }

    /// The same settings reading from this datacenter.
    #[must_use]
    pub fn datacenter(mut self, datacenter: impl Into<String>) -> Self {
        self.server.datacenter = Some(datacenter.into());
        self
    }

    /// The same settings with this token, instead of any other source of one.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.authentication = Authentication {
            token: Some(Secret::from(token.into())),
            ..Authentication::default()
        };
        self
    }

    /// The same settings with the token in this file, which is read again for every request.
    #[must_use]
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.authentication = Authentication {
            token_file: Some(path.into()),
            ..Authentication::default()
        };
        self
    }

    /// Refuses what could not work.
    pub(crate) fn validate(&self) -> Result<()> {
        self.address()?;
        self.authentication.source()?;
        let discovery = &self.discovery;
        if !(Duration::from_secs(1)..=Duration::from_secs(60)).contains(&discovery.wait) {
            return Err(invalid("discovery.wait", "out of range").with_hint("give 1 s to 60 s"));
        }
        if !(1..=150).contains(&discovery.max_watches) {
            return Err(invalid("discovery.max_watches", "out of range")
                .with_hint("give 1 to 150: an agent allows 200 connections, and heartbeats need some"));
        }
        if self.health_checks.interval < Duration::from_millis(400) {
            return Err(invalid("health_checks.interval", "too short").with_hint("give 400 ms or more"));
        }
        for (field, value) in [
            ("server.datacenter", &self.server.datacenter),
            ("server.namespace", &self.server.namespace),
            ("server.partition", &self.server.partition),
        ] {
            if value.as_deref() == Some("") {
                return Err(invalid(field, "empty").with_hint("give a name, or remove it"));
            }
        }
        Ok(())
    }

    /// What is set but does nothing yet, for one warning.
    pub(crate) fn idle_settings(&self) -> Vec<&'static str> {
        let connect = (self.connect != Connect::default()).then_some("consul.connect");
        connect.into_iter().collect()
    }
}

pub(crate) fn invalid(field: &'static str, fault: &str) -> Error {
    error::error(
        ErrorKind::ConfigInvalid,
        format!("invalid settings: consul.{field}: {fault}"),
    )
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
