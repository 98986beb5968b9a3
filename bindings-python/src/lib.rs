//! The Python package of System Control Discovery: `system_control.discovery`.
//!
//! The classes are thin. [`ops`] has every operation once; [`registry`] waits for it with the interpreter released,
//! [`aio`] hands out a coroutine. What is picked comes from [`handle`], which keeps one Python object for each instance beside
//! the library's own view, so that a pick neither waits nor allocates nor lets go of the interpreter.

#![expect(
    clippy::doc_markdown,
    reason = "docstrings are read by Python programmers, in Python's style"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "arguments come from Python by value"
)]
#![expect(
    clippy::used_underscore_binding,
    reason = "arguments that Python code is not to use have an underscore"
)]

mod aio;
mod arguments;
mod config;
mod courier;
mod errors;
mod exit;
mod fork;
mod handle;
mod instance;
mod logging;
mod metrics;
mod open;
mod operation;
mod ops;
mod registry;
mod runtime;
mod service;
mod snapshot;
mod step;
mod values;
mod watch;

/// The native half of `system_control.discovery`; import that instead.
#[pyo3::pymodule(gil_used = false)]
#[pyo3(name = "_native")]
mod native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::{
        aio::AsyncServiceRegistry,
        config::{AsyncConfigValues, AsyncConfigWatch, ConfigValues, ConfigWatch},
        exit::at_exit,
        fork::after_fork,
        instance::ServiceInstance,
        metrics::read,
        registry::ServiceRegistry,
        service::{AsyncCall, AsyncService, Call, Service},
        snapshot::Snapshot,
        watch::{AsyncWatch, Watch},
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::metrics::install();
        super::logging::install();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
