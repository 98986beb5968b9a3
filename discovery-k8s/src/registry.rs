//! Registration of what is no pod, and look-up of everything.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use discovery_core::{
    BackendInfo, BackendStatus, Capabilities, Error, ErrorKind, HealthReport, Instance, InstanceKey, Lease,
    LeaseGroup, LeaseMode, MetaChange, Query, Registration, Renewal, Result, Retry, Scope, ServiceRegistry,
    ServiceSummary, Snapshot, Target, WatchMode,
};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use crate::{
    client::{Answer, Call, Client, LEASES, Patch, SERVICES, SLICES},
    convert::{self, MANAGER, Rules},
    error,
    lease::now,
    reader::Reader,
    reaper::Reaper,
    slices::{Id, said},
    watcher::confirm_every,
    wire,
};

/// How long an operation of several requests may take.
const OPERATION: Duration = Duration::from_secs(12);
/// K-14: how often a change is tried on what others change at the same time.
const TRIES: u32 = 6;
/// How long a Service that was seen is taken to be there.
const SEEN: Duration = Duration::from_secs(60);
/// How many Services are remembered as seen.
const SERVICES_SEEN: usize = 1000;

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
        convert::check_service(&key.service)?;
        let name = convert::object_name(&key.service, &key.id);
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

    /// Sees to it that there is a Service; one that is there is left as it is (K-6).
    async fn ensure_service(&self, registration: &Registration, namespace: &str) -> Result<()> {
        let name = registration.service.as_str();
        let id = Id::new(namespace, name);
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.retain(|_, at| at.elapsed() < SEEN);
            if seen.contains_key(&id) {
                return Ok(());
            }
        }
        if self
            .get::<wire::Service>(&Call::get(&SERVICES, namespace, name))
            .await?
            .is_none()
        {
            let config = client_of(&self.reader).config();
            let body = convert::headless_service(&registration.service, config, registration.port);
            let call = Call::create(&SERVICES, namespace, &body).query("fieldManager", MANAGER);
            let answer = client_of(&self.reader).send(&call).await?;
            if !already_exists(&answer) {
                answer.ok(&call)?;
            }
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < SERVICES_SEEN {
            seen.insert(id, Instant::now());
        }
        Ok(())
    }

    /// Whether somebody else holds a Lease and keeps renewing it.
    fn is_anothers(&self, id: &Id, lease: &wire::Lease) -> bool {
        let ttl = Duration::from_secs(lease.spec.lease_duration_seconds.into());
        lease.spec.holder_identity != self.holder && self.reader.beats.saw(id, &said(lease)).elapsed() < ttl
    }

    /// Creates the Lease, or takes it over and renews it. Who never had it, takes it; who lost it to somebody alive, does
    /// not take it back, or two registrants of one id would fight for ever.
    async fn take_lease(&self, id: &Id, registration: &Registration, seconds: u32) -> Result<wire::Lease> {
        let client = client_of(&self.reader);
        let labels = convert::labels(&registration.service, client.config());
        let spec = json!({
            "holderIdentity": self.holder, "leaseDurationSeconds": seconds, "renewTime": now(),
        });
        for attempt in 1..=TRIES {
            let body = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": { "name": &*id.name, "labels": labels }, "spec": spec,
            });
            let call = Call::create(&LEASES, &id.namespace, &body).query("fieldManager", MANAGER);
            let answer = client.send(&call).await?;
            if !already_exists(&answer) {
                return answer.ok(&call)?.json("a Lease");
            }
            let Some(lease) = self.lease(id).await? else {
                continue;
            };
            if lease
                .metadata
                .labels
                .get(convert::APP_MANAGED_BY)
                .map(String::as_str)
                != Some(MANAGER)
            {
                return Err(error::error(
                    ErrorKind::Conflict,
                    "the Lease's name is taken by another program",
                )
                .with_context("lease", id.name.to_string())
                .with_hint("give the registration another id"));
            }
            if self.held(id).is_some() && self.is_anothers(id, &lease) {
                return Err(lost(&lease));
            }
            // Only while it is as we saw it.
            let body = json!({
                "metadata": { "resourceVersion": lease.metadata.resource_version, "labels": labels }, "spec": spec,
            });
            let call = Call::patch(&LEASES, &id.namespace, &id.name, Patch::Merge, &body)
                .query("fieldManager", MANAGER);
            let answer = client.send(&call).await?;
            match answer.status {
                404 | 409 => pause(attempt).await,
                _ => return answer.ok(&call)?.json("a Lease"),
            }
        }
        Err(busy())
    }

    /// Applies a slice of ours.
    async fn apply(&self, slice: &wire::EndpointSlice) -> Result<wire::Meta> {
        let client = client_of(&self.reader);
        let id = Id::of(&slice.metadata);
        let intent = convert::intent(slice, None);
        let mut force = false;
        for attempt in 1..=TRIES {
            let call = Call::patch(&SLICES, &id.namespace, &id.name, Patch::Apply, &intent)
                .query("fieldManager", MANAGER)
                .query("force", if force { "true" } else { "false" });
            let answer = client.send(&call).await?;
            let immutable = answer.status == 422
                && answer
                    .told()
                    .details
                    .causes
                    .iter()
                    .any(|cause| cause.field == "addressType");
            if answer.status != 409 && !immutable {
                let slice: wire::EndpointSlice = answer.ok(&call)?.json("a slice")?;
                return Ok(slice.metadata);
            }
            let Some(known) = self.slice(&id).await? else {
                continue;
            };
            // K-6, K-13: force is for what is ours.
            if !convert::is_ours(&known.metadata) {
                return Err(error::error(
                    ErrorKind::Conflict,
                    "the slice's name is taken by another program",
                )
                .with_context("slice", id.name.to_string())
                .with_hint("give the registration another id"));
            }
            if immutable {
                // K-8: another family is another slice.
                self.delete_slice(&id, &known).await?;
            }
            force = true;
            pause(attempt).await;
        }
        Err(busy())
    }

    async fn delete_slice(&self, id: &Id, slice: &wire::EndpointSlice) -> Result<()> {
        let only = json!({ "uid": slice.metadata.uid });
        delete(
            &self.reader,
            &Call::delete(&SLICES, &id.namespace, &id.name, &only),
        )
        .await
        .map(drop)
    }

    async fn do_register(&self, registration: &Registration) -> Result<Lease> {
        let config = client_of(&self.reader).config();
        // Whatever is wrong with it is told before anything is sent.
        convert::registration(registration, "", config)?;
        let home = self.reader.home().await?;
        let mut slice = convert::registration(registration, &home, config)?;
        let id = Id::of(&slice.metadata);
        let seconds = convert::seconds(registration.ttl.unwrap_or(config.registration.ttl));
        self.ensure_service(registration, &home).await?;
        let lease = self.take_lease(&id, registration, seconds).await?;
        self.reader.beats.saw(&id, &said(&lease));
        slice.metadata.owner_references = vec![convert::owner(&lease.metadata)];
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
                self.edit(key, |slice| convert::change_health(slice, report))
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

    /// Reads, changes and writes a slice of ours, until nobody else has changed it in between (K-14).
    async fn edit(
        &self,
        key: &InstanceKey,
        change: impl Fn(&mut wire::EndpointSlice) -> Result<()>,
    ) -> Result<()> {
        let id = self.id(key).await?;
        for attempt in 1..=TRIES {
            let Some(mut slice) = self.slice(&id).await? else {
                return Err(match self.foreign(key).await? {
                    Some(_) => convert::not_ours(key, None),
                    None => gone(&key.to_string()),
                });
            };
            if !convert::is_ours(&slice.metadata) {
                let by = slice.metadata.labels.get(convert::MANAGED_BY);
                return Err(convert::not_ours(key, by));
            }
            change(&mut slice)?;
            let intent = convert::intent(&slice, Some(&slice.metadata.resource_version));
            let call = Call::patch(&SLICES, &id.namespace, &id.name, Patch::Apply, &intent)
                .query("fieldManager", MANAGER)
                .query("force", "true");
            let answer = client_of(&self.reader).send(&call).await?;
            match answer.status {
                404 | 409 => pause(attempt).await,
                _ => {
                    let written: wire::EndpointSlice = answer.ok(&call)?.json("a slice")?;
                    self.edit_held(&id, |held| held.slice = written.metadata);
                    return Ok(());
                }
            }
        }
        Err(busy())
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
            Some(slice) if !convert::is_ours(&slice.metadata) => {
                let by = slice.metadata.labels.get(convert::MANAGED_BY);
                return Err(convert::not_ours(key, by));
            }
            Some(slice) => self.delete_slice(&id, &slice).await?,
            None if lease.is_none() && !held && self.foreign(key).await?.is_some() => {
                return Err(convert::not_ours(key, None));
            }
            None => {}
        }
        if let Some(lease) = lease {
            let only = json!({ "uid": lease.metadata.uid });
            delete(
                &self.reader,
                &Call::delete(&LEASES, &id.namespace, &id.name, &only),
            )
            .await?;
        }
        forget();
        Ok(())
    }

    /// Withdraws what is still as we wrote it, and answers whether it was. The Lease first: whoever takes the id over from
    /// then on has another, and another version of the slice.
    async fn withdraw(&self, id: &Id, held: &Held) -> Result<bool> {
        let lease = Call::delete(&LEASES, &id.namespace, &id.name, &as_written(&held.lease));
        let slice = Call::delete(&SLICES, &id.namespace, &id.name, &as_written(&held.slice));
        Ok(delete(&self.reader, &lease).await? && delete(&self.reader, &slice).await?)
    }

    async fn do_instance(&self, key: &InstanceKey) -> Result<Option<Instance>> {
        let id = self.id(key).await?;
        let rules = Rules::of(client_of(&self.reader).config(), true);
        if let Some(slice) = self.slice(&id).await?
            && convert::is_ours(&slice.metadata)
            && convert::id_of(&slice)? == key.id.as_str()
        {
            let found = convert::slice(&slice, &rules).and_then(|fold| fold.instances.into_iter().next());
            return Ok(found.map(Arc::unwrap_or_clone));
        }
        Ok(self.foreign(key).await?.map(Arc::unwrap_or_clone))
    }
}

/// The precondition that an object is as it was read or written.
pub(crate) fn as_written(meta: &wire::Meta) -> serde_json::Value {
    json!({ "uid": meta.uid, "resourceVersion": meta.resource_version })
}

/// Deletes and answers whether it was there; what was created again in between is left alone.
pub(crate) async fn delete(reader: &Reader, call: &Call) -> Result<bool> {
    let answer = client_of(reader).send(call).await?;
    match answer.status {
        404 | 409 => Ok(false),
        _ => answer.ok(call).map(|_| true),
    }
}

fn already_exists(answer: &Answer) -> bool {
    answer.status == 409 && answer.told().reason == "AlreadyExists"
}

async fn pause(attempt: u32) {
    sleep(Duration::from_millis(20 * u64::from(attempt)).mul_f32(fastrand::f32())).await;
}

fn group(id: &Id) -> LeaseGroup {
    LeaseGroup::new(format!("{}/{}", id.namespace, id.name))
}

fn gone(what: &str) -> Error {
    error::error(ErrorKind::NotFound, "no such record")
        .with_context("record", what)
        .with_hint("register again")
}

fn lost(lease: &wire::Lease) -> Error {
    error::error(
        ErrorKind::Conflict,
        "another program has registered this id and keeps it alive",
    )
    .with_context("lease", lease.metadata.name.clone())
    .with_context("holder", lease.spec.holder_identity.clone())
    .with_hint("give each instance an id of its own")
}

fn busy() -> Error {
    error::error(ErrorKind::Conflict, "others keep changing the record")
        .with_retry(Retry::Transient { after: None })
        .with_hint("try again")
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
            self.edit(key, |slice| convert::change_meta(slice, change)),
        )
        .await
    }

    async fn report_health(&self, key: &InstanceKey, report: &HealthReport) -> Result<()> {
        within("report_health", async {
            self.edit(key, |slice| convert::change_health(slice, report))
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
