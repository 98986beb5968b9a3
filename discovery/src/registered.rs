//! A handle on one registration.

use std::time::Duration;

use discovery_core::{HealthReport, InstanceId, InstanceKey, MetaChange, Result};

use crate::Client;

/// A handle on one registration of a client. Dropping it changes nothing.
///
/// Every method is cancel-safe: what is desired changes first, and the registry follows.
#[derive(Debug, Clone)]
pub struct Registered {
    pub(crate) client: Client,
    pub(crate) key: InstanceKey,
}

impl Registered {
    /// The id of the instance.
    pub fn id(&self) -> &InstanceId {
        &self.key.id
    }

    /// The full key of the record.
    pub fn key(&self) -> &InstanceKey {
        &self.key
    }

    /// As [`Client::update_meta`].
    ///
    /// # Errors
    /// As [`Client::update_meta`].
    pub async fn update_meta(&self, change: MetaChange) -> Result<()> {
        self.client.update_meta(&self.key.id, change).await
    }

    /// As [`Client::report_health`].
    ///
    /// # Errors
    /// As [`Client::report_health`].
    pub async fn report_health(&self, report: HealthReport) -> Result<()> {
        self.client.report_health(&self.key.id, report).await
    }

    /// As [`Client::drain`].
    ///
    /// # Errors
    /// As [`Client::drain`].
    pub async fn drain(&self, wait: Duration) -> Result<()> {
        self.client.drain(&self.key.id, wait).await
    }

    /// As [`Client::deregister`].
    ///
    /// # Errors
    /// As [`Client::deregister`].
    pub async fn deregister(&self) -> Result<()> {
        self.client.deregister(&self.key.id).await
    }
}
