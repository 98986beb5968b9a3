//! One operation, whichever way Python waits for it: the shared half of the blocking and the asyncio classes.

use std::{future::Future, pin::Pin};

use discovery::Error;
use pyo3::prelude::*;

use crate::{errors::OrRaise, operation::Operation, runtime};

/// Makes what an operation ended with into an object, in the interpreter.
pub(crate) type Make = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// What takes an operation back whose answer reached nobody, because the caller was cancelled meanwhile. Runs when dropped.
pub(crate) struct Undo(Option<Box<dyn FnOnce() + Send>>);

impl Undo {
    pub(crate) fn new(undo: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(undo)))
    }

    /// The answer has arrived.
    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(undo) = self.0.take() {
            undo();
        }
    }
}

/// What an operation ended with.
pub(crate) struct Answer {
    pub(crate) make: Make,
    pub(crate) undo: Option<Undo>,
}

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
        Self::undoable(async move { work.await.map(|value| (value, None)) }, then)
    }

    /// As [`Self::later`], for work that can be taken back.
    pub(crate) fn undoable<T: Send + 'static>(
        work: impl Future<Output = Result<(T, Option<Undo>), Error>> + Send + 'static,
        then: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> Self {
        Self::Later(Box::pin(async move {
            let (result, undo) = match work.await {
                Ok((value, undo)) => (Ok(value), undo),
                Err(error) => (Err(error), None),
            };
            let make: Make = Box::new(move |py| result.or_raise(py).and_then(|value| then(py, value)));
            Answer { make, undo }
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
            Self::Later(work) => {
                let Answer { make, undo } = runtime::wait(py, work)?;
                let value = make(py)?;
                if let Some(undo) = undo {
                    undo.keep();
                }
                Ok(value)
            }
        }
    }

    /// A coroutine that waits for it.
    pub(crate) fn coroutine(self) -> Operation {
        Operation::new(self)
    }
}
