//! A-3 as a property: whatever happens, the events of a watch, folded, are what the registry answers.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use tokio::{runtime, time::timeout};

use super::*;
use crate::model::{Cursor, HealthReport, Instance, LeaseGroup, MetaChange, Status};

#[derive(Debug, Clone)]
enum Op {
    Register {
        id: u16,
        content: u8,
        ttl: u8,
    },
    Deregister(u16),
    Renew(u16, bool),
    Report(u16, u8),
    Meta(u16, u8),
    Pass(u16),
    Compact,
    Forget(u16),
    ForgetAll,
    /// Let a watch read.
    Read(usize),
    /// Cut a watch and resume it from its cursor.
    Cut(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let id = 0..6_u16;
    let op = prop_oneof![
        8 => (id.clone(), 0..3_u8, 1..8_u8).prop_map(|(id, content, ttl)| Op::Register { id, content, ttl }),
        3 => id.clone().prop_map(Op::Deregister),
        3 => (id.clone(), any::<bool>()).prop_map(|(id, well)| Op::Renew(id, well)),
        3 => (id.clone(), 0..4_u8).prop_map(|(id, report)| Op::Report(id, report)),
        2 => (id.clone(), 0..2_u8).prop_map(|(id, value)| Op::Meta(id, value)),
        3 => (1..4000_u16).prop_map(Op::Pass),
        1 => Just(Op::Compact),
        1 => id.prop_map(Op::Forget),
        1 => Just(Op::ForgetAll),
        6 => (0..WATCHES).prop_map(Op::Read),
        3 => (0..WATCHES).prop_map(Op::Cut),
    ];
    prop::collection::vec(op, 0..120)
}

const WATCHES: usize = 3;

/// A watch, what its events add up to and where it can resume.
struct Folded {
    query: Query,
    stream: WatchStream,
    cursor: Option<Cursor>,
    view: BTreeMap<InstanceKey, Arc<Instance>>,
}

impl Folded {
    fn new(backend: &Backend, query: Query) -> Self {
        Self {
            stream: backend.watcher.watch(&query, None),
            query,
            cursor: None,
            view: BTreeMap::new(),
        }
    }

    fn cut(&mut self, backend: &Backend) {
        self.stream = backend.watcher.watch(&self.query, self.cursor.clone());
    }

    /// Reads until there is nothing to tell for a moment.
    async fn read(&mut self, backend: &Backend) {
        let moment = Duration::from_millis(1);
        while let Ok(event) = timeout(moment, self.stream.next()).await {
            match event.expect("a watch ends by an error only") {
                Ok(event) => self.fold(event),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WatchExpired);
                    self.cursor = None;
                    self.cut(backend);
                }
            }
        }
    }

    /// Every event must make a difference.
    fn fold(&mut self, event: WatchEvent) {
        match event.change {
            Change::Reset(all) => {
                self.view = all.into_iter().map(|i| (i.key.clone(), i)).collect();
            }
            Change::Upsert(some) => {
                for instance in some {
                    let old = self.view.insert(instance.key.clone(), instance.clone());
                    assert_ne!(old, Some(instance), "told twice");
                }
            }
            Change::Remove(keys) => {
                for key in keys {
                    assert!(self.view.remove(&key).is_some(), "{key} was not there");
                }
            }
            Change::Confirmed => {}
        }
        self.cursor = event.cursor;
    }
}

fn registration(id: u16, content: u8, ttl: u8) -> RegistrationBuilder {
    let name = if id < 3 { "api" } else { "other" };
    Registration::builder(name, "127.0.0.1", id + 1)
        .meta("content", content.to_string())
        .status(if content == 2 {
            Status::Warning
        } else {
            Status::Passing
        })
        .ttl(u32::from(ttl) * SECOND)
}

async fn apply(store: &MemoryStore, backend: &Backend, leases: &mut BTreeMap<u16, Lease>, op: &Op) {
    let registry = &backend.registry;
    let gone = || {
        (
            InstanceKey::new("memory", "x".parse().unwrap(), "x".parse().unwrap()),
            LeaseGroup::new("x"),
        )
    };
    let lease = |id: &u16| {
        leases
            .get(id)
            .map_or_else(gone, |lease| (lease.key.clone(), lease.group.clone()))
    };
    let result = match op {
        Op::Register { id, content, ttl } => {
            let lease = register(backend, registration(*id, *content, *ttl)).await;
            leases.insert(*id, lease);
            Ok(())
        }
        Op::Deregister(id) => registry.deregister(&lease(id).0).await,
        Op::Renew(id, well) => {
            let (key, group) = lease(id);
            let status = if *well { Status::Passing } else { Status::Critical };
            let renewal = Renewal::new([(key, HealthReport::new(status))]);
            registry.renew(&group, &renewal).await
        }
        Op::Report(id, n) => {
            let status = if n % 2 == 0 {
                Status::Passing
            } else {
                Status::Critical
            };
            let report = HealthReport::new(status)
                .with_output(format!("{}", n / 2))
                .with_draining(*n == 3);
            registry.report_health(&lease(id).0, &report).await
        }
        Op::Meta(id, value) => {
            let change = MetaChange::new().set("value", value.to_string());
            registry.update_meta(&lease(id).0, &change).await
        }
        Op::Pass(millis) => {
            advance(Duration::from_millis((*millis).into())).await;
            Ok(())
        }
        Op::Compact => {
            store.compact();
            Ok(())
        }
        Op::Forget(id) => {
            store.forget(&lease(id).0);
            Ok(())
        }
        Op::ForgetAll => {
            store.forget_all();
            Ok(())
        }
        Op::Read(_) | Op::Cut(_) => Ok(()),
    };
    assert!(matches!(kind(result), None | Some(ErrorKind::NotFound)), "{op:?}");
}

async fn run(capacity: usize, ops: Vec<Op>) {
    let config = MemoryConfig::default().log_capacity(capacity);
    let store = MemoryStore::with_config(config).unwrap();
    let backend = store.backend();
    let mut watches = [
        Query::service("api").unwrap(),
        Query::all(),
        Query::all().with_checks(),
    ]
    .map(|query| Folded::new(&backend, query));
    let mut leases = BTreeMap::new();
    for op in &ops {
        apply(&store, &backend, &mut leases, op).await;
        match op {
            Op::Read(n) => watches[*n].read(&backend).await,
            Op::Cut(n) => watches[*n].cut(&backend),
            _ => {}
        }
    }
    for watch in &mut watches {
        watch.read(&backend).await;
        let truth = backend.registry.instances(&watch.query).await.unwrap();
        assert!(
            watch.view.values().eq(truth.instances.iter()),
            "{:?}\n{:?}\n{:?}",
            watch.query,
            watch.view,
            truth.instances
        );
    }
    drop(watches);
    assert_eq!(store.watchers(), 0);
}

proptest! {
    #[test]
    fn a_3_folding_the_events_of_any_watch_gives_the_instances(capacity in 1..20_usize, ops in ops()) {
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(capacity, ops));
    }
}
