//! G1 and G2: which instance next, from one service.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use discovery_core::Instance;
use futures::FutureExt;
use tokio::sync::watch;
use tower::{Service as _, ServiceExt, load::PendingRequests};

use crate::{
    harness::{Batch, Contender, Plan, Report, batch, race},
    world::{Live, World},
};

pub(crate) const SIZES: [usize; 3] = [10, 1000, 10_000];
pub(crate) const THREADS: usize = 2;
const OURS: &str = "ours: Reader::pick";

type Slice = Arc<[Arc<Instance>]>;

/// The fastest thing that could do the job: a slice, and a counter nobody else sees.
fn floor(slice: Slice) -> Batch {
    Box::new(move |count| {
        let mut next = 0;
        for _ in 0..count {
            if next >= slice.len() {
                next = 0;
            }
            black_box(&*slice[next]);
            next += 1;
        }
    })
}

pub(crate) fn reader(live: &Live) -> Batch {
    let mut reader = live.service.reader();
    batch(move || {
        black_box(reader.pick());
    })
}

/// Picks, and counts the call as in flight until it is dropped.
pub(crate) fn acquire(live: &Live) -> Batch {
    let service = live.service.clone();
    batch(move || {
        drop(black_box(service.acquire()));
    })
}

fn shared_atomic(slice: Slice, next: Arc<AtomicUsize>) -> Batch {
    batch(move || {
        let at = next.fetch_add(1, Relaxed) % slice.len();
        black_box(&*slice[at]);
    })
}

fn arc_swap_atomic(current: Arc<ArcSwap<Vec<Arc<Instance>>>>, next: Arc<AtomicUsize>) -> Batch {
    batch(move || {
        let now = current.load();
        let at = next.fetch_add(1, Relaxed) % now.len();
        black_box(&*now[at]);
    })
}

fn watch_atomic(current: watch::Receiver<Vec<Arc<Instance>>>, next: Arc<AtomicUsize>) -> Batch {
    batch(move || {
        let now = current.borrow();
        let at = next.fetch_add(1, Relaxed) % now.len();
        black_box(&*now[at]);
    })
}

/// Answers with its number, at once.
#[derive(Debug)]
pub(crate) struct Echo(pub(crate) usize);

impl tower::Service<()> for Echo {
    type Response = usize;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<usize, Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        std::future::ready(Ok(self.0))
    }
}

/// Power of two choices over pending requests; a balancer is owned by its thread, as `&mut self` asks.
fn tower_balance(n: usize) -> Batch {
    let services = (0..n).map(|i| PendingRequests::new(Echo(i), tower::load::CompleteOnResponse::default()));
    let mut balance = tower::balance::p2c::Balance::new(tower::discover::ServiceList::new(services));
    batch(move || {
        let ready = balance.ready().now_or_never().expect("ready at once");
        let answer = ready.expect("infallible").call(()).now_or_never();
        black_box(answer.expect("answered at once").expect("infallible"));
    })
}

/// Addresses as pingora reads them.
#[cfg(feature = "pingora")]
pub(crate) fn hosts(n: usize) -> impl Iterator<Item = String> {
    (0..n).map(|i| format!("10.{}.{}.{}:8000", i >> 16, (i >> 8) & 255, i & 255))
}

#[cfg(feature = "pingora")]
fn pingora(n: usize) -> impl FnMut() -> Batch {
    use pingora_load_balancing::{LoadBalancer, selection::RoundRobin};
    let balancer = LoadBalancer::<RoundRobin>::try_from_iter(hosts(n)).expect("addresses");
    let balancer = Arc::new(balancer);
    move || {
        let balancer = balancer.clone();
        batch(move || {
            black_box(balancer.select(b"", 256));
        })
    }
}

fn contenders(n: usize, live: &Live) -> Vec<Contender> {
    let slice: Slice = live.instances.clone().into();
    let next = || Arc::<AtomicUsize>::default();
    let (alone, swapped, watched) = (next(), next(), next());
    let swap = Arc::new(ArcSwap::from_pointee(live.instances.clone()));
    let watch = watch::channel(live.instances.clone()).1;
    let new = |name, make: &mut dyn FnMut() -> Batch| Contender::new(name, n, THREADS, make);
    vec![
        new("floor", &mut || floor(slice.clone())),
        new(OURS, &mut || reader(live)),
        new("ours: Service::acquire", &mut || acquire(live)),
        new("shared atomic", &mut || {
            shared_atomic(slice.clone(), alone.clone())
        }),
        new("arc-swap + atomic", &mut || {
            arc_swap_atomic(swap.clone(), swapped.clone())
        }),
        new("tokio watch + atomic", &mut || {
            watch_atomic(watch.clone(), watched.clone())
        }),
        new("tower Balance", &mut || tower_balance(n)),
        #[cfg(feature = "pingora")]
        new("pingora RoundRobin", &mut pingora(n)),
    ]
}

/// Races them.
pub fn run(plan: &Plan, report: &mut Report) {
    let world = World::quiet();
    let sizes = plan.sizes(&SIZES);
    let mut all = Vec::new();
    for &n in sizes {
        let live = world.service(&format!("pick-{n}"), n);
        all.extend(contenders(n, &live));
    }
    let table = race(plan, "pick", "floor", all);
    for &n in sizes {
        let (one, two, floor) = ((OURS, n, 1), (OURS, n, 2), ("floor", n, 1));
        report.goals([
            table.goal("G1", format!("pick / floor, n={n}"), 2.0, one, floor),
            table.goal("G2", format!("pick, 2 threads / 1, n={n}"), 1.15, two, one),
        ]);
        if cfg!(feature = "pingora") {
            let pingora = ("pingora RoundRobin", n, 1);
            report.goals([table.goal("G1", format!("pick / pingora, n={n}"), 1.0 / 65.0, one, pingora)]);
        }
    }
    if let [first, .., last] = *sizes {
        let what = format!("pick, n={last} / n={first}");
        report.goals([table.goal("G1", what, 1.15, (OURS, last, 1), (OURS, first, 1))]);
    }
    report.table(table);
}
