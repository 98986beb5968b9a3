//! What must hold for a pick to be worth timing: the right instances, evenly spread, and nothing allocated.
//!
//! A program of its own, so that counting allocations costs the races nothing.

use std::{collections::HashMap, sync::Arc};

use discovery_bench::world::{Live, World, instances, weighted};
use discovery_core::{
    Instance,
    pick::{
        Maglev, Outcome, P2c, PickContext, Readers, STRATEGIES, Strategy, WeightedRoundRobin, strategy_named,
    },
};

const PICKS: usize = 25_000;

/// Runs `operation` and asserts that it allocated nothing.
fn allocates_nothing(what: &str, operation: impl FnOnce()) {
    let counted = allocation_counter::measure(operation);
    assert_eq!(counted.count_total, 0, "{what} allocates");
    println!("ok: {what}: no allocation in {PICKS} calls");
}

/// Asserts that all of `live`'s instances, and no others, were picked about equally often: at any time, one handle's
/// picks differ by one at most.
fn evenly(live: &Live, picks: usize, mut pick: impl FnMut() -> *const Instance) {
    let n = live.instances.len();
    let mut counts: HashMap<*const Instance, usize> = live
        .instances
        .iter()
        .map(|known| (Arc::as_ptr(known), 0))
        .collect();
    for _ in 0..picks {
        *counts.get_mut(&pick()).expect("an instance of the view") += 1;
    }
    let (min, max) = (counts.values().min(), counts.values().max());
    let spread = max.expect("instances") - min.expect("instances");
    assert!(spread <= 1, "n={n}: picks differ by {spread}");
    println!("ok: n={n}: {picks} picks differ by {spread}");
}

/// No strategy allocates, with a key or without.
fn strategies(world: &World) {
    for name in STRATEGIES {
        let strategy = strategy_named(name).expect("a strategy");
        let live = world.balanced(name, 100, &strategy);
        let mut reader = live.service.reader();
        allocates_nothing(name, || {
            for key in 0..PICKS {
                assert!(reader.pick().is_some());
                assert!(reader.pick_by(key.to_le_bytes()).is_some());
                let picked = live.service.acquire_by(key.to_le_bytes()).expect("instances");
                picked.report(Outcome::Success);
            }
        });
    }
}

/// Every prefix of a weighted rotation is nginx's, up to a hundred instances.
fn weighted_as_nginx(world: &World) {
    for n in [1, 2, 10, 100] {
        let name = format!("nginx-{n}");
        let weight = |i: usize| u16::try_from(i * 7 % 10).unwrap_or(0) + u16::from(i == 0);
        let instances = weighted(&name, n, 8000, weight);
        let weights: Vec<i64> = instances.iter().map(|one| one.weight.0.into()).collect();
        let picker = WeightedRoundRobin.prepare(&world.endpoints(&name, instances));
        let (total, mut credits) = (weights.iter().sum::<i64>(), vec![0; n]);
        let mut context = PickContext::at(0);
        for turn in 0..PICKS {
            credits
                .iter_mut()
                .zip(&weights)
                .for_each(|(credit, weight)| *credit += weight);
            // The first of the richest.
            let richest = (0..n).rev().max_by_key(|i| credits[*i]).expect("instances");
            credits[richest] -= total;
            assert_eq!(picker.pick(&mut context), Some(richest), "n={n}, turn {turn}");
        }
        println!("ok: n={n}: {PICKS} weighted picks are nginx's");
    }
}

/// At a hundred instances, the shares of Maglev's table differ by 1.5 % at most.
fn maglev_is_even(world: &World) {
    const PLACES: u64 = 65_537;
    let picker = Maglev.prepare(&world.endpoints("even", instances("even", 100, 8000)));
    let (mut counts, mut context) = ([0u32; 100], PickContext::at(0));
    for place in 0..PLACES {
        context.key = u64::try_from((u128::from(place) << 64).div_ceil(PLACES.into())).ok();
        counts[picker.pick(&mut context).expect("instances")] += 1;
    }
    let (min, max) = (
        counts.iter().min().expect("instances"),
        counts.iter().max().expect("instances"),
    );
    let spread = f64::from(*max) / f64::from(*min);
    assert!(spread <= 1.015, "shares of maglev differ by {spread}");
    println!("ok: shares of maglev differ by {:.2} %", (spread - 1.0) * 100.0);
}

/// With ten calls in flight for each instance, beginning and ending at random, one in a hundred has twice the mean at most.
fn p2c_is_level(world: &World) {
    let live = world.balanced("level", 100, &(Arc::new(P2c) as _));
    let acquire = || live.service.acquire().expect("instances");
    let mut held: Vec<_> = (0..1000).map(|_| acquire()).collect();
    let mut random = 1usize;
    for _ in 0..PICKS {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let ends = (random >> 33) % held.len();
        held.swap_remove(ends);
        held.push(acquire());
    }
    let mut busy: HashMap<*const Instance, u32> = HashMap::new();
    for one in &held {
        *busy.entry(Arc::as_ptr(one.instance())).or_default() += 1;
    }
    let mut busy: Vec<u32> = busy.into_values().collect();
    busy.sort_unstable();
    let p99 = busy[busy.len() * 99 / 100 - 1];
    assert!(p99 <= 20, "p99 of calls in flight is {p99}, the mean 10");
    println!("ok: p99 of calls in flight under p2c is {p99}, the mean 10");
}

fn main() {
    let world = World::quiet();
    strategies(&world);
    weighted_as_nginx(&world);
    maglev_is_even(&world);
    p2c_is_level(&world);
    for n in [1, 10, 1000, 10_000] {
        let live = world.service(&format!("api-{n}"), n);
        let mut reader = live.service.reader();
        evenly(&live, PICKS, || {
            std::ptr::from_ref(reader.pick().expect("instances"))
        });
        evenly(&live, PICKS, || {
            Arc::as_ptr(live.service.acquire().expect("instances").instance())
        });
        allocates_nothing("Reader::pick", || {
            (0..PICKS).for_each(|_| assert!(reader.pick().is_some()));
        });
        allocates_nothing("Service::acquire and report", || {
            for _ in 0..PICKS {
                let picked = live.service.acquire().expect("instances");
                picked.report(Outcome::Success);
            }
        });
        let mut readers = Readers::new();
        readers.insert("api", &live.service);
        allocates_nothing("Readers::pick", || {
            (0..PICKS).for_each(|_| assert!(readers.pick("api").is_some()));
        });
    }
}
