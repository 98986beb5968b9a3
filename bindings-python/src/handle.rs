//! A service as Python sees it: the objects of its view, kept beside the reader that picks among them.

use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

use discovery::{
    Error,
    pick::{Reader, Service},
};
use pyo3::{prelude::*, sync::MutexExt};

use crate::{
    errors::{OrRaise, unpoisoned},
    instance::ServiceInstance,
    snapshot::Snapshot,
    step::Step,
};

/// One service and how it is balanced; shared by everybody who asks for the same.
pub(crate) struct Handle {
    pub(crate) service: Service,
    /// No Python object is made or dropped while it is held: that may run any code, which may come back here.
    hot: Mutex<Hot>,
    /// Whether it was used since the last sweep.
    used: AtomicBool,
}

struct Hot {
    reader: Reader,
    /// What the reader counts by; nothing while it is being made.
    current: Option<Py<Snapshot>>,
    /// The last one there was: its objects are carried over.
    before: Option<Py<Snapshot>>,
    /// Which look at the view `current` belongs to.
    look: u64,
}

/// A pick: an object, or where it will be. The latter is made with no lock held.
pub(crate) enum Pick {
    Made(Py<ServiceInstance>),
    Unmade(Py<Snapshot>, usize),
}

impl Pick {
    #[inline]
    pub(crate) fn object(self, py: Python<'_>) -> Option<Py<ServiceInstance>> {
        match self {
            Self::Made(object) => Some(object),
            Self::Unmade(snapshot, index) => snapshot.get().object(py, index).ok(),
        }
    }
}

impl Handle {
    pub(crate) fn new(service: Service) -> Self {
        let hot = Hot {
            reader: service.reader(),
            current: None,
            before: None,
            look: 0,
        };
        Self {
            service,
            hot: Mutex::new(hot),
            used: AtomicBool::new(true),
        }
    }

    #[inline]
    fn hot(&self, py: Python<'_>) -> MutexGuard<'_, Hot> {
        match self.hot.try_lock() {
            Ok(hot) => hot,
            Err(_) => unpoisoned(self.hot.lock_py_attached(py)),
        }
    }

    /// Whether it was used since this was last asked.
    pub(crate) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// The next pick, if what is kept here is what the view shows. Neither waits, allocates nor lets go of the interpreter.
    #[inline]
    pub(crate) fn kept_pick(&self, py: Python<'_>) -> Option<Pick> {
        let mut hot = self.hot(py);
        if hot.reader.is_outdated() {
            return None;
        }
        let index = hot.reader.pick_index()?;
        let snapshot = hot.current.as_ref()?;
        self.used.store(true, Ordering::Relaxed);
        Some(match snapshot.get().made(py, index) {
            Some(object) => Pick::Made(object),
            None => Pick::Unmade(snapshot.clone_ref(py), index),
        })
    }

    /// As [`Self::kept_pick`], the object itself.
    #[inline]
    pub(crate) fn pick_kept(&self, py: Python<'_>) -> Option<Py<ServiceInstance>> {
        self.kept_pick(py)?.object(py)
    }

    /// The snapshot, if what is kept here is what the view shows.
    #[inline]
    pub(crate) fn kept(&self, py: Python<'_>) -> Option<Py<Snapshot>> {
        let hot = self.hot(py);
        if hot.reader.is_outdated() {
            return None;
        }
        self.used.store(true, Ordering::Relaxed);
        Some(hot.current.as_ref()?.clone_ref(py))
    }

    /// What the view shows now, as an object.
    pub(crate) fn look(&self, py: Python<'_>) -> Result<PyResult<Py<Snapshot>>, Error> {
        if let Some(kept) = self.kept(py) {
            return Ok(Ok(kept));
        }
        let (seen, before, look, dropped) = {
            let mut hot = self.hot(py);
            let seen = hot.reader.refresh();
            let dropped = match hot.current.take() {
                Some(current) => hot.before.replace(current),
                None => None,
            };
            hot.look += 1;
            let before = hot.before.as_ref().map(|before| before.clone_ref(py));
            (seen, before, hot.look, dropped)
        };
        drop(dropped);
        let before = before.as_ref().map(Py::get);
        let snapshot = match Py::new(py, Snapshot::after(py, seen?, before)) {
            Ok(snapshot) => snapshot,
            Err(error) => return Ok(Err(error)),
        };
        let mut hot = self.hot(py);
        if hot.look == look {
            hot.current = Some(snapshot.clone_ref(py));
        }
        drop(hot);
        Ok(Ok(snapshot))
    }

    fn pick_now(&self, py: Python<'_>) -> PyResult<Option<Py<ServiceInstance>>> {
        if let Ok(looked) = self.look(py) {
            looked?;
        }
        Ok(self.pick_kept(py))
    }

    /// The next instance; the first call waits for the first view.
    pub(crate) fn pick(self: &Arc<Self>, py: Python<'_>) -> PyResult<Step> {
        if let Some(object) = self.pick_now(py)? {
            return Ok(Step::Now(object.into_any()));
        }
        let this = self.clone();
        Ok(self.ready(move |py, ()| {
            if let Some(object) = this.pick_now(py)? {
                return Ok(object.into_any());
            }
            // It says why; or the instance that came meanwhile.
            let picked = this.service.acquire().or_raise(py)?;
            Ok(Py::new(py, ServiceInstance::of(picked.instance().clone()))?.into_any())
        }))
    }

    /// So many picks at once.
    pub(crate) fn pick_many(self: &Arc<Self>, py: Python<'_>, count: usize) -> PyResult<Step> {
        fn many(this: &Handle, py: Python<'_>, count: usize) -> PyResult<Option<Py<PyAny>>> {
            let mut picked = Vec::with_capacity(count.min(1 << 16));
            for _ in 0..count {
                let object = match this.pick_kept(py) {
                    Some(object) => Some(object),
                    None => this.pick_now(py)?,
                };
                let Some(object) = object else { return Ok(None) };
                picked.push(object);
            }
            Ok(Some(picked.into_pyobject(py)?.unbind()))
        }
        if let Some(picked) = many(self, py, count)? {
            return Ok(Step::Now(picked));
        }
        let this = self.clone();
        Ok(self.ready(move |py, ()| {
            if let Some(picked) = many(&this, py, count)? {
                return Ok(picked);
            }
            this.service.acquire().or_raise(py)?;
            let gone = Error::new(discovery::ErrorKind::Unavailable, "the instances change too fast");
            Err(gone).or_raise(py)
        }))
    }

    /// The snapshot; the first call waits for the first view.
    pub(crate) fn snapshot(self: &Arc<Self>, py: Python<'_>) -> PyResult<Step> {
        if let Ok(looked) = self.look(py) {
            return Ok(Step::Now(looked?.into_any()));
        }
        let this = self.clone();
        Ok(self.ready(move |py, ()| Ok(this.look(py).or_raise(py)??.into_any())))
    }

    /// Waits for the first view, then goes on with `then`.
    pub(crate) fn ready(
        &self,
        then: impl FnOnce(Python<'_>, ()) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> Step {
        let service = self.service.clone();
        Step::later(async move { service.instances().await.map(drop) }, then)
    }
}
