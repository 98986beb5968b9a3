//! The end of the interpreter: what is still registered is withdrawn, and no thread of ours is left.

use std::{
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::join_all;
use pyo3::prelude::*;
use tracing::warn;

use crate::{courier, errors::unpoisoned, logging, ops::Shared, runtime};

/// How long withdrawing everything may hold up the exit.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// Every client that was not closed: a registration lives as long as the process, whether or not the program kept the object.
static OPEN: Mutex<Vec<Arc<Shared>>> = Mutex::new(Vec::new());

pub(crate) fn add(shared: Arc<Shared>) {
    unpoisoned(OPEN.lock()).push(shared);
}

pub(crate) fn remove(shared: &Arc<Shared>) {
    let mut open = unpoisoned(OPEN.lock());
    let at = open.iter().position(|other| Arc::ptr_eq(other, shared));
    let removed = at.map(|at| open.swap_remove(at));
    drop(open);
    drop(removed);
}

/// Runs from `atexit`, registered on import: so after whatever the program registered itself.
#[pyfunction(name = "_at_exit")]
pub(crate) fn at_exit(py: Python<'_>) {
    let open = mem::take(&mut *unpoisoned(OPEN.lock()));
    if !open.is_empty() {
        let all = join_all(open.iter().map(|shared| shared.close(DEADLINE)));
        // A second Ctrl-C ends the wait.
        if let Ok(results) = runtime::wait(py, all) {
            for error in results.into_iter().filter_map(Result::err) {
                warn!(%error, "not everything was withdrawn at exit");
            }
        }
    }
    drop(open);
    runtime::end(py);
    courier::end(py);
    logging::end(py);
}

/// In the child of a fork: they belong to the parent.
pub(crate) fn forget(py: Python<'_>) {
    mem::forget(mem::take(&mut *unpoisoned(OPEN.lock())));
    courier::forget(py);
}
