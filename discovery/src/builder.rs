//! How a client is put together.

use std::{path::PathBuf, sync::Arc, time::Duration};

use discovery_core::{
    Backend, BackendInfo, Result,
    config::{HealthCheckSets, HighAvailability, Loader, Variables},
    disk::SnapshotStore,
    pick::{Balancing, Outlier, RoundRobin, Strategy, strategy_named},
    registrar::RegistrarConfig,
    resilience::{ResilienceOptions, RetryPolicy},
    resolver::ResolverOptions,
};

use crate::{Client, sources::Sources};

/// Puts a [`Client`] together; made by [`Client::builder`]. Setters never fail, [`build`](Self::build) reports.
#[derive(Debug, Clone)]
#[must_use]
pub struct ClientBuilder {
    pub(crate) backend: Backend,
    pub(crate) strategy: Arc<dyn Strategy>,
    pub(crate) timeout: Duration,
    pub(crate) max_stale: Option<Duration>,
    pub(crate) several_checks: bool,
    /// What says how often and how long checks look that do not say themselves.
    pub(crate) checks: Option<HighAvailability>,
    /// Checks of services, by service, that this client runs besides their own.
    pub(crate) check_sets: HealthCheckSets,
    /// Settings that declare what to register.
    pub(crate) declared: Option<Loader>,
    pub(crate) register_on_startup: bool,
    pub(crate) variables: Variables,
    /// How long a watch of configuration values may be silent.
    pub(crate) values_idle: Duration,
    pub(crate) resilience: ResilienceOptions,
    pub(crate) registrar: RegistrarConfig,
    pub(crate) resolver: ResolverOptions,
    pub(crate) disk: Option<Disk>,
    pub(crate) sources: Option<Sources>,
}

/// Where last-good snapshots are kept, each source's under its own name.
#[derive(Debug, Clone)]
pub(crate) struct Disk(PathBuf);

impl Disk {
    pub(crate) fn store(&self, source: BackendInfo) -> SnapshotStore {
        SnapshotStore::new(&self.0, source)
    }
}

impl ClientBuilder {
    pub(crate) fn new(backend: Backend) -> Self {
        let defaults = backend.defaults;
        let mut resilience = ResilienceOptions::default();
        match (defaults.cache_ttl, &mut resilience.cache) {
            (Some(Duration::ZERO), cache) => *cache = None,
            (Some(ttl), Some(cache)) => cache.ttl = ttl,
            _ => {}
        }
        Self {
            values_idle: backend.registry.capabilities().confirm_every * 2,
            backend,
            strategy: Arc::new(RoundRobin),
            timeout: Duration::from_secs(5),
            max_stale: None,
            several_checks: true,
            checks: None,
            check_sets: HealthCheckSets::default(),
            declared: None,
            register_on_startup: false,
            variables: Variables::default(),
            resilience,
            registrar: RegistrarConfig::default()
                .deregister_on_shutdown(!defaults.keep_on_shutdown)
                .renew_every(defaults.renew_every),
            resolver: ResolverOptions::default(),
            disk: None,
            sources: None,
        }
    }

    /// How services are balanced that do not say; one after the other unless set.
    pub fn strategy(mut self, strategy: impl Strategy) -> Self {
        self.strategy = Arc::new(strategy);
        self
    }

    /// What goes around every strategy: filter, subset, locality, slow start, ejection, limits.
    pub fn balancing(mut self, balancing: Balancing) -> Self {
        self.resolver.balancing = Arc::new(balancing);
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
        self.disk = Some(Disk(dir.into()));
        self
    }

    /// Further sources to read from when the backend has too few healthy instances or does not answer; none unless set.
    /// What is registered is registered with the client's own backend alone.
    pub fn sources(mut self, sources: Sources) -> Self {
        self.sources = Some(sources);
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

    /// Puts another backend in the place of this one, such as one around it; what was set stays.
    pub fn map_backend(mut self, map: impl FnOnce(Backend) -> Backend) -> Self {
        self.backend = map(self.backend);
        self
    }

    /// Whether shutting down withdraws what was registered; it does unless set, here or for the backend.
    pub fn deregister_on_shutdown(mut self, withdraw: bool) -> Self {
        self.registrar.deregister_on_shutdown = withdraw;
        self
    }

    /// Whether the client registers what its configuration declares (a `service_definition:`) as soon as it is built, in the
    /// background, and for ever until that succeeds. As the configuration says unless set; see [`Client::declared`].
    pub fn register_on_startup(mut self, register: bool) -> Self {
        self.register_on_startup = register;
        self
    }

    /// What `{{ .name }}` stands for in a `service_definition:` that is registered at the start, before what the environment
    /// and the host say.
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables = self.variables.with(name, value);
        self
    }

    /// Keeps no answers: every look-up asks the registry, and fails where it does. For a program that looks once.
    pub fn without_cache(mut self) -> Self {
        self.resilience.cache = None;
        self
    }

    /// How reads reach the registry: limits, deadlines, retries, circuit, cache.
    pub fn resilience(mut self, options: ResilienceOptions) -> Self {
        self.resilience = options;
        self
    }

    /// Everything the `high_availability:` block says. What it and the backend's block both have a say in, such as
    /// withdrawing on shutdown, happens only where neither is against it.
    ///
    /// # Errors
    /// `ConfigInvalid` when it names a strategy that does not exist.
    pub fn high_availability(mut self, block: &HighAvailability) -> Result<Self> {
        self.strategy = strategy_named(&block.discovery.load_balancing)?;
        self.registrar.retry = block.retry_policy();
        self.registrar.deregister_on_shutdown &= block.service_registration.deregister_on_shutdown;
        self.several_checks = block.health_checks.multiple_checks;
        self.checks = Some(block.clone());
        if !block.discovery.failover_mechanisms {
            self.sources = None;
        }
        if !block.discovery.cache_configuration {
            self.resilience.cache = None;
        }
        let mut balancing = Balancing::clone(&self.resolver.balancing);
        if block.discovery.circuit_breakers {
            balancing.outlier.get_or_insert_with(Outlier::default);
        } else {
            self.resilience.breaker = None;
            balancing.outlier = None;
        }
        self.resolver.balancing = Arc::new(balancing);
        Ok(self)
    }

    /// Checks of services, as the `health_checks:` block has them: this client runs them, besides those of their own, for the
    /// instances it registers. The set of the service `api` is called `api` or `api_service`.
    pub fn health_checks(mut self, sets: HealthCheckSets) -> Self {
        self.check_sets = sets;
        self
    }

    /// The client.
    ///
    /// # Errors
    /// `ConfigInvalid` outside a tokio runtime, for a `max_stale` shorter than the backend confirms its answers, for a variable
    /// of what is to be registered that nothing gives a value, and for sources or routes that make no sense.
    pub fn build(self) -> Result<Client> {
        Client::assemble(self)
    }
}

#[cfg(test)]
mod tests {
    use discovery_core::{ClientDefaults, config::Loader, memory::MemoryStore};

    use super::*;

    fn builder(defaults: ClientDefaults) -> ClientBuilder {
        Client::builder(MemoryStore::new().backend().with_defaults(defaults))
    }

    #[test]
    fn a_backends_block_has_its_say_on_the_cache_and_on_withdrawing() {
        let plain = builder(ClientDefaults::default());
        assert!(plain.registrar.deregister_on_shutdown);
        let ttl = |defaults| builder(defaults).resilience.cache.map(|cache| cache.ttl);
        assert_eq!(ttl(ClientDefaults::default()), Some(Duration::from_secs(10)));
        let minute = ClientDefaults::default().cache_ttl(Some(Duration::from_secs(60)));
        assert_eq!(ttl(minute), Some(Duration::from_secs(60)));
        assert_eq!(ttl(minute.cache_ttl(Some(Duration::ZERO))), None);
    }

    #[test]
    fn circuit_breakers_are_those_of_the_registry_and_of_instances() {
        let plain = builder(ClientDefaults::default());
        assert_eq!(*plain.resolver.balancing, Balancing::default());
        let mut block = HighAvailability::default();
        let with = plain.clone().high_availability(&block).unwrap();
        assert_eq!(with.resolver.balancing.outlier, Some(Outlier::default()));
        block.discovery.circuit_breakers = false;
        let without = with.high_availability(&block).unwrap();
        assert_eq!(without.resolver.balancing.outlier, None);
        assert!(without.resilience.breaker.is_none());
    }

    #[test]
    fn either_block_keeps_registrations_and_the_program_decides() {
        let keep = ClientDefaults::default().keep_on_shutdown(true);
        let withdraws = HighAvailability::default();
        let text = "high_availability: { service_registration: { deregister_on_shutdown: false } }";
        let loaded = Loader::new(&[HighAvailability::BLOCK])
            .yaml("ha.yaml", text)
            .unwrap();
        let keeps: HighAvailability = loaded.block("high_availability").unwrap();
        for (defaults, block) in [(keep, &withdraws), (ClientDefaults::default(), &keeps)] {
            let builder = builder(defaults).high_availability(block).unwrap();
            assert!(!builder.registrar.deregister_on_shutdown);
            assert!(
                builder
                    .deregister_on_shutdown(true)
                    .registrar
                    .deregister_on_shutdown
            );
        }
    }
}
