//! `Watch` and `AsyncWatch`: the snapshots of a service, one after the other.

use std::{sync::Arc, time::Duration};

use discovery::{Error, pick::Subscription};
use pyo3::{
    exceptions::{PyStopAsyncIteration, PyStopIteration},
    prelude::*,
};
use tokio::{sync::Mutex, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    arguments::Seconds, errors::OrRaise, fork::Local, handle::Handle, operation::Operation, ops::Owner,
    step::Step,
};

/// What both classes stand on.
pub(crate) struct Watching {
    handle: Arc<Handle>,
    subscription: Arc<Mutex<Subscription>>,
    ended: CancellationToken,
    timeout: Option<Duration>,
    _owner: Arc<Owner>,
}

impl Watching {
    pub(crate) fn new(handle: Arc<Handle>, owner: Arc<Owner>, timeout: Option<Seconds>) -> Local<Self> {
        Local::new(Self {
            subscription: Arc::new(Mutex::new(handle.service.subscribe())),
            handle,
            ended: CancellationToken::new(),
            timeout: timeout.map(|timeout| timeout.0),
            _owner: owner,
        })
    }

    /// The next snapshot, or `end` when there will be none.
    fn next(&self, end: fn() -> PyErr) -> Step {
        let (subscription, ended, limit) = (self.subscription.clone(), self.ended.clone(), self.timeout);
        let handle = self.handle.clone();
        let next = async move { subscription.lock().await.next().await };
        let work = async move {
            let limited = async {
                match limit {
                    Some(limit) => timeout(limit, next).await.ok().transpose(),
                    None => next.await.map(Some),
                }
            };
            let next = ended.run_until_cancelled(limited).await;
            Ok::<_, Error>(next.unwrap_or(Ok(None))?.is_some())
        };
        Step::later(work, move |py, there| {
            if there {
                Ok(handle.look(py).or_raise(py)??.into_any())
            } else {
                Err(end())
            }
        })
    }
}

/// The snapshots of a service as it changes: an iterator, starting with the snapshot there is.
///
/// Whoever iterates slowly misses states in between, never the last one. `close()`, from any thread, ends it, and so does
/// leaving a `with` block.
#[pyclass(frozen, module = "system_control.discovery")]
pub(crate) struct Watch(pub(crate) Local<Watching>);

/// The snapshots of a service as it changes, for `async for`: the asyncio twin of `Watch`.
#[pyclass(frozen, module = "system_control.discovery")]
pub(crate) struct AsyncWatch(pub(crate) Local<Watching>);

#[pymethods]
impl Watch {
    /// What changed, instance by instance, instead of whole snapshots: an iterator of `ServiceChange`.
    ///
    /// It starts with one `added` for each instance there is.
    fn changes(this: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let helpers = this.py().import("system_control.discovery._helpers")?;
        Ok(helpers.call_method1("changes", (this,))?.unbind())
    }

    /// Ends the iteration, also one that waits in another thread.
    fn close(&self) {
        if let Some(watching) = self.0.try_get() {
            watching.ended.cancel();
        }
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.0.get(py)?.next(|| PyStopIteration::new_err(())).wait(py)
    }

    fn __enter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    #[pyo3(signature = (*_exc))]
    fn __exit__(&self, _exc: &Bound<'_, pyo3::types::PyTuple>) {
        self.close();
    }
}

#[pymethods]
impl AsyncWatch {
    /// As `Watch.changes`, with `async for`.
    fn changes(this: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let helpers = this.py().import("system_control.discovery._helpers")?;
        Ok(helpers.call_method1("achanges", (this,))?.unbind())
    }

    /// Ends the iteration, also one that waits in another task.
    fn close(&self) {
        if let Some(watching) = self.0.try_get() {
            watching.ended.cancel();
        }
    }

    fn __aiter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __anext__(&self, py: Python<'_>) -> PyResult<Operation> {
        Ok(self
            .0
            .get(py)?
            .next(|| PyStopAsyncIteration::new_err(()))
            .coroutine())
    }

    fn __aenter__(this: Bound<'_, Self>) -> Operation {
        Step::Now(this.into_any().unbind()).coroutine()
    }

    #[pyo3(signature = (*_exc))]
    fn __aexit__(&self, py: Python<'_>, _exc: &Bound<'_, pyo3::types::PyTuple>) -> Operation {
        self.close();
        Step::Now(py.None()).coroutine()
    }
}
