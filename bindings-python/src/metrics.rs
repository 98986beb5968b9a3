//! What the library measures, kept for `metrics()` to read.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use pyo3::{prelude::*, types::PyDict};

/// How many and how much: what a histogram is kept as.
#[derive(Debug, Default)]
struct Summary {
    count: AtomicU64,
    sum: AtomicU64,
}

impl HistogramFn for Summary {
    fn record(&self, value: f64) {
        self.count.fetch_add(1, Relaxed);
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        let _ = self.sum.fetch_update(Relaxed, Relaxed, add);
    }
}

#[derive(Debug, Clone)]
enum Series {
    Counter(Arc<AtomicU64>),
    Gauge(Arc<AtomicU64>),
    Summary(Arc<Summary>),
}

type Store = Mutex<BTreeMap<Key, Series>>;

#[derive(Debug)]
struct Keeper(ArcSwap<Store>);

static KEEPER: std::sync::LazyLock<Keeper> = std::sync::LazyLock::new(|| Keeper(ArcSwap::default()));

impl Keeper {
    fn series(&self, key: &Key, new: impl FnOnce() -> Series) -> Series {
        let store = self.0.load();
        let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
        store.entry(key.clone()).or_insert_with(new).clone()
    }
}

/// What the global recorder is: the store behind it changes after a fork.
struct Front;

impl Recorder for Front {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match KEEPER.series(key, || Series::Counter(Arc::default())) {
            Series::Counter(counter) => Counter::from_arc(counter),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match KEEPER.series(key, || Series::Gauge(Arc::default())) {
            Series::Gauge(gauge) => Gauge::from_arc(gauge),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        match KEEPER.series(key, || Series::Summary(Arc::default())) {
            Series::Summary(summary) => Histogram::from_arc(summary),
            _ => Histogram::noop(),
        }
    }
}

/// Makes this the recorder of the process; a second import finds it there.
pub(crate) fn install() {
    let _ = metrics::set_global_recorder(Front);
}

/// In the child of a fork: start from zero, without the parent's lock.
pub(crate) fn forget() {
    mem::forget(KEEPER.0.swap(Arc::default()));
}

fn name(key: &Key, suffix: &str) -> String {
    let mut text = format!("{}{suffix}", key.name());
    let mut separator = '{';
    for label in key.labels() {
        let value = label
            .value()
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        let _ = write!(text, "{separator}{}=\"{value}\"", label.key());
        separator = ',';
    }
    if separator == ',' {
        text.push('}');
    }
    text
}

/// What the library measured in this process, by series.
///
/// Returns:
///     A dict from a series, written as Prometheus does (`name{label="value"}`), to its number. What is
///     measured in seconds has two series: `name_count` and `name_sum`.
#[pyfunction(name = "metrics")]
pub(crate) fn read(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let series = {
        let store = KEEPER.0.load();
        store.lock().unwrap_or_else(PoisonError::into_inner).clone()
    };
    let answer = PyDict::new(py);
    for (key, series) in &series {
        match series {
            Series::Counter(counter) => answer.set_item(name(key, ""), counter.load(Relaxed))?,
            Series::Gauge(gauge) => answer.set_item(name(key, ""), f64::from_bits(gauge.load(Relaxed)))?,
            Series::Summary(summary) => {
                answer.set_item(name(key, "_count"), summary.count.load(Relaxed))?;
                answer.set_item(name(key, "_sum"), f64::from_bits(summary.sum.load(Relaxed)))?;
            }
        }
    }
    Ok(answer)
}
