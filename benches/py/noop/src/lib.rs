//! A call from Python into Rust that does nothing.

use pyo3::prelude::*;

/// An object with a method that returns what the object holds.
#[pyclass(frozen)]
struct Noop {
    held: Py<PyAny>,
}

#[pymethods]
impl Noop {
    #[new]
    fn new(held: Py<PyAny>) -> Self {
        Self { held }
    }

    fn call(&self, py: Python<'_>) -> Py<PyAny> {
        self.held.clone_ref(py)
    }
}

#[pymodule(gil_used = false)]
fn discovery_noop(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Noop>()
}
