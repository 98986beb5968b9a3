//! Model, traits and planes of System Control Discovery.
//!
//! What a backend implements ([`ServiceRegistry`], [`Watcher`], [`ConfigStore`], [`HealthCheck`], put together in a
//! [`Backend`]) and what every client stands on: a watch that recovers, a guard that weighs evidence, views that picks
//! read without locks, a registrar that never forgets. Applications use the `discovery` crate on top of this one.
//!
//! Stable: everything this crate exports by name, which is also what backends are written against.

pub mod config;
pub mod disk;
mod error;
pub mod failover;
pub mod health;
pub mod memory;
mod metrics;
mod model;
pub mod pick;
pub mod registrar;
pub mod resilience;
pub mod resolver;
mod spi;
mod task;
#[cfg(test)]
mod testing;
#[cfg(feature = "tls")]
pub mod tls;
pub mod watch;

pub use error::{Error, ErrorKind, Result, Retry};
pub use model::{
    Check, CheckKind, CheckOutcome, CheckResult, Cursor, Evidence, Freshness, HealthReport, Held, Instance,
    InstanceBuilder, InstanceId, InstanceKey, Instances, InstancesIter, Lease, LeaseGroup, Locality,
    MetaChange, NamedPort, Query, Registration, RegistrationBuilder, Renewal, Scope, ServiceHealth,
    ServiceName, ServiceSummary, Snapshot, Source, Status, Suspicion, Target, Weight,
};
pub use spi::*;
pub use task::TaskGroup;
