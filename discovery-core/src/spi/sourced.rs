//! A backend under a name of its own: one of several that a client reads from.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;

use super::{
    Backend, BackendInfo, BackendStatus, Capabilities, Change, ServiceRegistry, WatchEvent, WatchStream,
    Watcher,
};
use crate::{
    error::Result,
    model::{
        Cursor, HealthReport, Instance, InstanceKey, Lease, LeaseGroup, MetaChange, Query, Registration,
        Renewal, Scope, ServiceSummary, Snapshot,
    },
};

impl Backend {
    /// The same backend, whose instances carry `source` as [`InstanceKey::source`]: two registries of one kind have
    /// different names, so that nothing of one is ever taken for the other's.
    #[must_use]
    pub fn named(self, source: impl Into<Arc<str>>) -> Self {
        let (source, own) = (source.into(), self.registry.info().source);
        if source == own {
            return self;
        }
        self.seen(&Arc::new(Sight {
            own,
            source,
            datacenter: None,
        }))
    }

    /// The same backend, asked for `datacenter` where a query names none.
    #[must_use]
    pub fn in_datacenter(self, datacenter: impl Into<Arc<str>>) -> Self {
        let own = self.registry.info().source;
        self.seen(&Arc::new(Sight {
            source: own.clone(),
            own,
            datacenter: Some(datacenter.into()),
        }))
    }

    fn seen(mut self, sight: &Arc<Sight>) -> Self {
        self.registry = Arc::new(Sourced {
            inner: self.registry,
            sight: sight.clone(),
        });
        self.watcher = Arc::new(Sourced {
            inner: self.watcher,
            sight: sight.clone(),
        });
        self
    }
}

/// What is changed on the way in and out.
#[derive(Debug)]
struct Sight {
    /// The name that the backend itself uses.
    own: Arc<str>,
    /// The name that it has for the client.
    source: Arc<str>,
    datacenter: Option<Arc<str>>,
}

impl Sight {
    fn inward(&self, key: &InstanceKey) -> InstanceKey {
        let mut key = key.clone();
        key.source = self.own.clone();
        key
    }

    fn outward(&self, mut key: InstanceKey) -> InstanceKey {
        key.source = self.source.clone();
        key
    }

    fn scope(&self, scope: &Scope) -> Scope {
        let mut scope = scope.clone();
        if scope.datacenter.is_none() {
            scope.datacenter.clone_from(&self.datacenter);
        }
        scope
    }

    fn query(&self, query: &Query) -> Query {
        let mut query = query.clone();
        query.scope = self.scope(&query.scope);
        query
    }

    fn instances(&self, mut instances: Vec<Arc<Instance>>) -> Vec<Arc<Instance>> {
        for instance in &mut instances {
            Arc::make_mut(instance).key.source = self.source.clone();
        }
        instances
    }

    fn event(&self, mut event: WatchEvent) -> WatchEvent {
        event.change = match event.change {
            Change::Reset(instances) => Change::Reset(self.instances(instances)),
            Change::Upsert(instances) => Change::Upsert(self.instances(instances)),
            Change::Remove(keys) => Change::Remove(keys.into_iter().map(|key| self.outward(key)).collect()),
            Change::Confirmed => Change::Confirmed,
        };
        event
    }
}

/// A registry or a watcher as the client sees it.
#[derive(Debug)]
struct Sourced<T: ?Sized> {
    sight: Arc<Sight>,
    inner: Arc<T>,
}

impl Watcher for Sourced<dyn Watcher> {
    fn watch(&self, query: &Query, since: Option<Cursor>) -> WatchStream {
        let sight = self.sight.clone();
        let events = self.inner.watch(&sight.query(query), since);
        events
            .map(move |event| event.map(|event| sight.event(event)))
            .boxed()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ServiceRegistry for Sourced<dyn ServiceRegistry> {
    fn info(&self) -> BackendInfo {
        BackendInfo {
            source: self.sight.source.clone(),
            ..self.inner.info()
        }
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn register(&self, registration: &Registration) -> Result<Lease> {
        let mut lease = self.inner.register(registration).await?;
        lease.key = self.sight.outward(lease.key);
        Ok(lease)
    }

    async fn renew(&self, group: &LeaseGroup, renewal: &Renewal) -> Result<()> {
        let members = renewal.members.iter();
        let renewal = Renewal::new(members.map(|(key, health)| (self.sight.inward(key), health.clone())));
        self.inner.renew(group, &renewal).await
    }

    async fn deregister(&self, key: &InstanceKey) -> Result<()> {
        self.inner.deregister(&self.sight.inward(key)).await
    }

    async fn release(&self, group: &LeaseGroup) -> Result<()> {
        self.inner.release(group).await
    }

    async fn update_meta(&self, key: &InstanceKey, change: &MetaChange) -> Result<()> {
        self.inner.update_meta(&self.sight.inward(key), change).await
    }

    async fn report_health(&self, key: &InstanceKey, report: &HealthReport) -> Result<()> {
        self.inner.report_health(&self.sight.inward(key), report).await
    }

    async fn instance(&self, key: &InstanceKey) -> Result<Option<Instance>> {
        let found = self.inner.instance(&self.sight.inward(key)).await?;
        Ok(found.map(|mut instance| {
            instance.key = self.sight.outward(instance.key);
            instance
        }))
    }

    async fn instances(&self, query: &Query) -> Result<Snapshot> {
        let mut snapshot = self.inner.instances(&self.sight.query(query)).await?;
        let instances = snapshot.instances.iter().cloned().collect();
        snapshot.instances = self.sight.instances(instances).into();
        Ok(snapshot)
    }

    async fn services(&self, scope: &Scope) -> Result<Vec<ServiceSummary>> {
        self.inner.services(&self.sight.scope(scope)).await
    }

    async fn status(&self) -> Result<BackendStatus> {
        self.inner.status().await
    }
}
