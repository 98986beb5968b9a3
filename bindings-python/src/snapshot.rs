//! `Snapshot`: an immutable sequence of instances, each with one Python object.

use std::sync::Arc;

use discovery::{Freshness, Instance, ServiceName, Snapshot as Seen, Source, Target};
use pyo3::{
    exceptions::{PyIndexError, PyOverflowError, PyValueError},
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyIterator, PySlice, PyTuple},
};

use crate::{
    arguments::Seconds,
    errors::invalid,
    instance::{ServiceInstance, hash_of},
};

/// What the registry answered: an immutable sequence of `ServiceInstance`.
///
/// It never changes; a later look is another snapshot. Instances that did not change between two snapshots of a
/// service are the same objects in both.
///
/// Attributes:
///     source: `live`, `cache`, `stale` (the way to the registry is broken: the last good view) or `disk`.
///     age: Seconds since the registry last confirmed it, now.
///     service: The service, or `None` for a snapshot of all.
#[pyclass(frozen, sequence, eq, module = "system_control.discovery")]
pub(crate) struct Snapshot {
    pub(crate) seen: Seen,
    /// Made when first asked for, and kept.
    objects: Box<[PyOnceLock<Py<ServiceInstance>>]>,
    all: PyOnceLock<Py<PyTuple>>,
}

impl PartialEq for Snapshot {
    fn eq(&self, other: &Self) -> bool {
        self.seen == other.seen
    }
}

impl Snapshot {
    /// The snapshot, with the objects of those instances that an earlier one has too.
    pub(crate) fn after(py: Python<'_>, seen: Seen, before: Option<&Self>) -> Self {
        let carried = |index: usize, instance: &Arc<Instance>| -> Option<Py<ServiceInstance>> {
            let before = before?;
            if Arc::ptr_eq(before.seen.instances.get(index)?, instance) {
                before.made(py, index)
            } else {
                None
            }
        };
        let place = |(index, instance)| {
            let place = PyOnceLock::new();
            if let Some(object) = carried(index, instance) {
                let _ = place.set(py, object);
            }
            place
        };
        Self {
            objects: seen.instances.iter().enumerate().map(place).collect(),
            seen,
            all: PyOnceLock::new(),
        }
    }

    /// The object of the instance at `index`, if it was made.
    #[inline]
    pub(crate) fn made(&self, py: Python<'_>, index: usize) -> Option<Py<ServiceInstance>> {
        Some(self.objects.get(index)?.get(py)?.clone_ref(py))
    }

    /// The object of the instance at `index`.
    pub(crate) fn object(&self, py: Python<'_>, index: usize) -> PyResult<Py<ServiceInstance>> {
        let (Some(place), Some(instance)) = (self.objects.get(index), self.seen.instances.get(index)) else {
            return Err(PyIndexError::new_err("snapshot index out of range"));
        };
        if let Some(object) = place.get(py) {
            return Ok(object.clone_ref(py));
        }
        let object = Py::new(py, ServiceInstance::of(instance.clone()))?;
        // Somebody else may have been first: theirs is kept.
        let _ = place.set(py, object.clone_ref(py));
        Ok(place.get(py).unwrap_or(&object).clone_ref(py))
    }

    fn all<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyTuple>> {
        let all = self.all.get_or_try_init(py, || {
            let objects = (0..self.objects.len()).map(|index| self.object(py, index));
            PyResult::Ok(PyTuple::new(py, objects.collect::<PyResult<Vec<_>>>()?)?.unbind())
        })?;
        Ok(all.bind(py))
    }
}

fn source(py: Python<'_>, name: &str) -> PyResult<Source> {
    let sources = [Source::Live, Source::Cache, Source::Stale, Source::Disk];
    let found = sources.into_iter().find(|source| source.as_str() == name);
    found.ok_or_else(|| {
        invalid(
            py,
            "source",
            &format!("{name:?}"),
            "use live, cache, stale or disk",
        )
    })
}

#[pymethods]
impl Snapshot {
    #[new]
    #[pyo3(signature = (instances=Vec::new(), *, service=None, source="live", age=Seconds(std::time::Duration::ZERO)), text_signature = "(instances=(), *, service=None, source='live', age=0.0)")]
    fn new(
        py: Python<'_>,
        instances: Vec<Py<ServiceInstance>>,
        service: Option<&str>,
        source: &str,
        age: Seconds,
    ) -> PyResult<Self> {
        let target = service.map_or(Target::All, |name| Target::Service(ServiceName::observed(name)));
        let shown: Vec<_> = instances
            .iter()
            .map(|object| object.get().instance.clone())
            .collect();
        let mut seen = Seen::live(target, shown).with_source(self::source(py, source)?);
        seen.freshness = Freshness::aged(age.0);
        let objects = instances.into_iter().map(|object| {
            let place = PyOnceLock::new();
            let _ = place.set(py, object);
            place
        });
        Ok(Self {
            seen,
            objects: objects.collect(),
            all: PyOnceLock::new(),
        })
    }

    /// The service, or `None` for a snapshot of all.
    #[getter]
    fn service(&self) -> Option<&str> {
        match &self.seen.target {
            Target::Service(name) => Some(name.as_str()),
            Target::All => None,
        }
    }

    /// Where it came from: `live`, `cache`, `stale` or `disk`.
    #[getter]
    fn source(&self) -> &'static str {
        self.seen.source.as_str()
    }

    /// Seconds since the registry last confirmed it, now.
    #[getter]
    fn age(&self) -> f64 {
        self.seen.age().as_secs_f64()
    }

    /// How many instances are shown although the registry no longer does, until that is confirmed.
    #[getter]
    fn held(&self) -> usize {
        self.seen.held.map_or(0, |held| held.instances)
    }

    /// Why they are held, where some are: `access_lost`, `mass_removal` and the like.
    #[getter]
    fn held_reason(&self) -> Option<&'static str> {
        self.seen.held.map(|held| held.reason.as_str())
    }

    /// The snapshot as a dict of plain values.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        dict.set_item("service", self.service())?;
        dict.set_item("source", self.source())?;
        dict.set_item("age", self.age())?;
        let instances = self.all(py)?.iter();
        let instances: Vec<_> = instances
            .map(|object| object.call_method0("to_dict"))
            .collect::<PyResult<_>>()?;
        dict.set_item("instances", instances)?;
        Ok(dict)
    }

    /// The first place of `value`; `ValueError` where it is not in the snapshot.
    #[pyo3(signature = (value, start=0, stop=isize::MAX, /), text_signature = "($self, value, start=0, stop=sys.maxsize, /)")]
    fn index(&self, py: Python<'_>, value: &Bound<'_, PyAny>, start: isize, stop: isize) -> PyResult<usize> {
        let found = self.all(py)?.call_method1("index", (value, start, stop));
        found
            .map_err(|_| PyValueError::new_err("not in the snapshot"))?
            .extract()
    }

    /// How often `value` is in the snapshot.
    #[pyo3(signature = (value, /))]
    fn count(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<usize> {
        self.all(py)?.call_method1("count", (value,))?.extract()
    }

    fn __len__(&self) -> usize {
        self.objects.len()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if index.is_instance_of::<PySlice>() {
            return self.all(py)?.as_any().get_item(index);
        }
        let index: isize = match index.extract::<isize>() {
            Err(error) if error.is_instance_of::<PyOverflowError>(index.py()) => isize::MAX,
            index => index?,
        };
        let len = self.objects.len();
        let place = if index < 0 {
            len.checked_add_signed(index)
        } else {
            index.try_into().ok()
        };
        Ok(self.object(py, place.unwrap_or(len))?.into_bound(py).into_any())
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        self.all(py)?.try_iter()
    }

    fn __reversed__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        self.all(py)?
            .as_any()
            .get_item(PySlice::new(py, isize::MAX, isize::MIN, -1))?
            .try_iter()
    }

    fn __contains__(&self, value: &Bound<'_, PyAny>) -> bool {
        value.cast::<ServiceInstance>().is_ok_and(|value| {
            let value = &value.get().instance;
            self.seen
                .instances
                .iter()
                .any(|instance| Arc::ptr_eq(instance, value) || instance == value)
        })
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let named = PyDict::new(py);
        named.set_item("service", self.service())?;
        named.set_item("source", self.source())?;
        named.set_item("age", self.age())?;
        Ok((PyTuple::new(py, [self.all(py)?])?, named))
    }

    fn __hash__(&self) -> u64 {
        let instances = self.seen.instances.iter();
        let instances: Vec<_> = instances
            .map(|instance| ServiceInstance::hash_value(instance))
            .collect();
        hash_of((&self.seen.target, self.seen.source, instances))
    }

    fn __repr__(&self) -> String {
        let of = self
            .service()
            .map_or(String::new(), |name| format!(" of {name:?}"));
        let count = self.objects.len();
        format!(
            "<Snapshot{of}: {count} instance{}, {}, {:.1} s old>",
            if count == 1 { "" } else { "s" },
            self.source(),
            self.age()
        )
    }
}
