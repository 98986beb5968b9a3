//! How a registration is written: a Service if there is none, a Lease, a slice; and how each is changed and withdrawn
//! without touching what others wrote in between.

use std::{sync::PoisonError, time::Duration};

use discovery_core::{Error, ErrorKind, InstanceKey, Registration, Result, Retry};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{Held, K8sRegistry, client_of};
use crate::{
    call::{Call, LEASES, Patch, SERVICES, SLICES, as_written},
    client::Answer,
    error, intent,
    lease::now,
    record::{self, MANAGER},
    slices::{Id, said},
    wire,
};

/// K-14: how often a change is tried on what others change at the same time.
pub(super) const TRIES: u32 = 6;
/// How long a Service that was seen is taken to be there.
const SEEN: Duration = Duration::from_secs(60);
/// How many Services are remembered as seen.
const SERVICES_SEEN: usize = 1000;

impl K8sRegistry {
    /// Sees to it that there is a Service; one that is there is left as it is (K-6).
    pub(super) async fn ensure_service(&self, registration: &Registration, namespace: &str) -> Result<()> {
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
            let body = intent::headless_service(&registration.service, config, registration.port);
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
    pub(super) fn is_anothers(&self, id: &Id, lease: &wire::Lease) -> bool {
        let ttl = Duration::from_secs(lease.spec.lease_duration_seconds.into());
        lease.spec.holder_identity != self.holder && self.reader.beats.saw(id, &said(lease)).elapsed() < ttl
    }

    /// Creates the Lease, or takes it over and renews it. Who never had it, takes it; who lost it to somebody alive, does
    /// not take it back, or two registrants of one id would fight for ever.
    pub(super) async fn take_lease(
        &self,
        id: &Id,
        registration: &Registration,
        seconds: u32,
    ) -> Result<wire::Lease> {
        let client = client_of(&self.reader);
        let labels = intent::labels(&registration.service, client.config());
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
                .get(record::APP_MANAGED_BY)
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
    pub(super) async fn apply(&self, slice: &wire::EndpointSlice) -> Result<wire::Meta> {
        let client = client_of(&self.reader);
        let id = Id::of(&slice.metadata);
        let intent = intent::intent(slice, None);
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
            // Applying what is not there yet takes the right to create it, which the server looks for last.
            if answer.status == 403 && !answer.told().message.contains("cannot patch") {
                return Err(answer.ok(&call.wants("create")).err().unwrap_or_else(busy));
            }
            if answer.status != 409 && !immutable {
                let slice: wire::EndpointSlice = answer.ok(&call)?.json("a slice")?;
                return Ok(slice.metadata);
            }
            let Some(known) = self.slice(&id).await? else {
                continue;
            };
            // K-6, K-13: force is for what is ours.
            if !record::is_ours(&known.metadata) {
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

    pub(super) async fn delete_slice(&self, id: &Id, slice: &wire::EndpointSlice) -> Result<()> {
        let only = json!({ "uid": slice.metadata.uid });
        self.reader
            .client
            .delete(&Call::delete(&SLICES, &id.namespace, &id.name, &only))
            .await
            .map(drop)
    }

    /// Reads, changes and writes a slice of ours, until nobody else has changed it in between (K-14).
    pub(super) async fn edit(
        &self,
        key: &InstanceKey,
        change: impl Fn(&mut wire::EndpointSlice) -> Result<()>,
    ) -> Result<()> {
        let id = self.id(key).await?;
        for attempt in 1..=TRIES {
            let Some(mut slice) = self.slice(&id).await? else {
                return Err(match self.foreign(key).await? {
                    Some(_) => intent::not_ours(key, None),
                    None => gone(&key.to_string()),
                });
            };
            if !record::is_ours(&slice.metadata) {
                let by = slice.metadata.labels.get(record::MANAGED_BY);
                return Err(intent::not_ours(key, by));
            }
            change(&mut slice)?;
            let intent = intent::intent(&slice, Some(&slice.metadata.resource_version));
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

    /// Withdraws what is still as we wrote it, and answers whether it was. The Lease first: whoever takes the id over from
    /// then on has another, and another version of the slice.
    pub(super) async fn withdraw(&self, id: &Id, held: &Held) -> Result<bool> {
        let lease = Call::delete(&LEASES, &id.namespace, &id.name, &as_written(&held.lease));
        let slice = Call::delete(&SLICES, &id.namespace, &id.name, &as_written(&held.slice));
        Ok(self.reader.client.delete(&lease).await? && self.reader.client.delete(&slice).await?)
    }
}

fn already_exists(answer: &Answer) -> bool {
    answer.status == 409 && answer.told().reason == "AlreadyExists"
}

async fn pause(attempt: u32) {
    sleep(Duration::from_millis(20 * u64::from(attempt)).mul_f32(fastrand::f32())).await;
}

pub(super) fn gone(what: &str) -> Error {
    error::error(ErrorKind::NotFound, "no such record")
        .with_context("record", what)
        .with_hint("register again")
}

pub(super) fn lost(lease: &wire::Lease) -> Error {
    error::error(
        ErrorKind::Conflict,
        "another program has registered this id and keeps it alive",
    )
    .with_context("lease", lease.metadata.name.clone())
    .with_context("holder", lease.spec.holder_identity.clone())
    .with_hint("give each instance an id of its own")
}

pub(super) fn busy() -> Error {
    error::error(ErrorKind::Conflict, "others keep changing the record")
        .with_retry(Retry::Transient { after: None })
        .with_hint("try again")
}
