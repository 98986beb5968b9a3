//! Registration and look-up on a store.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    backend::{self, SCHEME},
    store::Shared,
};
use crate::{
    error::{Error, ErrorKind, Result},
    model::{
        HealthReport, Instance, InstanceKey, Lease, LeaseGroup, MetaChange, Query, Registration, Renewal,
        Scope, ServiceSummary, Snapshot,
    },
    spi::{BackendInfo, BackendStatus, Capabilities, ServiceRegistry},
};

/// The registry of a store. It filters nothing but target and scope: the rest of a query is the caller's.
pub(super) struct MemoryRegistry(pub(super) Arc<Shared>);

impl fmt::Debug for MemoryRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryRegistry").field(&self.0.name).finish()
    }
}

#[async_trait]
impl ServiceRegistry for MemoryRegistry {
    fn info(&self) -> BackendInfo {
        backend::info(self.0.name.as_deref())
    }

    fn capabilities(&self) -> Capabilities {
        backend::capabilities(self.0.config.confirm_interval)
    }

    async fn register(&self, registration: &Registration) -> Result<Lease> {
        let ttl = registration.ttl.unwrap_or(self.0.config.ttl);
        Ok(self
            .0
            .change(|state, now| state.records.register(registration, ttl, now)))
    }

    async fn renew(&self, group: &LeaseGroup, renewal: &Renewal) -> Result<()> {
        self.0
            .change(|state, now| state.records.renew(group, renewal, now))
            .map_err(|error| error.with_operation("renew"))
    }

    async fn deregister(&self, key: &InstanceKey) -> Result<()> {
        self.0.change(|state, _| state.records.remove(key));
        Ok(())
    }

    async fn release(&self, _group: &LeaseGroup) -> Result<()> {
        Err(unsupported("a lease holds one registration").with_operation("release"))
    }

    async fn update_meta(&self, key: &InstanceKey, change: &MetaChange) -> Result<()> {
        self.0
            .change(|state, _| state.records.update_meta(key, change))
            .map_err(|error| error.with_operation("update_meta"))
    }

    async fn report_health(&self, key: &InstanceKey, report: &HealthReport) -> Result<()> {
        self.0
            .change(|state, _| state.records.set_health(key, report))
            .map_err(|error| error.with_operation("report_health"))
    }

    async fn instance(&self, key: &InstanceKey) -> Result<Option<Instance>> {
        Ok(self.0.read(|state, _| {
            let shown = state.records.get(key)?;
            Some(Arc::unwrap_or_clone(shown.instance(true)))
        }))
    }

    async fn instances(&self, query: &Query) -> Result<Snapshot> {
        local(&query.scope).map_err(|error| error.with_operation("instances"))?;
        Ok(self.0.read(|state, _| {
            let shown = state.records.of(&query.target);
            let instances: Vec<_> = shown
                .iter()
                .map(|shown| shown.instance(query.with_checks))
                .collect();
            Snapshot::live(query.target.clone(), instances).with_cursor(state.records.log.end().cursor())
        }))
    }

    async fn services(&self, scope: &Scope) -> Result<Vec<ServiceSummary>> {
        local(scope).map_err(|error| error.with_operation("services"))?;
        Ok(self.0.read(|state, _| state.records.services()))
    }

    async fn status(&self) -> Result<BackendStatus> {
        let (instances, values) = self.0.read(|state, _| (state.records.len(), state.values.len()));
        Ok(BackendStatus::new(Duration::ZERO)
            .with_version(env!("CARGO_PKG_VERSION"))
            .with_detail("instances", instances.to_string())
            .with_detail("values", values.to_string())
            .with_detail("watches", self.0.watches().to_string()))
    }
}

/// Refuses scopes a store does not have.
pub(super) fn local(scope: &Scope) -> Result<()> {
    if scope.datacenter.is_some() {
        Err(unsupported("there are no datacenters").with_hint("ask without a datacenter"))
    } else if scope.namespace.is_some() {
        Err(unsupported("there are no namespaces").with_hint("ask without a namespace"))
    } else {
        Ok(())
    }
}

fn unsupported(message: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, message).with_backend(SCHEME)
}
