//! One change among many instances, until a pick can see it.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use discovery_core::Instance;

use crate::{
    harness::{Batch, Cell, Contender, Plan, Report, Table, batch, clock, race},
    world::{Live, World, instances},
};

/// The library's own source: its sequence is no part of its API.
#[path = "../../discovery-core/src/model/chunks.rs"]
#[expect(dead_code, reason = "only what publishing needs is used here")]
#[allow(unreachable_pub, clippy::pedantic, reason = "linted where it belongs")]
mod chunks;

use chunks::Chunks;

const SIZES: [usize; 2] = [1000, 10_000];

/// Changes of one instance after the other, in no order that caches could like; every one is news.
struct Changes {
    sets: [Vec<Arc<Instance>>; 2],
    at: usize,
    round: usize,
}

impl Changes {
    fn of(service: &str, n: usize) -> Self {
        Self {
            // The first change must differ from what the registry shows at first.
            sets: [instances(service, n, 8001), instances(service, n, 8000)],
            at: 0,
            round: 0,
        }
    }

    fn next(&mut self) -> (usize, Arc<Instance>) {
        let at = self.at;
        let change = self.sets[self.round % 2][at].clone();
        // A prime step visits all before it comes back.
        self.at = (at + 7919) % self.sets[0].len();
        self.round += usize::from(self.at == 0);
        (at, change)
    }
}

/// The floor of everything immutable: copy all pointers.
fn flat_clone(n: usize) -> Batch {
    let current = ArcSwap::from_pointee(instances("flat", n, 8000));
    let mut changes = Changes::of("flat", n);
    batch(move || {
        let (at, change) = changes.next();
        let mut next = Vec::clone(&current.load());
        next[at] = change;
        current.store(Arc::new(next));
    })
}

fn imbl_vector(n: usize) -> Batch {
    let mut all: imbl::Vector<Arc<Instance>> = instances("imbl", n, 8000).into();
    let current = ArcSwap::from_pointee(all.clone());
    let mut changes = Changes::of("imbl", n);
    batch(move || {
        let (at, change) = changes.next();
        all.set(at, change);
        current.store(Arc::new(all.clone()));
    })
}

/// The data structure alone, as the one writer of a view uses it.
fn our_chunks(n: usize) -> Batch {
    let mut all: Chunks<Arc<Instance>> = instances("ours", n, 8000).into_iter().collect();
    let current = ArcSwap::from_pointee(all.clone());
    let mut changes = Changes::of("ours", n);
    batch(move || {
        let (at, change) = changes.next();
        all.set(at, change);
        current.store(Arc::new(all.clone()));
    })
}

/// All of it: an event of the watch, the resolver, the published view, and the wake-up of one subscriber.
fn our_resolver(n: usize) -> Batch {
    let world = World::quiet();
    let live = world.service("api", n);
    let mut changes = Changes::of("api", n);
    let mut subscription = live.service.subscribe();
    world
        .runtime
        .block_on(subscription.next())
        .expect("the first view");
    batch(move || {
        live.upsert(changes.next().1);
        world
            .runtime
            .block_on(subscription.next())
            .expect("a changed view");
    })
}

/// Picks that are timed together, and how often.
const TOGETHER: usize = 256;
const TIMES: usize = 40_000;
const QUIET: &str = "p99, nothing changes";
const BUSY: &str = "p99, 1000 changes/s";

/// Nanoseconds of a pick, of which one in a hundred takes longer.
fn p99(live: &Live) -> f64 {
    let mut reader = live.service.reader();
    let mut times: Vec<f64> = (0..TIMES)
        .map(|_| {
            let start = clock::wall();
            for _ in 0..TOGETHER {
                black_box(reader.pick());
            }
            (clock::wall() - start) / TOGETHER as f64
        })
        .collect();
    times.sort_unstable_by(f64::total_cmp);
    times[TIMES * 99 / 100]
}

/// Picks on one thread, while another publishes changes of what is picked from.
fn picks_beside_changes(plan: &Plan) -> Table {
    const N: usize = 1000;
    let ticks = clock::Ticks::now();
    let world = World::quiet();
    let live = world.service("busy", N);
    let mut changes = Changes::of("busy", N);
    let mut subscription = live.service.subscribe();
    let (mut quiet, mut busy) = (Cell::new(QUIET, N, 1), Cell::new(BUSY, N, 1));
    for _ in 0..plan.rounds {
        quiet.samples.push(Some(p99(&live)));
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    live.upsert(changes.next().1);
                    world.runtime.block_on(async {
                        subscription.next().await.expect("a changed view");
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    });
                }
            });
            busy.samples.push(Some(p99(&live)));
            stop.store(true, Relaxed);
        });
    }
    Table::new("pick p99", "ns", QUIET, vec![quiet, busy], ticks)
}

/// Races them.
pub fn run(plan: &Plan, report: &mut Report) {
    let table = picks_beside_changes(plan);
    let what = "p99 of picks, 1000 changes/s / none".to_owned();
    report.goals([table.goal("publish", what, 2.0, (BUSY, 1000, 1), (QUIET, 1000, 1))]);
    report.table(table);
    let sizes = plan.sizes(&SIZES);
    let mut all = Vec::new();
    for &n in sizes {
        let new = |name, make: fn(usize) -> Batch| Contender::new(name, n, 1, || make(n));
        all.extend([
            new("flat clone", flat_clone),
            new("imbl::Vector", imbl_vector),
            new("ours: Chunks", our_chunks),
            new("ours: event to subscriber", our_resolver),
        ]);
    }
    let table = race(plan, "publish", "flat clone", all);
    if let Some(&n) = sizes.iter().find(|&&n| n == 10_000) {
        let (ours, flat) = (("ours: Chunks", n, 1), ("flat clone", n, 1));
        let what = format!("one change / flat clone, n={n}");
        report.goals([table.goal("publish", what, 0.15, ours, flat)]);
    }
    report.table(table);
}
