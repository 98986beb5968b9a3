//! G4, G5, G6: which instance next, under every strategy, beside those who do the same.

use std::{
    hint::black_box,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use discovery_core::{
    Instance,
    pick::{Outcome, STRATEGIES, WeightedRoundRobin, strategy_named},
};
use futures::FutureExt;
use tower::{
    Service as _, ServiceExt,
    load::{CompleteOnResponse, PeakEwma},
};

use crate::{
    harness::{At, Batch, Contender, Plan, Report, Table, batch, race},
    pick::{Echo, SIZES, THREADS, acquire, reader},
    world::{Live, World, weighted},
};

const WEIGHTED: &str = "weighted_round_robin: 1 to 5";
const NGINX: &str = "nginx's scan: 1 to 5";
const PEAK: &str = "peak_ewma: acquire, report";
const TOWER: &str = "tower Balance<PeakEwma>";
const KETAMA: &str = "pingora Consistent";

/// Picks, counts, and reports how it went.
fn reported(live: &Live) -> Batch {
    let service = live.service.clone();
    batch(move || {
        if let Ok(picked) = service.acquire() {
            black_box(&picked);
            picked.report(Outcome::Success);
        }
    })
}

/// Picks by keys of sixteen bytes, no two alike.
fn by_key(live: &Live) -> Batch {
    let (mut reader, mut key) = (live.service.reader(), Key(0));
    batch(move || {
        black_box(reader.pick_by(key.next()));
    })
}

struct Key(u128);

impl Key {
    fn next(&mut self) -> [u8; 16] {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        self.0.to_le_bytes()
    }
}

/// tower's balancer by peak latency, its default round trip and decay those of its documentation.
fn tower_peak_ewma(n: usize) -> Batch {
    let services = (0..n).map(|i| {
        PeakEwma::new(
            Echo(i),
            Duration::from_millis(30),
            10e9,
            CompleteOnResponse::default(),
        )
    });
    let mut balance = tower::balance::p2c::Balance::new(tower::discover::ServiceList::new(services));
    batch(move || {
        let ready = balance.ready().now_or_never().expect("ready at once");
        let answer = ready.expect("infallible").call(()).now_or_never();
        black_box(answer.expect("answered at once").expect("infallible"));
    })
}

/// An instance, its weight, and its credit.
type Weighted = (Arc<Instance>, i64, i64);

/// Smooth weighting as nginx has it: every pick looks at all.
fn nginx(all: Arc<Mutex<Vec<Weighted>>>) -> Batch {
    batch(move || {
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut total, mut best) = (0, 0);
        for at in 0..all.len() {
            let (_, weight, credit) = &mut all[at];
            *credit += *weight;
            total += *weight;
            if all[at].2 > all[best].2 {
                best = at;
            }
        }
        all[best].2 -= total;
        black_box(&*all[best].0);
    })
}

#[cfg(feature = "pingora")]
fn ketama(n: usize) -> impl FnMut() -> Batch {
    use pingora_load_balancing::{LoadBalancer, selection::Consistent};
    let balancer = LoadBalancer::<Consistent>::try_from_iter(crate::pick::hosts(n)).expect("addresses");
    let balancer = Arc::new(balancer);
    move || {
        let (balancer, mut key) = (balancer.clone(), Key(0));
        batch(move || {
            black_box(balancer.select(&key.next(), 256));
        })
    }
}

/// The least busy of all, as everybody writes it: by looking at all.
fn full_scan(loads: Arc<[(Arc<Instance>, Arc<AtomicUsize>)]>, counts: bool) -> Batch {
    batch(move || {
        let least = loads.iter().min_by_key(|(_, load)| load.load(Relaxed));
        let (instance, load) = black_box(least.expect("instances"));
        if counts {
            let held = (instance.clone(), load.clone());
            load.fetch_add(1, Relaxed);
            black_box(&held);
            held.1.fetch_sub(1, Relaxed);
        }
    })
}

type Make<'a> = &'a mut dyn FnMut() -> Batch;

/// Every strategy among some that are busy: about two calls in flight each, a tenth of them ended again. Answers the calls.
fn ours(world: &World, n: usize, new: &mut dyn FnMut(String, Make<'_>)) -> Vec<discovery_core::pick::Picked> {
    let mut busy = Vec::new();
    for name in STRATEGIES {
        let strategy = strategy_named(name).expect("a strategy");
        let live = world.balanced(&format!("{name}-{n}"), n, &strategy);
        busy.extend((0..2 * n).map(|_| live.service.acquire().expect("instances")));
        busy.truncate(busy.len() - n / 5);
        new(format!("{name}: pick"), &mut || reader(&live));
        if name == "least_connections" {
            new(format!("{name}: acquire"), &mut || acquire(&live));
        }
        if name == "peak_ewma" {
            new(PEAK.to_owned(), &mut || reported(&live));
        }
        if ["consistent_hash", "maglev", "rendezvous"].contains(&name) {
            new(format!("{name}: pick_by 16 bytes"), &mut || by_key(&live));
        }
    }
    busy
}

/// Those who do the same, and what has weights.
fn peers(world: &World, n: usize, new: &mut dyn FnMut(String, Make<'_>)) {
    let name = format!("weighted-{n}");
    let instances = weighted(&name, n, 8000, |i| {
        u16::try_from(i % 5).map_or(1, |rest| rest + 1)
    });
    let all = instances
        .iter()
        .map(|one| (one.clone(), i64::from(one.weight.0), 0))
        .collect();
    let all = Arc::new(Mutex::new(all));
    let live = world.of(&name, instances, &(Arc::new(WeightedRoundRobin) as _));
    new(WEIGHTED.to_owned(), &mut || reader(&live));
    new(NGINX.to_owned(), &mut || nginx(all.clone()));
    new(TOWER.to_owned(), &mut || tower_peak_ewma(n));
    #[cfg(feature = "pingora")]
    new(KETAMA.to_owned(), &mut ketama(n));
    let scanned = world.service(&format!("scanned-{n}"), n);
    let loads: Arc<[_]> = scanned
        .instances
        .iter()
        .map(|instance| (instance.clone(), Arc::new(AtomicUsize::new(2))))
        .collect();
    loads
        .iter()
        .step_by(10)
        .for_each(|(_, load)| load.store(1, Relaxed));
    new("full scan: pick".to_owned(), &mut || {
        full_scan(loads.clone(), false)
    });
    new("full scan: acquire".to_owned(), &mut || {
        full_scan(loads.clone(), true)
    });
}

/// Races them.
pub fn run(plan: &Plan, report: &mut Report) {
    let world = World::quiet();
    let (mut all, mut busy) = (Vec::new(), Vec::new());
    let sizes = plan.sizes(&SIZES);
    for &n in sizes {
        let mut new = |name: String, make: Make<'_>| {
            all.push(Contender::new(Box::leak(name.into_boxed_str()), n, THREADS, make));
        };
        busy.push(ours(&world, n, &mut new));
        peers(&world, n, &mut new);
    }
    let table = race(plan, "strategies", "round_robin: pick", all);
    goals(&table, sizes, report);
    report.table(table);
    drop(busy);
}

fn goals(table: &Table, sizes: &[usize], report: &mut Report) {
    let mut goal = |id, what: String, at_most, ours: At, to: At| {
        report.goals([table.goal(id, what, at_most, ours, to)]);
    };
    for &n in sizes {
        let what = format!("peak_ewma with report / tower, n={n}");
        goal("G4", what, 0.09, (PEAK, n, 1), (TOWER, n, 1));
        let what = format!("weighted / plain round robin, n={n}");
        goal("G5", what, 1.5, (WEIGHTED, n, 1), ("round_robin: pick", n, 1));
    }
    if let [first, .., last] = *sizes {
        let what = format!("weighted round robin, n={last} / n={first}");
        goal("G5", what, 1.15, (WEIGHTED, last, 1), (WEIGHTED, first, 1));
    }
    for (n, nginx, ketama) in [(1000, 400.0, 40.0), (10_000, 4000.0, 150.0)] {
        if !sizes.contains(&n) {
            continue;
        }
        let what = format!("weighted round robin / nginx's scan, n={n}");
        goal("G5", what, 1.0 / nginx, (WEIGHTED, n, 1), (NGINX, n, 1));
        if cfg!(feature = "pingora") {
            let (what, ours) = (
                format!("maglev / pingora ketama, n={n}"),
                "maglev: pick_by 16 bytes",
            );
            goal("G6", what, 1.0 / ketama, (ours, n, 1), (KETAMA, n, 1));
        }
    }
    if sizes.contains(&1000) {
        for (what, ours, scan) in [
            ("pick", "least_connections: pick", "full scan: pick"),
            ("acquire", "least_connections: acquire", "full scan: acquire"),
        ] {
            let what = format!("least_connections {what} / full scan, n=1000");
            goal("2.1", what, 0.08, (ours, 1000, 1), (scan, 1000, 1));
        }
    }
}
