//! The records of the registry: what is registered, by which lease, until when. Pure state, told the time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{backend::SCHEME, log::Log};
use crate::{
    error::{Error, ErrorKind, Result},
    model::{
        CheckResult, HealthReport, Instance, InstanceId, InstanceKey, Lease, LeaseGroup, Locality,
        MetaChange, Registration, Renewal, ServiceName, ServiceSummary, Target,
    },
};

/// What a record shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    /// The instance, without its check.
    instance: Arc<Instance>,
    /// What its owner last reported in a line.
    output: Arc<str>,
}

impl Shown {
    pub(super) fn key(&self) -> &InstanceKey {
        &self.instance.key
    }

    /// The instance; with checks it carries the one check there is: what its owner reports.
    pub(super) fn instance(&self, with_checks: bool) -> Arc<Instance> {
        if !with_checks {
            return self.instance.clone();
        }
        let mut instance = Instance::clone(&self.instance);
        instance
            .checks
            .push(CheckResult::new("health", instance.status, &*self.output));
        Arc::new(instance)
    }

    fn set_health(&mut self, health: &HealthReport) {
        if (self.instance.status, self.instance.draining) != (health.status, health.draining) {
            let instance = Arc::make_mut(&mut self.instance);
            (instance.status, instance.draining) = (health.status, health.draining);
        }
        if *self.output != *health.output {
            self.output = health.output.as_str().into();
        }
    }
}

/// One change of a record.
#[derive(Debug)]
pub(super) enum Entry {
    /// It is new or shows something else.
    Put {
        /// What it shows now.
        shown: Shown,
        /// Nothing else changed: invisible to a watch without checks.
        output_only: bool,
    },
    /// It is gone.
    Gone(InstanceKey),
}

#[derive(Debug)]
struct Record {
    shown: Shown,
    /// The health its last registration asked for.
    registered: HealthReport,
    group: LeaseGroup,
    ttl: Duration,
    expires: Instant,
}

/// All records, their leases and the log of their changes.
#[derive(Debug)]
pub(super) struct Records {
    map: BTreeMap<InstanceKey, Record>,
    groups: HashMap<LeaseGroup, InstanceKey>,
    /// When which lease runs out, soonest first.
    deadlines: BTreeSet<(Instant, InstanceKey)>,
    pub(super) log: Log<Entry>,
}

impl Records {
    pub(super) fn new(log_capacity: usize) -> Self {
        Self {
            map: BTreeMap::new(),
            groups: HashMap::new(),
            deadlines: BTreeSet::new(),
            log: Log::new(log_capacity),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// When the next lease runs out.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Removes every record whose lease has run out.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.next_deadline().is_some_and(|at| at <= now) {
            if let Some((_, key)) = self.deadlines.pop_first() {
                self.remove(&key);
            }
        }
    }

    /// Creates or replaces a record. The lease group outlives re-registrations, but not the record. Health is kept
    /// unless the registration asks for another than the last one did: re-registering must not flap it.
    pub(super) fn register(&mut self, registration: &Registration, ttl: Duration, now: Instant) -> Lease {
        let key = InstanceKey::new(SCHEME, registration.service.clone(), registration.id.clone());
        let mut shown = show(key.clone(), registration);
        let old = self.map.remove(&key);
        let group = match &old {
            Some(old) => {
                self.deadlines.remove(&(old.expires, key.clone()));
                if old.registered == registration.health {
                    let before = &old.shown;
                    shown.set_health(&HealthReport {
                        status: before.instance.status,
                        draining: before.instance.draining,
                        output: before.output.to_string(),
                        valid_for: None,
                    });
                }
                old.group.clone()
            }
            None => LeaseGroup::new(self.log.end().plus(1).to_string()),
        };
        if old.is_none_or(|old| old.shown != shown) {
            self.log.push(Entry::Put {
                shown: shown.clone(),
                output_only: false,
            });
        }
        let expires = after(now, ttl);
        self.deadlines.insert((expires, key.clone()));
        self.groups.insert(group.clone(), key.clone());
        self.map.insert(
            key.clone(),
            Record {
                shown,
                registered: registration.health.clone(),
                group: group.clone(),
                ttl,
                expires,
            },
        );
        Lease::new(key, group, Some(ttl))
    }

    /// Extends a lease and shows the health its member wants.
    pub(super) fn renew(&mut self, group: &LeaseGroup, renewal: &Renewal, now: Instant) -> Result<()> {
        let Some(key) = self.groups.get(group).cloned() else {
            return Err(not_found("unknown or expired lease", "group", group.as_str()));
        };
        if let Some((member, _)) = renewal.members.iter().find(|(member, _)| *member != key) {
            return Err(not_found(
                "not a member of this lease",
                "member",
                &member.to_string(),
            ));
        }
        if let Some(record) = self.map.get_mut(&key) {
            self.deadlines.remove(&(record.expires, key.clone()));
            record.expires = after(now, record.ttl);
            self.deadlines.insert((record.expires, key.clone()));
        }
        for (member, health) in &renewal.members {
            self.set_health(member, health)?;
        }
        Ok(())
    }

    /// Removes a record and answers whether it was there.
    pub(super) fn remove(&mut self, key: &InstanceKey) -> bool {
        let Some(record) = self.map.remove(key) else {
            return false;
        };
        self.deadlines.remove(&(record.expires, key.clone()));
        self.groups.remove(&record.group);
        self.log.push(Entry::Gone(key.clone()));
        true
    }

    pub(super) fn update_meta(&mut self, key: &InstanceKey, change: &MetaChange) -> Result<()> {
        self.edit(key, |shown| {
            change.apply(&mut Arc::make_mut(&mut shown.instance).meta);
        })
    }

    pub(super) fn set_health(&mut self, key: &InstanceKey, health: &HealthReport) -> Result<()> {
        self.edit(key, |shown| shown.set_health(health))
    }

    /// Changes what a record shows and logs that, if it made a difference.
    fn edit(&mut self, key: &InstanceKey, change: impl FnOnce(&mut Shown)) -> Result<()> {
        let Some(record) = self.map.get_mut(key) else {
            return Err(not_found("no such record", "key", &key.to_string()));
        };
        let mut shown = record.shown.clone();
        change(&mut shown);
        if shown != record.shown {
            let output_only = shown.instance == record.shown.instance;
            record.shown = shown.clone();
            self.log.push(Entry::Put { shown, output_only });
        }
        Ok(())
    }

    pub(super) fn get(&self, key: &InstanceKey) -> Option<&Shown> {
        self.map.get(key).map(|record| &record.shown)
    }

    /// The records of a target, sorted by key.
    pub(super) fn of(&self, target: &Target) -> Vec<&Shown> {
        match target {
            Target::All => self.map.values().map(|record| &record.shown).collect(),
            Target::Service(name) => {
                let first = InstanceKey::new(SCHEME, name.clone(), InstanceId::observed(""));
                self.map
                    .range(first..)
                    .take_while(|(key, _)| key.service == *name)
                    .map(|(_, record)| &record.shown)
                    .collect()
            }
        }
    }

    /// The services, sorted by name.
    pub(super) fn services(&self) -> Vec<ServiceSummary> {
        let mut services: BTreeMap<&ServiceName, (Vec<String>, usize)> = BTreeMap::new();
        for (key, record) in &self.map {
            let (tags, instances) = services.entry(&key.service).or_default();
            tags.extend_from_slice(&record.shown.instance.tags);
            *instances += 1;
        }
        services
            .into_iter()
            .map(|(name, (tags, instances))| ServiceSummary::new(name.clone(), tags, Some(instances)))
            .collect()
    }
}

/// What a registration shows.
fn show(key: InstanceKey, registration: &Registration) -> Shown {
    Shown {
        instance: Arc::new(Instance {
            key,
            host: registration.address.clone(),
            port: registration.port,
            ports: registration.ports.clone(),
            tags: registration.tags.clone(),
            meta: registration.meta.clone(),
            status: registration.health.status,
            weight: registration.weight,
            priority: 0,
            draining: registration.health.draining,
            locality: Locality::default(),
            checks: Vec::new(),
        }),
        output: registration.health.output.as_str().into(),
    }
}

/// So long after `now`; a lease too long for the clock never runs out.
pub(super) fn after(now: Instant, duration: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 10);
    now + duration.min(FAR)
}

fn not_found(message: &'static str, what: &'static str, value: &str) -> Error {
    Error::new(ErrorKind::NotFound, message)
        .with_backend(SCHEME)
        .with_context(what, value)
        .with_hint("register again")
}
