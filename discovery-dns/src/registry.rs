//! Look-up, and registration where it is built in and configured.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use discovery_core::{
    BackendInfo, BackendStatus, Capabilities, Error, ErrorKind, HealthReport, Instance, InstanceKey, Lease,
    LeaseGroup, MetaChange, Query, Registration, Renewal, Result, Scope, ServiceName, ServiceRegistry,
    ServiceSummary, Snapshot, Target,
};
use futures::{StreamExt, TryStreamExt, stream};
use hickory_proto::rr::Name;
use tokio::time::{Instant, timeout};

#[cfg(feature = "update")]
use crate::update::Writer;
use crate::{
    config::{DnsConfig, Zone},
    error::{self, error},
    lookup::{Found, Lookup},
    name,
    route::{Form, Place},
    ttl::Ttl,
};

/// How long an operation of several questions may take.
pub(crate) const OPERATION: Duration = Duration::from_secs(12);
/// How many services are read at a time where all are wanted.
const AT_ONCE: usize = 8;

/// Services as DNS shows them.
#[derive(Debug)]
pub(crate) struct DnsRegistry {
    pub(crate) lookup: Arc<Lookup>,
    pub(crate) config: DnsConfig,
    #[cfg(feature = "update")]
    pub(crate) writer: Option<Writer>,
}

impl DnsRegistry {
    fn check(scope: &Scope) -> Result<()> {
        let what = match (&scope.datacenter, &scope.namespace) {
            (Some(_), _) => "datacenters",
            (_, Some(_)) => "namespaces",
            _ => return Ok(()),
        };
        Err(error(
            ErrorKind::Unsupported,
            format!("a DNS name says where to look: there are no {what}"),
        )
        .with_hint("give the full name, such as `api.service.dc2.consul`"))
    }

    /// The zone whose services can be listed.
    fn own(&self) -> Result<&(Name, Zone)> {
        self.lookup.routes.own().ok_or_else(|| {
            error(ErrorKind::Unsupported, "no zone lists its services")
                .with_hint("configure a zone of type `dns_sd` in `dns_discovery.zones`")
        })
    }

    /// Every instance of the zone that lists its services, sorted.
    async fn all(&self) -> Result<Found> {
        let (zone, settings) = self.own()?;
        let (types, ttl) = self.lookup.types(zone, &settings.protocol).await?;
        let parts: Vec<Found> = stream::iter(types)
            .map(|service| async move { self.lookup.service(&ServiceName::observed(service)).await })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let mut all = Found {
            ttl,
            ..Found::default()
        };
        for part in parts {
            all.ttl.join(part.ttl);
            all.instances.extend(part.instances);
        }
        Ok(all)
    }

    async fn read(&self, query: &Query) -> Result<Snapshot> {
        Self::check(&query.scope)?;
        let found = match &query.target {
            Target::Service(service) => self.lookup.service(service).await?,
            Target::All => self.all().await?,
        };
        let valid_for = self.valid_for(found.ttl, found.instances.is_empty());
        Ok(Snapshot::live(query.target.clone(), found.instances).with_valid_for(valid_for))
    }

    /// A little less than the TTL, so that a refresh comes before the end (D-18).
    fn valid_for(&self, ttl: Ttl, empty: bool) -> Duration {
        ttl.within(&self.config.caching, empty) * 9 / 10
    }

    /// One instance: by its name where it can be asked for, else among all of its service.
    async fn one(&self, key: &InstanceKey) -> Result<Option<Instance>> {
        let id = key.id.as_str();
        if let (Some((zone, _)), false) = (self.lookup.routes.own(), key.service.as_str().contains('.')) {
            for place in self.lookup.routes.places(key.service.as_str())? {
                let Form::Instances(kind) = &place.form else {
                    continue;
                };
                if !zone.zone_of(kind) {
                    continue;
                }
                let found = self.labelled(key, kind, &place).await?;
                if let Some(instance) = found.instances.into_iter().find(|one| one.key.id.as_str() == id) {
                    return Ok(Some(instance));
                }
                if !id.contains('@') {
                    return Ok(None);
                }
            }
        }
        let found = self.lookup.service(&key.service).await?;
        Ok(found.instances.into_iter().find(|one| one.key.id == key.id))
    }

    async fn labelled(&self, key: &InstanceKey, kind: &Name, place: &Place) -> Result<Found> {
        let Ok(pointer) = name::under(key.id.as_str().as_bytes(), kind) else {
            return Ok(Found::default());
        };
        #[cfg(feature = "update")]
        if let Some(writer) = &self.writer {
            return writer.reader.labelled(&key.service, &pointer, place).await;
        }
        self.lookup.labelled(&key.service, &pointer, place).await
    }

    #[cfg(feature = "update")]
    fn writer(&self) -> Result<&Writer> {
        self.writer.as_ref().ok_or_else(|| {
            error(ErrorKind::Unsupported, "nothing says how to register in DNS")
                .with_hint("configure `dns_discovery.update` and a zone of type `dns_sd`")
        })
    }
}

/// What this build answers to everything that writes.
#[cfg(not(feature = "update"))]
fn read_only<T>() -> Result<T> {
    Err(error(
        ErrorKind::Unsupported,
        "built without feature `update`: DNS can only be read",
    )
    .with_hint("rebuild with the feature `update` of `discovery-dns`, which is `dns-update` of `discovery`"))
}

async fn within<T>(operation: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(OPERATION, work)
        .await
        .unwrap_or_else(|_| Err(error::late(OPERATION)))
        .map_err(|error: Error| error.with_operation(operation))
}

#[async_trait]
impl ServiceRegistry for DnsRegistry {
    fn info(&self) -> BackendInfo {
        BackendInfo::new(error::SCHEME, self.lookup.routes.default.display())
    }

    fn capabilities(&self) -> Capabilities {
        let caching = &self.config.caching;
        // The wait, and a try with a server.
        let pause = caching.ttl.max(caching.negative_ttl) * 11 / 10;
        let mut can = Capabilities::read_only(pause + self.config.timeout);
        #[cfg(feature = "update")]
        {
            can.register = self.writer.is_some();
            can.update_meta = can.register;
            can.report_health = can.register;
        }
        can.list_services = self.lookup.routes.own().is_some();
        can.watch_all = can.list_services;
        can
    }

    #[cfg(feature = "update")]
    async fn register(&self, registration: &Registration) -> Result<Lease> {
        within("register", async { self.writer()?.register(registration).await }).await
    }

    #[cfg(not(feature = "update"))]
    async fn register(&self, _: &Registration) -> Result<Lease> {
        within("register", async { read_only() }).await
    }

    async fn renew(&self, _: &LeaseGroup, _: &Renewal) -> Result<()> {
        Err(error(
            ErrorKind::Unsupported,
            "DNS has no leases: records stay until they are removed",
        )
        .with_operation("renew"))
    }

    #[cfg(feature = "update")]
    async fn deregister(&self, key: &InstanceKey) -> Result<()> {
        within("deregister", async { self.writer()?.deregister(key).await }).await
    }

    #[cfg(not(feature = "update"))]
    async fn deregister(&self, _: &InstanceKey) -> Result<()> {
        within("deregister", async { read_only() }).await
    }

    async fn release(&self, _: &LeaseGroup) -> Result<()> {
        Err(error(ErrorKind::Unsupported, "DNS has no leases").with_operation("release"))
    }

    #[cfg(feature = "update")]
    async fn update_meta(&self, key: &InstanceKey, change: &MetaChange) -> Result<()> {
        within("update_meta", async {
            self.writer()?.update_meta(key, change).await
        })
        .await
    }

    #[cfg(not(feature = "update"))]
    async fn update_meta(&self, _: &InstanceKey, _: &MetaChange) -> Result<()> {
        within("update_meta", async { read_only() }).await
    }

    #[cfg(feature = "update")]
    async fn report_health(&self, key: &InstanceKey, report: &HealthReport) -> Result<()> {
        within("report_health", async {
            self.writer()?.report_health(key, report).await
        })
        .await
    }

    #[cfg(not(feature = "update"))]
    async fn report_health(&self, _: &InstanceKey, _: &HealthReport) -> Result<()> {
        within("report_health", async { read_only() }).await
    }

    async fn instance(&self, key: &InstanceKey) -> Result<Option<Instance>> {
        within("instance", self.one(key)).await
    }

    async fn instances(&self, query: &Query) -> Result<Snapshot> {
        within("instances", self.read(query)).await
    }

    async fn services(&self, scope: &Scope) -> Result<Vec<ServiceSummary>> {
        within("services", async {
            Self::check(scope)?;
            let mut services: Vec<ServiceSummary> = Vec::new();
            for service in self
                .all()
                .await?
                .instances
                .chunk_by(|a, b| a.key.service == b.key.service)
            {
                let tags = service.iter().flat_map(|one| one.tags.clone()).collect();
                let name = service[0].key.service.clone();
                services.push(ServiceSummary::new(name, tags, Some(service.len())));
            }
            services.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(services)
        })
        .await
    }

    async fn status(&self) -> Result<BackendStatus> {
        within("status", async {
            let started = Instant::now();
            let routes = &self.lookup.routes;
            let mut status = BackendStatus::new(Duration::ZERO);
            for (zone, _) in routes.zones() {
                self.lookup.reaches(zone).await?;
                status = status.with_detail("zone", name::shown(zone));
            }
            if routes.zones().next().is_none() {
                routes.default.ping().await?;
            }
            status.latency = started.elapsed();
            Ok(status.with_detail("servers", routes.default.display()))
        })
        .await
    }
}

#[cfg(all(test, not(feature = "update")))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_the_feature_registering_is_unsupported_and_names_it() {
        let backend = crate::backend(DnsConfig::at("127.0.0.1:1")).unwrap();
        let registration = Registration::builder("api", "127.0.0.1", 1).build().unwrap();
        let error = backend.registry.register(&registration).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("`update`"), "{error}");
    }
}
