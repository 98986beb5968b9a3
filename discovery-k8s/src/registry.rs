//! Registration of what is no pod, and look-up of everything.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use discovery_core::{
    BackendInfo, BackendStatus, Capabilities, ErrorKind, HealthReport, Instance, InstanceKey, Lease,
    LeaseGroup, LeaseMode, MetaChange, Query, Registration, Renewal, Result, Scope, ServiceRegistry,
    ServiceSummary, Snapshot, Target, WatchMode,
};
use serde_json::json;
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::{
    call::{Call, LEASES, Patch, SLICES},
    client::Client,
    convert::{self, Rules},
    error, intent,
    lease::now,
    reader::Reader,
    reaper::Reaper,
    record::{self, MANAGER},
    slices::{Id, said},
    watcher::confirm_every,
    wire,
};

mod write;

use self::write::{busy, gone, lost};

/// How long an operation of several requests may take.
const OPERATION: Duration = Duration::from_secs(12);

/// The registry behind one cluster.
#[derive(Debug)]
pub(crate) struct K8sRegistry {
    reader: Reader,
    /// Who holds the Leases of this process.
    holder: String,
    /// What this process registered.
    held: Mutex<HashMap<Id, Held>>,
    seen: Mutex<HashMap<Id, Instant>>,
    reaper: Reaper,
}

#[derive(Debug, Clone)]
struct Held {
    service: Arc<str>,
    health: HealthReport,
    ttl: Duration,
    /// The Lease and the slice as they were last written.
    lease: wire::Meta,
    slice: wire::Meta,
}

fn client_of(reader: &Reader) -> &Client {
    &reader.client
}

impl K8sRegistry {
    pub(crate) fn new(reader: Reader) -> Self {
        Self {
            holder: format!("{}-{:016x}", std::process::id(), fastrand::u64(..)),
            held: Mutex::default(),
            seen: Mutex::default(),
            reaper: Reaper::new(reader.clone()),
            reader,
        }
    }

    fn held(&self, id: &Id) -> Option<Held> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(id).cloned()
    }

    fn edit_held(&self, id: &Id, change: impl FnOnce(&mut Held)) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.get_mut(id) {
            change(held);
        }
    }

    /// The slice and Lease of a key.
    async fn id(&self, key: &InstanceKey) -> Result<Id> {
        intent::check_service(&key.service)?;
        let name = intent::object_name(&key.service, &key.id);
        let namespace = match &key.namespace {
            Some(namespace) => namespace.clone(),
            None => self.reader.home().await?,
        };
        Ok(Id::new(&namespace, &name))
    }

    async fn get<T: wire::Object>(&self, call: &Call) -> Result<Option<T>> {
        let answer = client_of(&self.reader).send(call).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        answer.ok(call)?.json("an object").map(Some)
    }

    async fn lease(&self, id: &Id) -> Result<Option<wire::Lease>> {
        self.get(&Call::get(&LEASES, &id.namespace, &id.name)).await
    }

    async fn slice(&self, id: &Id) -> Result<Option<wire::EndpointSlice>> {
        self.get(&Call::get(&SLICES, &id.namespace, &id.name)).await
    }

    async fn do_register(&self, registration: &Registration) -> Result<Lease> {
        let config = client_of(&self.reader).config();
        // Whatever is wrong with it is told before anything is sent.
        intent::registration(registration, "", config)?;
        let home = self.reader.home().await?;
        let mut slice = intent::registration(registration, &home, config)?;
        let id = Id::of(&slice.metadata);
        let seconds = intent::seconds(registration.ttl.unwrap_or(config.registration.ttl));
        self.ensure_service(registration, &home).await?;
        let lease = self.take_lease(&id, registration, seconds).await?;
        self.reader.beats.saw(&id, &said(&lease));
        slice.metadata.owner_references = vec![intent::owner(&lease.metadata)];
        let slice = self.apply(&slice).await?;
        let ttl = Duration::from_secs(seconds.into());
        let held = Held {
            service: registration.service.as_str().into(),
            health: registration.health.clone(),
            ttl,
            lease: lease.metadata,
            slice,
        };
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(id.clone(), held);
        let key = InstanceKey::new(
            error::SCHEME,
            registration.service.clone(),
            registration.id.clone(),
        )
        .with_namespace(home);
        Ok(Lease::new(key, group(&id), Some(ttl)))
    }

    async fn do_renew(&self, group: &LeaseGroup, renewal: &Renewal) -> Result<()> {
        let Some((namespace, name)) = group.as_str().split_once('/') else {
            return Err(gone(group.as_str()));
        };
        let id = Id::new(namespace, name);
        // One request that does nothing unless the Lease is still ours.
        let body = json!([
            { "op": "test", "path": "/spec/holderIdentity", "value": self.holder },
            { "op": "replace", "path": "/spec/renewTime", "value": now() },
        ]);
        let call = Call::patch(&LEASES, namespace, name, Patch::Json, &body).query("fieldManager", MANAGER);
        let answer = client_of(&self.reader).send(&call).await?;
        match answer.status {
            404 => return Err(gone(group.as_str())),
            // The test failed, if it is not ours any more.
            422 => {
                return Err(match self.lease(&id).await? {
                    Some(lease) if self.is_anothers(&id, &lease) => lost(&lease),
                    Some(lease) if lease.spec.holder_identity == self.holder => {
                        answer.ok(&call).err().unwrap_or_else(busy)
                    }
                    _ => gone(group.as_str()),
                });
            }
            _ => {
                let lease: wire::Lease = answer.ok(&call)?.json("a Lease")?;
                self.reader.beats.saw(&id, &said(&lease));
                self.edit_held(&id, |held| held.lease = lease.metadata);
            }
        }
        let held = self.held(&id);
        for (key, report) in &renewal.members {
            if held.as_ref().is_none_or(|held| held.health != *report) {
                self.edit(key, |slice| intent::change_health(slice, report))
                    .await?;
                self.edit_held(&id, |held| held.health = report.clone());
            }
        }
        if let Some(held) = held {
            let deadline = Duration::from_secs(3).min(held.ttl / 3);
            if timeout(deadline, self.reaper.turn(namespace, &held.service, held.ttl))
                .await
                .is_err()
            {
                debug!(%namespace, "looking for expired instances took too long");
            }
        }
        Ok(())
    }

    /// An instance that others write.
    async fn foreign(&self, key: &InstanceKey) -> Result<Option<Arc<Instance>>> {
        let mut query = Query::new(Target::Service(key.service.clone())).with_checks();
        query.scope.namespace.clone_from(&key.namespace);
        let found = self.reader.read(&query).await?;
        Ok(found
            .into_iter()
            .find(|instance| instance.key.id == key.id && instance.key.service == key.service))
    }

    async fn do_deregister(&self, key: &InstanceKey) -> Result<()> {
        let id = self.id(key).await?;
        let forget = || {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.remove(&id);
        };
        let held = self.held(&id);
        if let Some(held) = &held
            && self.withdraw(&id, held).await?
        {
            forget();
            return Ok(());
        }
        let held = held.is_some();
        let lease = self.lease(&id).await?;
        // What we lost to somebody alive is not ours to withdraw; what we never had, we are asked to.
        if held && lease.as_ref().is_some_and(|lease| self.is_anothers(&id, lease)) {
            forget();
            return Ok(());
        }
        match self.slice(&id).await? {
            Some(slice) if !record::is_ours(&slice.metadata) => {
                let by = slice.metadata.labels.get(record::MANAGED_BY);
                return Err(intent::not_ours(key, by));
            }
            Some(slice) => self.delete_slice(&id, &slice).await?,
            None if lease.is_none() && !held && self.foreign(key).await?.is_some() => {
                return Err(intent::not_ours(key, None));
            }
            None => {}
        }
        if let Some(lease) = lease {
            let only = json!({ "uid": lease.metadata.uid });
            self.reader
                .client
                .delete(&Call::delete(&LEASES, &id.namespace, &id.name, &only))
                .await?;
        }
        forget();
        Ok(())
    }

    async fn do_instance(&self, key: &InstanceKey) -> Result<Option<Instance>> {
        let id = self.id(key).await?;
        let rules = Rules::of(client_of(&self.reader).config(), true);
        if let Some(slice) = self.slice(&id).await?
            && record::is_ours(&slice.metadata)
            && record::id_of(&slice)? == key.id.as_str()
        {
            let found = convert::slice(&slice, &rules).and_then(|fold| fold.instances.into_iter().next());
            return Ok(found.map(Arc::unwrap_or_clone));
        }
        Ok(self.foreign(key).await?.map(Arc::unwrap_or_clone))
    }
}

fn group(id: &Id) -> LeaseGroup {
    LeaseGroup::new(format!("{}/{}", id.namespace, id.name))
}

async fn within<T>(operation: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(OPERATION, work)
        .await
        .unwrap_or_else(|_| Err(error::late(OPERATION)))
        .map_err(|error| error.with_operation(operation))
}

#[async_trait]
impl ServiceRegistry for K8sRegistry {
    fn info(&self) -> BackendInfo {
        BackendInfo::new(error::SCHEME, self.reader.client.display())
    }

    fn capabilities(&self) -> Capabilities {
        let config = self.reader.client.config();
        let mut can = Capabilities::read_only(confirm_every(config.service_discovery.watch_timeout));
        can.register = true;
        can.lease = LeaseMode::Single;
        can.update_meta = true;
        can.report_health = true;
        can.list_services = true;
        can.watch_all = true;
        can.namespaces = true;
        can.watch = WatchMode::Push;
        can
    }

    async fn register(&self, registration: &Registration) -> Result<Lease> {
        within("register", self.do_register(registration)).await
    }

    async fn renew(&self, group: &LeaseGroup, renewal: &Renewal) -> Result<()> {
        within("renew", self.do_renew(group, renewal)).await
    }

    async fn deregister(&self, key: &InstanceKey) -> Result<()> {
        within("deregister", self.do_deregister(key)).await
    }

    async fn release(&self, _: &LeaseGroup) -> Result<()> {
        Err(error::error(
            ErrorKind::Unsupported,
            "every registration has a Lease of its own",
        )
        .with_operation("release")
        .with_hint("deregister each of them"))
    }

    async fn update_meta(&self, key: &InstanceKey, change: &MetaChange) -> Result<()> {
        within(
            "update_meta",
            self.edit(key, |slice| intent::change_meta(slice, change)),
        )
        .await
    }

    async fn report_health(&self, key: &InstanceKey, report: &HealthReport) -> Result<()> {
        within("report_health", async {
            self.edit(key, |slice| intent::change_health(slice, report))
                .await?;
            let id = self.id(key).await?;
            self.edit_held(&id, |held| held.health = report.clone());
            Ok(())
        })
        .await
    }

    async fn instance(&self, key: &InstanceKey) -> Result<Option<Instance>> {
        within("instance", self.do_instance(key)).await
    }

    async fn instances(&self, query: &Query) -> Result<Snapshot> {
        let found = within("instances", self.reader.read(query)).await?;
        Ok(Snapshot::live(query.target.clone(), found))
    }

    async fn services(&self, scope: &Scope) -> Result<Vec<ServiceSummary>> {
        within("services", self.reader.summaries(scope)).await
    }

    async fn status(&self) -> Result<BackendStatus> {
        within("status", async {
            let (version, latency) = self.reader.client.version().await?;
            Ok(BackendStatus::new(latency).with_version(version))
        })
        .await
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
