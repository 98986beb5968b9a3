//! The `eureka:` block.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use discovery_core::{
    Error, ErrorKind, Result,
    config::{EnvVar, KnownBlock, Secret, SecretSource, TlsConfig, UriForm, duration},
};
use serde::{Deserialize, Serialize, Serializer};

use crate::{address, error};

/// Settings of a Eureka backend: the `eureka:` block.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct EurekaConfig {
    /// Which servers.
    pub server: Server,
    /// What they are shown.
    pub authentication: Authentication,
    /// How the connections are secured.
    pub tls: TlsConfig,
    /// What every registration gets.
    pub service_registration: ServiceRegistration,
    /// How services are found.
    pub discovery: Discovery,
}

/// The address of a server, which may carry a user and password; they are never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(from = "String")]
pub struct ServiceUrl(String);

impl ServiceUrl {
    /// All of it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for ServiceUrl {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for ServiceUrl {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((user, rest)) = self.0.rsplit_once('@') else {
            return f.write_str(&self.0);
        };
        let scheme = user.split_once("://").map_or("", |(scheme, _)| scheme);
        let dots = if scheme.is_empty() { "" } else { "://" };
        write!(f, "{scheme}{dots}***@{rest}")
    }
}

impl fmt::Debug for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl Serialize for ServiceUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Which servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Server {
    /// `host:port`, `http://host:port/path` or `https://…`, all of them peers; one is used at a time, the others when it
    /// fails. 127.0.0.1:8761 where `zones` names none either.
    pub urls: Vec<ServiceUrl>,
    /// Where Eureka lies on a server whose URL has no path: `/eureka/` as Spring Cloud has it.
    pub path: String,
    /// The zone this program runs in: its servers are used first, and registrations carry it.
    pub zone: Option<String>,
    /// Servers by zone, beside `urls`.
    pub zones: BTreeMap<String, Vec<ServiceUrl>>,
    /// How long a connection may take to come about; 5 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub connect_timeout: Duration,
    /// How long a server may be silent; 8 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub read_timeout: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            path: "/eureka/".to_owned(),
            zone: None,
            zones: BTreeMap::new(),
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(8),
        }
    }
}

/// What servers are shown: HTTP basic authentication. A URL with a user of its own goes before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Authentication {
    /// The user.
    pub username: Option<String>,
    /// The environment variable that holds it.
    pub username_env: Option<String>,
    /// The password itself.
    pub password: Option<Secret>,
    /// The environment variable that holds it; read for every request.
    pub password_env: Option<String>,
    /// The file that holds it; read for every request.
    pub password_file: Option<PathBuf>,
}

impl Authentication {
    /// Where user and password come from, if there are any.
    pub(crate) fn source(&self) -> Result<Option<(SecretSource, Option<SecretSource>)>> {
        let user = SecretSource::choose(
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
        match (user, password) {
            (Some(user), password) => Ok(Some((user, password))),
            (None, Some(_)) => Err(invalid("authentication", "a password without a user")
                .with_hint("set `username` or `username_env`")),
            (None, None) => Ok(None),
        }
    }
}

/// What every registration gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ServiceRegistration {
    /// Whether shutting a client down withdraws what it registered. It does so only where this and
    /// `high_availability.service_registration.deregister_on_shutdown` both say so. True.
    pub deregister_on_exit: bool,
    /// How long a registration without a TTL of its own outlives its last heartbeat. A server takes twice as long to evict
    /// one that was renewed. 90 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub ttl: Duration,
    /// How often heartbeats come; a third of the TTL, 30 s, where not set, and never more seldom than that.
    #[serde(with = "duration::option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Duration>"))]
    pub heartbeat_interval: Option<Duration>,
    /// Whether the port of a registration speaks TLS: it becomes the secure port, and the other is switched off.
    pub secure: bool,
    /// The VIP address of every registration; the service's name where not set.
    pub vip: Option<String>,
    /// The secure VIP address; as `vip` where not set.
    pub secure_vip: Option<String>,
    /// The name of the data centre, as Eureka means it: `MyOwn` or `Amazon`.
    pub data_center: String,
    /// The path of the home page.
    pub home_page_path: Option<String>,
    /// The path of the status page.
    pub status_page_path: Option<String>,
    /// The path of the health check.
    pub health_check_path: Option<String>,
    /// Metadata that every registration also carries, unless it sets the key itself.
    pub meta: BTreeMap<String, String>,
}

impl Default for ServiceRegistration {
    fn default() -> Self {
        Self {
            deregister_on_exit: true,
            ttl: Duration::from_secs(90),
            heartbeat_interval: None,
            secure: false,
            vip: None,
            secure_vip: None,
            data_center: "MyOwn".to_owned(),
            home_page_path: None,
            status_page_path: None,
            health_check_path: None,
            meta: BTreeMap::new(),
        }
    }
}

/// What the name in a query means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LookUp {
    /// An application; case does not count.
    #[default]
    App,
    /// A VIP address, as it is written.
    Vip,
    /// A secure VIP address, as it is written.
    SecureVip,
}

/// How services are found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Discovery {
    /// How often the server is asked what changed, give or take a tenth; 30 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub refresh_interval: Duration,
    /// How often all there is is read again, give or take a quarter: what changes may miss shows then. 10 min.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub full_refresh: Duration,
    /// How long instances stay that a server no longer shows, although nobody withdrew them, when that is more than half of
    /// all: one that restarted knows nothing until they register again. 90 s.
    #[serde(with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub restart_grace: Duration,
    /// How long a look-up may be answered from the client's cache; zero for no cache, the client's 10 s where not set.
    #[serde(with = "duration::option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Duration>"))]
    pub cache_ttl: Option<Duration>,
    /// What the name in a query means.
    pub look_up: LookUp,
    /// Remote regions to look in as well. A look-up then reads everything: servers know of them in that list only.
    pub regions: Vec<String>,
    /// Show instances by IP address rather than host name.
    pub prefer_ip: bool,
    /// Use the secure port of instances that have both.
    pub prefer_secure: bool,
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            refresh_interval: Duration::from_secs(30),
            full_refresh: Duration::from_secs(600),
            restart_grace: Duration::from_secs(90),
            cache_ttl: None,
            look_up: LookUp::App,
            regions: Vec::new(),
            prefer_ip: false,
            prefer_secure: false,
        }
    }
}

impl EurekaConfig {
    /// The block, for [`Loader::new`](discovery_core::config::Loader::new).
    pub const BLOCK: KnownBlock = KnownBlock::of::<Self>(error::SCHEME)
        .env(&[EnvVar::new("EUREKA_SERVICE_URL", "server.urls")])
        .uri(UriForm {
            schemes: &[error::SCHEME],
            endpoints: Some("server.urls"),
            path: Some("server.path"),
            params: &[
                ("zone", "server.zone"),
                ("tls", "tls.enabled"),
                ("ca_file", "tls.ca_file"),
                ("cert_file", "tls.cert_file"),
                ("key_file", "tls.key_file"),
                ("username_env", "authentication.username_env"),
                ("password_env", "authentication.password_env"),
                ("password_file", "authentication.password_file"),
                ("refresh_interval", "discovery.refresh_interval"),
                ("look_up", "discovery.look_up"),
                ("regions", "discovery.regions"),
            ],
        });

    /// The settings for these servers, peers of each other.
    pub fn at<U: Into<ServiceUrl>>(urls: impl IntoIterator<Item = U>) -> Self {
        let mut config = Self::default();
        config.server.urls = urls.into_iter().map(Into::into).collect();
        config
    }

    /// The time between two heartbeats of a registration with this TTL.
    pub(crate) fn heartbeat(&self, ttl: Duration) -> Duration {
        let asked = self.service_registration.heartbeat_interval;
        asked.map_or(ttl / 3, |asked| asked.min(ttl / 3))
    }

    /// The same settings with this user and password, instead of any other source of them.
    #[must_use]
    pub fn basic_auth(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.authentication = Authentication {
            username: Some(user.into()),
            password: Some(Secret::from(password.into())),
            ..Authentication::default()
        };
        self
    }

    /// Refuses what could not work.
    pub(crate) fn validate(&self) -> Result<()> {
        address::servers(self)?;
        self.authentication.source()?;
        let second = Duration::from_secs(1);
        if self.service_registration.ttl < second {
            return Err(invalid("service_registration.ttl", "too short").with_hint("give 1 s or more"));
        }
        if let Some(interval) = self.service_registration.heartbeat_interval {
            let field = "service_registration.heartbeat_interval";
            if interval < second {
                return Err(invalid(field, "too short").with_hint("give 1 s or more"));
            }
            if interval > self.service_registration.ttl / 3 {
                return Err(invalid(field, "longer than a third of `ttl`")
                    .with_hint("make `ttl` longer: one heartbeat may be lost, and another"));
            }
        }
        if self.discovery.refresh_interval < second / 10 {
            return Err(invalid("discovery.refresh_interval", "too short").with_hint("give 100 ms or more"));
        }
        if self.discovery.full_refresh < self.discovery.refresh_interval {
            return Err(
                invalid("discovery.full_refresh", "shorter than `refresh_interval`").with_hint("give 10 min"),
            );
        }
        if !matches!(self.service_registration.data_center.as_str(), "MyOwn" | "Amazon") {
            return Err(
                invalid("service_registration.data_center", "unknown").with_hint("give `MyOwn` or `Amazon`")
            );
        }
        let registration = &self.service_registration;
        for (field, path) in [
            (
                "service_registration.home_page_path",
                &registration.home_page_path,
            ),
            (
                "service_registration.status_page_path",
                &registration.status_page_path,
            ),
            (
                "service_registration.health_check_path",
                &registration.health_check_path,
            ),
        ] {
            if path.as_deref().is_some_and(|path| !path.starts_with('/')) {
                return Err(invalid(field, "not a path").with_hint("start it with `/`"));
            }
        }
        Ok(())
    }
}

pub(crate) fn invalid(field: &'static str, fault: &str) -> Error {
    error::error(
        ErrorKind::ConfigInvalid,
        format!("invalid settings: eureka.{field}: {fault}"),
    )
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
