//! Registration and look-up.

use std::time::Duration;

use async_trait::async_trait;
use discovery_core::{
    BackendInfo, BackendStatus, Capabilities, ErrorKind, HealthReport, Instance, InstanceKey, Lease,
    LeaseGroup, LeaseMode, MetaChange, Query, Registration, Renewal, Result, Scope, ServiceRegistry,
    ServiceSummary, Snapshot, Target, WatchMode,
};
use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;
use tracing::warn;

use crate::{
    client::{Client, Kind},
    config::LeaseSharing,
    convert::Record,
    edits::Edit,
    error, feed,
    keys::{Keys, Name},
    lease::{self, Leases},
    watcher::instances_of,
};

/// Health changes under way at once within one renewal.
const ABREAST: usize = 16;

/// The registry of one cluster.
#[derive(Debug)]
pub(crate) struct EtcdRegistry {
    pub(crate) client: Client,
    keys: Keys,
    pub(crate) leases: Leases,
}

/// C-like scopes do not exist here.
pub(crate) fn check_scope(scope: &Scope) -> Result<()> {
    let named = match (&scope.datacenter, &scope.namespace) {
        (None, None) => return Ok(()),
        (Some(_), _) => "etcd has no datacenters",
        _ => "a client reads one namespace",
    };
    Err(error::error(ErrorKind::Unsupported, named)
        .with_hint("connect to that cluster, or set `etcd.namespace`"))
}

impl EtcdRegistry {
    pub(crate) fn new(client: Client, keys: Keys, leases: Leases) -> Self {
        Self { client, keys, leases }
    }

    pub(crate) fn key(&self, key: &InstanceKey) -> String {
        self.keys.of(&key.service, &key.id)
    }

    async fn do_register(&self, registration: &Registration) -> Result<Lease> {
        let config = &self.client.config().service_registration;
        let full = self
            .keys
            .read(self.keys.of(&registration.service, &registration.id).as_bytes())
            .ok_or_else(|| error::error(ErrorKind::InvalidInput, "this service or id makes no key"))?;
        let value = Record::of(registration, config.format).write()?;
        let ttl = registration.ttl.unwrap_or(config.ttl);
        // E-7: a lease that dies in between is replaced once; more often would be a cluster's illness.
        let mut again = true;
        let id = loop {
            let id = self.leases.obtain(&Name::from(&full), ttl).await?;
            // By the key that its heartbeats will come with.
            match self.claim(&full, &value, id).await {
                Err(failed) if failed.kind() == ErrorKind::NotFound && again => {
                    again = false;
                    self.leases.forget(id);
                }
                claimed => break claimed.map(|()| id)?,
            }
        };
        let ttl = self.leases.ttl(id).unwrap_or(ttl);
        Ok(Lease::new(full, lease::group(id), Some(ttl)))
    }

    async fn do_renew(&self, group: &LeaseGroup, renewal: &Renewal) -> Result<()> {
        let id = lease::id_of(group).ok_or_else(lease::gone)?;
        let changed = self.leases.renew(id, &renewal.members).await?;
        if changed.is_empty() {
            return Ok(());
        }
        let changed = changed.into_iter().map(|place| async move {
            let (key, report) = &renewal.members[place];
            self.show(key, report).await?;
            self.leases.shown(id, &Name::from(key), report);
            Ok(())
        });
        // Large, and rare.
        Box::pin(stream::iter(changed).buffer_unordered(ABREAST).try_collect()).await
    }

    async fn do_deregister(&self, key: &InstanceKey) -> Result<()> {
        let (path, name) = (self.key(key), Name::from(key));
        let own = self.leases.of(&name);
        // Ours, and only ours: who took the id over keeps it.
        let ours = own.map(|id| Compare::lease(&*path, CompareOp::Equal, id));
        let delete = Txn::new()
            .when(ours.into_iter().collect::<Vec<_>>())
            .and_then([TxnOp::delete(&*path, None)]);
        self.txn(delete).await?;
        self.leases.withdrawn(&name);
        if let (Some(id), LeaseSharing::Single) = (own, self.client.config().service_registration.lease) {
            self.leases.revoke(id).await?;
        }
        Ok(())
    }

    async fn list(&self, target: &Target) -> Result<(Vec<std::sync::Arc<Instance>>, feed::Place)> {
        let (kvs, place) = feed::list(&self.client, &self.keys.range(target)).await?;
        Ok((instances_of(&self.keys, &kvs), place))
    }
}

fn within<T>(operation: &'static str, result: Result<T>) -> Result<T> {
    result.map_err(|failed| failed.with_operation(operation))
}

#[async_trait]
impl ServiceRegistry for EtcdRegistry {
    fn info(&self) -> BackendInfo {
        BackendInfo::new(error::SCHEME, self.client.display())
    }

    fn capabilities(&self) -> Capabilities {
        let config = self.client.config();
        let mut can = Capabilities::read_only(config.discovery.confirm_interval);
        can.register = true;
        can.lease = match config.service_registration.lease {
            LeaseSharing::Single => LeaseMode::Single,
            LeaseSharing::Shared => LeaseMode::Shared,
        };
        can.update_meta = true;
        can.report_health = true;
        // Without a prefix there is no telling services from everything else.
        can.list_services = !config.service_registration.key_prefix.is_empty();
        can.watch_all = can.list_services;
        can.watch = WatchMode::Push;
        can.resume = true;
        can
    }

    async fn register(&self, registration: &Registration) -> Result<Lease> {
        within("register", self.do_register(registration).await)
    }

    async fn renew(&self, group: &LeaseGroup, renewal: &Renewal) -> Result<()> {
        within("renew", self.do_renew(group, renewal).await)
    }

    async fn deregister(&self, key: &InstanceKey) -> Result<()> {
        within("deregister", self.do_deregister(key).await)
    }

    async fn release(&self, group: &LeaseGroup) -> Result<()> {
        if self.client.config().service_registration.lease == LeaseSharing::Single {
            return within(
                "release",
                Err(error::error(
                    ErrorKind::Unsupported,
                    "a lease holds one registration",
                )),
            );
        }
        match lease::id_of(group) {
            Some(id) => within("release", self.leases.revoke(id).await),
            None => Ok(()),
        }
    }

    async fn update_meta(&self, key: &InstanceKey, change: &MetaChange) -> Result<()> {
        let edited = self.edit(key, |mut record| {
            let before = record.clone();
            record.change_meta(change);
            if record == before {
                Edit::Same
            } else {
                Edit::To(record)
            }
        });
        within("update_meta", edited.await)
    }

    async fn report_health(&self, key: &InstanceKey, report: &HealthReport) -> Result<()> {
        let shown = self.show(key, report).await;
        if shown.is_ok() {
            let name = Name::from(key);
            if let Some(id) = self.leases.of(&name) {
                self.leases.shown(id, &name, report);
            }
        }
        within("report_health", shown)
    }

    async fn instance(&self, key: &InstanceKey) -> Result<Option<Instance>> {
        let name = self.key(key);
        let Some(kv) = within("instance", self.read(&name).await)? else {
            return Ok(None);
        };
        let record = Record::read(&kv.value);
        if record.is_none() {
            warn!(key = name, "this key's value is no instance");
        }
        Ok(record
            .zip(self.keys.read(name.as_bytes()))
            .map(|(record, key)| record.instance(key)))
    }

    async fn instances(&self, query: &Query) -> Result<Snapshot> {
        let read = async {
            check_scope(&query.scope)?;
            check_target(&self.client, &query.target)?;
            let (instances, place) = self.list(&query.target).await?;
            Ok(Snapshot::live(query.target.clone(), instances).with_cursor(place.cursor()))
        };
        within("instances", read.await)
    }

    async fn services(&self, scope: &Scope) -> Result<Vec<ServiceSummary>> {
        let read = async {
            check_scope(scope)?;
            check_target(&self.client, &Target::All)?;
            let (mut instances, _) = self.list(&Target::All).await?;
            instances.sort_by(|a, b| a.key.service.cmp(&b.key.service));
            let services = instances.chunk_by(|a, b| a.key.service == b.key.service);
            Ok(services
                .map(|all| {
                    let tags = all.iter().flat_map(|instance| instance.tags.clone()).collect();
                    ServiceSummary::new(all[0].key.service.clone(), tags, Some(all.len()))
                })
                .collect())
        };
        within("services", read.await)
    }

    async fn status(&self) -> Result<BackendStatus> {
        let started = Instant::now();
        let asked = self
            .client
            .call(Kind::Read, |client| async move {
                client.maintenance_client().status().await
            })
            .await;
        let answer = within("status", asked)?;
        let latency: Duration = started.elapsed();
        let mut status = BackendStatus::new(latency).with_version(answer.version());
        if answer.leader() != 0 {
            status = status.with_leader(format!("{:x}", answer.leader()));
        }
        if let Some(header) = answer.header() {
            status = status
                .with_detail("cluster", format!("{:x}", header.cluster_id()))
                .with_detail("member", format!("{:x}", header.member_id()))
                .with_detail("revision", header.revision().to_string());
        }
        status = status.with_detail("database_bytes", answer.db_size().to_string());
        if !answer.errors().is_empty() {
            status = status.with_detail("alarms", answer.errors().join(", "));
        }
        Ok(status)
    }
}

/// Without a prefix, services can be looked up by name only.
pub(crate) fn check_target(client: &Client, target: &Target) -> Result<()> {
    if *target == Target::All && client.config().service_registration.key_prefix.is_empty() {
        return Err(error::error(
            ErrorKind::Unsupported,
            "services cannot be listed without a prefix",
        )
        .with_hint("set `etcd.service_registration.key_prefix`, such as to `/services/`"));
    }
    Ok(())
}

/// The options of a page: `limit` keys, at this revision where one is given.
pub(crate) fn page(end: &[u8], limit: i64, revision: i64) -> GetOptions {
    GetOptions::new()
        .with_range(end)
        .with_limit(limit)
        .with_revision(revision)
}
