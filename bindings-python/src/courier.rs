//! A thread that runs errands in the interpreter, so that no thread of the runtime ever waits for it: a program that keeps
//! the interpreter busy must not hold up heartbeats.

use std::{
    mem,
    sync::{Mutex, mpsc},
    thread,
    time::Duration,
};

use pyo3::{prelude::*, sync::MutexExt};

use crate::errors::unpoisoned;

/// What is to be done in the interpreter.
pub(crate) type Errand = Box<dyn FnOnce(Python<'_>) + Send>;

/// A thread that runs errands, one after the other.
pub(crate) struct Courier {
    errands: mpsc::SyncSender<Errand>,
    done: mpsc::Receiver<()>,
}

impl Courier {
    /// Starts the thread, with room for so many errands in its queue.
    pub(crate) fn start(name: &str, room: usize) -> std::io::Result<Self> {
        let (errands, inbox) = mpsc::sync_channel::<Errand>(room);
        let (tell, done) = mpsc::sync_channel(1);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            while let Ok(errand) = inbox.recv() {
                // Refused while the interpreter ends.
                if Python::try_attach(errand).is_none() {
                    break;
                }
            }
            let _ = tell.send(());
        })?;
        Ok(Self { errands, done })
    }

    pub(crate) fn sender(&self) -> mpsc::SyncSender<Errand> {
        self.errands.clone()
    }

    /// Lets it finish what is in its queue, for a moment.
    pub(crate) fn end(self, py: Python<'_>) {
        let Self { errands, done } = self;
        drop(errands);
        py.detach(move || {
            let _ = done.recv_timeout(Duration::from_millis(500));
        });
    }
}

/// The answers to coroutines that may be on their way at once; more wait in the runtime.
const ANSWERS: usize = 1024;

/// Brings answers to event loops.
static ANSWERING: Mutex<Option<Courier>> = Mutex::new(None);

/// Where answers to event loops are handed in.
pub(crate) fn answers(py: Python<'_>) -> PyResult<mpsc::SyncSender<Errand>> {
    let mut slot = unpoisoned(ANSWERING.lock_py_attached(py));
    if slot.is_none() {
        *slot = Some(Courier::start("discovery-asyncio", ANSWERS)?);
    }
    slot.as_ref()
        .map(Courier::sender)
        .ok_or_else(|| pyo3::exceptions::PyRuntimeError::new_err("no thread for asyncio"))
}

pub(crate) fn end(py: Python<'_>) {
    let courier = unpoisoned(ANSWERING.lock_py_attached(py)).take();
    if let Some(courier) = courier {
        courier.end(py);
    }
}

pub(crate) fn forget(py: Python<'_>) {
    mem::forget(unpoisoned(ANSWERING.lock_py_attached(py)).take());
}
