//! `Service` and `AsyncService`: a handle on one service; `Call`: one use of an instance.

use std::sync::{Arc, Mutex};

use discovery::{
    InstanceId, InstanceKey, ServiceName,
    pick::{Outcome, Picked},
};
use pyo3::{
    exceptions::{PyException, PyRuntimeError, PyTypeError},
    prelude::*,
    sync::MutexExt,
};

use crate::{
    errors::{OrRaise, unpoisoned},
    fork::Local,
    handle::Handle,
    instance::ServiceInstance,
    operation::Operation,
    ops::Owner,
    step::{Answer, Step},
    watch::{AsyncWatch, Watch, Watching},
};

/// A handle and what keeps it going.
pub(crate) type Kept = Local<(Arc<Handle>, Arc<Owner>)>;

/// A handle on one service: the fastest way to pick. Made by `ServiceRegistry.service()`.
///
/// While it exists, one watch keeps what it knows up to date, and picks are answered from that without touching
/// the network. The first use waits for the first answer. Threads may share it. `AsyncService` is its asyncio twin.
#[pyclass(frozen, module = "system_control.discovery")]
pub(crate) struct Service(pub(crate) Kept);

/// A handle on one service for asyncio: `Service` with `await`. Made by `AsyncServiceRegistry.service()`.
#[pyclass(frozen, module = "system_control.discovery")]
pub(crate) struct AsyncService(pub(crate) Kept);

fn name(handle: &Handle) -> String {
    handle.service.query().label().to_owned()
}

/// The bytes of a key: text counts as its UTF-8.
pub(crate) fn key_bytes(key: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Vec<u8>>> {
    let Some(key) = key.filter(|key| !key.is_none()) else {
        return Ok(None);
    };
    if let Ok(text) = key.extract::<&str>() {
        return Ok(Some(text.as_bytes().to_vec()));
    }
    match key.extract::<&[u8]>() {
        Ok(bytes) => Ok(Some(bytes.to_vec())),
        Err(_) => Err(PyTypeError::new_err("a key is text or bytes")),
    }
}

/// Takes an instance into use, other than those in `tried` while there is one; the first call waits for the first view.
fn acquire(kept: &Kept, py: Python<'_>, key: Option<Vec<u8>>, tried: &[Py<Call>]) -> PyResult<Step> {
    let (handle, _) = kept.get(py)?;
    let tried: Vec<_> = tried.iter().map(|call| call.get().key.clone()).collect();
    let handle = handle.clone();
    let service = handle.service.clone();
    Ok(Step::later(
        async move { service.instances().await.map(drop) },
        move |py, ()| {
            let picked = match key {
                Some(key) if tried.is_empty() => handle.service.acquire_by(key),
                _ => handle.service.acquire_other(&tried),
            };
            let picked = picked.or_raise(py)?;
            Ok(Py::new(py, Call::new(py, picked)?)?.into_any())
        },
    ))
}

#[pymethods]
impl Service {
    /// The name of the service.
    #[getter]
    fn name(&self, py: Python<'_>) -> PyResult<String> {
        Ok(name(&self.0.get(py)?.0))
    }

    /// The next instance: the snapshot's own shared object.
    ///
    /// Raises:
    ///     UnavailableError: There is none to pick; the message says why.
    fn pick(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (handle, _) = self.0.get(py)?;
        if let Some(object) = handle.pick_kept(py) {
            return Ok(object.into_any());
        }
        handle.pick(py)?.wait(py)
    }

    /// The next `n` instances, as a list; the same one several times where there are fewer.
    ///
    /// Raises:
    ///     UnavailableError: There is none to pick; the message says why.
    fn pick_many(&self, py: Python<'_>, n: usize) -> PyResult<Py<PyAny>> {
        self.0.get(py)?.0.pick_many(py, n)?.wait(py)
    }

    /// What is known of the service now: an immutable sequence of instances.
    fn snapshot(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.0.get(py)?.0.snapshot(py)?.wait(py)
    }

    /// Takes an instance into use: `with service.acquire() as call:`, and `call.instance` is it.
    ///
    /// Leaving the block reports how long it took and whether it raised an `Exception`.
    ///
    /// Args:
    ///     key: Text or bytes that hashing strategies choose by; others take no notice of it.
    ///
    /// Raises:
    ///     UnavailableError: There is none to pick; the message says why.
    #[pyo3(signature = (key=None, *, _tried=Vec::new()), text_signature = "($self, key=None)")]
    fn acquire(
        &self,
        py: Python<'_>,
        key: Option<&Bound<'_, PyAny>>,
        _tried: Vec<Py<Call>>,
    ) -> PyResult<Py<PyAny>> {
        acquire(&self.0, py, key_bytes(key)?, &_tried)?.wait(py)
    }

    /// Calls `fn(instance)`, and on another instance when that raises.
    ///
    /// Every attempt is reported against its instance. Ask for more than one only where `fn` may be repeated.
    ///
    /// Args:
    ///     fn: What to call, with the instance.
    ///     attempts: How many instances are tried in all.
    ///     retry_on: Exceptions that are the instance's fault, every `Exception` unless given; any other ends the call at once.
    ///
    /// Returns:
    ///     What `fn` returned.
    #[pyo3(signature = (r#fn, *, attempts=2, retry_on=None), text_signature = "($self, fn, *, attempts=2, retry_on=None)")]
    fn call(
        this: &Bound<'_, Self>,
        r#fn: &Bound<'_, PyAny>,
        attempts: u32,
        retry_on: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        helper(this, "call", r#fn, attempts, retry_on)
    }

    /// Its snapshots as they change, starting with the one there is: an iterator.
    ///
    /// Args:
    ///     timeout: End the iteration when nothing has changed for so long.
    #[pyo3(signature = (*, timeout=None))]
    fn watch(&self, py: Python<'_>, timeout: Option<crate::arguments::Seconds>) -> PyResult<Watch> {
        let (handle, owner) = self.0.get(py)?;
        Ok(Watch(Watching::new(handle.clone(), owner.clone(), timeout)))
    }

    fn __repr__(&self) -> String {
        self.0.try_get().map_or_else(
            || "<Service>".to_owned(),
            |(handle, _)| format!("<Service {:?}>", name(handle)),
        )
    }
}

fn helper<'py>(
    this: &Bound<'py, impl pyo3::PyClass>,
    helper: &str,
    function: &Bound<'py, PyAny>,
    attempts: u32,
    retry_on: Option<&Bound<'py, PyAny>>,
) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let helpers = py.import("system_control.discovery._helpers")?;
    let exception = py.get_type::<PyException>().into_any();
    let retry_on = retry_on.unwrap_or(&exception);
    Ok(helpers
        .call_method1(helper, (this, function, attempts, retry_on))?
        .unbind())
}

#[pymethods]
impl AsyncService {
    /// The name of the service.
    #[getter]
    fn name(&self, py: Python<'_>) -> PyResult<String> {
        Ok(name(&self.0.get(py)?.0))
    }

    /// As `Service.pick`, awaited.
    fn pick(&self, py: Python<'_>) -> PyResult<Operation> {
        let (handle, _) = self.0.get(py)?;
        if let Some(object) = handle.pick_kept(py) {
            return Ok(Step::Now(object.into_any()).coroutine());
        }
        Ok(handle.pick(py)?.coroutine())
    }

    /// As `Service.pick_many`, awaited.
    fn pick_many(&self, py: Python<'_>, n: usize) -> PyResult<Operation> {
        Ok(self.0.get(py)?.0.pick_many(py, n)?.coroutine())
    }

    /// As `Service.snapshot`, awaited.
    fn snapshot(&self, py: Python<'_>) -> PyResult<Operation> {
        Ok(self.0.get(py)?.0.snapshot(py)?.coroutine())
    }

    /// As `Service.acquire`, with `async with`.
    #[pyo3(signature = (key=None, *, _tried=Vec::new()), text_signature = "($self, key=None)")]
    fn acquire(
        this: &Bound<'_, Self>,
        key: Option<&Bound<'_, PyAny>>,
        _tried: Vec<Py<Call>>,
    ) -> PyResult<AsyncCall> {
        Ok(AsyncCall {
            service: this.clone().unbind(),
            key: key_bytes(key)?,
            tried: _tried,
            call: Mutex::new(None),
        })
    }

    /// As `Service.call`, awaited; `fn` is a coroutine function.
    #[pyo3(signature = (r#fn, *, attempts=2, retry_on=None), text_signature = "($self, fn, *, attempts=2, retry_on=None)")]
    fn call(
        this: &Bound<'_, Self>,
        r#fn: &Bound<'_, PyAny>,
        attempts: u32,
        retry_on: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        helper(this, "acall", r#fn, attempts, retry_on)
    }

    /// As `Service.watch`, with `async for`.
    #[pyo3(signature = (*, timeout=None))]
    fn watch(&self, py: Python<'_>, timeout: Option<crate::arguments::Seconds>) -> PyResult<AsyncWatch> {
        let (handle, owner) = self.0.get(py)?;
        Ok(AsyncWatch(Watching::new(handle.clone(), owner.clone(), timeout)))
    }

    fn __repr__(&self) -> String {
        self.0.try_get().map_or_else(
            || "<AsyncService>".to_owned(),
            |(handle, _)| format!("<AsyncService {:?}>", name(handle)),
        )
    }
}

/// One use of an instance: counted as in flight until its end is reported.
///
/// Attributes:
///     instance: The instance in use.
#[pyclass(frozen, module = "system_control.discovery")]
pub(crate) struct Call {
    key: InstanceKey,
    instance: Py<ServiceInstance>,
    picked: Mutex<Option<Picked>>,
}

impl Call {
    fn new(py: Python<'_>, picked: Picked) -> PyResult<Self> {
        Ok(Self {
            key: picked.instance().key.clone(),
            instance: Py::new(py, ServiceInstance::of(picked.instance().clone()))?,
            picked: Mutex::new(Some(picked)),
        })
    }

    fn end(&self, py: Python<'_>, outcome: Option<Outcome>) {
        let picked = unpoisoned(self.picked.lock_py_attached(py)).take();
        // Dropped without an outcome, it only ends the count.
        if let (Some(picked), Some(outcome)) = (picked, outcome) {
            picked.report(outcome);
        }
    }

    /// What the end of a block says of the instance; a cancellation or an interrupt says nothing.
    fn outcome(exception: &Bound<'_, PyAny>) -> Option<Outcome> {
        if exception.is_none() {
            Some(Outcome::Success)
        } else {
            exception
                .is_instance_of::<PyException>()
                .then_some(Outcome::Failure)
        }
    }
}

#[pymethods]
impl Call {
    /// The instance in use.
    #[getter]
    fn instance(&self, py: Python<'_>) -> Py<ServiceInstance> {
        self.instance.clone_ref(py)
    }

    /// Ends it, well or not. The first report counts.
    fn report(&self, py: Python<'_>, ok: bool) {
        let outcome = if ok { Outcome::Success } else { Outcome::Failure };
        self.end(py, Some(outcome));
    }

    /// Ends it without saying how it went.
    fn release(&self, py: Python<'_>) {
        self.end(py, None);
    }

    fn __enter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    #[pyo3(signature = (exc_type, exc, traceback, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: &Bound<'_, PyAny>,
        exc: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) {
        let _ = (exc_type, traceback);
        self.end(py, Self::outcome(exc));
    }

    fn __repr__(&self) -> String {
        let id: &InstanceId = &self.key.id;
        let service: &ServiceName = &self.key.service;
        format!("<Call of {:?} at {:?}>", service.as_str(), id.as_str())
    }
}

/// One use of an instance for asyncio: `async with service.acquire() as call:`.
#[pyclass(frozen, module = "system_control.discovery")]
pub(crate) struct AsyncCall {
    service: Py<AsyncService>,
    key: Option<Vec<u8>>,
    tried: Vec<Py<Call>>,
    call: Mutex<Option<Py<Call>>>,
}

#[pymethods]
impl AsyncCall {
    fn __aenter__(this: &Bound<'_, Self>) -> PyResult<Operation> {
        let py = this.py();
        let own = this.get();
        let Step::Later(work) = acquire(&own.service.get().0, py, own.key.clone(), &own.tried)? else {
            return Err(PyRuntimeError::new_err("acquiring is never done yet"));
        };
        let this = this.clone().unbind();
        Ok(Step::Later(Box::pin(async move {
            let Answer { make, undo } = work.await;
            let make = Box::new(move |py: Python<'_>| {
                let call = make(py)?;
                let kept = call.bind(py).cast::<Call>()?.clone().unbind();
                *unpoisoned(this.get().call.lock_py_attached(py)) = Some(kept);
                Ok(call)
            });
            Answer { make, undo }
        }))
        .coroutine())
    }

    #[pyo3(signature = (exc_type, exc, traceback, /))]
    fn __aexit__(
        &self,
        py: Python<'_>,
        exc_type: &Bound<'_, PyAny>,
        exc: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> Operation {
        let _ = (exc_type, traceback);
        let call = unpoisoned(self.call.lock_py_attached(py)).take();
        if let Some(call) = call {
            call.get().end(py, Call::outcome(exc));
        }
        Step::Now(py.None()).coroutine()
    }
}
