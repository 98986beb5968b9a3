//! Registration and look-up in a file.

use std::sync::Arc;

use async_trait::async_trait;
use discovery_core::{
    BackendInfo, BackendStatus, Capabilities, HealthReport, Instance, InstanceKey, Lease, LeaseGroup,
    MetaChange, Query, Registration, Renewal, Result, Scope, ServiceRegistry, ServiceSummary, Snapshot,
};
use tokio::time::Instant;

use crate::{
    backend,
    config::{Lifetime, LocalConfig},
    convert,
    error::{not_found, unsupported},
    log::Place,
    records,
    store::Store,
    worker::Worker,
};

/// The registry of a file. It filters nothing but target and scope: the rest of a query is the caller's.
#[derive(Debug)]
pub(crate) struct LocalRegistry {
    pub(crate) store: Arc<Store>,
    pub(crate) config: LocalConfig,
}

impl LocalRegistry {
    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        job: impl FnOnce(&mut Worker) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.store.run(operation, self.config.timeout, job).await
    }
}

#[async_trait]
impl ServiceRegistry for LocalRegistry {
    fn info(&self) -> BackendInfo {
        backend::info(self.store.path())
    }

    fn capabilities(&self) -> Capabilities {
        backend::capabilities(self.config.confirm_interval)
    }

    async fn register(&self, registration: &Registration) -> Result<Lease> {
        let (registration, lifetime) = (registration.clone(), self.config.lifetime);
        self.run("register", move |worker| {
            let owner = match lifetime {
                Lifetime::Process => Some(worker.owner()?),
                Lifetime::Detached => None,
            };
            let (lease, place) = worker.write(|connection| {
                let lease = records::register(connection, &registration, owner.as_deref())?;
                Ok((lease, Place::end(connection)?))
            })?;
            if owner.is_some() {
                worker.set_ttl(lease, registration.ttl);
            }
            Ok(Lease::new(
                convert::key(registration.service.as_str(), registration.id.as_str()),
                LeaseGroup::new(place.at(lease).to_string()),
                registration.ttl,
            ))
        })
        .await
    }

    async fn renew(&self, group: &LeaseGroup, renewal: &Renewal) -> Result<()> {
        let Some(lease) = Place::parse(group.as_str()) else {
            return Err(not_found("unknown lease", "lease", group.as_str()).with_operation("renew"));
        };
        let renewal = renewal.clone();
        self.run("renew", move |worker| {
            let own = worker.owner()?;
            let lost = || not_found("unknown or expired lease", "lease", lease.to_string());
            let writes = worker.read(|connection, ended| {
                if !lease.shares_history(&Place::end(connection)?) {
                    return Err(lost());
                }
                records::needs_writing(connection, lease.revision, &renewal, &own, ended)
            })?;
            // Before anything is written: a full disk ends nobody.
            worker.beat(lease.revision);
            if writes {
                worker.write(|connection| records::renew(connection, lease.revision, &renewal))?;
            }
            Ok(())
        })
        .await
    }

    async fn deregister(&self, key: &InstanceKey) -> Result<()> {
        let key = key.clone();
        self.run("deregister", move |worker| {
            worker.write(|connection| records::remove(connection, &key))
        })
        .await
    }

    async fn release(&self, _: &LeaseGroup) -> Result<()> {
        Err(unsupported("a lease holds one registration").with_operation("release"))
    }

    async fn update_meta(&self, key: &InstanceKey, change: &MetaChange) -> Result<()> {
        let (key, change) = (key.clone(), change.clone());
        self.run("update_meta", move |worker| {
            worker.write(|connection| {
                records::edit(connection, &key, |shown| {
                    change.apply(&mut Arc::make_mut(&mut shown.instance).meta);
                })
            })
        })
        .await
    }

    async fn report_health(&self, key: &InstanceKey, report: &HealthReport) -> Result<()> {
        let (key, report) = (key.clone(), report.clone());
        self.run("report_health", move |worker| {
            worker.write(|connection| records::edit(connection, &key, |shown| shown.set_health(&report)))
        })
        .await
    }

    async fn instance(&self, key: &InstanceKey) -> Result<Option<Instance>> {
        let key = key.clone();
        self.run("instance", move |worker| {
            worker.read(|connection, ended| {
                Ok(records::instance(connection, &key, ended)?.map(Arc::unwrap_or_clone))
            })
        })
        .await
    }

    async fn instances(&self, query: &Query) -> Result<Snapshot> {
        refuse_scope(&query.scope).map_err(|error| error.with_operation("instances"))?;
        let query = query.clone();
        self.run("instances", move |worker| {
            worker.read(|connection, ended| {
                let shown = records::of(connection, &query.target, ended)?;
                let instances: Vec<_> = shown
                    .iter()
                    .map(|shown| shown.instance(query.with_checks))
                    .collect();
                Ok(Snapshot::live(query.target, instances).with_cursor(Place::end(connection)?.cursor()))
            })
        })
        .await
    }

    async fn services(&self, scope: &Scope) -> Result<Vec<ServiceSummary>> {
        refuse_scope(scope).map_err(|error| error.with_operation("services"))?;
        self.run("services", |worker| worker.read(records::services))
            .await
    }

    async fn status(&self) -> Result<BackendStatus> {
        let started = Instant::now();
        let (services, instances, place) = self
            .run("status", |worker| {
                worker.read(|connection, ended| {
                    let services = records::services(connection, ended)?;
                    let instances: usize = services.iter().filter_map(|service| service.instances).sum();
                    Ok((services.len(), instances, Place::end(connection)?))
                })
            })
            .await?;
        Ok(BackendStatus::new(started.elapsed())
            .with_version(format!("SQLite {}", rusqlite::version()))
            .with_detail("services", services.to_string())
            .with_detail("instances", instances.to_string())
            .with_detail("changes", place.revision.to_string())
            .with_detail("watches", self.store.watches().to_string()))
    }
}

/// Refuses scopes a file does not have.
pub(crate) fn refuse_scope(scope: &Scope) -> Result<()> {
    if scope.datacenter.is_some() {
        Err(unsupported("there are no datacenters").with_hint("ask without a datacenter"))
    } else if scope.namespace.is_some() {
        Err(unsupported("there are no namespaces").with_hint("ask without a namespace"))
    } else {
        Ok(())
    }
}
