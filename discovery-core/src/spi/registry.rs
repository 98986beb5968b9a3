//! Registration and look-up.

use std::fmt::Debug;

use async_trait::async_trait;

use super::{BackendInfo, BackendStatus, Capabilities};
use crate::{
    error::Result,
    model::{
        HealthReport, Instance, InstanceKey, Lease, LeaseGroup, MetaChange, Query, Registration, Renewal,
        Scope, ServiceSummary, Snapshot,
    },
};

/// The primitives of a registry: one request each, no loops, no caches, no retries. Those exist once, in core.
///
/// # Contract
/// - Every method is cancel-safe: dropping its future leaks nothing; a dropped write may or may not have happened.
/// - Every method ends by itself within the backend's own deadline.
/// - What [`capabilities`](Self::capabilities) denies is [`Unsupported`](crate::ErrorKind::Unsupported), raised before
///   anything goes on the wire.
/// - No error holds a secret.
///
/// A decorator must forward every method: none has a default.
#[async_trait]
pub trait ServiceRegistry: Send + Sync + Debug + 'static {
    /// What it is; no secrets.
    fn info(&self) -> BackendInfo;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Creates or replaces the record of this service and id, and nothing else.
    ///
    /// Registering the same content twice changes nothing a watcher could see.
    ///
    /// # Errors
    /// `Unavailable` and `Timeout` may mean that it happened: the caller repeats it.
    async fn register(&self, registration: &Registration) -> Result<Lease>;

    /// Keeps a lease group alive and shows the health its members want.
    ///
    /// # Errors
    /// `NotFound` when the registry no longer knows the group or one of its members: register again.
    async fn renew(&self, group: &LeaseGroup, renewal: &Renewal) -> Result<()>;

    /// Removes one record, never its siblings. An absent record is success.
    async fn deregister(&self, key: &InstanceKey) -> Result<()>;

    /// Ends a [`Shared`](super::LeaseMode::Shared) lease group with all of its records; used on shutdown only.
    /// An absent group is success.
    async fn release(&self, group: &LeaseGroup) -> Result<()>;

    /// Changes metadata, atomically where the server can.
    ///
    /// # Errors
    /// `NotFound` when there is no such record.
    async fn update_meta(&self, key: &InstanceKey, change: &MetaChange) -> Result<()>;

    /// Shows this health.
    ///
    /// # Errors
    /// `NotFound` when there is no such record.
    async fn report_health(&self, key: &InstanceKey, report: &HealthReport) -> Result<()>;

    /// One record, uncached, from the server that owns it.
    async fn instance(&self, key: &InstanceKey) -> Result<Option<Instance>>;

    /// The instances a query means, uncached. An unknown service has none: that is no error.
    ///
    /// Filters the server does not apply are the caller's to apply with [`Query::accepts`].
    async fn instances(&self, query: &Query) -> Result<Snapshot>;

    /// The services of a scope, sorted by name.
    async fn services(&self, scope: &Scope) -> Result<Vec<ServiceSummary>>;

    /// Whether the registry answers, and what it says of itself.
    async fn status(&self) -> Result<BackendStatus>;
}
