//! A registry that answers as it is told, for tests.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::sleep;

use crate::{
    error::{Error, ErrorKind, Result},
    model::{
        HealthReport, Instance, InstanceId, InstanceKey, Lease, LeaseGroup, MetaChange, Query, Registration,
        Renewal, Scope, ServiceName, ServiceSummary, Snapshot, Target,
    },
    spi::{BackendInfo, BackendStatus, Capabilities, ServiceRegistry},
};

/// Long enough to be for ever, short enough for a timer.
pub(super) const FOREVER: Duration = Duration::from_secs(1_000_000);

#[derive(Debug)]
struct Script {
    answer: Result<Snapshot>,
    delay: Duration,
}

#[derive(Debug)]
pub(super) struct Fake {
    script: Mutex<Script>,
    calls: AtomicUsize,
    running: AtomicUsize,
    most_running: AtomicUsize,
}

pub(super) fn api() -> ServiceName {
    ServiceName::new("api").unwrap()
}

pub(super) fn query() -> Query {
    Query::new(Target::Service(api()))
}

pub(super) fn key(id: &str) -> InstanceKey {
    InstanceKey::new("fake", api(), InstanceId::new(id).unwrap())
}

/// A live answer of instances with these ids, on ports from one; their tag is their id.
pub(super) fn answer(ids: &[&str]) -> Snapshot {
    let instances: Vec<Instance> = ids
        .iter()
        .zip(1..)
        .map(|(id, port)| Instance::builder(key(id), "127.0.0.1", port).tags([*id]).build())
        .collect();
    Snapshot::live(Target::Service(api()), instances)
}

pub(super) fn ids(snapshot: &Snapshot) -> Vec<&str> {
    snapshot
        .instances
        .iter()
        .map(|instance| instance.key.id.as_str())
        .collect()
}

impl Fake {
    pub(super) fn new(ids: &[&str]) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(Script {
                answer: Ok(answer(ids)),
                delay: Duration::ZERO,
            }),
            calls: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
        })
    }

    fn edit(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn answers(&self, snapshot: Snapshot) {
        self.edit(|script| script.answer = Ok(snapshot));
    }

    pub(super) fn fails(&self, kind: ErrorKind) {
        self.edit(|script| script.answer = Err(Error::new(kind, "told to fail")));
    }

    pub(super) fn takes(&self, delay: Duration) {
        self.edit(|script| script.delay = delay);
    }

    /// How many calls came so far.
    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// How many ran at once, at most.
    pub(super) fn most_running(&self) -> usize {
        self.most_running.load(Ordering::Relaxed)
    }

    async fn call(&self) -> Result<Snapshot> {
        struct Running<'a>(&'a AtomicUsize);
        impl Drop for Running<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }

        self.calls.fetch_add(1, Ordering::Relaxed);
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_running.fetch_max(running, Ordering::Relaxed);
        let _running = Running(&self.running);
        let (answer, delay) = {
            let script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
            (script.answer.clone(), script.delay)
        };
        if !delay.is_zero() {
            sleep(delay).await;
        }
        let mut snapshot = answer?;
        snapshot.freshness = crate::model::Freshness::now();
        Ok(snapshot)
    }
}

#[async_trait]
impl ServiceRegistry for Fake {
    fn info(&self) -> BackendInfo {
        BackendInfo::new("fake", "nowhere")
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::read_only(Duration::from_secs(1))
    }

    async fn register(&self, registration: &Registration) -> Result<Lease> {
        self.call().await?;
        Ok(Lease::new(
            key(registration.id.as_str()),
            LeaseGroup::new("group"),
            None,
        ))
    }

    async fn renew(&self, _: &LeaseGroup, _: &Renewal) -> Result<()> {
        self.call().await.map(drop)
    }

    async fn deregister(&self, _: &InstanceKey) -> Result<()> {
        self.call().await.map(drop)
    }

    async fn release(&self, _: &LeaseGroup) -> Result<()> {
        self.call().await.map(drop)
    }

    async fn update_meta(&self, _: &InstanceKey, _: &MetaChange) -> Result<()> {
        self.call().await.map(drop)
    }

    async fn report_health(&self, _: &InstanceKey, _: &HealthReport) -> Result<()> {
        self.call().await.map(drop)
    }

    async fn instance(&self, key: &InstanceKey) -> Result<Option<Instance>> {
        let snapshot = self.call().await?;
        let mut instances = snapshot.instances.iter();
        Ok(instances
            .find(|instance| instance.key == *key)
            .map(|instance| (**instance).clone()))
    }

    async fn instances(&self, _: &Query) -> Result<Snapshot> {
        self.call().await
    }

    async fn services(&self, _: &Scope) -> Result<Vec<ServiceSummary>> {
        let snapshot = self.call().await?;
        Ok(vec![ServiceSummary::new(
            api(),
            Vec::new(),
            Some(snapshot.instances.len()),
        )])
    }

    async fn status(&self) -> Result<BackendStatus> {
        self.call().await.map(|_| BackendStatus::new(Duration::ZERO))
    }
}
