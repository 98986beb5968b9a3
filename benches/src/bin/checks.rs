//! What must hold for a pick to be worth timing: the right instances, evenly spread, and nothing allocated.
//!
//! A program of its own, so that counting allocations costs the races nothing.

use std::{collections::HashMap, sync::Arc};

use discovery_bench::world::{Live, World};
use discovery_core::{
    Instance,
    pick::{Outcome, Readers, STRATEGIES, strategy_named},
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

fn main() {
    let world = World::quiet();
    strategies(&world);
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
