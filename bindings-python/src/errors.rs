//! From errors of the library to Python exceptions. The classes are in `_errors.py`.

use std::sync::{LockResult, PoisonError};

use discovery::{Error, ErrorKind};
use pyo3::{prelude::*, sync::PyOnceLock, types::PyDict};

static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The guard, whatever a panicking holder left behind: every critical section here leaves its data whole.
pub(crate) fn unpoisoned<T>(lock: LockResult<T>) -> T {
    lock.unwrap_or_else(PoisonError::into_inner)
}

/// The exception for `error`.
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    match instance(py, error) {
        Ok(exception) => PyErr::from_value(exception),
        Err(failure) => failure,
    }
}

fn instance<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let context = PyDict::new(py);
    for (key, value) in error.context() {
        context.set_item(key, value)?;
    }
    MAKE.import(py, "system_control.discovery._errors", "_make")?
        .call1((
            error.kind().as_str(),
            format!("{error:#}"),
            error.is_retryable(),
            error.retry_after().map(|after| after.as_secs_f64()),
            error.backend(),
            error.operation(),
            error.hint(),
            context,
        ))
}

/// The exception for an argument that is wrong.
pub(crate) fn invalid(py: Python<'_>, field: &'static str, value: &str, hint: &'static str) -> PyErr {
    let error = Error::new(ErrorKind::InvalidInput, "invalid argument")
        .with_context(field, value)
        .with_hint(hint);
    raise(py, &error)
}

/// Turns errors of the library into exceptions.
pub(crate) trait OrRaise<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for Result<T, Error> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| raise(py, &error))
    }
}
