//! What the library logs goes to Python's `logging`, under `system_control.discovery`.

use std::{
    fmt::{self, Write as _},
    mem,
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
};

use arc_swap::ArcSwapOption;
use pyo3::{intern, prelude::*, sync::MutexExt, sync::PyOnceLock};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    subscriber::Interest,
};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt as _, registry::LookupSpan};

use crate::{
    courier::{Courier, Errand},
    errors::unpoisoned,
};

/// Records on their way to `logging`; what comes while it is full is counted and left out.
const ROOM: usize = 1024;

/// The lowest of Python's levels that its logger wants, followed by every call that may block.
static LEVEL: AtomicUsize = AtomicUsize::new(30);
static LOST: AtomicU64 = AtomicU64::new(0);
static COURIER: Mutex<Option<Courier>> = Mutex::new(None);
static SENDER: ArcSwapOption<mpsc::SyncSender<Errand>> = ArcSwapOption::const_empty();
static LOGGER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Python's number for a level; five for what it has no name for.
fn number(level: Level) -> usize {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

/// Makes this the destination of the process; a second import finds it there.
pub(crate) fn install() {
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(ToPython));
}

fn logger(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    let logger = LOGGER.get_or_try_init(py, || {
        let logging = py.import("logging")?;
        let logger = logging.call_method1("getLogger", ("system_control.discovery",))?;
        PyResult::Ok(logger.unbind())
    })?;
    Ok(logger.bind(py))
}

/// Takes over the level of the logger, and starts the thread that feeds it.
pub(crate) fn follow_level(py: Python<'_>) {
    let level =
        logger(py).and_then(|logger| logger.call_method0(intern!(py, "getEffectiveLevel"))?.extract());
    if let Ok(level) = level {
        LEVEL.store(level, Relaxed);
    }
    let mut courier = unpoisoned(COURIER.lock_py_attached(py));
    if courier.is_none() {
        // Without a thread nothing is logged, and everything else works.
        *courier = Courier::start("discovery-logging", ROOM).ok();
        SENDER.store(courier.as_ref().map(|courier| courier.sender().into()));
    }
}

pub(crate) fn end(py: Python<'_>) {
    SENDER.store(None);
    let courier = unpoisoned(COURIER.lock_py_attached(py)).take();
    if let Some(courier) = courier {
        courier.end(py);
    }
}

/// In the child of a fork: the thread is not there.
pub(crate) fn forget(py: Python<'_>) {
    mem::forget(SENDER.swap(None));
    mem::forget(unpoisoned(COURIER.lock_py_attached(py)).take());
    LOST.store(0, Relaxed);
}

struct ToPython;

impl ToPython {
    fn wants(metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("discovery") && number(*metadata.level()) >= LEVEL.load(Relaxed)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for ToPython {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Asked every time, since the level may change.
        if metadata.is_event() && metadata.target().starts_with("discovery") {
            Interest::sometimes()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.is_event() && Self::wants(metadata)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let (level, text) = (number(*event.metadata().level()), line.text());
        let errand: Errand = Box::new(move |py| {
            let lost = LOST.swap(0, Relaxed);
            let log = |level: usize, text: &str| {
                logger(py).and_then(|logger| logger.call_method1(intern!(py, "log"), (level, text)))
            };
            // A handler that raises has nobody to tell.
            if lost > 0 {
                let _ = log(
                    30,
                    &format!("{lost} log records were lost: handlers are too slow"),
                );
            }
            let _ = log(level, &text);
        });
        let sent = SENDER
            .load()
            .as_ref()
            .is_some_and(|sender| sender.try_send(errand).is_ok());
        if !sent {
            LOST.fetch_add(1, Relaxed);
        }
    }
}

/// The message of an event and its fields, in one line.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn text(self) -> String {
        if self.fields.is_empty() {
            self.message
        } else {
            format!("{} ({})", self.message, self.fields)
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            let separator = if self.fields.is_empty() { "" } else { ", " };
            let _ = write!(self.fields, "{separator}{}={value:?}", field.name());
        }
    }
}
