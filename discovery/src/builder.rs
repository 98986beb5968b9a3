//! How a client is put together.

use std::{path::PathBuf, sync::Arc, time::Duration};

use discovery_core::{
    Backend, Result,
    config::HighAvailability,
    disk::SnapshotStore,
    pick::{RoundRobin, Strategy, strategy_named},
    registrar::RegistrarConfig,
    resilience::{ResilienceOptions, RetryPolicy},
    resolver::ResolverOptions,
};

use crate::Client;

/// Puts a [`Client`] together; made by [`Client::builder`]. Setters never fail, [`build`](Self::build) reports.
#[derive(Debug, Clone)]
#[must_use]
pub struct ClientBuilder {
    pub(crate) backend: Backend,
    pub(crate) strategy: Arc<dyn Strategy>,
    pub(crate) timeout: Duration,
    pub(crate) max_stale: Option<Duration>,
    pub(crate) several_checks: bool,
    pub(crate) resilience: ResilienceOptions,
    pub(crate) registrar: RegistrarConfig,
    pub(crate) resolver: ResolverOptions,
}

impl ClientBuilder {
    pub(crate) fn new(backend: Backend) -> Self {
        Self {
            backend,
            strategy: Arc::new(RoundRobin),
            timeout: Duration::from_secs(5),
            max_stale: None,
            several_checks: true,
            resilience: ResilienceOptions::default(),
            registrar: RegistrarConfig::default(),
            resolver: ResolverOptions::default(),
        }
    }

    /// How services are balanced that do not say; one after the other unless set.
    pub fn strategy(mut self, strategy: impl Strategy) -> Self {
        self.strategy = Arc::new(strategy);
        self
    }

    /// How long one attempt of a read, and the wait for a first view, may take; 5 s unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self.resilience.read_timeout = timeout;
        self.resolver.read_timeout = timeout;
        self
    }

    /// Refuse to answer from views that the registry last confirmed longer ago; no limit unless set.
    pub fn max_stale(mut self, max_stale: Duration) -> Self {
        self.max_stale = Some(max_stale);
        self
    }

    /// Keep last-good snapshots in this directory, to start from while the registry is down.
    pub fn snapshot_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.resolver.disk = Some(SnapshotStore::new(dir, self.backend.registry.info()));
        self
    }

    /// How long a watch goes on after its last user is gone; 30 s unless set.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.resolver.linger = linger;
        self
    }

    /// How often a first registration, a change and a withdrawal are tried before they are an error.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.registrar.retry = retry;
        self
    }

    /// Whether shutting down withdraws what was registered; it does unless set.
    pub fn deregister_on_shutdown(mut self, withdraw: bool) -> Self {
        self.registrar.deregister_on_shutdown = withdraw;
        self
    }

    /// How reads reach the registry: limits, deadlines, retries, circuit, cache.
    pub fn resilience(mut self, options: ResilienceOptions) -> Self {
        self.resilience = options;
        self
    }

    /// Everything the `high_availability:` block says.
    ///
    /// # Errors
    /// `ConfigInvalid` when it names a strategy that does not exist.
    pub fn high_availability(mut self, block: &HighAvailability) -> Result<Self> {
        self.strategy = strategy_named(&block.discovery.load_balancing)?;
        self.registrar.retry = block.retry_policy();
        self.registrar.deregister_on_shutdown = block.service_registration.deregister_on_shutdown;
        self.several_checks = block.health_checks.multiple_checks;
        if !block.discovery.cache_configuration {
            self.resilience.cache = None;
        }
        if !block.discovery.circuit_breakers {
            self.resilience.breaker = None;
        }
        Ok(self)
    }

    /// The client.
    ///
    /// # Errors
    /// `ConfigInvalid` outside a tokio runtime, and for a `max_stale` shorter than the backend confirms its answers.
    pub fn build(self) -> Result<Client> {
        Client::assemble(self)
    }
}
