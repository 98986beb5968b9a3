//! Every operation of a registry, once: the blocking class and the asyncio class differ only in how they wait.

use std::{
    collections::HashMap,
    future::Future,
    ops::Deref,
    sync::{Arc, Mutex, OnceLock, Weak},
    time::Duration,
};

use discovery::{
    BackendInfo, BackendStatus, Client, ClientBuilder, Error, ErrorKind, HealthReport, InstanceId,
    MetaChange, Query, Registration, Result, Status, TaskGroup, pick::strategy_named,
    registrar::RegistrationState,
};
use foldhash::fast::RandomState;
use pyo3::{prelude::*, sync::MutexExt};
use tokio::time::sleep;
use tracing::debug;

use crate::{
    arguments::Asking,
    errors::{OrRaise, unpoisoned},
    exit,
    handle::Handle,
    instance::ServiceInstance,
    runtime,
    snapshot::Snapshot,
    step::{Step, Undo},
    values,
};

/// How often services nobody asks for any more are looked for; they go after two rounds without use.
const SWEEP: Duration = Duration::from_secs(15);

type Handles<K> = Mutex<HashMap<K, Arc<Handle>, RandomState>>;

/// What a registry object of either class stands on.
pub(crate) struct Shared {
    client: Client,
    /// For registrations that outlive the process, made on first use.
    keeping: OnceLock<Client>,
    builder: ClientBuilder,
    /// Whether each id registered here is withdrawn at exit.
    ids: Mutex<HashMap<String, bool>>,
    /// Services asked for by nothing but their name.
    names: Handles<String>,
    /// Services asked for in any other way.
    queries: Handles<(Query, Option<&'static str>)>,
    tasks: TaskGroup,
}

/// What Python objects hold. When the last of them goes, a client without registrations goes too; one that registered
/// something stays to the end of the process, for a registration once made is not forgotten.
pub(crate) struct Owner(Arc<Shared>);

impl Deref for Owner {
    type Target = Arc<Shared>;

    fn deref(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Owner {
    /// Withdraws what is to be withdrawn, ends everything else, and lets go of the client.
    pub(crate) fn end(&self, deadline: Duration) -> Step {
        let shared = self.0.clone();
        Step::quiet(async move {
            let closed = shared.close(deadline).await;
            if closed.is_ok() {
                unpoisoned(shared.ids.lock()).clear();
                exit::remove(&shared);
            }
            closed
        })
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if unpoisoned(self.ids.lock()).is_empty() {
            exit::remove(self);
            self.tasks.cancel();
        }
    }
}

/// How a registry stands.
pub(crate) struct Standing {
    pub(crate) backend: BackendInfo,
    pub(crate) registry: Result<BackendStatus>,
    pub(crate) circuit: String,
    pub(crate) registrations: Vec<RegistrationState>,
    pub(crate) watches: usize,
}

impl Shared {
    /// A client, on the runtime of this process.
    pub(crate) fn open(
        py: Python<'_>,
        build: impl FnOnce() -> Result<ClientBuilder> + Send,
    ) -> PyResult<Arc<Owner>> {
        let runtime = runtime::current(py)?;
        crate::logging::follow_level(py);
        let opened = py.detach(|| {
            let _inside = runtime.enter();
            let builder = build()?;
            let client = builder.clone().build()?;
            let declared = client.declares().map(|id| (id.as_str().to_owned(), true));
            let shared = Arc::new(Self {
                keeping: OnceLock::new(),
                builder: builder.register_on_startup(false),
                ids: Mutex::new(declared.into_iter().collect()),
                client,
                names: Mutex::default(),
                queries: Mutex::default(),
                tasks: TaskGroup::current()?,
            });
            shared
                .tasks
                .spawn(sweep(Arc::downgrade(&shared), shared.tasks.clone()));
            Result::Ok(shared)
        });
        let shared = opened.or_raise(py)?;
        exit::add(shared.clone());
        Ok(Arc::new(Owner(shared)))
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    // === registration ===

    /// The client that keeps what outlives the process.
    fn keeping(&self) -> Result<&Client> {
        if let Some(client) = self.keeping.get() {
            return Ok(client);
        }
        let client = self.builder.clone().deregister_on_shutdown(false).build()?;
        Ok(self.keeping.get_or_init(|| client))
    }

    fn owner(&self, id: &str) -> Result<Client> {
        let withdrawn = unpoisoned(self.ids.lock()).get(id).copied();
        match withdrawn {
            Some(false) => self.keeping().cloned(),
            _ => Ok(self.client.clone()),
        }
    }

    pub(crate) fn register(self: &Arc<Self>, registration: Registration, withdraw: bool) -> Step {
        let this = self.clone();
        let work = async move {
            let id = registration.id.as_str().to_owned();
            let before = unpoisoned(this.ids.lock()).insert(id.clone(), withdraw);
            if before.is_some_and(|before| before != withdraw) {
                unpoisoned(this.ids.lock()).insert(id, !withdraw);
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "registered already, with another `deregister_on_exit`",
                )
                .with_hint("deregister it first"));
            }
            let claim = Claim {
                shared: &this,
                id: before.is_none().then(|| id.clone()),
            };
            this.owner(&id)?.register(registration).await?;
            claim.keep();
            // The caller may be gone, and then nobody knows of it.
            let undo = before.is_none().then(|| {
                let (this, id) = (this.clone(), id.clone());
                Undo::new(move || this.forget(id))
            });
            Ok((id, undo))
        };
        Step::undoable(work, |py, id: String| {
            Ok(id.into_pyobject(py)?.into_any().unbind())
        })
    }

    /// Withdraws in the background what nobody knows of.
    fn forget(self: Arc<Self>, id: String) {
        let tasks = self.tasks.clone();
        tasks.spawn(async move {
            let withdrawn = async { self.owner(&id)?.deregister(&id.parse()?).await };
            if let Err(error) = withdrawn.await {
                debug!(%error, id, "a cancelled registration is withdrawn in the background");
            }
            unpoisoned(self.ids.lock()).remove(&id);
        });
    }

    pub(crate) fn deregister(self: &Arc<Self>, id: InstanceId) -> Step {
        let this = self.clone();
        Step::quiet(async move {
            this.owner(id.as_str())?.deregister(&id).await?;
            unpoisoned(this.ids.lock()).remove(id.as_str());
            Ok(())
        })
    }

    pub(crate) fn update_meta(self: &Arc<Self>, id: InstanceId, change: MetaChange) -> Step {
        let this = self.clone();
        Step::quiet(async move { this.owner(id.as_str())?.update_meta(&id, change).await })
    }

    pub(crate) fn set_health(self: &Arc<Self>, id: InstanceId, status: Status, output: String) -> Step {
        let this = self.clone();
        let report = HealthReport::new(status).with_output(output);
        Step::quiet(async move { this.owner(id.as_str())?.report_health(&id, report).await })
    }

    // === discovery ===

    /// The next instance of a service asked for by name, where that needs no waiting.
    #[inline]
    pub(crate) fn pick_kept(&self, py: Python<'_>, name: &str) -> Option<Py<ServiceInstance>> {
        let names = match self.names.try_lock() {
            Ok(names) => names,
            Err(_) => unpoisoned(self.names.lock_py_attached(py)),
        };
        let kept = names.get(name)?.kept_pick(py)?;
        drop(names);
        kept.object(py)
    }

    /// The snapshot of a service asked for by name, where that needs no waiting.
    #[inline]
    pub(crate) fn kept(&self, py: Python<'_>, name: &str) -> Option<Py<Snapshot>> {
        let names = match self.names.try_lock() {
            Ok(names) => names,
            Err(_) => unpoisoned(self.names.lock_py_attached(py)),
        };
        names.get(name)?.kept(py)
    }

    /// The handle on a service; it starts a watch where there is none.
    pub(crate) fn handle(
        &self,
        py: Python<'_>,
        name: &str,
        asking: Asking,
        strategy: Option<&str>,
    ) -> PyResult<Arc<Handle>> {
        if strategy.is_none() && asking.is_plain() {
            if let Some(handle) = unpoisoned(self.names.lock_py_attached(py)).get(name) {
                return Ok(handle.clone());
            }
            let service = self.client.service(name).or_raise(py)?;
            let handle = Arc::new(Handle::new(service));
            let mut names = unpoisoned(self.names.lock_py_attached(py));
            return Ok(names.entry(name.to_owned()).or_insert(handle).clone());
        }
        let query = asking.query(name).or_raise(py)?;
        let strategy = strategy.map(strategy_named).transpose().or_raise(py)?;
        let key = (query, strategy.as_ref().map(|strategy| strategy.name()));
        if let Some(handle) = unpoisoned(self.queries.lock_py_attached(py)).get(&key) {
            return Ok(handle.clone());
        }
        let service = match &strategy {
            Some(strategy) => self.client.balanced(&key.0, strategy),
            None => self.client.query(&key.0),
        };
        let handle = Arc::new(Handle::new(service.or_raise(py)?));
        let mut queries = unpoisoned(self.queries.lock_py_attached(py));
        Ok(queries.entry(key).or_insert(handle).clone())
    }

    pub(crate) fn services(&self) -> Step {
        let client = self.client.clone();
        Step::later(async move { client.services().await }, values::services)
    }

    pub(crate) fn health(&self, name: String) -> Step {
        let client = self.client.clone();
        Step::later(async move { client.health(name).await }, |py, health| {
            values::health(py, &health)
        })
    }

    pub(crate) fn explain(&self, name: String) -> Step {
        let client = self.client.clone();
        Step::later(async move { client.explain(name).await }, |py, all| {
            values::explained(py, &all)
        })
    }

    pub(crate) fn status(self: &Arc<Self>) -> Step {
        let this = self.clone();
        let work = async move {
            let own = this.client.status().await;
            let mut registrations = own.registrations;
            if let Some(keeping) = this.keeping.get() {
                registrations.extend(keeping.status().await.registrations);
            }
            Ok(Standing {
                backend: own.backend,
                registry: own.registry,
                circuit: format!("{:?}", own.circuit).to_lowercase(),
                registrations,
                watches: own.watches,
            })
        };
        Step::later(work, |py, standing| values::status(py, &standing))
    }

    // === the end ===

    /// Withdraws what is to be withdrawn, and ends everything else.
    pub(crate) fn close(
        self: &Arc<Self>,
        deadline: Duration,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        let this = self.clone();
        async move {
            let kept = async {
                match this.keeping.get() {
                    Some(client) => client.shutdown(deadline).await,
                    None => Ok(()),
                }
            };
            let (own, kept) = tokio::join!(this.client.shutdown(deadline), kept);
            let joined = this.tasks.join(Duration::from_millis(500)).await;
            unpoisoned(this.names.lock()).clear();
            unpoisoned(this.queries.lock()).clear();
            own.and(kept).and(joined)
        }
    }
}

/// An id that is being registered: forgotten again unless that succeeds.
struct Claim<'a> {
    shared: &'a Shared,
    id: Option<String>,
}

impl Claim<'_> {
    fn keep(mut self) {
        self.id = None;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            unpoisoned(self.shared.ids.lock()).remove(&id);
        }
    }
}

/// Lets go of services that nobody asked for lately, so that their watches stop.
async fn sweep(shared: Weak<Shared>, tasks: TaskGroup) {
    while tasks
        .cancelled()
        .run_until_cancelled(sleep(SWEEP))
        .await
        .is_some()
    {
        let Some(shared) = shared.upgrade() else { return };
        let used = |handle: &Arc<Handle>| Arc::strong_count(handle) > 1 || handle.take_used();
        unpoisoned(shared.names.lock()).retain(|_, handle| used(handle));
        unpoisoned(shared.queries.lock()).retain(|_, handle| used(handle));
    }
}
