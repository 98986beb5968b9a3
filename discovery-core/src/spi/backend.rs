//! A backend: its parts, what it is and what it can do.

use std::{fmt, sync::Arc, time::Duration};

use super::{ConfigStore, ServiceRegistry, Watcher};

/// What a backend is, for people; it never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendInfo {
    /// The one word that names it everywhere: feature, URI scheme, YAML key, metrics label.
    pub scheme: &'static str,
    /// The name instances carry as [`InstanceKey::source`](crate::InstanceKey::source).
    pub source: Arc<str>,
    /// Where it is, such as `127.0.0.1:8500`.
    pub address: String,
}

impl BackendInfo {
    /// The info of a backend whose source is called like its scheme.
    pub fn new(scheme: &'static str, address: impl Into<String>) -> Self {
        Self {
            scheme,
            source: scheme.into(),
            address: address.into(),
        }
    }
}

/// What one renewal keeps alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeaseMode {
    /// Nothing: registrations live until deregistered, or cannot be made.
    None,
    /// One registration.
    Single,
    /// All registrations of a process; [`ServiceRegistry::release`] ends them at once.
    Shared,
}

/// How changes reach the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WatchMode {
    /// The server tells.
    Push,
    /// The client asks again and again.
    Poll,
}

/// The finer differences between backends; a missing part of a [`Backend`] is a missing capability by itself.
///
/// Whatever is false here answers [`Unsupported`](crate::ErrorKind::Unsupported) before anything goes on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, each with its own test case"
)]
pub struct Capabilities {
    /// `register` and `deregister`.
    pub register: bool,
    /// What `renew` renews.
    pub lease: LeaseMode,
    /// `update_meta`.
    pub update_meta: bool,
    /// `report_health`.
    pub report_health: bool,
    /// The registry runs the checks of a registration itself; where not, the client does and reports.
    pub runs_checks: bool,
    /// `services`.
    pub list_services: bool,
    /// Queries for [`Target::All`](crate::Target::All).
    pub watch_all: bool,
    /// Queries that name a datacenter.
    pub datacenters: bool,
    /// Queries that name a namespace.
    pub namespaces: bool,
    /// How changes reach the client.
    pub watch: WatchMode,
    /// A watch can resume from a cursor without a full answer.
    pub resume: bool,
    /// How often a healthy watch confirms that nothing changed; a smaller `max_stale` is refused, and a watch silent for
    /// twice as long is cut and opened again.
    pub confirm_every: Duration,
}

impl Capabilities {
    /// A backend that can only be read and polled, every `confirm_every`.
    pub const fn read_only(confirm_every: Duration) -> Self {
        Self {
            register: false,
            lease: LeaseMode::None,
            update_meta: false,
            report_health: false,
            runs_checks: false,
            list_services: false,
            watch_all: false,
            datacenters: false,
            namespaces: false,
            watch: WatchMode::Poll,
            resume: false,
            confirm_every,
        }
    }
}

/// How a registry is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendStatus {
    /// The server's version, where it says so.
    pub version: Option<String>,
    /// Its leader, where it has one.
    pub leader: Option<String>,
    /// How long it took to answer.
    pub latency: Duration,
    /// Anything else worth showing.
    pub details: Vec<(String, String)>,
}

impl BackendStatus {
    /// A server that answered after `latency`.
    pub fn new(latency: Duration) -> Self {
        Self {
            version: None,
            leader: None,
            latency,
            details: Vec::new(),
        }
    }

    /// The same status with the server's version.
    #[must_use]
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// The same status with the server's leader.
    #[must_use]
    pub fn with_leader(mut self, leader: impl Into<String>) -> Self {
        self.leader = Some(leader.into());
        self
    }

    /// The same status with one more detail.
    #[must_use]
    pub fn with_detail(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.details.push((key.into(), value.into()));
        self
    }
}

/// What a backend's own settings say about the client on top of it; the program and the blocks for clients go before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientDefaults {
    /// How long a look-up may be answered from the cache; zero for no cache, nothing for the client's own default.
    pub cache_ttl: Option<Duration>,
    /// Leave registrations in the registry when the client is shut down.
    pub keep_on_shutdown: bool,
    /// Whether the client registers what its configuration declares; nothing where the backend's settings do not say.
    pub auto_register: Option<bool>,
    /// The time between two heartbeats; nothing for a third of the TTL.
    pub renew_every: Option<Duration>,
}

impl ClientDefaults {
    /// The same defaults with this time in the cache.
    #[must_use]
    pub fn cache_ttl(mut self, ttl: Option<Duration>) -> Self {
        self.cache_ttl = ttl;
        self
    }

    /// The same defaults, leaving registrations on shutdown or not.
    #[must_use]
    pub fn keep_on_shutdown(mut self, keep: bool) -> Self {
        self.keep_on_shutdown = keep;
        self
    }

    /// The same defaults, registering what is declared or not.
    #[must_use]
    pub fn auto_register(mut self, register: Option<bool>) -> Self {
        self.auto_register = register;
        self
    }

    /// The same defaults with this time between two heartbeats.
    #[must_use]
    pub fn renew_every(mut self, every: Option<Duration>) -> Self {
        self.renew_every = every;
        self
    }
}

/// A registry behind the contract: its parts. Presence is the capability.
#[derive(Clone)]
#[non_exhaustive]
pub struct Backend {
    /// Registration and look-up.
    pub registry: Arc<dyn ServiceRegistry>,
    /// Changes as they happen.
    pub watcher: Arc<dyn Watcher>,
    /// Configuration values, where the registry keeps them.
    pub config: Option<Arc<dyn ConfigStore>>,
    /// What its settings say about the client.
    pub defaults: ClientDefaults,
    /// Settings that were given and do nothing in this release; the client names them in a warning.
    pub idle: Vec<&'static str>,
}

impl Backend {
    /// A backend without a configuration store.
    pub fn new(registry: Arc<dyn ServiceRegistry>, watcher: Arc<dyn Watcher>) -> Self {
        Self {
            registry,
            watcher,
            config: None,
            defaults: ClientDefaults::default(),
            idle: Vec::new(),
        }
    }

    /// The same backend with these defaults for its client.
    #[must_use]
    pub fn with_defaults(mut self, defaults: ClientDefaults) -> Self {
        self.defaults = defaults;
        self
    }

    /// The same backend, whose client names these settings in a warning.
    #[must_use]
    pub fn with_idle(mut self, settings: Vec<&'static str>) -> Self {
        self.idle = settings;
        self
    }

    /// The same backend with a configuration store.
    #[must_use]
    pub fn with_config(mut self, config: Arc<dyn ConfigStore>) -> Self {
        self.config = Some(config);
        self
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("info", &self.registry.info())
            .field("config", &self.config.is_some())
            .finish_non_exhaustive()
    }
}
