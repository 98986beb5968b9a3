//! The small value classes, which are written in Python: `_values.py`.

use discovery::{ServiceHealth, ServiceSummary, registrar::RegistrationPhase};
use pyo3::{call::PyCallArgs, prelude::*, sync::PyOnceLock, types::PyTuple};

use crate::{errors, instance::ServiceInstance};

static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// One of them.
pub(crate) fn make<'py>(
    py: Python<'py>,
    class: &str,
    fields: impl PyCallArgs<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let module = MODULE.get_or_try_init(py, || {
        PyResult::Ok(py.import("system_control.discovery._values")?.unbind())
    })?;
    module.bind(py).getattr(class)?.call1(fields)
}

pub(crate) fn services(py: Python<'_>, services: Vec<ServiceSummary>) -> PyResult<Py<PyAny>> {
    let services = services.into_iter().map(|service| {
        let tags = PyTuple::new(py, &service.tags)?;
        make(
            py,
            "ServiceSummary",
            (service.name.as_str(), tags, service.instances),
        )
    });
    Ok(PyTuple::new(py, services.collect::<PyResult<Vec<_>>>()?)?
        .into_any()
        .unbind())
}

pub(crate) fn health(py: Python<'_>, health: &ServiceHealth) -> PyResult<Py<PyAny>> {
    let instances = health.instances.iter();
    let instances: Vec<_> = instances
        .map(|instance| ServiceInstance::of(instance.clone()))
        .collect();
    let fields = (
        health.service.as_str(),
        health.status.as_str(),
        health.passing,
        health.warning,
        health.critical,
        health.draining,
        PyTuple::new(py, instances)?,
    );
    Ok(make(py, "ServiceHealth", fields)?.unbind())
}

fn phase(phase: RegistrationPhase) -> String {
    let mut name = String::new();
    for letter in format!("{phase:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

pub(crate) fn status(py: Python<'_>, status: &crate::ops::Standing) -> PyResult<Py<PyAny>> {
    let registrations = status.registrations.iter().map(|state| {
        let fields = (
            state.key.id.as_str(),
            state.key.service.as_str(),
            phase(state.phase),
            state.health.status.as_str(),
        );
        make(py, "RegistrationStatus", fields)
    });
    let registrations = PyTuple::new(py, registrations.collect::<PyResult<Vec<_>>>()?)?;
    let said = status.registry.as_ref().ok();
    let details = said.map(|said| said.details.clone()).unwrap_or_default();
    let fields = (
        status.backend.scheme,
        &status.backend.address,
        said.is_some(),
        said.and_then(|said| said.version.as_deref()),
        said.and_then(|said| said.leader.as_deref()),
        said.map(|said| said.latency.as_secs_f64()),
        PyTuple::new(py, details)?,
        status
            .registry
            .as_ref()
            .err()
            .map(|error| errors::raise(py, error).into_value(py)),
        &status.circuit,
        registrations,
        status.watches,
    );
    Ok(make(py, "RegistryStatus", fields)?.unbind())
}
