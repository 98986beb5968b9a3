//! `ConfigValues` and `AsyncConfigValues`: what a registry keeps beside its services.

use std::{pin::Pin, sync::Arc, time::Duration};

use discovery::{
    ConfigChange, ConfigEntry, ConfigEvent, ConfigValues as Values, Error, ErrorKind, PutMode, Version,
};
use futures::{Stream, StreamExt as _};
use pyo3::{
    exceptions::{PyStopAsyncIteration, PyStopIteration, PyValueError},
    prelude::*,
    types::{PyBytes, PyTuple},
};
use tokio::{sync::Mutex, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    arguments::Seconds,
    errors::{self, OrRaise},
    fork::Local,
    operation::Operation,
    ops::Owner,
    step::Step,
    values,
};

/// The values and what keeps the client going.
pub(crate) type Kept = Local<(Values, Arc<Owner>)>;

/// The configuration values the registry keeps beside its services: `ServiceRegistry.config`.
///
/// Keys are segments with single slashes between them, values are bytes. `AsyncConfigValues` is its asyncio twin.
#[pyclass(frozen, module = "system_control.discovery")]
pub(crate) struct ConfigValues(pub(crate) Kept);

/// The configuration values the registry keeps, for asyncio: `ConfigValues` with `await`.
#[pyclass(frozen, module = "system_control.discovery")]
pub(crate) struct AsyncConfigValues(pub(crate) Kept);

pub(crate) fn open(py: Python<'_>, owner: &Arc<Owner>) -> PyResult<Kept> {
    Ok(Local::new((owner.client().config().or_raise(py)?, owner.clone())))
}

fn entry<'py>(py: Python<'py>, entry: &ConfigEntry) -> PyResult<Bound<'py, PyAny>> {
    let value = PyBytes::new(py, &entry.value);
    values::make(
        py,
        "ConfigEntry",
        (entry.key.as_str(), value, entry.version.as_str()),
    )
}

fn entries<'py>(py: Python<'py>, entries: &[ConfigEntry]) -> PyResult<Bound<'py, PyTuple>> {
    let entries = entries.iter().map(|one| entry(py, one));
    PyTuple::new(py, entries.collect::<PyResult<Vec<_>>>()?)
}

/// Text, which is written as UTF-8, or bytes.
#[derive(FromPyObject)]
pub(crate) enum Value {
    Text(String),
    Bytes(Vec<u8>),
}

impl Value {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

fn get(kept: &Kept, py: Python<'_>, key: String) -> PyResult<Step> {
    let values = kept.get(py)?.0.clone();
    Ok(Step::later(
        async move { values.get(&key).await },
        |py, found| match found {
            Some(found) => Ok(entry(py, &found)?.unbind()),
            None => Ok(py.None()),
        },
    ))
}

fn set(
    kept: &Kept,
    py: Python<'_>,
    key: String,
    value: Value,
    create: bool,
    version: Option<String>,
) -> PyResult<Step> {
    let mode = match (create, version) {
        (true, Some(_)) => return Err(PyValueError::new_err("give either `create` or `version`")),
        (true, None) => PutMode::Create,
        (false, Some(version)) => PutMode::IfVersion(Version::new(version)),
        (false, None) => PutMode::Upsert,
    };
    let values = kept.get(py)?.0.clone();
    let work = async move { values.put(&key, value.bytes(), mode).await };
    Ok(Step::later(work, |py, version| {
        Ok(version.as_str().into_pyobject(py)?.into_any().unbind())
    }))
}

fn delete(kept: &Kept, py: Python<'_>, key: String, version: Option<String>) -> PyResult<Step> {
    let values = kept.get(py)?.0.clone();
    let work = async move { values.delete(&key, version.map(Version::new)).await };
    Ok(Step::later(work, |py, was_there| {
        Ok(was_there.into_pyobject(py)?.to_owned().into_any().unbind())
    }))
}

fn list(kept: &Kept, py: Python<'_>, prefix: String) -> PyResult<Step> {
    let values = kept.get(py)?.0.clone();
    let work = async move { values.list(&prefix).await };
    Ok(Step::later(work, |py, seen| {
        Ok(entries(py, &seen.entries)?.into_any().unbind())
    }))
}

type Changes = Pin<Box<dyn Stream<Item = Result<ConfigEvent, Error>> + Send>>;

/// What both watches stand on.
pub(crate) struct Watching {
    changes: Arc<Mutex<Changes>>,
    ended: CancellationToken,
    timeout: Option<Duration>,
    _owner: Arc<Owner>,
}

impl Watching {
    fn new(kept: &Kept, py: Python<'_>, prefix: &str, timeout: Option<Seconds>) -> PyResult<Local<Self>> {
        let (values, owner) = kept.get(py)?;
        Ok(Local::new(Self {
            changes: Arc::new(Mutex::new(Box::pin(values.watch(prefix)))),
            ended: CancellationToken::new(),
            timeout: timeout.map(|timeout| timeout.0),
            _owner: owner.clone(),
        }))
    }

    fn next(&self, end: fn() -> PyErr) -> Step {
        let (changes, ended, limit) = (self.changes.clone(), self.ended.clone(), self.timeout);
        let next = async move {
            let mut changes = changes.lock().await;
            loop {
                let next = changes.next().await;
                if !matches!(&next, Some(Ok(event)) if event.change == ConfigChange::Confirmed) {
                    break next;
                }
            }
        };
        let work = async move {
            let limited = async {
                match limit {
                    Some(limit) => timeout(limit, next).await.ok().flatten(),
                    None => next.await,
                }
            };
            Ok(ended.run_until_cancelled(limited).await.flatten())
        };
        Step::later(work, move |py, next| {
            let none = || py.None();
            let fields = match next {
                None => return Err(end()),
                Some(Err(error)) if error.kind() == ErrorKind::Closed => {
                    return Err(errors::raise(py, &error));
                }
                Some(Err(error)) => {
                    let error = errors::raise(py, &error).into_value(py).into_any();
                    ("outage", none(), PyTuple::empty(py), error)
                }
                Some(Ok(event)) => match &event.change {
                    ConfigChange::Reset(all) => ("reset", none(), entries(py, all)?, none()),
                    ConfigChange::Put(one) => {
                        let key = one.key.as_str().into_pyobject(py)?.into_any().unbind();
                        ("set", key, entries(py, std::slice::from_ref(one))?, none())
                    }
                    ConfigChange::Delete(key) => {
                        let key = key.as_str().into_pyobject(py)?.into_any().unbind();
                        ("delete", key, PyTuple::empty(py), none())
                    }
                    ConfigChange::Confirmed => return Err(end()),
                },
            };
            Ok(values::make(py, "ConfigChange", fields)?.unbind())
        })
    }
}

/// Changes of configuration values: an iterator of `ConfigChange`. `close()`, from any thread, ends it.
#[pyclass(frozen, module = "system_control.discovery")]
pub(crate) struct ConfigWatch(Local<Watching>);

/// Changes of configuration values, for `async for`: the asyncio twin of `ConfigWatch`.
#[pyclass(frozen, module = "system_control.discovery")]
pub(crate) struct AsyncConfigWatch(Local<Watching>);

#[pymethods]
impl ConfigValues {
    /// The entry of `key`, or `None` where it is absent.
    fn get(&self, py: Python<'_>, key: String) -> PyResult<Py<PyAny>> {
        get(&self.0, py, key)?.wait(py)
    }

    /// Writes `key`.
    ///
    /// Args:
    ///     key: Segments with single slashes between them.
    ///     value: Bytes, or text, which is written as UTF-8.
    ///     create: Only while the key is absent.
    ///     version: Only while the key has this version.
    ///
    /// Returns:
    ///     Its new version.
    ///
    /// Raises:
    ///     ConflictError: `create` or `version` does not hold; nothing was written.
    #[pyo3(signature = (key, value, *, create=false, version=None))]
    fn set(
        &self,
        py: Python<'_>,
        key: String,
        value: Value,
        create: bool,
        version: Option<String>,
    ) -> PyResult<Py<PyAny>> {
        set(&self.0, py, key, value, create, version)?.wait(py)
    }

    /// Deletes `key` and answers whether it was there; with `version`, only while it has that.
    #[pyo3(signature = (key, *, version=None))]
    fn delete(&self, py: Python<'_>, key: String, version: Option<String>) -> PyResult<Py<PyAny>> {
        delete(&self.0, py, key, version)?.wait(py)
    }

    /// Every entry whose key starts with `prefix`, sorted by key.
    #[pyo3(signature = (prefix=String::new()), text_signature = "($self, prefix='')")]
    fn list(&self, py: Python<'_>, prefix: String) -> PyResult<Py<PyAny>> {
        list(&self.0, py, prefix)?.wait(py)
    }

    /// Changes of every key that starts with `prefix`, starting with all there is.
    ///
    /// An outage shows as a change of kind `outage`, and the watch goes on.
    ///
    /// Args:
    ///     prefix: What the keys start with; all where it is empty.
    ///     timeout: End the iteration when nothing has changed for so long.
    #[pyo3(signature = (prefix="", *, timeout=None))]
    fn watch(&self, py: Python<'_>, prefix: &str, timeout: Option<Seconds>) -> PyResult<ConfigWatch> {
        Watching::new(&self.0, py, prefix, timeout).map(ConfigWatch)
    }
}

#[pymethods]
impl AsyncConfigValues {
    /// As `ConfigValues.get`, awaited.
    fn get(&self, py: Python<'_>, key: String) -> PyResult<Operation> {
        Ok(get(&self.0, py, key)?.coroutine())
    }

    /// As `ConfigValues.set`, awaited.
    #[pyo3(signature = (key, value, *, create=false, version=None))]
    fn set(
        &self,
        py: Python<'_>,
        key: String,
        value: Value,
        create: bool,
        version: Option<String>,
    ) -> PyResult<Operation> {
        Ok(set(&self.0, py, key, value, create, version)?.coroutine())
    }

    /// As `ConfigValues.delete`, awaited.
    #[pyo3(signature = (key, *, version=None))]
    fn delete(&self, py: Python<'_>, key: String, version: Option<String>) -> PyResult<Operation> {
        Ok(delete(&self.0, py, key, version)?.coroutine())
    }

    /// As `ConfigValues.list`, awaited.
    #[pyo3(signature = (prefix=String::new()), text_signature = "($self, prefix='')")]
    fn list(&self, py: Python<'_>, prefix: String) -> PyResult<Operation> {
        Ok(list(&self.0, py, prefix)?.coroutine())
    }

    /// As `ConfigValues.watch`, with `async for`.
    #[pyo3(signature = (prefix="", *, timeout=None))]
    fn watch(&self, py: Python<'_>, prefix: &str, timeout: Option<Seconds>) -> PyResult<AsyncConfigWatch> {
        Watching::new(&self.0, py, prefix, timeout).map(AsyncConfigWatch)
    }
}

#[pymethods]
impl ConfigWatch {
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
    fn __exit__(&self, _exc: &Bound<'_, PyTuple>) {
        self.close();
    }
}

#[pymethods]
impl AsyncConfigWatch {
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
    fn __aexit__(&self, py: Python<'_>, _exc: &Bound<'_, PyTuple>) -> Operation {
        self.close();
        Step::Now(py.None()).coroutine()
    }
}
