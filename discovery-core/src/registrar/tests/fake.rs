//! A registry that does what a test says, and remembers what it was asked.

use std::{
    collections::{BTreeMap, HashMap},
    future::pending,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use crate::{
    error::{Error, ErrorKind, Result},
    model::{
        HealthReport, Instance, InstanceKey, Lease, LeaseGroup, MetaChange, Query, Registration, Renewal,
        Scope, ServiceSummary, Snapshot,
    },
    spi::{BackendInfo, BackendStatus, Capabilities, LeaseMode, ServiceRegistry},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Register,
    Renew,
    Deregister,
    Release,
    Meta,
    Health,
    Instance,
}

pub(super) const ALL: [Op; 7] = [
    Op::Register,
    Op::Renew,
    Op::Deregister,
    Op::Release,
    Op::Meta,
    Op::Health,
    Op::Instance,
];

#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// Fails, and nothing happens.
    Refuse(ErrorKind),
    /// It happens, and the answer is an error.
    LoseAnswer(ErrorKind),
    /// Never answers.
    Hang,
}

#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) registration: Registration,
    pub(super) group: LeaseGroup,
    renewed: Instant,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) records: BTreeMap<String, Record>,
    pub(super) log: Vec<(Instant, Op, String)>,
    /// How long each request takes.
    pub(super) latency: Duration,
    /// How long requests of these kinds take instead.
    pub(super) slow: HashMap<Op, Duration>,
    /// How often leases are to be renewed, where they say it.
    pub(super) renew_every: Option<Duration>,
    /// Answers renewals although the record is gone (etcd before 3.5.23).
    pub(super) renewals_lie: bool,
    /// A renewal writes its members' records when it ends, as they were when it began.
    pub(super) renewals_write: bool,
    /// Registering an existing record keeps the health it had (Consul, Eureka).
    pub(super) keeps_health: bool,
    /// Each request under way and the most there were for one id.
    under_way: HashMap<String, usize>,
    pub(super) most_under_way: usize,
    faults: HashMap<Op, (usize, Fault)>,
    lease: u64,
    /// Nothing needs sweeping before then: renewals only move it on.
    none_expires_before: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Fake {
    mode: LeaseMode,
    ttl: Option<Duration>,
    state: Mutex<State>,
}

impl Fake {
    pub(super) fn new(mode: LeaseMode, ttl: Option<Duration>) -> Arc<Self> {
        Arc::new(Self {
            mode,
            ttl,
            state: Mutex::default(),
        })
    }

    pub(super) fn single() -> Arc<Self> {
        Self::new(LeaseMode::Single, Some(super::TTL))
    }

    pub(super) fn shared() -> Arc<Self> {
        Self::new(LeaseMode::Shared, Some(super::TTL))
    }

    /// The state, without what has expired.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap();
        let now = Instant::now();
        if let Some(ttl) = self.ttl
            && state.none_expires_before.is_none_or(|at| now > at)
        {
            state.records.retain(|_, record| now - record.renewed <= ttl);
            let oldest = state.records.values().map(|record| record.renewed).min();
            state.none_expires_before = Some(oldest.unwrap_or(now) + ttl);
        }
        state
    }

    /// The next `times` requests of this kind fail like this.
    pub(super) fn fault(&self, op: Op, times: usize, fault: Fault) {
        self.state().faults.insert(op, (times, fault));
    }

    pub(super) fn outage(&self, kind: ErrorKind) {
        for op in ALL {
            self.fault(op, usize::MAX, Fault::Refuse(kind));
        }
    }

    pub(super) fn heal(&self) {
        self.state().faults.clear();
    }

    /// Loses every record, as a restart without storage does.
    pub(super) fn amnesia(&self) {
        let mut state = self.state();
        state.records.clear();
        state.lease += 1;
    }

    /// Writes are slow and withdrawals quick, so that what was sent first arrives last, if both are under way at once.
    pub(super) fn reorder(&self) {
        let mut state = self.state();
        state.renewals_write = true;
        state.latency = Duration::from_millis(50);
        state.slow.insert(Op::Renew, Duration::from_millis(400));
        state.slow.insert(Op::Register, Duration::from_millis(300));
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.state().records.contains_key(id)
    }

    pub(super) fn shown(&self, id: &str) -> Registration {
        self.state().records[id].registration.clone()
    }

    pub(super) fn count(&self, op: Op) -> usize {
        self.times(op).len()
    }

    pub(super) fn times(&self, op: Op) -> Vec<Instant> {
        let state = self.state();
        state
            .log
            .iter()
            .filter(|(_, o, _)| *o == op)
            .map(|(at, ..)| *at)
            .collect()
    }

    pub(super) fn clear_log(&self) {
        self.state().log.clear();
    }

    /// One request: logged, delayed, failed or carried out.
    async fn request<T>(
        &self,
        op: Op,
        about: &str,
        apply: impl FnOnce(&mut State) -> Result<T>,
    ) -> Result<T> {
        let _under_way = UnderWay::new(self, about);
        let (fault, latency) = {
            let mut state = self.state();
            state.log.push((Instant::now(), op, about.to_owned()));
            let fault = match state.faults.get_mut(&op) {
                Some((times, fault)) if *times > 0 => {
                    *times -= 1;
                    Some(*fault)
                }
                _ => None,
            };
            (fault, state.slow.get(&op).copied().unwrap_or(state.latency))
        };
        if matches!(fault, Some(Fault::Hang)) {
            pending::<()>().await;
        }
        if !latency.is_zero() {
            sleep(latency).await;
        }
        match fault {
            Some(Fault::Refuse(kind)) => Err(Error::new(kind, "scripted")),
            Some(Fault::LoseAnswer(kind)) => {
                let _ = apply(&mut self.state());
                Err(Error::new(kind, "scripted"))
            }
            _ => apply(&mut self.state()),
        }
    }
}

/// Counts a request about one id while it is under way, also when it is dropped.
struct UnderWay<'a>(&'a Fake, String);

impl<'a> UnderWay<'a> {
    fn new(fake: &'a Fake, about: &str) -> Self {
        let mut state = fake.state();
        let now = state.under_way.entry(about.to_owned()).or_default();
        *now += 1;
        let now = *now;
        state.most_under_way = state.most_under_way.max(now);
        Self(fake, about.to_owned())
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        *self.0.state().under_way.get_mut(&self.1).unwrap() -= 1;
    }
}

fn absent() -> Error {
    Error::new(ErrorKind::NotFound, "unknown here")
}

#[async_trait]
impl ServiceRegistry for Fake {
    fn info(&self) -> BackendInfo {
        BackendInfo::new("fake", "nowhere")
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            register: true,
            lease: self.mode,
            update_meta: true,
            report_health: true,
            ..Capabilities::read_only(Duration::from_secs(10))
        }
    }

    async fn register(&self, registration: &Registration) -> Result<Lease> {
        let id = registration.id.to_string();
        self.request(Op::Register, &id, |state| {
            let group = match self.mode {
                LeaseMode::Shared => LeaseGroup::new(format!("lease-{}", state.lease)),
                _ => LeaseGroup::new(format!("{}/{id}", registration.service)),
            };
            let mut registration = registration.clone();
            if let Some(old) = state.records.get(&id).filter(|_| state.keeps_health) {
                registration.health = old.registration.health.clone();
            }
            let key = InstanceKey::new("fake", registration.service.clone(), registration.id.clone());
            let record = Record {
                registration,
                group: group.clone(),
                renewed: Instant::now(),
            };
            state.records.insert(id.clone(), record);
            let lease = Lease::new(key, group, self.ttl);
            Ok(match state.renew_every {
                Some(every) => lease.renewed_every(every),
                None => lease,
            })
        })
        .await
    }

    async fn renew(&self, group: &LeaseGroup, renewal: &Renewal) -> Result<()> {
        let before = Some(self.state())
            .filter(|state| state.renewals_write)
            .map(|state| state.records.clone())
            .unwrap_or_default();
        self.request(Op::Renew, group.as_str(), |state| {
            if state.renewals_lie {
                return Ok(());
            }
            for (key, health) in &renewal.members {
                if let Some(record) = before.get(key.id.as_str()) {
                    state.records.insert(key.id.to_string(), record.clone());
                }
                let record = state.records.get_mut(key.id.as_str()).ok_or_else(absent)?;
                if record.group != *group {
                    return Err(absent());
                }
                record.renewed = Instant::now();
                record.registration.health = health.clone();
            }
            Ok(())
        })
        .await
    }

    async fn deregister(&self, key: &InstanceKey) -> Result<()> {
        self.request(Op::Deregister, key.id.as_str(), |state| {
            state.records.remove(key.id.as_str());
            Ok(())
        })
        .await
    }

    async fn release(&self, group: &LeaseGroup) -> Result<()> {
        self.request(Op::Release, group.as_str(), |state| {
            state.records.retain(|_, record| record.group != *group);
            Ok(())
        })
        .await
    }

    async fn update_meta(&self, key: &InstanceKey, change: &MetaChange) -> Result<()> {
        self.request(Op::Meta, key.id.as_str(), |state| {
            let record = state.records.get_mut(key.id.as_str()).ok_or_else(absent)?;
            change.apply(&mut record.registration.meta);
            Ok(())
        })
        .await
    }

    async fn report_health(&self, key: &InstanceKey, report: &HealthReport) -> Result<()> {
        self.request(Op::Health, key.id.as_str(), |state| {
            let record = state.records.get_mut(key.id.as_str()).ok_or_else(absent)?;
            record.registration.health = report.clone();
            Ok(())
        })
        .await
    }

    async fn instance(&self, key: &InstanceKey) -> Result<Option<Instance>> {
        self.request(Op::Instance, key.id.as_str(), |state| {
            Ok(state.records.get(key.id.as_str()).map(|record| {
                let registration = &record.registration;
                Instance::builder(key.clone(), registration.address.clone(), registration.port).build()
            }))
        })
        .await
    }

    async fn instances(&self, _: &Query) -> Result<Snapshot> {
        Err(Error::new(ErrorKind::Unsupported, "not scripted"))
    }

    async fn services(&self, _: &Scope) -> Result<Vec<ServiceSummary>> {
        Err(Error::new(ErrorKind::Unsupported, "not scripted"))
    }

    async fn status(&self) -> Result<BackendStatus> {
        Ok(BackendStatus::new(Duration::ZERO))
    }
}
