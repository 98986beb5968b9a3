//! Removes what has outlived its Lease: any live registrant does it for its service.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use discovery_core::{Result, ServiceName, Target};
use tokio::time::Instant;
use tracing::{debug, info};

use crate::{
    call::{Call, LEASES, SLICES, as_written},
    reader::Reader,
    record,
    slices::{Id, said},
    wire,
};

/// The longest time between two looks at a service.
const SELDOM: Duration = Duration::from_secs(60);

/// Looks for what has expired, now and then.
#[derive(Debug)]
pub(crate) struct Reaper {
    reader: Reader,
    /// When each service is looked at next.
    next: Mutex<HashMap<Id, Instant>>,
}

impl Reaper {
    pub(crate) fn new(reader: Reader) -> Self {
        Self {
            reader,
            next: Mutex::default(),
        }
    }

    /// Looks at a service if it is time to. What fails is tried again at the next turn.
    pub(crate) async fn turn(&self, namespace: &str, service: &str, ttl: Duration) {
        let id = Id::new(namespace, service);
        {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            if next.get(&id).is_some_and(|at| *at > now) {
                return;
            }
            next.retain(|_, at| *at + SELDOM * 2 > now);
            // Drawn, so that the registrants of a service do not all look at once.
            let pause = ttl.min(SELDOM).mul_f32(0.5 + fastrand::f32() / 2.0);
            next.insert(id.clone(), now + pause);
        }
        if let Err(error) = self.reap(&id).await {
            debug!(%error, service, "expired instances could not be removed");
        }
    }

    async fn reap(&self, service: &Id) -> Result<()> {
        let (client, namespace) = (&self.reader.client, &*service.namespace);
        let target = Target::Service(ServiceName::observed(service.name.clone()));
        // Slices first: one made after they were listed cannot look like an orphan, for its Lease is older.
        let slices = self.reader.slices(Some(namespace), &target);
        let slices: Vec<wire::EndpointSlice> = slices.list(client).await?.0;
        let leases = self.reader.leases(Some(namespace), &target);
        let leases: Vec<wire::Lease> = leases.list(client).await?.0;
        let mut alive = HashSet::new();
        for lease in &leases {
            let id = Id::of(&lease.metadata);
            let ttl = Duration::from_secs(lease.spec.lease_duration_seconds.into());
            if self.reader.beats.saw(&id, &said(lease)).elapsed() < ttl {
                alive.insert(lease.metadata.uid.as_str());
                continue;
            }
            // A renewal in between changes the version: then it is left alone.
            let only = as_written(&lease.metadata);
            if self
                .reader
                .client
                .delete(&Call::delete(&LEASES, namespace, &id.name, &only))
                .await?
            {
                info!(service = %service.name, lease = %id.name, "an instance has expired and is removed");
            } else {
                alive.insert(lease.metadata.uid.as_str());
            }
        }
        for slice in slices.iter().filter(|slice| record::is_ours(&slice.metadata)) {
            let Some(owner) = slice.metadata.owner_references.first() else {
                continue;
            };
            if !alive.contains(owner.uid.as_str()) {
                // Registered again in between, it has another Lease and so another version.
                let call = Call::delete(
                    &SLICES,
                    namespace,
                    &slice.metadata.name,
                    &as_written(&slice.metadata),
                );
                self.reader.client.delete(&call).await?;
            }
        }
        Ok(())
    }
}
