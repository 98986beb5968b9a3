//! Backends with one bug each, and the case that must fail on it.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use discovery_core::{
    Backend, BackendInfo, BackendStatus, Capabilities, Change, Cursor, ErrorKind, HealthReport, Instance,
    InstanceKey, Lease, LeaseGroup, LeaseMode, MetaChange, Query, Registration, Renewal, Result, Scope,
    ServiceRegistry, ServiceSummary, Snapshot, WatchStream, Watcher, memory::MemoryStore,
};
use futures::{FutureExt, StreamExt, future};

use crate::{
    suite::{Env, Fault, Flag, MemoryProvider, Provider, Subject, all, honesty},
    sync::lock,
};

/// One way to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// Every claim is denied, every call still answered.
    DeniesWhatItDoes,
    DeregisterTakesTheService,
    DeregisterDoesNothing,
    /// As a heartbeat that crosses the withdrawal on its way.
    RenewalRegistersAgain,
    RenewalDoesNothing,
    UpdateReplacesAll,
    MissingIsFine,
    TagsAreLost,
    FailureIsEmpty,
    RemovalsAreNotTold,
    EverythingIsToldTwice,
    CursorsAreIgnored,
    CursorsNeverExpire,
    NeverConfirms,
}

#[derive(Debug)]
struct Mutant {
    inner: Backend,
    bug: Bug,
    seen: Mutex<HashMap<LeaseGroup, Registration>>,
}

fn mutant(inner: &Backend, bug: Bug) -> Backend {
    let mutant = Arc::new(Mutant {
        inner: inner.clone(),
        bug,
        seen: Mutex::default(),
    });
    let mut backend = Backend::new(mutant.clone(), mutant);
    backend.config = inner.config.clone();
    backend
}

#[async_trait]
impl ServiceRegistry for Mutant {
    fn info(&self) -> BackendInfo {
        self.inner.registry.info()
    }

    fn capabilities(&self) -> Capabilities {
        let mut can = self.inner.registry.capabilities();
        if self.bug == Bug::DeniesWhatItDoes {
            (can.register, can.update_meta, can.list_services, can.watch_all) = (false, false, false, false);
            can.lease = LeaseMode::Single;
        }
        can
    }

    async fn register(&self, registration: &Registration) -> Result<Lease> {
        let mut registration = registration.clone();
        if self.bug == Bug::TagsAreLost {
            registration.tags.truncate(1);
        }
        let lease = self.inner.registry.register(&registration).await?;
        lock(&self.seen).insert(lease.group.clone(), registration);
        Ok(lease)
    }

    async fn renew(&self, group: &LeaseGroup, renewal: &Renewal) -> Result<()> {
        match self.bug {
            Bug::RenewalDoesNothing => Ok(()),
            Bug::RenewalRegistersAgain => {
                let seen = lock(&self.seen).get(group).cloned();
                match seen {
                    Some(registration) => self.register(&registration).await.map(drop),
                    None => Ok(()),
                }
            }
            _ => self.inner.registry.renew(group, renewal).await,
        }
    }

    async fn deregister(&self, key: &InstanceKey) -> Result<()> {
        match self.bug {
            Bug::DeregisterDoesNothing => return Ok(()),
            Bug::DeregisterTakesTheService => {
                let query = Query::service(key.service.as_str())?;
                for instance in &self.inner.registry.instances(&query).await?.instances {
                    self.inner.registry.deregister(&instance.key).await?;
                }
            }
            _ => {}
        }
        self.inner.registry.deregister(key).await
    }

    async fn release(&self, group: &LeaseGroup) -> Result<()> {
        self.inner.registry.release(group).await
    }

    async fn update_meta(&self, key: &InstanceKey, change: &MetaChange) -> Result<()> {
        let mut change = change.clone();
        if self.bug == Bug::UpdateReplacesAll
            && let Some(own) = self.inner.registry.instance(key).await?
        {
            change.remove.extend(own.meta.into_keys());
        }
        match self.inner.registry.update_meta(key, &change).await {
            Err(error) if self.bug == Bug::MissingIsFine && error.kind() == ErrorKind::NotFound => Ok(()),
            answer => answer,
        }
    }

    async fn report_health(&self, key: &InstanceKey, report: &HealthReport) -> Result<()> {
        self.inner.registry.report_health(key, report).await
    }

    async fn instance(&self, key: &InstanceKey) -> Result<Option<Instance>> {
        self.inner.registry.instance(key).await
    }

    async fn instances(&self, query: &Query) -> Result<Snapshot> {
        match self.inner.registry.instances(query).await {
            Err(_) if self.bug == Bug::FailureIsEmpty => {
                Ok(Snapshot::live(query.target.clone(), Vec::<Instance>::new()))
            }
            answer => answer,
        }
    }

    async fn services(&self, scope: &Scope) -> Result<Vec<ServiceSummary>> {
        self.inner.registry.services(scope).await
    }

    async fn status(&self) -> Result<BackendStatus> {
        self.inner.registry.status().await
    }
}

impl Watcher for Mutant {
    fn watch(&self, query: &Query, since: Option<Cursor>) -> WatchStream {
        let bug = self.bug;
        let since = since.filter(|_| bug != Bug::CursorsAreIgnored);
        let expires = since.is_some() && bug == Bug::CursorsNeverExpire;
        let raw = self.inner.watcher.watch(query, since);
        let stream = if expires {
            // Ends rather than saying that it has forgotten.
            raw.take_while(|event| future::ready(event.is_ok())).boxed()
        } else {
            raw
        };
        stream
            .filter(move |event| {
                let told = match event.as_ref().map(|event| &event.change) {
                    Ok(Change::Remove(_)) => bug != Bug::RemovalsAreNotTold,
                    Ok(Change::Confirmed) => bug != Bug::NeverConfirms,
                    _ => true,
                };
                future::ready(told)
            })
            .flat_map(move |event| {
                let twice = bug == Bug::EverythingIsToldTwice;
                futures::stream::iter(std::iter::repeat_n(event, 1 + usize::from(twice)))
            })
            .boxed()
    }
}

/// A memory subject with a bug in front of it.
#[derive(Debug)]
struct Mutated {
    inner: Box<dyn Subject>,
    bug: Bug,
}

#[async_trait]
impl Subject for Mutated {
    async fn connect(&self) -> Result<Backend> {
        Ok(mutant(&self.inner.connect().await?, self.bug))
    }
    async fn direct(&self) -> Result<Backend> {
        self.inner.direct().await
    }
    async fn break_way(&self, fault: Fault) -> Result<()> {
        self.inner.break_way(fault).await
    }
    async fn heal(&self) -> Result<()> {
        self.inner.heal().await
    }
    async fn forget(&self) -> Result<()> {
        self.inner.forget().await
    }
    async fn compact(&self) -> Result<()> {
        self.inner.compact().await
    }
    fn open_watches(&self) -> Option<usize> {
        self.inner.open_watches()
    }
    fn requests(&self) -> Option<usize> {
        self.inner.requests()
    }
    fn visible_within(&self) -> Duration {
        self.inner.visible_within()
    }
}

/// Runs one case under a paused clock.
async fn passes(bug: Bug, group: &str, name: &str) -> bool {
    let case = all().find(|case| case.group == group && case.name == name);
    let case = case.unwrap_or_else(|| panic!("there is no case {group}::{name}"));
    let provider = if case.faults.is_empty() {
        MemoryProvider::bare()
    } else {
        MemoryProvider::chaotic()
    };
    let inner = provider.subject(case).await.unwrap();
    let env = Env::new(Arc::new(Mutated { inner, bug }), None).await.unwrap();
    let ended = AssertUnwindSafe((case.run)(env)).catch_unwind().await;
    matches!(ended, Ok(Ok(())))
}

#[tokio::test(start_paused = true)]
async fn each_bug_is_caught_by_its_case_and_none_is_seen_where_there_is_none() {
    let caught_by = [
        (Bug::DeregisterDoesNothing, "register", "deregister_hides"),
        (
            Bug::DeregisterTakesTheService,
            "register",
            "deregister_leaves_siblings",
        ),
        (
            Bug::RenewalRegistersAgain,
            "renew",
            "late_renewal_does_not_resurrect",
        ),
        (Bug::RenewalDoesNothing, "renew", "renewal_keeps_it"),
        (
            Bug::RenewalDoesNothing,
            "renew",
            "renewal_after_expiry_revives_or_says_so",
        ),
        (Bug::UpdateReplacesAll, "register", "update_meta_merges"),
        (
            Bug::MissingIsFine,
            "register",
            "update_meta_of_the_absent_is_not_found",
        ),
        (Bug::TagsAreLost, "register", "weights_tags_and_ports_survive"),
        (Bug::TagsAreLost, "resolve", "filters_by_health_and_tag"),
        (Bug::FailureIsEmpty, "errors", "refused_is_unavailable"),
        (
            Bug::RemovalsAreNotTold,
            "watch",
            "additions_updates_and_removals_come_in_order",
        ),
        (Bug::RemovalsAreNotTold, "watch", "events_fold_to_the_truth"),
        (Bug::EverythingIsToldTwice, "watch", "events_fold_to_the_truth"),
        (
            Bug::CursorsAreIgnored,
            "watch",
            "a_resumed_watch_loses_and_repeats_nothing",
        ),
        (
            Bug::CursorsNeverExpire,
            "watch",
            "an_expired_cursor_says_so_and_a_fresh_watch_starts_over",
        ),
        (Bug::NeverConfirms, "watch", "a_quiet_watch_confirms"),
    ];
    for (bug, group, name) in caught_by {
        assert!(
            !passes(bug, group, name).await,
            "{group}::{name} does not catch {bug:?}"
        );
        assert!(
            passes(Bug::None, group, name).await,
            "{group}::{name} fails on a good backend"
        );
    }
}

#[tokio::test]
async fn what_a_backend_denies_and_does_all_the_same_is_caught() {
    let backend = mutant(&MemoryStore::new().backend(), Bug::DeniesWhatItDoes);
    for flag in [
        Flag::Register,
        Flag::UpdateMeta,
        Flag::ListServices,
        Flag::WatchAll,
    ] {
        assert!(!flag.of(&backend));
        let refused = honesty::refused(flag, &backend).await.unwrap();
        let wrongly = refused
            .iter()
            .all(|(_, kind)| *kind != Some(ErrorKind::Unsupported));
        assert!(wrongly && !refused.is_empty(), "{flag}: {refused:?}");
    }
    let contradictions = honesty::contradictions(&backend);
    assert_eq!(contradictions, ["leases, but nothing can be registered"]);
}
