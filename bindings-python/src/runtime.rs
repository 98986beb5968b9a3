//! The one tokio runtime of a process, and waiting on it.

use std::{
    future::Future,
    mem,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use discovery::{Error, ErrorKind};
use pyo3::{prelude::*, sync::MutexExt};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::{errors, logging};

/// How often a blocking call looks for signals: Ctrl-C is answered within twice that.
const TICK: Duration = Duration::from_millis(40);

/// Threads that do the work: heartbeats and watches need little, and Python programs count their threads.
const WORKERS: usize = 2;

static RUNTIME: Mutex<Option<Arc<Runtime>>> = Mutex::new(None);

/// The interpreter is on its way out: nothing new may start.
static ENDED: AtomicBool = AtomicBool::new(false);

/// The runtime, started on first use.
pub(crate) fn current(py: Python<'_>) -> PyResult<Arc<Runtime>> {
    if ENDED.load(Ordering::Relaxed) {
        let error = Error::new(ErrorKind::Closed, "the interpreter is exiting");
        return Err(errors::raise(py, &error));
    }
    let mut slot = errors::unpoisoned(RUNTIME.lock_py_attached(py));
    if let Some(runtime) = &*slot {
        return Ok(runtime.clone());
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("discovery")
        .enable_all()
        .build()
        .map(Arc::new)
        .map_err(|error| {
            let error = Error::new(ErrorKind::Unexpected, "no threads could be started").with_source(error);
            errors::raise(py, &error)
        })?;
    *slot = Some(runtime.clone());
    Ok(runtime)
}

/// Waits for `future` with the interpreter free for others, looking for signals.
///
/// # Errors
/// What a signal handler raises, such as `KeyboardInterrupt`; the future is dropped then.
pub(crate) fn wait<T: Send>(py: Python<'_>, future: impl Future<Output = T> + Send) -> PyResult<T> {
    let runtime = current(py)?;
    logging::follow_level(py);
    let mut future = pin!(future);
    loop {
        let waited = py.detach(|| runtime.block_on(async { timeout(TICK, future.as_mut()).await }));
        match waited {
            Ok(value) => return Ok(value),
            Err(_) => py.check_signals()?,
        }
    }
}

/// Ends the runtime: at exit, after every client.
pub(crate) fn end(py: Python<'_>) {
    ENDED.store(true, Ordering::Relaxed);
    let runtime = errors::unpoisoned(RUNTIME.lock_py_attached(py)).take();
    match runtime.map(Arc::try_unwrap) {
        None => {}
        Some(Ok(runtime)) => py.detach(|| runtime.shutdown_timeout(Duration::from_millis(500))),
        // A daemon thread waits on it: it ends with the process.
        Some(Err(shared)) => mem::forget(shared),
    }
}

/// In the child of a fork: the threads are not there, and waiting for them would never end.
pub(crate) fn forget(py: Python<'_>) {
    mem::forget(errors::unpoisoned(RUNTIME.lock_py_attached(py)).take());
}
