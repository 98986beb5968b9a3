//! G3: an instance of the service of this name.

use std::{
    collections::HashMap,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use discovery_core::{Instance, pick::Readers};

use crate::{
    harness::{Batch, Contender, Plan, Report, batch, race},
    world::{Live, World},
};

const SIZES: [usize; 2] = [10, 1000];
const NAMES: usize = 128;
const THREADS: usize = 2;

type State = foldhash::fast::RandomState;

/// What a cache holds for a name: the instances, and whose turn it is.
#[derive(Debug)]
struct Entry {
    instances: Vec<Arc<Instance>>,
    next: AtomicUsize,
}

impl Entry {
    fn new(live: &Live) -> Self {
        Self {
            instances: live.instances.clone(),
            next: AtomicUsize::new(0),
        }
    }

    #[inline]
    fn pick(&self) -> &Instance {
        &self.instances[self.next.fetch_add(1, Relaxed) % self.instances.len()]
    }
}

/// Names of 21 bytes.
fn names(n: usize) -> Arc<[String]> {
    (0..NAMES)
        .map(|i| {
            let name = format!("service-{n:04}-{i:03}-live");
            assert_eq!(name.len(), 21);
            name
        })
        .collect()
}

/// A batch that asks for one name after the other.
fn in_turn(names: &Arc<[String]>, mut operation: impl FnMut(&str) + Send + 'static) -> Batch {
    let names = names.clone();
    let mut next = 0;
    batch(move || {
        operation(&names[next % NAMES]);
        next += 1;
    })
}

/// No name at all: an array of slices, and a counter nobody else sees.
fn floor(lives: &[Live]) -> Batch {
    let slices: Vec<Vec<Arc<Instance>>> = lives.iter().map(|live| live.instances.clone()).collect();
    Box::new(move |count| {
        let (mut next, mut round) = (0, 0);
        for _ in 0..count {
            let slice = &slices[next % NAMES];
            black_box(&*slice[round % slice.len()]);
            next += 1;
            round += usize::from(next % NAMES == 0);
        }
    })
}

fn contenders(n: usize, names: &Arc<[String]>, lives: &[Live]) -> Vec<Contender> {
    let each = || names.iter().zip(lives);
    let entries = || each().map(|(name, live)| (name.clone(), Arc::new(Entry::new(live))));
    let moka = moka::sync::Cache::builder()
        .max_capacity(10_000)
        .time_to_live(Duration::from_secs(300))
        .build();
    let quick = Arc::new(quick_cache::sync::Cache::new(10_000));
    let dash = Arc::new(DashMap::new());
    for (name, entry) in entries() {
        moka.insert(name.clone(), entry.clone());
        quick.insert(name, entry);
    }
    for (name, live) in each() {
        dash.insert(name.clone(), Entry::new(live));
    }
    let map: HashMap<String, Arc<Entry>, State> = entries().collect();
    let swap = Arc::new(ArcSwap::from_pointee(map));
    let new = |name, make: &mut dyn FnMut() -> Batch| Contender::new(name, n, THREADS, make);
    vec![
        new("floor", &mut || floor(lives)),
        new("ours: Readers::pick", &mut || {
            let mut readers = Readers::new();
            each().for_each(|(name, live)| readers.insert(name, &live.service));
            in_turn(names, move |name| {
                black_box(readers.pick(name).expect("it is there"));
            })
        }),
        new("arc-swap HashMap", &mut || {
            let swap = swap.clone();
            in_turn(names, move |name| {
                black_box(swap.load()[name].pick());
            })
        }),
        new("quick_cache", &mut || {
            let quick = quick.clone();
            in_turn(names, move |name| {
                black_box(quick.get(name).expect("it is there").pick());
            })
        }),
        new("DashMap", &mut || {
            let dash: Arc<DashMap<String, Entry>> = dash.clone();
            in_turn(names, move |name| {
                black_box(dash.get(name).expect("it is there").pick());
            })
        }),
        new("moka, TTL", &mut || {
            let moka: moka::sync::Cache<String, Arc<Entry>> = moka.clone();
            in_turn(names, move |name| {
                black_box(moka.get(name).expect("it is there").pick());
            })
        }),
    ]
}

/// Races them.
pub fn run(plan: &Plan, report: &mut Report) {
    let world = World::quiet();
    let sizes = plan.sizes(&SIZES);
    let mut all = Vec::new();
    for &n in sizes {
        let names = names(n);
        let lives: Vec<Live> = names.iter().map(|name| world.service(name, n)).collect();
        all.extend(contenders(n, &names, &lives));
    }
    let table = race(plan, "lookup", "floor", all);
    for &n in sizes {
        for (threads, peer, limit) in [
            (1, "moka, TTL", 0.12),
            (1, "quick_cache", 0.7),
            (2, "moka, TTL", 0.07),
            (2, "DashMap", 0.3),
        ] {
            let what = format!("lookup / {peer}, n={n}, {threads} thr");
            let (ours, peer) = (("ours: Readers::pick", n, threads), (peer, n, threads));
            report.goals([table.goal("G3", what, limit, ours, peer)]);
        }
    }
    report.table(table);
}
