//! One change, until every subscriber in this process has seen it.

use std::sync::{
    Arc,
    atomic::{
        AtomicUsize,
        Ordering::{AcqRel, Release},
    },
    mpsc,
};

use discovery_core::Instance;
use tokio::{runtime::Runtime, sync::watch};

use crate::{
    harness::{Cell, Plan, Report, Table, clock, median},
    world::{Live, World, instances},
};

const SIZES: [usize; 3] = [1, 100, 1000];
const INSTANCES: usize = 10;
/// Changes in a row for one contender; a sample is their median.
const BLOCK: usize = 20;

/// Counts who has seen a change, and tells when all have.
#[derive(Clone)]
struct Roll {
    subscribers: usize,
    seen: Arc<AtomicUsize>,
    all: mpsc::Sender<()>,
}

impl Roll {
    fn call(subscribers: usize) -> (Self, mpsc::Receiver<()>) {
        let (all, done) = mpsc::channel();
        let roll = Self {
            subscribers,
            seen: Arc::default(),
            all,
        };
        (roll, done)
    }

    fn seen(&self) {
        if self.seen.fetch_add(1, AcqRel) + 1 == self.subscribers {
            self.seen.store(0, Release);
            let _ = self.all.send(());
        }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime")
}

/// Says what changed, and when all have seen it.
struct Racer {
    name: &'static str,
    subscribers: usize,
    change: Box<dyn FnMut()>,
    done: mpsc::Receiver<()>,
}

fn ours(subscribers: usize) -> Racer {
    let world = World::new(runtime());
    let live: Live = world.service("api", INSTANCES);
    let (roll, done) = Roll::call(subscribers);
    for _ in 0..subscribers {
        let (mut subscription, roll) = (live.service.subscribe(), roll.clone());
        world.runtime.spawn(async move {
            while subscription.next().await.is_ok() {
                roll.seen();
            }
        });
    }
    done.recv().expect("all have seen the first view");
    let mut changes = both("api").into_iter().cycle();
    let change = move || {
        let _alive = &world;
        live.upsert(changes.next().expect("endless"));
    };
    Racer {
        name: "ours: Subscription",
        subscribers,
        change: Box::new(change),
        done,
    }
}

/// The channel alone, every observer taking its copy of a pointer to the instances.
fn bare_watch(subscribers: usize) -> Racer {
    let runtime = runtime();
    let (sender, receiver) = watch::channel(Arc::new(instances("api", INSTANCES, 8000)));
    let (roll, done) = Roll::call(subscribers);
    for _ in 0..subscribers {
        let (mut receiver, roll) = (receiver.clone(), roll.clone());
        runtime.spawn(async move {
            while receiver.changed().await.is_ok() {
                std::hint::black_box(receiver.borrow_and_update().clone());
                roll.seen();
            }
        });
    }
    let mut sets = both("api").map(|first| Arc::new(vec![first])).into_iter().cycle();
    let change = move || {
        let _alive = &runtime;
        sender.send_replace(sets.next().expect("endless"));
    };
    Racer {
        name: "tokio watch",
        subscribers,
        change: Box::new(change),
        done,
    }
}

/// Two states of one instance, the first other than what is shown at first.
fn both(service: &str) -> [Arc<Instance>; 2] {
    [8001, 8000].map(|port| instances(service, 1, port).remove(0))
}

impl Racer {
    /// Median wall time from a change until all have seen it, and CPU of the whole process for each change.
    fn block(&mut self) -> (Option<f64>, f64) {
        let cpu = clock::process_cpu();
        let walls = (0..BLOCK).map(|_| {
            let start = clock::wall();
            (self.change)();
            self.done.recv().expect("all have seen it");
            clock::wall() - start
        });
        let wall = median(walls.collect()).map(|nanos| nanos / 1e3);
        (wall, (clock::process_cpu() - cpu) / 1e3 / BLOCK as f64)
    }
}

/// Races them.
pub fn run(plan: &Plan, report: &mut Report) {
    let ticks = clock::Ticks::now();
    let sizes = plan.sizes(&SIZES);
    let mut racers: Vec<Racer> = sizes.iter().flat_map(|&n| [bare_watch(n), ours(n)]).collect();
    let cells = || -> Vec<Cell> {
        let cell = |racer: &Racer| Cell::new(racer.name, racer.subscribers, 2);
        racers.iter().map(cell).collect()
    };
    let (mut walls, mut cpus) = (cells(), cells());
    for racer in &mut racers {
        racer.block();
    }
    for _ in 0..plan.rounds {
        for (racer, (wall, cpu)) in racers.iter_mut().zip(walls.iter_mut().zip(&mut cpus)) {
            let (took, used) = racer.block();
            wall.samples.push(took);
            cpu.samples.push(Some(used));
        }
    }
    let table = Table::new("fanout wall", "us", "tokio watch", walls, ticks);
    report.table(table);
    report.table(Table::new("fanout cpu", "us", "tokio watch", cpus, ticks));
}
