//! `AsyncServiceRegistry`: the asyncio class, over the same operations as the blocking one.

use std::{collections::BTreeMap, path::PathBuf};

use pyo3::{
    prelude::*,
    types::{PyMapping, PyTuple},
};

use crate::fork::Local;
use crate::{
    arguments::{Asking, Endpoints, Registering, Seconds, meta_change},
    config::{self, AsyncConfigValues},
    errors::OrRaise,
    exit,
    open::{self, Kept, Opening},
    operation::Operation,
    service::{AsyncService, key_bytes},
    step::Step,
    watch::{AsyncWatch, Watching},
};

/// A client of one service registry, for asyncio: `ServiceRegistry` with `await`, `async with` and `async for`.
///
/// It may be made outside of an event loop, and used from several. Cancelling a task gives up what it awaits: a
/// registration that was not finished is withdrawn. Arguments are those of `ServiceRegistry`.
///
/// Example:
///     async with AsyncServiceRegistry(backend="memory") as registry:
///         await registry.register("api", "127.0.0.1", 8080)
///         instance = await registry.pick("api")
#[pyclass(frozen, module = "system_control.discovery")]
pub(crate) struct AsyncServiceRegistry(Kept);

#[pymethods]
#[expect(clippy::too_many_arguments, reason = "what Python calls by keyword")]
impl AsyncServiceRegistry {
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

    /// As `ServiceRegistry.from_config`.
    #[staticmethod]
    #[pyo3(signature = (*paths, variables=None))]
    fn from_config(
        py: Python<'_>,
        paths: Vec<PathBuf>,
        variables: Option<BTreeMap<String, String>>,
    ) -> PyResult<Self> {
        open::from_config(py, paths, variables).map(Self)
    }

    /// As `ServiceRegistry.from_uri`.
    #[staticmethod]
    fn from_uri(py: Python<'_>, uri: &str) -> PyResult<Self> {
        open::from_uri(py, uri).map(Self)
    }

    /// As `ServiceRegistry.register`, awaited.
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
    ) -> PyResult<Operation> {
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
        Ok(shared.register(given.build(py)?, deregister_on_exit).coroutine())
    }

    /// As `ServiceRegistry.deregister`, awaited.
    fn deregister(&self, py: Python<'_>, id: &str) -> PyResult<Operation> {
        Ok(self.0.get(py)?.deregister(id.parse().or_raise(py)?).coroutine())
    }

    /// As `ServiceRegistry.update_meta`, awaited.
    fn update_meta(&self, py: Python<'_>, id: &str, meta: &Bound<'_, PyMapping>) -> PyResult<Operation> {
        let shared = self.0.get(py)?;
        Ok(shared
            .update_meta(id.parse().or_raise(py)?, meta_change(meta)?)
            .coroutine())
    }

    /// As `ServiceRegistry.set_health`, awaited.
    #[pyo3(signature = (id, status, output=String::new()), text_signature = "($self, id, status, output='')")]
    fn set_health(&self, py: Python<'_>, id: &str, status: &str, output: String) -> PyResult<Operation> {
        let shared = self.0.get(py)?;
        let (id, status) = (id.parse().or_raise(py)?, status.parse().or_raise(py)?);
        Ok(shared.set_health(id, status, output).coroutine())
    }

    /// As `ServiceRegistry.discover`, awaited.
    #[pyo3(signature = (name, *, tags=None, healthy_only=true, datacenter=None, max_stale=None), text_signature = "($self, name, *, tags=(), healthy_only=True, datacenter=None, max_stale=None)")]
    fn discover(
        &self,
        py: Python<'_>,
        name: &str,
        tags: Option<Vec<String>>,
        healthy_only: bool,
        datacenter: Option<String>,
        max_stale: Option<Seconds>,
    ) -> PyResult<Operation> {
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
            return Ok(Step::Now(kept.into_any()).coroutine());
        }
        Ok(shared.handle(py, name, asking, None)?.snapshot(py)?.coroutine())
    }

    /// As `ServiceRegistry.pick`, awaited.
    #[pyo3(signature = (name, *, strategy=None, key=None))]
    fn pick(
        &self,
        py: Python<'_>,
        name: &str,
        strategy: Option<&str>,
        key: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Operation> {
        let shared = self.0.get(py)?;
        let key = key_bytes(key)?;
        if strategy.is_none()
            && key.is_none()
            && let Some(object) = shared.pick_kept(py, name)
        {
            return Ok(Step::Now(object.into_any()).coroutine());
        }
        Ok(shared
            .handle(py, name, Asking::plain(), strategy)?
            .pick_by(py, key)?
            .coroutine())
    }

    /// As `ServiceRegistry.service`.
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
    ) -> PyResult<AsyncService> {
        let asking = Asking {
            tags: tags.unwrap_or_default(),
            healthy_only,
            datacenter,
            max_stale,
        };
        let shared = self.0.get(py)?;
        Ok(AsyncService(Local::new((
            shared.handle(py, name, asking, strategy)?,
            shared.clone(),
        ))))
    }

    /// As `ServiceRegistry.services`, awaited.
    fn services(&self, py: Python<'_>) -> PyResult<Operation> {
        Ok(self.0.get(py)?.services().coroutine())
    }

    /// As `ServiceRegistry.explain`, awaited.
    fn explain(&self, py: Python<'_>, name: String) -> PyResult<Operation> {
        Ok(self.0.get(py)?.explain(name).coroutine())
    }

    /// As `ServiceRegistry.health`, awaited.
    fn health(&self, py: Python<'_>, name: String) -> PyResult<Operation> {
        Ok(self.0.get(py)?.health(name).coroutine())
    }

    /// As `ServiceRegistry.watch`, with `async for`.
    #[pyo3(signature = (name, *, timeout=None, tags=None, healthy_only=true, datacenter=None), text_signature = "($self, name, *, timeout=None, tags=(), healthy_only=True, datacenter=None)")]
    fn watch(
        &self,
        py: Python<'_>,
        name: &str,
        timeout: Option<Seconds>,
        tags: Option<Vec<String>>,
        healthy_only: bool,
        datacenter: Option<String>,
    ) -> PyResult<AsyncWatch> {
        let asking = Asking {
            tags: tags.unwrap_or_default(),
            healthy_only,
            datacenter,
            max_stale: None,
        };
        let shared = self.0.get(py)?;
        Ok(AsyncWatch(Watching::new(
            shared.handle(py, name, asking, None)?,
            shared.clone(),
            timeout,
        )))
    }

    /// As `ServiceRegistry.status`, awaited.
    fn status(&self, py: Python<'_>) -> PyResult<Operation> {
        Ok(self.0.get(py)?.status().coroutine())
    }

    /// As `ServiceRegistry.config`.
    #[getter]
    fn config(&self, py: Python<'_>) -> PyResult<AsyncConfigValues> {
        config::open(py, self.0.get(py)?).map(AsyncConfigValues)
    }

    /// As `ServiceRegistry.close`, awaited.
    #[pyo3(signature = (*, timeout=Seconds(exit::DEADLINE)), text_signature = "($self, *, timeout=5.0)")]
    fn close(&self, py: Python<'_>, timeout: Seconds) -> PyResult<Operation> {
        Ok(self.0.get(py)?.end(timeout.0).coroutine())
    }

    fn __aenter__(this: Bound<'_, Self>) -> Operation {
        Step::Now(this.into_any().unbind()).coroutine()
    }

    #[pyo3(signature = (*_exc))]
    fn __aexit__(&self, py: Python<'_>, _exc: &Bound<'_, PyTuple>) -> PyResult<Operation> {
        self.close(py, Seconds(exit::DEADLINE))
    }

    fn __repr__(&self) -> String {
        open::repr("AsyncServiceRegistry", &self.0)
    }
}
