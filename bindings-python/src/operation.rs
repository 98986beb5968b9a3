//! The coroutine of the asyncio classes.
//!
//! It has `send`, `throw` and `close`, so that it is a coroutine to `asyncio.create_task` too, and starts when first awaited, as
//! coroutines do. What is known already is answered without a turn of the event loop.

use std::{
    mem,
    sync::{Arc, Mutex},
};

use pyo3::{
    exceptions::{PyRuntimeError, PyStopIteration},
    intern,
    prelude::*,
    sync::{MutexExt, PyOnceLock},
};
use tokio::task::AbortHandle;

use crate::{
    courier,
    errors::unpoisoned,
    fork::Local,
    logging, runtime,
    step::{Answer, Make, Step, Undo, Work},
};

static GET_LOOP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// An operation of an asyncio class: await it.
#[pyclass(frozen, module = "system_control.discovery._native", name = "Operation")]
pub(crate) struct Operation(Local<Mutex<State>>);

enum State {
    Ready(Py<PyAny>),
    Fresh(Work),
    /// The iterator of the `asyncio.Future` it waits for, and what takes the work back if its answer does not arrive.
    Waiting(Py<PyAny>, Slot),
    Over,
}

type Slot = Arc<Mutex<Option<Undo>>>;

impl Operation {
    pub(crate) fn new(step: Step) -> Self {
        let state = match step {
            Step::Now(value) => State::Ready(value),
            Step::Later(work) => State::Fresh(work),
        };
        Self(Local::new(Mutex::new(state)))
    }

    fn take(&self, py: Python<'_>) -> PyResult<State> {
        let mut state = unpoisoned(self.0.get(py)?.lock_py_attached(py));
        Ok(match &*state {
            State::Waiting(iterator, slot) => State::Waiting(iterator.clone_ref(py), slot.clone()),
            _ => mem::replace(&mut *state, State::Over),
        })
    }

    fn put(&self, py: Python<'_>, new: State) -> PyResult<()> {
        *unpoisoned(self.0.get(py)?.lock_py_attached(py)) = new;
        Ok(())
    }
}

/// Starts the work and answers the iterator to wait on.
fn start(py: Python<'_>, work: Work, slot: Slot) -> PyResult<Bound<'_, PyAny>> {
    let runtime = runtime::current(py)?;
    logging::follow_level(py);
    let event_loop = GET_LOOP.import(py, "asyncio", "get_running_loop")?.call0()?;
    let future = event_loop.call_method0(intern!(py, "create_future"))?;
    let errands = courier::answers(py)?;
    let (to, waiting) = (event_loop.unbind(), future.clone().unbind());
    // Owned by the future: cancelling that aborts it.
    let task = runtime.spawn(async move {
        let Answer { make, undo } = work.await;
        *unpoisoned(slot.lock()) = undo;
        // Bounded, and the thread behind it always goes on.
        let hand_in = move || errands.send(Box::new(move |py| deliver(py, &to, &waiting, make)));
        let _ = tokio::task::spawn_blocking(hand_in).await;
    });
    let canceller = Canceller {
        task: Local::new(task.abort_handle()),
    };
    future.call_method1(intern!(py, "add_done_callback"), (canceller,))?;
    future.call_method0(intern!(py, "__await__"))
}

/// Hands an answer to the event loop. A loop that is closed has nobody waiting any more.
fn deliver(py: Python<'_>, event_loop: &Py<PyAny>, future: &Py<PyAny>, make: Make) {
    let (method, value) = match make(py) {
        Ok(value) => (intern!(py, "set_result"), value),
        Err(error) => (intern!(py, "set_exception"), error.into_value(py).into_any()),
    };
    let settle = Settle {
        future: future.clone_ref(py),
        method: method.clone().unbind().into_any(),
        value,
    };
    let _ = event_loop.call_method1(py, intern!(py, "call_soon_threadsafe"), (settle,));
}

/// Runs in the event loop: gives a future its value unless it was cancelled meanwhile.
#[pyclass(frozen)]
struct Settle {
    future: Py<PyAny>,
    method: Py<PyAny>,
    value: Py<PyAny>,
}

#[pymethods]
impl Settle {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let future = self.future.bind(py);
        if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
            let method = self.method.bind(py).cast::<pyo3::types::PyString>()?;
            future.call_method1(method, (&self.value,))?;
        }
        Ok(())
    }
}

/// Called when a future is done: one that was cancelled takes its work with it.
#[pyclass(frozen)]
struct Canceller {
    task: Local<AbortHandle>,
}

#[pymethods]
impl Canceller {
    fn __call__(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let cancelled = future
            .call_method0(intern!(future.py(), "cancelled"))?
            .is_truthy()?;
        if cancelled && let Some(task) = self.task.try_get() {
            task.abort();
        }
        Ok(())
    }
}

#[pymethods]
impl Operation {
    fn __await__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (iterator, slot) = match self.take(py)? {
            State::Ready(value) => return Err(PyStopIteration::new_err((value,))),
            State::Fresh(work) => {
                let slot = Slot::default();
                let iterator = start(py, work, slot.clone())?;
                self.put(py, State::Waiting(iterator.clone().unbind(), slot.clone()))?;
                (iterator, slot)
            }
            State::Waiting(iterator, slot) => (iterator.into_bound(py), slot),
            State::Over => return Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine")),
        };
        let next = iterator.call_method1(intern!(py, "send"), (py.None(),));
        if let Err(end) = &next {
            let undo = unpoisoned(slot.lock()).take();
            if let Some(undo) = undo.filter(|_| end.is_instance_of::<PyStopIteration>(py)) {
                undo.keep();
            }
            self.put(py, State::Over)?;
        }
        Ok(next?.unbind())
    }

    /// Goes on; asyncio calls it.
    #[pyo3(signature = (value, /))]
    fn send(&self, py: Python<'_>, value: Py<PyAny>) -> PyResult<Py<PyAny>> {
        let _ = value;
        self.__next__(py)
    }

    /// Goes on with an exception, as when a task is cancelled; asyncio calls it.
    #[pyo3(signature = (typ, val=None, tb=None, /))]
    fn throw(
        &self,
        py: Python<'_>,
        typ: Bound<'_, PyAny>,
        val: Option<Bound<'_, PyAny>>,
        tb: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        match self.take(py)? {
            State::Waiting(iterator, _) => {
                let next = match (val, tb) {
                    (None, _) => iterator.call_method1(py, intern!(py, "throw"), (typ,)),
                    (val, tb) => iterator.call_method1(py, intern!(py, "throw"), (typ, val, tb)),
                };
                if next.is_err() {
                    self.put(py, State::Over)?;
                }
                next
            }
            _ => Err(PyErr::from_value(val.unwrap_or(typ))),
        }
    }

    /// Gives it up.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if let State::Waiting(iterator, _) = self.take(py)? {
            iterator.call_method0(py, intern!(py, "close"))?;
        }
        self.put(py, State::Over)
    }
}
