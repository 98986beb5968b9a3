//! G8: what a closed circuit breaker costs a call that succeeds, on one instance and spread over a thousand.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use discovery_core::pick::Outcome;
use failsafe::CircuitBreaker as _;
use recloser::Recloser;
use tokio::{sync::Notify, time::Instant};

use crate::harness::{Batch, Contender, Plan, Report, batch, race};

/// The library's own source: the circuit of an instance is no part of its API.
#[path = "../../discovery-core/src/pick/circuit.rs"]
#[expect(dead_code, reason = "only what a call does is used here")]
#[allow(unreachable_pub, clippy::pedantic, reason = "linted where it belongs")]
mod circuit;

use circuit::Circuit;

/// What the circuit needs of a load: the outcomes that rates are made of.
struct Load {
    since: Instant,
    succeeded: AtomicU64,
    failed: AtomicU64,
}

impl Load {
    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.since).as_nanos()).unwrap_or(u64::MAX)
    }

    fn succeeded(&self) -> u64 {
        self.succeeded.load(Relaxed)
    }

    fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }
}

mod outlier {
    #[derive(Debug)]
    pub(super) struct Alarm {
        pub(super) failures: u32,
        pub(super) wake: super::Notify,
    }
}

const THREADS: usize = 2;
const SPREAD: usize = 1000;
const OURS: &str = "ours";
const RECLOSER: &str = "recloser";
const FAILSAFE: &str = "failsafe";

/// Calls each of `all` in turn, each thread from another one on.
fn in_turn<T: Send + Sync + 'static>(
    all: Vec<T>,
    call: impl Fn(&T) + Copy + Send + 'static,
) -> impl FnMut() -> Batch {
    let all: Arc<[Arc<T>]> = all.into_iter().map(Arc::new).collect();
    let threads = AtomicUsize::new(0);
    move || {
        let mut at = threads.fetch_add(1, Relaxed) * all.len() / THREADS;
        let all = all.clone();
        batch(move || {
            if at >= all.len() {
                at = 0;
            }
            call(&all[at]);
            at += 1;
        })
    }
}

fn ours(n: usize) -> impl FnMut() -> Batch {
    let alarm = Arc::new(outlier::Alarm {
        failures: 5,
        wake: Notify::new(),
    });
    let load = || Load {
        since: Instant::now(),
        succeeded: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    };
    let all = (0..n)
        .map(|_| (Circuit::watched(alarm.clone()), load()))
        .collect();
    in_turn(all, |(circuit, load): &(Circuit, Load)| {
        if let Some(trial) = black_box(circuit.admit()) {
            load.succeeded.fetch_add(1, Relaxed);
            circuit.report(black_box(Outcome::Success), trial);
        }
    })
}

fn counter(n: usize) -> impl FnMut() -> Batch {
    in_turn(
        (0..n).map(|_| AtomicU64::new(0)).collect(),
        |count: &AtomicU64| {
            black_box(count.fetch_add(1, Relaxed));
        },
    )
}

fn recloser(n: usize) -> impl FnMut() -> Batch {
    in_turn(
        (0..n).map(|_| Recloser::custom().build()).collect(),
        |breaker: &Recloser| {
            let _ = black_box(breaker.call(|| Ok::<u8, ()>(black_box(0))));
        },
    )
}

fn failsafe(n: usize) -> impl FnMut() -> Batch {
    in_turn(
        (0..n).map(|_| failsafe::Config::new().build()).collect(),
        |breaker| {
            let _ = black_box(breaker.call(|| Ok::<u8, ()>(black_box(0))));
        },
    )
}

/// Races them.
pub fn run(plan: &Plan, report: &mut Report) {
    let mut all = Vec::new();
    for n in [1, SPREAD] {
        all.extend([
            Contender::new("floor", n, THREADS, counter(n)),
            Contender::new(OURS, n, THREADS, ours(n)),
            Contender::new(RECLOSER, n, THREADS, recloser(n)),
            Contender::new(FAILSAFE, n, THREADS, failsafe(n)),
        ]);
    }
    let table = race(plan, "breaker", "floor", all);
    let goal = |what: &str, at_most, ours, to| table.goal("G8", what.to_owned(), at_most, ours, to);
    report.goals([
        goal(
            "closed circuit / recloser, 1 thr",
            0.45,
            (OURS, 1, 1),
            (RECLOSER, 1, 1),
        ),
        goal(
            "closed circuit / failsafe, 1 thr",
            0.05,
            (OURS, 1, 1),
            (FAILSAFE, 1, 1),
        ),
        goal(
            "one closed circuit / recloser, 2 thr",
            0.15,
            (OURS, 1, 2),
            (RECLOSER, 1, 2),
        ),
        goal(
            "over 1000 circuits, 2 threads / 1",
            1.2,
            (OURS, SPREAD, 2),
            (OURS, SPREAD, 1),
        ),
    ]);
    report.table(table);
}
