//! Live views inside of other libraries' clients, each behind a feature of its own name:
//! `tower`, `reqwest-middleware` and `tonic`.
//!
//! They pick, count and report as [`Service::call`](discovery_core::pick::Service::call) does, and go on to the next instance
//! only where that is safe.

#[cfg(any(feature = "tonic", feature = "tower"))]
mod made;
#[cfg(feature = "reqwest-middleware")]
pub mod reqwest_middleware;
#[cfg(feature = "tonic")]
pub mod tonic;
#[cfg(feature = "tower")]
pub mod tower;

/// What a caller says of something.
#[cfg(any(feature = "tonic", feature = "tower"))]
type Rule<Of, Said> = std::sync::Arc<dyn Fn(&Of) -> Said + Send + Sync>;

/// How many instances a call tries in all unless set, as with `CallPolicy`.
const ATTEMPTS: u32 = 2;
