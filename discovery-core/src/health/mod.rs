//! Looking at an instance from here: probes, and a prober that runs them.
//!
//! For registries that run no checks themselves: the client looks, and reports what it sees.

mod http;
mod prober;
mod tcp;

use std::sync::Arc;

pub use http::HttpCheck;
pub use prober::{Prober, Thresholds};
pub use tcp::TcpCheck;

use crate::{
    error::{Error, ErrorKind, Result},
    model::{Check, CheckKind},
    spi::HealthCheck,
};

/// The probe `check` describes.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an address or URL that is none,
/// [`Unsupported`](crate::ErrorKind::Unsupported) for `https`, and for scripts and gRPC, which only registries that run
/// checks themselves can look at: a library that starts programs would be a way in.
pub fn check_for(check: &Check) -> Result<Arc<dyn HealthCheck>> {
    Ok(match &check.kind {
        CheckKind::Http { url } => Arc::new(HttpCheck::new(url)?),
        CheckKind::Tcp { address } => Arc::new(TcpCheck::new(address)?),
        CheckKind::Script { .. } | CheckKind::Grpc { .. } => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "this registry runs no checks itself, and the client runs HTTP and TCP checks only",
            )
            .with_context("check", check.name.clone())
            .with_hint("give an HTTP or TCP check, or report the health from your program"));
        }
    })
}

#[cfg(test)]
mod tests;
