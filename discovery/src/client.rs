//! The client: registers, discovers, balances, and keeps working when the registry does not.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use discovery_core::{
    Backend, BackendInfo, Capabilities, Error, ErrorKind, HealthReport, InstanceId, InstanceKey, MetaChange, Query,
    Registration, Result, Scope, ServiceHealth, ServiceName, ServiceRegistry, ServiceSummary, Snapshot, Target, TaskGroup,
    health::{Prober, ProberHandle},
    pick::{Service, Strategy},
    registrar::Registrar,
    resilience::Resilient,
    resolver::{Resolver, check_query},
};
use tokio::time::Instant;
use tracing::warn;

use crate::{
    builder::ClientBuilder,
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
    tasks: TaskGroup,
    strategy: Arc<dyn Strategy>,
    timeout: Duration,
    max_stale: Option<Duration>,
    probers: Mutex<HashMap<InstanceId, ProberHandle>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("backend", &self.0.info).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of this backend, to be configured further.
    pub fn builder(backend: Backend) -> ClientBuilder {
        ClientBuilder::new(backend)
    }

    pub(crate) fn assemble(builder: ClientBuilder) -> Result<Self> {
        let tasks = TaskGroup::current()?;
        let raw = builder.backend;
        let reads = Arc::new(Resilient::new(raw.registry.clone(), builder.resilience));
        let mut backend = raw;
        backend.registry = reads.uncached();
        let registrar = Registrar::new(backend.registry.clone(), tasks.clone(), builder.registrar);
        let resolver = Resolver::new(backend.clone(), tasks.clone(), builder.resolver);
        Ok(Self(Arc::new(Inner {
            info: backend.registry.info(),
            can: backend.registry.capabilities(),
            backend,
            reads,
            registrar,
            resolver,
            tasks,
            strategy: builder.strategy,
            timeout: builder.timeout,
            max_stale: builder.max_stale,
            probers: Mutex::default(),
        })))
    }

    /// What it is a client of.
    pub fn info(&self) -> &BackendInfo {
        &self.0.info
    }

    /// What the backend can do.
    pub fn capabilities(&self) -> Capabilities {
        self.0.can
    }

    // === registration ===

    /// Registers an instance and keeps it registered until it is deregistered or the client shut down.
    ///
    /// Once this has succeeded the registration is renewed, read back, and made again whenever the registry forgot it.
    /// Checks the registry does not run itself are run here; until their first result the instance is `starting`.
    /// Dropping the handle changes nothing. Registering the same service and id again replaces what is desired.
    ///
    /// # Errors
    /// Whatever the registry fails with after the configured attempts; the intent is withdrawn then.
    /// `Unsupported` when the backend cannot register or a check cannot be run.
    ///
    /// # Cancel safety
    /// Cancel-safe: a dropped call leaves the instance either registered and kept, or withdrawn.
    pub async fn register(&self, mut registration: Registration) -> Result<Registered> {
        let checks = if self.0.can.runs_checks { Vec::new() } else { registration.checks.clone() };
        for check in &checks {
            discovery_core::health::check_for(check)?;
        }
        if !checks.is_empty() && registration.health.status.is_serving() {
            registration.health.status = discovery_core::Status::Starting;
        }
        let id = registration.id.clone();
        let key = self.0.registrar.register(registration.clone()).await?;
        if !checks.is_empty() {
            let prober = self.probe(&registration, &key)?;
            self.0.probers().insert(id, prober);
        }
        Ok(Registered { client: self.clone(), key })
    }
}
