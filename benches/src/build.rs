//! G7: what a picker costs when the membership changes.

use std::{hint::black_box, sync::Arc};

use discovery_core::pick::{Endpoints, Strategy, strategy_named};

use crate::{
    harness::{Batch, Contender, Plan, Report, batch, race},
    world::{World, instances, weighted},
};

/// The crate maglev takes all memory for much more than the first.
const SIZES: [usize; 3] = [100, 500, 1000];
const CRATE: usize = 500;
const OURS: &str = "ours: maglev";
const NAIVE: &str = "naive Maglev";
const PLACES: usize = 65_537;

fn ours(strategy: &str, endpoints: &Endpoints) -> Batch {
    let (strategy, endpoints): (Arc<dyn Strategy>, _) =
        (strategy_named(strategy).expect("a strategy"), endpoints.clone());
    batch(move || {
        black_box(strategy.prepare(&endpoints));
    })
}

/// The table as the paper writes it down: a permutation by offset and skip, taken in turns.
fn naive(endpoints: &Endpoints) -> Batch {
    let names: Vec<String> = endpoints
        .instances()
        .iter()
        .map(|instance| instance.address())
        .collect();
    batch(move || {
        let hash = |name: &str, seed: u64| {
            // FNV-1a, twice with different seeds, as the paper's h1 and h2.
            name.bytes()
                .fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash: u64, byte| {
                    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
                })
        };
        let place = |hash: u64, of: usize| usize::try_from(hash % of as u64).unwrap_or(0);
        let permutation: Vec<(usize, usize)> = names
            .iter()
            .map(|name| (place(hash(name, 0), PLACES), place(hash(name, 1), PLACES - 1) + 1))
            .collect();
        let mut next = vec![0usize; names.len()];
        let mut table = vec![usize::MAX; PLACES];
        let mut filled = 0;
        'full: loop {
            for (taker, (offset, skip)) in permutation.iter().enumerate() {
                let mut at = (offset + next[taker] * skip) % PLACES;
                while table[at] != usize::MAX {
                    next[taker] += 1;
                    at = (offset + next[taker] * skip) % PLACES;
                }
                table[at] = taker;
                next[taker] += 1;
                filled += 1;
                if filled == PLACES {
                    break 'full;
                }
            }
        }
        black_box(&table);
    })
}

#[cfg(feature = "pingora")]
fn ketama(n: usize) -> Batch {
    use pingora_load_balancing::{
        Backend,
        selection::{BackendSelection, Consistent},
    };
    let backends = crate::pick::hosts(n)
        .map(|host| Backend::new(&host).expect("an address"))
        .collect();
    batch(move || {
        black_box(&Consistent::build(&backends));
    })
}

#[cfg(feature = "maglev")]
fn maglev_crate(endpoints: &Endpoints) -> Batch {
    let names: Vec<String> = endpoints.instances().iter().map(|one| one.address()).collect();
    batch(move || {
        black_box(&maglev::Maglev::new(names.clone()));
    })
}

/// Races them.
pub fn run(plan: &Plan, report: &mut Report) {
    let world = World::quiet();
    let sizes = plan.sizes(&SIZES);
    let mut all = Vec::new();
    for &n in sizes {
        let name = format!("build-{n}");
        let even = world.endpoints(&name, instances(&name, n, 8000));
        let name = format!("build-weighted-{n}");
        let weight = |i: usize| u16::try_from(i % 5).map_or(1, |rest| rest + 1);
        let uneven = world.endpoints(&name, weighted(&name, n, 8000, weight));
        let new = |name, make: &mut dyn FnMut() -> Batch| Contender::new(name, n, 1, make);
        all.extend([
            new("ours: round_robin", &mut || ours("round_robin", &even)),
            new("ours: weighted_round_robin", &mut || {
                ours("weighted_round_robin", &uneven)
            }),
            new("ours: least_connections", &mut || {
                ours("least_connections", &even)
            }),
            new("ours: consistent_hash", &mut || ours("consistent_hash", &even)),
            new(OURS, &mut || ours("maglev", &even)),
            new(NAIVE, &mut || naive(&even)),
        ]);
        #[cfg(feature = "pingora")]
        all.push(new("pingora Consistent", &mut || ketama(n)));
        #[cfg(feature = "maglev")]
        if n == CRATE {
            all.push(new("crate maglev", &mut || maglev_crate(&even)));
        }
    }
    let table = race(plan, "build", NAIVE, all);
    let goal = |what: &str, at_most, n, to| {
        table.goal(
            "G7",
            format!("maglev build / {what}, n={n}"),
            at_most,
            (OURS, n, 1),
            (to, n, 1),
        )
    };
    if sizes.contains(&1000) {
        report.goals([goal("naive", 0.5, 1000, NAIVE)]);
        if cfg!(feature = "pingora") {
            report.goals([goal("pingora ketama", 0.25, 1000, "pingora Consistent")]);
        }
    }
    if cfg!(feature = "maglev") && sizes.contains(&CRATE) {
        report.goals([goal("crate maglev", 0.01, CRATE, "crate maglev")]);
    }
    report.table(table);
}
