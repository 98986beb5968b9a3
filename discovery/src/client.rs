//! The client: registers, discovers, balances, and keeps working when the registry does not.

use std::{
    collections::HashMap,
    fmt,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use discovery_core::{
    Backend, BackendInfo, Capabilities, Error, ErrorKind, HealthReport, Instance, InstanceId, InstanceKey,
    MetaChange, Query, Registration, Result, Scope, ServiceHealth, ServiceName, ServiceRegistry,
    ServiceSummary, Snapshot, Status, Target, TaskGroup,
    config::{HealthCheckSets, HighAvailability},
    health::{Prober, check_for},
    pick::{Explained, Service, Strategy},
    registrar::Registrar,
    resilience::Resilient,
    resolver::{Resolver, check_max_stale, check_query},
};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use crate::{
    builder::ClientBuilder,
    definition::registration_from,
    registered::Registered,
    sets,
    sources::Reading,
    startup::{self, Startup},
    status::ClientStatus,
    values::ConfigValues,
};

/// A client of one registry. Cloning copies one pointer; all clones are one client.
///
/// Made inside a tokio runtime, whose tasks keep its registrations alive and its views up to date. End it with
/// [`shutdown`](Self::shutdown): dropping the last clone only stops the tasks, and registrations then end by their TTL.
///
/// ```
/// use discovery::{Client, Registration};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> discovery::Result<()> {
/// let client = Client::from_uri("memory://")?;
/// client.register(Registration::builder("api", "127.0.0.1", 8080).build()?).await?;
///
/// let api = client.service("api")?;
/// api.ready().await?;
/// let instance = api.acquire()?;
/// assert_eq!(instance.address(), "127.0.0.1:8080");
///
/// client.shutdown(std::time::Duration::from_secs(5)).await
/// # }
/// ```
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    backend: Backend,
    info: BackendInfo,
    can: Capabilities,
    reads: Arc<Resilient>,
    registrar: Registrar,
    resolver: Resolver,
    /// Where services are looked for, if not only in the backend.
    reading: Option<Reading>,
    tasks: TaskGroup,
    strategy: Arc<dyn Strategy>,
    timeout: Duration,
    max_stale: Option<Duration>,
    several_checks: bool,
    checks: Option<HighAvailability>,
    check_sets: HealthCheckSets,
    startup: Option<Startup>,
    values_idle: Duration,
    probers: Mutex<HashMap<InstanceKey, Prober>>,
}

/// A client that this keeps from nothing.
#[derive(Debug)]
pub(crate) struct WeakClient(Weak<Inner>);

impl WeakClient {
    pub(crate) fn upgrade(&self) -> Option<Client> {
        self.0.upgrade().map(Client)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("backend", &self.0.info)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client of this backend, to be configured further.
    pub fn builder(backend: Backend) -> ClientBuilder {
        ClientBuilder::new(backend)
    }

    pub(crate) fn assemble(builder: ClientBuilder) -> Result<Self> {
        let tasks = TaskGroup::current()?;
        if let Some(max_stale) = builder.max_stale {
            check_max_stale(max_stale, &builder.backend.registry.capabilities())
                .map_err(|error| error.with_backend(builder.backend.registry.info().scheme))?;
        }
        let declared = builder.declared.filter(|_| builder.register_on_startup);
        let declared = declared.map(|loaded| registration_from(&loaded, &builder.variables));
        let startup = declared.transpose()?.map(Startup::new);
        let mut backend = match &builder.sources {
            Some(sources) => builder.backend.named(sources.primary.clone()),
            None => builder.backend,
        };
        let reads = Arc::new(Resilient::new(
            backend.registry.clone(),
            builder.resilience.clone(),
        ));
        backend.registry = reads.uncached();
        let registrar = Registrar::new(backend.registry.clone(), tasks.clone(), builder.registrar);
        let mut options = builder.resolver;
        options.disk = builder.disk.as_ref().map(|disk| disk.store(reads.info()));
        let resolver = Resolver::new(backend.clone(), tasks.clone(), options.clone());
        let reading = builder.sources.map(|sources| {
            let own = (reads.clone(), resolver.clone());
            let disk = builder.disk.as_ref();
            Reading::open(sources, own, &tasks, &builder.resilience, &options, disk)
        });
        let client = Self(Arc::new(Inner {
            info: backend.registry.info(),
            can: backend.registry.capabilities(),
            backend,
            reads,
            registrar,
            resolver,
            reading: reading.transpose()?,
            tasks,
            strategy: builder.strategy,
            timeout: builder.timeout,
            max_stale: builder.max_stale,
            several_checks: builder.several_checks,
            checks: builder.checks,
            check_sets: builder.check_sets,
            startup,
            values_idle: builder.values_idle,
            probers: Mutex::default(),
        }));
        if client.0.startup.is_some() {
            startup::start(&client);
        }
        Ok(client)
    }

    pub(crate) fn downgrade(&self) -> WeakClient {
        WeakClient(Arc::downgrade(&self.0))
    }

    pub(crate) fn tasks(&self) -> &TaskGroup {
        &self.0.tasks
    }

    pub(crate) fn startup(&self) -> Option<&Startup> {
        self.0.startup.as_ref()
    }

    /// What it is a client of.
    pub fn info(&self) -> &BackendInfo {
        &self.0.info
    }

    /// What the backend can do.
    pub fn capabilities(&self) -> Capabilities {
        self.0.can
    }

    /// The registry itself, for what concerns records of other programs: nothing done through it is kept up by this client.
    pub fn registry(&self) -> &Arc<dyn ServiceRegistry> {
        &self.0.backend.registry
    }

    // === registration ===

    /// Registers an instance and keeps it registered until it is deregistered or the client shut down.
    ///
    /// Once this has succeeded the registration is renewed, read back, and made again whenever the registry forgot it.
    /// Checks the registry does not run itself, and those that `health_checks:` has for the service, are run here; until their
    /// first result the instance is `starting`.
    /// Dropping the handle changes nothing. Registering the same service and id again replaces what is desired.
    ///
    /// # Errors
    /// Whatever the registry fails with after the configured attempts; the intent is withdrawn then.
    /// `Unsupported` when the backend cannot register or a check cannot be run.
    ///
    /// # Cancel safety
    /// Cancel-safe: a dropped call leaves nothing registered that nobody knows of.
    pub async fn register(&self, mut registration: Registration) -> Result<Registered> {
        let inner = &*self.0;
        if let Some(block) = &inner.checks {
            registration.checks = block.checks(&registration);
        }
        let set = sets::of(&inner.check_sets, registration.service.as_str());
        let mut looks = set.map_or_else(|| Ok(Vec::new()), |set| sets::probes(set, &registration))?;
        if registration.checks.len() + looks.len() > 1 && !inner.several_checks {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "several checks, but the configuration allows one",
            )
            .with_hint("set `high_availability.health_checks.multiple_checks` to true"));
        }
        if !inner.can.runs_checks {
            for check in &registration.checks {
                looks.push((check.clone(), check_for(check)?));
            }
        }
        let probing = !looks.is_empty();
        if probing && registration.health.status.is_serving() {
            // New is not healthy: nobody has looked yet.
            registration.health.status = Status::Starting;
        }
        let key = inner.registrar.register(registration.clone()).await?;
        // Whatever probed an earlier registration of this id ends here.
        inner.probers().remove(&key);
        if probing {
            let target = Instance::builder(key.clone(), registration.address.clone(), registration.port)
                .tags(&registration.tags)
                .meta(&registration.meta)
                .build();
            let thresholds = set.map(sets::thresholds).unwrap_or_default();
            let prober = Prober::with_checks(&inner.tasks, target, looks, thresholds);
            self.follow(prober, key.clone(), set.and_then(sets::patience));
        }
        Ok(Registered {
            client: self.clone(),
            key,
        })
    }

    /// The id of what the configuration has this client register at its start, if it has anything.
    pub fn declares(&self) -> Option<&InstanceId> {
        self.0.startup.as_ref().map(Startup::id)
    }

    /// What the configuration has this client register at its start, once that is done; nothing where it has nothing.
    ///
    /// # Errors
    /// What the attempts so far have failed with. They go on in the background, unless the registration makes no sense.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn declared(&self) -> Result<Option<Registered>> {
        let Some(startup) = &self.0.startup else {
            return Ok(None);
        };
        let ended = self
            .0
            .tasks
            .cancelled()
            .run_until_cancelled(startup.standing())
            .await;
        self.open()?;
        let key = ended.transpose()?;
        Ok(key.map(|key| Registered {
            client: self.clone(),
            key,
        }))
    }

    /// Has the registrar show what a prober sees, and withdraws what is critical for longer than `patience`.
    fn follow(&self, prober: Prober, key: InstanceKey, patience: Option<Duration>) {
        let inner = &*self.0;
        let mut reports = prober.reports();
        reports.mark_changed();
        let (registrar, weak, key_of) = (inner.registrar.clone(), self.downgrade(), key.clone());
        inner.tasks.spawn(async move {
            let mut until: Option<Instant> = None;
            loop {
                let lapsed = async {
                    match until {
                        Some(until) => sleep_until(until).await,
                        None => pending().await,
                    }
                };
                tokio::select! {
                    // The channel closes when the prober is dropped.
                    changed = reports.changed() => if changed.is_err() { return },
                    () = lapsed => {
                        warn!(key = %key_of, ?patience, "critical for too long: withdrawn");
                        if let Some(client) = weak.upgrade()
                            && let Err(error) = client.deregister(&key_of.id).await
                        {
                            debug!(key = %key_of, %error, "not withdrawn yet");
                        }
                        return;
                    }
                }
                let seen = reports.borrow_and_update().clone();
                until = match (seen.status, patience) {
                    (Status::Critical, Some(patience)) => until.or(Some(Instant::now() + patience)),
                    _ => None,
                };
                // A probe knows nothing of draining: what the owner wants stays.
                let report = seen.with_draining(registrar.states().iter().any(|state| {
                    state.key.service == key_of.service && state.key.id == key_of.id && state.health.draining
                }));
                if let Err(error) = registrar.report_health(&key_of.service, &key_of.id, report).await {
                    debug!(key = %key_of, %error, "check result not shown yet");
                }
            }
        });
        inner.probers().insert(key, prober);
    }

    /// Withdraws a registration of this client.
    ///
    /// # Errors
    /// `NotFound` when this client registered nothing of that id, `InvalidInput` when several services have it.
    /// Whatever the registry fails with after the configured attempts; the withdrawal is then tried on in the background.
    ///
    /// # Cancel safety
    /// Cancel-safe: once asked for, the withdrawal goes on.
    pub async fn deregister(&self, id: &InstanceId) -> Result<()> {
        let service = self.0.registrar.find(id)?;
        self.0
            .probers()
            .retain(|key, _| key.service != service || key.id != *id);
        self.0.registrar.deregister(&service, id).await
    }

    /// Sets and removes metadata of a registration of this client.
    ///
    /// What is desired changes first: a registration made again carries it.
    ///
    /// # Errors
    /// As [`Self::deregister`]; what the registry could not be told now is told when it is back.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn update_meta(&self, id: &InstanceId, change: MetaChange) -> Result<()> {
        let service = self.0.registrar.find(id)?;
        self.0.registrar.update_meta(&service, id, change).await
    }

    /// Shows the health of a registration of this client, from now on with every heartbeat.
    ///
    /// # Errors
    /// As [`Self::update_meta`].
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn report_health(&self, id: &InstanceId, report: HealthReport) -> Result<()> {
        let service = self.0.registrar.find(id)?;
        self.0.registrar.report_health(&service, id, report).await
    }

    /// Takes a registration of this client out of new traffic, waits for what is under way, and withdraws it.
    ///
    /// # Errors
    /// As [`Self::deregister`].
    ///
    /// # Cancel safety
    /// Not cancel-safe: dropped while waiting, the instance stays registered and draining.
    pub async fn drain(&self, id: &InstanceId, wait: Duration) -> Result<()> {
        let service = self.0.registrar.find(id)?;
        self.0.registrar.drain(&service, id, wait).await
    }

    // === discovery ===

    /// A handle on the healthy instances of a service.
    ///
    /// # Errors
    /// `InvalidInput` when `name` is not a service name, `Closed` after shutdown.
    pub fn service(&self, name: impl AsRef<str>) -> Result<Service> {
        self.query(&Query::service(name)?)
    }

    /// A handle on what a query means, balanced as its route says, else as the client is.
    ///
    /// # Errors
    /// `Unsupported` when the backend cannot answer such a query, `ConfigInvalid` for a `max_stale` it cannot keep, `Closed`
    /// after shutdown.
    pub fn query(&self, query: &Query) -> Result<Service> {
        let reading = self.0.reading.as_ref();
        let routed = reading.and_then(|reading| reading.strategy(query));
        self.balanced(query, routed.unwrap_or(&self.0.strategy))
    }

    /// A handle on what a query means, balanced by `strategy`. Handles of one query and strategy name share one view.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub fn balanced(&self, query: &Query, strategy: &Arc<dyn Strategy>) -> Result<Service> {
        let mut query = query.clone();
        query.max_stale = query.max_stale.or(self.0.max_stale);
        let composed = self.0.reading.as_ref();
        let view = match composed.and_then(|reading| reading.view(&query, strategy)) {
            Some(view) => view?,
            None => self.0.resolver.view(&query, strategy)?,
        };
        Ok(Service::new(view, self.0.timeout))
    }

    /// Looks once, without a watch: through the cache, and from the last good answer while the registry is down.
    ///
    /// # Errors
    /// As [`Self::query`], and whatever the registry fails with while there is no good answer.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn lookup(&self, query: &Query) -> Result<Snapshot> {
        let query = self.checked(query)?;
        if let Some(reading) = &self.0.reading
            && let Some(found) = reading.lookup(&query).await
        {
            return found;
        }
        self.0.reads.instances(&query).await
    }

    /// As [`Self::lookup`], of all sources, whichever serve now.
    async fn lookup_everywhere(&self, query: &Query) -> Result<Snapshot> {
        let query = self.checked(query)?;
        if let Some(reading) = &self.0.reading
            && let Some(found) = reading.lookup_everywhere(&query).await
        {
            return found;
        }
        self.0.reads.instances(&query).await
    }

    fn checked(&self, query: &Query) -> Result<Query> {
        self.open()?;
        let mut query = query.clone();
        query.max_stale = query.max_stale.or(self.0.max_stale);
        check_query(&query, &self.0.can).map_err(|error| error.with_backend(self.0.info.scheme))?;
        Ok(query)
    }

    /// The services of the registry, sorted by name; of several sources, those of the client's own backend.
    ///
    /// # Errors
    /// `Unsupported` when the backend cannot list services; whatever the registry fails with.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn services(&self) -> Result<Vec<ServiceSummary>> {
        self.open()?;
        self.0.reads.services(&Scope::default()).await
    }

    /// How well the instances of a service are, with their checks: those of every source.
    ///
    /// # Errors
    /// As [`Self::lookup`].
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn health(&self, name: impl AsRef<str> + Send) -> Result<ServiceHealth> {
        let service = ServiceName::new(name)?;
        let query = Query::new(Target::Service(service.clone()))
            .include_unhealthy()
            .with_checks();
        let found = self.lookup_everywhere(&query).await?;
        Ok(ServiceHealth::of(service, found.instances))
    }

    /// For each instance of a service, whether it is chosen now, and if not, why: as this client balances the service.
    ///
    /// # Errors
    /// As [`Self::lookup`].
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn explain(&self, name: impl AsRef<str> + Send) -> Result<Vec<Explained>> {
        let query = Query::service(name)?;
        let service = self.query(&query)?;
        service.instances().await?;
        let all = self.lookup_everywhere(&query.include_unhealthy()).await?;
        Ok(service.explain(&all))
    }

    /// How this client and its registry stand. It answers when the registry does not, and after shutdown: that is part of
    /// the answer.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn status(&self) -> ClientStatus {
        let registry = match self.open() {
            Ok(()) => self.0.reads.status().await,
            Err(closed) => Err(closed),
        };
        let reading = self.0.reading.as_ref();
        ClientStatus {
            backend: self.0.info.clone(),
            registry,
            circuit: self.0.reads.circuit(),
            registrations: self.0.registrar.states(),
            watches: self.0.resolver.upstreams() + reading.map_or(0, Reading::upstreams),
            failovers: reading.map_or_else(Vec::new, Reading::states),
        }
    }

    /// The configuration values the registry keeps.
    ///
    /// # Errors
    /// `Unsupported` when it keeps none, `Closed` after shutdown.
    pub fn config(&self) -> Result<ConfigValues> {
        self.open()?;
        match &self.0.backend.config {
            Some(store) => Ok(ConfigValues::new(
                store.clone(),
                self.0.info.scheme,
                self.0.timeout,
                self.0.values_idle,
                self.0.tasks.clone(),
            )),
            None => Err(Error::new(
                ErrorKind::Unsupported,
                "this backend keeps no configuration values",
            )
            .with_backend(self.0.info.scheme)),
        }
    }

    // === the end ===

    /// The graceful end of a program: takes everything it registered out of new traffic, leaves those who use it the time
    /// `wait` to see that and to finish, and then is [`shutdown`](Self::shutdown). Go on serving until it returns.
    ///
    /// It ends after `wait` and `deadline` at the latest, however slow the registry is; with nothing registered it does not
    /// wait. Where registrations outlive the client (`deregister_on_shutdown` is off) it is just `shutdown`.
    ///
    /// # Errors
    /// As [`Self::shutdown`].
    ///
    /// # Cancel safety
    /// Dropped while waiting, the registrations stay, draining; dropped later, calling `shutdown` goes on.
    pub async fn leave(&self, wait: Duration, deadline: Duration) -> Result<()> {
        self.0.registrar.drain_all(wait).await;
        self.shutdown(deadline).await
    }

    /// Stops heartbeats, withdraws every registration, stops every watch and joins every task.
    ///
    /// Handles made from this client, configuration values included, answer `Closed` from then on.
    ///
    /// # Errors
    /// `Timeout` naming what could not be withdrawn by `deadline`; it will end by its TTL.
    ///
    /// # Cancel safety
    /// Cancel-safe: calling it again goes on.
    pub async fn shutdown(&self, deadline: Duration) -> Result<()> {
        let until = Instant::now() + deadline;
        self.0.probers().clear();
        let withdrawn = self.0.registrar.shutdown(deadline).await;
        // Tasks end when told to; a little time is theirs even if withdrawing took all of it.
        let left = until
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(100));
        let joined = self.0.tasks.join(left).await;
        withdrawn.and(joined)
    }

    fn open(&self) -> Result<()> {
        if self.0.tasks.cancelled().is_cancelled() {
            return Err(
                Error::new(ErrorKind::Closed, "the client was shut down").with_backend(self.0.info.scheme)
            );
        }
        Ok(())
    }
}

impl Inner {
    fn probers(&self) -> MutexGuard<'_, HashMap<InstanceKey, Prober>> {
        self.probers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.tasks.cancelled().is_cancelled() {
            let left = self.registrar.states().len();
            if left > 0 {
                warn!(
                    registrations = left,
                    "a client was dropped without shutdown: its registrations end by their TTL"
                );
            }
            self.tasks.cancel();
        }
    }
}
