//! One operation, whichever way Python waits for it: the shared half of the blocking and the asyncio classes.

use std::{future::Future, pin::Pin};

use discovery::Error;
use pyo3::prelude::*;

use crate::{errors::OrRaise, operation::Operation, runtime};

/// What an operation ended with, to be made into an object in the interpreter.
pub(crate) type Answer = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// Work for the runtime.
pub(crate) type Work = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// An operation that has been checked: its result, or the work that is left.
pub(crate) enum Step {
    Now(Py<PyAny>),
    Later(Work),
}

impl Step {
    /// Work that ends with `then`, in the interpreter.
    pub(crate) fn later<T: Send + 'static>(
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
        then: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> Self {
        Self::Later(Box::pin(async move {
            let result = work.await;
            let answer: Answer = Box::new(move |py| result.or_raise(py).and_then(|value| then(py, value)));
            answer
        }))
    }

    /// Work without a result.
    pub(crate) fn quiet(work: impl Future<Output = Result<(), Error>> + Send + 'static) -> Self {
        Self::later(work, |py, ()| Ok(py.None()))
    }

    /// Waits here, with the interpreter free for others.
    pub(crate) fn wait(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Self::Now(value) => Ok(value),
            Self::Later(work) => runtime::wait(py, work)?(py),
        }
    }

    /// A coroutine that waits for it.
    pub(crate) fn coroutine(self) -> Operation {
        Operation::new(self)
    }
}
