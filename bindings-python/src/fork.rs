//! `fork()`: a child process has none of the threads that keep clients alive, and perhaps their locks.
//!
//! What was made before a fork is never touched after it, not even to drop it; what is made after it works.

use std::{
    mem,
    sync::atomic::{AtomicU32, Ordering},
};

use discovery::{Error, ErrorKind};
use pyo3::prelude::*;

use crate::{errors, exit, logging, metrics, runtime};

/// How many forks lie between the first process and this one.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// A value of the process it was made in.
#[derive(Debug)]
pub(crate) struct Local<T> {
    /// Only `None` while it is dropped.
    value: Option<T>,
    generation: u32,
}

impl<T> Local<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: Some(value),
            generation: GENERATION.load(Ordering::Relaxed),
        }
    }

    /// The value, unless this process is a fork of the one that made it.
    #[inline]
    pub(crate) fn try_get(&self) -> Option<&T> {
        match &self.value {
            Some(value) if self.generation == GENERATION.load(Ordering::Relaxed) => Some(value),
            _ => None,
        }
    }

    /// As [`Self::try_get`].
    ///
    /// # Errors
    /// `ClosedError` in a forked process.
    #[inline]
    pub(crate) fn get(&self, py: Python<'_>) -> PyResult<&T> {
        self.try_get().ok_or_else(|| forked(py))
    }
}

impl<T> Drop for Local<T> {
    fn drop(&mut self) {
        if self.try_get().is_none() {
            mem::forget(self.value.take());
        }
    }
}

#[cold]
fn forked(py: Python<'_>) -> PyErr {
    let error = Error::new(
        ErrorKind::Closed,
        "made before fork(), so it cannot be used in this process",
    )
    .with_hint("make a new registry after the fork, in the process that uses it");
    errors::raise(py, &error)
}

/// Called in the child after every fork.
#[pyfunction(name = "_after_fork")]
pub(crate) fn after_fork(py: Python<'_>) {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    runtime::forget(py);
    exit::forget(py);
    logging::forget(py);
    metrics::forget();
}
