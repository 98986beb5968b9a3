//! `ServiceRegistry`: the blocking class.

use std::{collections::BTreeMap, path::PathBuf};

use pyo3::{
    prelude::*,
    types::{PyMapping, PyTuple},
};

use crate::fork::Local;
use crate::{
    arguments::{Asking, Endpoints, Registering, Seconds, meta_change},
    config::{self, ConfigValues},
    errors::OrRaise,
    exit,
    open::{self, Kept, Opening},
    service::{Service, key_bytes},
    watch::{Watch, Watching},
};

/// A client of one service registry.
///
/// It keeps what it registers registered, keeps views of the services it is asked for up to date, and answers from
/// those without touching the network. Every call releases the interpreter while it waits and answers Ctrl-C.
/// Threads may share it. It withdraws what it registered when it is closed, when a `with` block ends, and when the
/// interpreter exits. `AsyncServiceRegistry` is its asyncio twin.
///
/// Args:
///     backend: `consul`, `k8s`, `memory` or another backend of this build; `None` for what the environment says.
///     endpoints: A server or several, such as `"127.0.0.1:8500"`; the vendor's own environment variables and
///         defaults apply where there is none.
///     config: Settings of the backend, as its block in a configuration file has them.
///     token: What the registry is shown. Prefer `token_env` or `token_file` in `config`.
///     timeout: How long one read, and the wait for a first answer, may take; 5 s.
///     max_stale: Refuse to answer from what the registry confirmed longer ago.
///     strategy: How services are balanced: `round_robin`, `weighted_round_robin`, `random`, `weighted_random`,
///         `least_connections`, `p2c`, `peak_ewma`, `consistent_hash`, `maglev` or `rendezvous`.
///     balancing: What goes around every strategy, as `client.balancing` in a configuration file has it:
///         `{"outlier": {}, "locality": {"zone": "a"}, "max_in_flight": 100}`.
///     snapshot_dir: Where the last good answers are kept, to start from while the registry is down.
///
/// Durations are `"10s"`, a number of seconds, or a `timedelta`.
///
/// Raises:
///     ConfigError: An argument, a file or a variable of the environment makes no sense.
///
/// Example:
///     >>> with ServiceRegistry(backend="memory") as registry:
///     ...     id = registry.register("api", "127.0.0.1", 8080)
///     ...     registry.pick("api").endpoint
///     '127.0.0.1:8080'
#[pyclass(frozen, module = "system_control.discovery")]
pub(crate) struct ServiceRegistry(Kept);

#[pymethods]
#[expect(clippy::too_many_arguments, reason = "what Python calls by keyword")]
impl ServiceRegistry {
    #[new]
    #[pyo3(signature = (backend=None, *, endpoints=None, config=None, token=None, timeout=None, max_stale=None, strategy=None, balancing=None, snapshot_dir=None))]
    fn new(
        py: Python<'_>,
        backend: Option<String>,
        endpoints: Option<Endpoints>,
        config: Option<&Bound<'_, PyMapping>>,
        token: Option<String>,
        timeout: Option<Seconds>,
        max_stale: Option<Seconds>,
        strategy: Option<String>,
        balancing: Option<&Bound<'_, PyMapping>>,
        snapshot_dir: Option<PathBuf>,
    ) -> PyResult<Self> {
        let opening = Opening {
            backend,
            endpoints,
            config,
            token,
            timeout,
            max_stale,
            strategy,
            balancing,
            snapshot_dir,
        };
        opening.open(py).map(Self)
    }

    /// A registry as YAML files say, a later one going before an earlier one, and the environment before all of them.
    ///
    /// A `service_definition:` is registered at once, in the background, where the settings ask for that (`auto_register`).
    ///
    /// Args:
    ///     paths: The files.
    ///     variables: What `{{ .name }}` in the `service_definition:` stands for, before what the environment and the host
    ///         say.
    #[staticmethod]
    #[pyo3(signature = (*paths, variables=None))]
    fn from_config(
        py: Python<'_>,
        paths: Vec<PathBuf>,
        variables: Option<BTreeMap<String, String>>,
    ) -> PyResult<Self> {
        open::from_config(py, paths, variables).map(Self)
    }

    /// A registry as a URI says, such as `consul://127.0.0.1:8500?dc=dc1`.
    #[staticmethod]
    fn from_uri(py: Python<'_>, uri: &str) -> PyResult<Self> {
        open::from_uri(py, uri).map(Self)
    }

    /// Registers an instance, and keeps it registered until it is deregistered or the registry closed.
    ///
    /// Once this has returned, the registration is renewed, and made again whenever the registry forgot it.
    ///
    /// Args:
    ///     name: The service.
    ///     address: The IP address or host name clients connect to.
    ///     port: The port clients connect to.
    ///     id: The id of the instance; `<name>-<address>-<port>` unless given.
    ///     tags: Tags.
    ///     meta: Metadata: text by text.
    ///     health_check: A URL (`http://…`, `tcp://host:port`) or a dict: `http` or `tcp`, and `interval`, `timeout`,
    ///         `name`, `deregister_after`.
    ///     health_checks: Several of them.
    ///     weight: How much traffic it should get beside its siblings.
    ///     ttl: How long the record outlives its last heartbeat.
    ///     deregister_on_exit: Whether closing the registry, or the end of the interpreter, withdraws it.
    ///
    /// Returns:
    ///     The id of the instance.
    ///
    /// Raises:
    ///     InvalidInputError: An argument is wrong; nothing was sent.
    ///     DiscoveryError: What the registry fails with; nothing stays registered then.
    #[pyo3(signature = (name, address, port, *, id=None, tags=Vec::new(), meta=None, health_check=None, health_checks=None, weight=1, ttl=None, deregister_on_exit=true), text_signature = "($self, name, address, port, *, id=None, tags=(), meta=None, health_check=None, health_checks=None, weight=1, ttl=None, deregister_on_exit=True)")]
    fn register(
        &self,
        py: Python<'_>,
        name: &str,
        address: &str,
        port: i64,
        id: Option<&str>,
        tags: Vec<String>,
        meta: Option<&Bound<'_, PyMapping>>,
        health_check: Option<&Bound<'_, PyAny>>,
        health_checks: Option<Vec<Bound<'_, PyAny>>>,
        weight: i64,
        ttl: Option<Seconds>,
        deregister_on_exit: bool,
    ) -> PyResult<Py<PyAny>> {
        let shared = self.0.get(py)?;
        let given = Registering {
            name,
            address,
            port,
            id,
            tags,
            meta,
            health_check,
            health_checks,
            weight,
            ttl,
        };
        shared.register(given.build(py)?, deregister_on_exit).wait(py)
    }

    /// Withdraws a registration of this registry.
    ///
    /// Raises:
    ///     NotFoundError: This registry registered nothing of that id.
    ///     DiscoveryError: What the registry fails with; withdrawing it then goes on in the background.
    fn deregister(&self, py: Python<'_>, id: &str) -> PyResult<Py<PyAny>> {
        self.0.get(py)?.deregister(id.parse().or_raise(py)?).wait(py)
    }

    /// Sets metadata of a registration of this registry; a value of `None` removes its key, other keys stay.
    fn update_meta(&self, py: Python<'_>, id: &str, meta: &Bound<'_, PyMapping>) -> PyResult<Py<PyAny>> {
        let shared = self.0.get(py)?;
        shared
            .update_meta(id.parse().or_raise(py)?, meta_change(meta)?)
            .wait(py)
    }

    /// Shows the health of a registration of this registry, from now on with every heartbeat.
    ///
    /// Args:
    ///     id: What `register` returned.
    ///     status: `passing`, `warning`, `starting`, `unknown` or `critical`.
    ///     output: A line for people.
    #[pyo3(signature = (id, status, output=String::new()), text_signature = "($self, id, status, output='')")]
    fn set_health(&self, py: Python<'_>, id: &str, status: &str, output: String) -> PyResult<Py<PyAny>> {
        let shared = self.0.get(py)?;
        let (id, status) = (id.parse().or_raise(py)?, status.parse().or_raise(py)?);
        shared.set_health(id, status, output).wait(py)
    }

    /// The instances of a service: an immutable sequence that says where it came from and how old it is.
    ///
    /// The first call fetches within the timeout and starts a watch, which keeps later answers up to date and stops
    /// when unused. An unknown service is an empty snapshot.
    ///
    /// Args:
    ///     name: The service.
    ///     tags: Only instances that carry all of these.
    ///     healthy_only: Only instances that serve (passing or warning) and are not draining.
    ///     datacenter: A datacenter other than the registry's own.
    ///     max_stale: Refuse to answer from what the registry confirmed longer ago.
    ///
    /// Raises:
    ///     DiscoveryTimeoutError: There is no first answer in time.
    ///     UnavailableError: The answer is older than `max_stale`.
    #[pyo3(signature = (name, *, tags=None, healthy_only=true, datacenter=None, max_stale=None), text_signature = "($self, name, *, tags=(), healthy_only=True, datacenter=None, max_stale=None)")]
    fn discover(
        &self,
        py: Python<'_>,
        name: &str,
        tags: Option<Vec<String>>,
        healthy_only: bool,
        datacenter: Option<String>,
        max_stale: Option<Seconds>,
    ) -> PyResult<Py<PyAny>> {
        let asking = Asking {
            tags: tags.unwrap_or_default(),
            healthy_only,
            datacenter,
            max_stale,
        };
        let shared = self.0.get(py)?;
        if asking.is_plain()
            && let Some(kept) = shared.kept(py, name)
        {
            return Ok(kept.into_any());
        }
        shared.handle(py, name, asking, None)?.snapshot(py)?.wait(py)
    }

    /// The next healthy instance of a service: the snapshot's own shared object.
    ///
    /// Args:
    ///     name: The service.
    ///     strategy: How to balance; as the registry was told, or one after the other, unless given.
    ///     key: Text or bytes that `consistent_hash`, `maglev` and `rendezvous` choose by; others take no notice of it.
    ///
    /// Raises:
    ///     UnavailableError: There is none to pick; the message says why.
    #[pyo3(signature = (name, *, strategy=None, key=None))]
    fn pick(
        &self,
        py: Python<'_>,
        name: &str,
        strategy: Option<&str>,
        key: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let shared = self.0.get(py)?;
        let key = key_bytes(key)?;
        if strategy.is_none()
            && key.is_none()
            && let Some(object) = shared.pick_kept(py, name)
        {
            return Ok(object.into_any());
        }
        shared
            .handle(py, name, Asking::plain(), strategy)?
            .pick_by(py, key)?
            .wait(py)
    }

    /// A handle on a service: the fastest way to pick, and the one to call through.
    ///
    /// Args:
    ///     name: The service.
    ///     tags: Only instances that carry all of these.
    ///     healthy_only: Only instances that serve and are not draining.
    ///     datacenter: A datacenter other than the registry's own.
    ///     max_stale: Refuse to pick from what the registry confirmed longer ago.
    ///     strategy: How to balance; as the registry was told, or one after the other, unless given.
    #[pyo3(signature = (name, *, tags=None, healthy_only=true, datacenter=None, max_stale=None, strategy=None), text_signature = "($self, name, *, tags=(), healthy_only=True, datacenter=None, max_stale=None, strategy=None)")]
    fn service(
        &self,
        py: Python<'_>,
        name: &str,
        tags: Option<Vec<String>>,
        healthy_only: bool,
        datacenter: Option<String>,
        max_stale: Option<Seconds>,
        strategy: Option<&str>,
    ) -> PyResult<Service> {
        let asking = Asking {
            tags: tags.unwrap_or_default(),
            healthy_only,
            datacenter,
            max_stale,
        };
        let shared = self.0.get(py)?;
        Ok(Service(Local::new((
            shared.handle(py, name, asking, strategy)?,
            shared.clone(),
        ))))
    }

    /// The services of the registry, sorted by name: a tuple of `ServiceSummary`.
    fn services(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.0.get(py)?.services().wait(py)
    }

    /// For each instance of a service, whether it is chosen now, and if not, why: a tuple of `ExplainedInstance`.
    fn explain(&self, py: Python<'_>, name: String) -> PyResult<Py<PyAny>> {
        self.0.get(py)?.explain(name).wait(py)
    }

    /// How well the instances of a service are, with their checks: a `ServiceHealth`.
    fn health(&self, py: Python<'_>, name: String) -> PyResult<Py<PyAny>> {
        self.0.get(py)?.health(name).wait(py)
    }

    /// The snapshots of a service as it changes, starting with the one there is: an iterator.
    ///
    /// Args:
    ///     name: The service.
    ///     timeout: End the iteration when nothing has changed for so long.
    ///     tags: Only instances that carry all of these.
    ///     healthy_only: Only instances that serve and are not draining.
    ///     datacenter: A datacenter other than the registry's own.
    #[pyo3(signature = (name, *, timeout=None, tags=None, healthy_only=true, datacenter=None), text_signature = "($self, name, *, timeout=None, tags=(), healthy_only=True, datacenter=None)")]
    fn watch(
        &self,
        py: Python<'_>,
        name: &str,
        timeout: Option<Seconds>,
        tags: Option<Vec<String>>,
        healthy_only: bool,
        datacenter: Option<String>,
    ) -> PyResult<Watch> {
        let asking = Asking {
            tags: tags.unwrap_or_default(),
            healthy_only,
            datacenter,
            max_stale: None,
        };
        let shared = self.0.get(py)?;
        Ok(Watch(Watching::new(
            shared.handle(py, name, asking, None)?,
            shared.clone(),
            timeout,
        )))
    }

    /// How this registry stands: a `RegistryStatus`. It answers when the server does not: that is part of the answer.
    fn status(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.0.get(py)?.status().wait(py)
    }

    /// The configuration values the registry keeps beside its services.
    #[getter]
    fn config(&self, py: Python<'_>) -> PyResult<ConfigValues> {
        config::open(py, self.0.get(py)?).map(ConfigValues)
    }

    /// Withdraws what was registered, stops every watch and ends. Everything made from it raises `ClosedError` then.
    ///
    /// Args:
    ///     timeout: How long that may take.
    ///
    /// Raises:
    ///     DiscoveryTimeoutError: Something could not be withdrawn; it ends by its TTL.
    #[pyo3(signature = (*, timeout=Seconds(exit::DEADLINE)), text_signature = "($self, *, timeout=5.0)")]
    fn close(&self, py: Python<'_>, timeout: Seconds) -> PyResult<Py<PyAny>> {
        self.0.get(py)?.end(timeout.0).wait(py)
    }

    fn __enter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    #[pyo3(signature = (*_exc))]
    fn __exit__(&self, py: Python<'_>, _exc: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py, Seconds(exit::DEADLINE)).map(drop)
    }

    fn __repr__(&self) -> String {
        open::repr("ServiceRegistry", &self.0)
    }
}
