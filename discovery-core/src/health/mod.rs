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
    error::Result,
    model::{Check, CheckKind},
    spi::HealthCheck,
};

/// The probe `check` describes.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an address or URL that is none,
/// [`Unsupported`](crate::ErrorKind::Unsupported) for `https`.
pub fn check_for(check: &Check) -> Result<Arc<dyn HealthCheck>> {
    Ok(match &check.kind {
        CheckKind::Http { url } => Arc::new(HttpCheck::new(url)?),
        CheckKind::Tcp { address } => Arc::new(TcpCheck::new(address)?),
    })
}

#[cfg(test)]
mod tests;
