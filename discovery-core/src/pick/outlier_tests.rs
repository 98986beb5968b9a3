//! Ejection, circuits, limits and retries, end to end; and what they are worth against plain round robin.

use std::{sync::Arc, time::Duration};

use tokio::time::{advance, sleep};

use super::{
    Balancing, CallError, CallPolicy, FailurePercentage, Locality, Outcome, Outlier, Picked, RoundRobin,
    Service, SlowStart, Strategy, Subset, SuccessRate, Verdict, strategy_named,
};
use crate::{
    error::ErrorKind,
    memory::{MemoryConfig, MemoryStore},
    model::{Instance, Query, Registration},
    resilience::CircuitState,
    resolver::{Resolver, ResolverOptions},
    task::TaskGroup,
};

struct World {
    service: Service,
    tasks: TaskGroup,
}

impl World {
    async fn of(n: u16, strategy: &Arc<dyn Strategy>, balancing: Balancing) -> Self {
        // Nobody renews them here.
        let config = MemoryConfig::default().ttl(Duration::from_secs(86_400));
        let backend = MemoryStore::with_config(config).unwrap().backend();
        for port in 1..=n {
            let registration = Registration::builder("api", "127.0.0.1", port).build().unwrap();
            backend.registry.register(&registration).await.unwrap();
        }
        let tasks = TaskGroup::current().unwrap();
        let options = ResolverOptions {
            balancing: Arc::new(balancing),
            ..ResolverOptions::default()
        };
        let resolver = Resolver::new(backend, tasks.clone(), options);
        let view = resolver.view(&Query::service("api").unwrap(), strategy).unwrap();
        let service = Service::new(view, Duration::from_secs(5));
        let seen = service.ready().await.unwrap();
        assert_eq!(seen.instances.len(), usize::from(n));
        Self { service, tasks }
    }

    async fn plain(n: u16, balancing: Balancing) -> Self {
        let strategy: Arc<dyn Strategy> = Arc::new(RoundRobin);
        Self::of(n, &strategy, balancing).await
    }

    /// Reports failures of this port until it has had so many, and successes of all others met on the way.
    fn fail(&self, port: u16, times: usize) {
        let mut failed = 0;
        for _ in 0..10_000 {
            let picked = self.service.acquire().unwrap();
            if picked.port == port {
                picked.report(Outcome::Failure);
                failed += 1;
                if failed == times {
                    return;
                }
            } else {
                picked.report(Outcome::Success);
            }
        }
        panic!("{port} was picked {failed} times only");
    }

    fn of_port(&self, port: u16) -> (Verdict, CircuitState, Option<Duration>) {
        let all = self.service.view().snapshot().unwrap();
        let explained = self.service.explain(&all);
        let one = explained.iter().find(|one| one.instance.port == port).unwrap();
        (one.verdict, one.circuit, one.ejected_for)
    }

    fn picks(&self, port: u16) -> usize {
        let picks = (0..200).filter_map(|_| self.service.acquire().ok());
        picks.filter(|picked| picked.port == port).count()
    }

    async fn end(self) {
        self.tasks.join(Duration::from_secs(5)).await.unwrap();
    }
}

/// Lets the one task that ejects have its turn.
async fn turn() {
    sleep(Duration::from_millis(1)).await;
}

fn ejecting() -> Balancing {
    Balancing::default().outlier(Outlier::default())
}

#[tokio::test(start_paused = true)]
async fn five_failures_in_a_row_eject_and_a_good_trial_closes() {
    let world = World::plain(10, ejecting()).await;
    world.fail(3, 4);
    turn().await;
    assert_eq!(world.of_port(3).0, Verdict::Used);
    world.fail(3, 1);
    turn().await;
    let (verdict, circuit, left) = world.of_port(3);
    assert_eq!((verdict, circuit), (Verdict::Ejected, CircuitState::Open));
    assert!(left.unwrap() > Duration::from_secs(29));
    assert_eq!(world.picks(3), 0);

    advance(Duration::from_secs(30)).await;
    turn().await;
    assert_eq!(world.of_port(3).1, CircuitState::HalfOpen);
    // One at a time.
    let held: Vec<Picked> = (0..100).filter_map(|_| world.service.acquire().ok()).collect();
    assert_eq!(held.len(), 100);
    assert_eq!(held.iter().filter(|picked| picked.port == 3).count(), 1);
    let mut trial = held.into_iter().find(|picked| picked.port == 3);
    trial.take().unwrap().report(Outcome::Success);
    turn().await;
    assert_eq!(world.of_port(3).1, CircuitState::Closed);
    assert_eq!(world.picks(3), 20);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_trial_ejects_for_twice_as_long_and_an_undecided_one_for_no_longer() {
    let world = World::plain(10, ejecting()).await;
    world.fail(3, 5);
    turn().await;
    for (waits, next) in [(30, 60), (60, 120), (120, 240), (240, 300), (300, 300)] {
        advance(Duration::from_secs(waits)).await;
        turn().await;
        assert_eq!(world.of_port(3).1, CircuitState::HalfOpen);
        // Dropped without an outcome: the place is free again.
        assert!(world.picks(3) > 1);
        world.fail(3, 1);
        turn().await;
        let left = world.of_port(3).2.unwrap();
        assert!(
            left > Duration::from_secs(next - 1) && left <= Duration::from_secs(next),
            "{left:?}"
        );
    }
    world.end().await;
}

/// envoy#27909: under the strict rule, a cluster of fewer than ten would eject nobody.
#[tokio::test(start_paused = true)]
async fn issue_envoy_34796_of_a_small_set_one_can_be_ejected_and_no_more() {
    let world = World::plain(3, ejecting()).await;
    world.fail(1, 5);
    turn().await;
    world.fail(2, 5);
    turn().await;
    assert_eq!(
        (world.of_port(1).0, world.of_port(2).0),
        (Verdict::Ejected, Verdict::Used)
    );
    world.end().await;
    let world = World::plain(
        3,
        ejecting().outlier(Outlier {
            max_percent: 0,
            ..Outlier::default()
        }),
    )
    .await;
    world.fail(1, 5);
    turn().await;
    assert_eq!(world.of_port(1).0, Verdict::Used);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn ejected_ones_are_used_when_most_are() {
    let all = Outlier {
        max_percent: 100,
        ..Outlier::default()
    };
    let world = World::plain(4, ejecting().outlier(all)).await;
    for port in 1..=2 {
        world.fail(port, 5);
        turn().await;
    }
    assert_eq!(world.picks(1), 0);
    world.fail(3, 5);
    turn().await;
    assert_eq!(world.of_port(1).0, Verdict::UsedInPanic);
    assert_eq!(world.picks(1), 50);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_success_rate_far_below_the_others_ejects() {
    let rates = Outlier {
        consecutive_failures: 0,
        ..Outlier::default()
    };
    let world = World::plain(10, ejecting().outlier(rates)).await;
    for n in 0..1_200 {
        let picked = world.service.acquire().unwrap();
        let bad = picked.port == 7 && n % 3 == 0;
        picked.report(if bad { Outcome::Failure } else { Outcome::Success });
    }
    assert_eq!(world.of_port(7).0, Verdict::Used);
    advance(Duration::from_secs(10)).await;
    turn().await;
    assert_eq!(world.of_port(7).0, Verdict::Ejected);
    assert!(
        (1..=10)
            .filter(|port| *port != 7)
            .all(|port| world.of_port(port).0 == Verdict::Used)
    );
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_percentage_ejects_where_it_is_asked_for() {
    let asked = Outlier {
        consecutive_failures: 0,
        success_rate: None::<SuccessRate>,
        failure_percentage: Some(FailurePercentage::default()),
        ..Outlier::default()
    };
    let world = World::plain(5, ejecting().outlier(asked)).await;
    for n in 0..500 {
        let picked = world.service.acquire().unwrap();
        let bad = picked.port == 2 && n % 50 != 1;
        picked.report(if bad { Outcome::Failure } else { Outcome::Success });
    }
    advance(Duration::from_secs(10)).await;
    turn().await;
    assert_eq!(world.of_port(2).0, Verdict::Ejected);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_limit_sends_calls_elsewhere_and_then_nowhere() {
    let world = World::plain(3, Balancing::default().max_in_flight(2)).await;
    let held: Vec<Picked> = (0..6).map(|_| world.service.acquire().unwrap()).collect();
    let error = world.service.acquire().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.hint().unwrap().contains("max_in_flight"), "{error:?}");
    assert!(held.iter().all(|picked| picked.load().in_flight() == 2));
    drop(held);
    assert!(world.service.acquire().is_ok());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn retries_go_to_another_instance_and_keep_their_budget() {
    let world = World::plain(4, Balancing::default()).await;
    let policy = CallPolicy::default().attempts(3);
    let mut tried = Vec::new();
    let failed = world.service.call(&policy, |instance: Arc<Instance>| {
        tried.push(instance.port);
        async { Err::<(), _>("no") }
    });
    assert!(matches!(failed.await, Err(CallError::Failed("no"))));
    tried.sort_unstable();
    tried.dedup();
    assert_eq!(tried.len(), 3, "each another one");

    // Ten calls at once, each failing slowly: three retries are let through, whatever the policy says.
    let policy = CallPolicy::default().attempts(2);
    let attempts = std::sync::atomic::AtomicUsize::new(0);
    let call = |_: Arc<Instance>| async {
        attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        sleep(Duration::from_secs(1)).await;
        Err::<(), _>("no")
    };
    let calls = (0..10).map(|_| world.service.call(&policy, call));
    futures::future::join_all(calls).await;
    assert_eq!(attempts.into_inner(), 13);
    world.end().await;
}

/// What a simulation shows: how many calls failed, and the latency of one in a hundred.
#[derive(Debug)]
struct Seen {
    failed: usize,
    p99: Duration,
}

/// 10 000 calls, one each millisecond, against ten instances of 5 to 15 ms; number four turns bad after a tenth of them.
async fn simulate(strategy: &str, balancing: Balancing, bad: fn(&mut fastrand::Rng) -> (u64, bool)) -> Seen {
    const CALLS: u64 = 10_000;
    let strategy = strategy_named(strategy).unwrap();
    fastrand::seed(42);
    let world = World::of(10, &strategy, balancing).await;
    let policy = CallPolicy::default().attempts(1).timeout(Duration::from_secs(1));
    let calls = (0..CALLS).map(|n| {
        let (service, policy) = (&world.service, &policy);
        async move {
            sleep(Duration::from_millis(n)).await;
            let since = tokio::time::Instant::now();
            let done = service.call(policy, |instance| async move {
                let mut rng = fastrand::Rng::with_seed(n);
                let (millis, ok) = if instance.port == 4 && n > CALLS / 10 {
                    bad(&mut rng)
                } else {
                    (rng.u64(5..=15), true)
                };
                sleep(Duration::from_millis(millis)).await;
                if ok { Ok(()) } else { Err("broken") }
            });
            (done.await.is_ok(), since.elapsed())
        }
    });
    let seen = futures::future::join_all(calls).await;
    let failed = seen.iter().filter(|(ok, _)| !ok).count();
    let mut times: Vec<Duration> = seen.into_iter().map(|(_, time)| time).collect();
    times.sort_unstable();
    let p99 = times[times.len() * 99 / 100];
    world.end().await;
    Seen { failed, p99 }
}

#[tokio::test(start_paused = true)]
async fn simulation_one_of_ten_fails() {
    let failing = |_: &mut fastrand::Rng| (1, false);
    let plain = simulate("round_robin", Balancing::default(), failing).await;
    let ejected = simulate("round_robin", ejecting(), failing).await;
    let fewest = simulate("least_connections", Balancing::default(), failing).await;
    let peak = simulate("peak_ewma", Balancing::default(), failing).await;
    println!(
        "failing: plain {plain:?}, ejection {ejected:?}, least_connections {fewest:?}, peak_ewma {peak:?}"
    );
    assert!((850..950).contains(&plain.failed), "{plain:?}");
    assert!(ejected.failed <= 10, "{ejected:?}");
    assert!(fewest.failed > plain.failed, "fast failures attract: {fewest:?}");
    assert!(
        peak.failed < fewest.failed,
        "and are not taken for speed: {peak:?}"
    );
    let both = simulate("peak_ewma", ejecting(), failing).await;
    assert!(both.failed <= 10, "{both:?}");
}

#[tokio::test(start_paused = true)]
async fn simulation_one_of_ten_turns_slow() {
    let slow = |rng: &mut fastrand::Rng| (rng.u64(400..=600), true);
    let plain = simulate("round_robin", Balancing::default(), slow).await;
    let mut seen = Vec::new();
    for strategy in ["least_connections", "p2c", "peak_ewma"] {
        let shown = simulate(strategy, Balancing::default(), slow).await;
        seen.push((strategy, shown));
    }
    println!("slow: plain {plain:?}, {seen:?}");
    assert!(plain.p99 >= Duration::from_millis(400), "{plain:?}");
    let (_, peak) = seen.pop().unwrap();
    assert!(peak.p99 <= Duration::from_millis(20), "{peak:?}");
}

#[tokio::test(start_paused = true)]
async fn simulation_one_of_ten_hangs() {
    let hanging = |_: &mut fastrand::Rng| (60_000, true);
    let plain = simulate("round_robin", Balancing::default(), hanging).await;
    let ejected = simulate("round_robin", ejecting(), hanging).await;
    println!("hanging: plain {plain:?}, ejection {ejected:?}");
    assert!((850..950).contains(&plain.failed), "{plain:?}");
    // Those under way when the first timed out, and a trial.
    assert!(ejected.failed <= 150, "{ejected:?}");
    assert!(ejected.p99 <= plain.p99);
}

#[tokio::test(start_paused = true)]
async fn extreme_settings_neither_panic_nor_spin() {
    let outlier = |time| Outlier {
        interval: time,
        base_ejection: time,
        max_ejection: time,
        max_percent: u8::MAX,
        ..Outlier::default()
    };
    for time in [Duration::ZERO, Duration::MAX] {
        let balancing = Balancing::default()
            .outlier(outlier(time))
            .slow_start(SlowStart::new(time).aggression(f64::NAN).minimum(u8::MAX))
            .subset(Subset::new("", 0))
            .locality(
                Locality::new(None, Some("a"))
                    .overprovisioning(u32::MAX)
                    .minimum_size(0),
            )
            .panic_below(u8::MAX)
            .max_in_flight(0);
        let world = World::plain(3, balancing).await;
        assert_eq!(
            world.service.acquire().unwrap_err().kind(),
            ErrorKind::Unavailable
        );
        assert!(world.service.reader().pick().is_some());
        world.end().await;
        let world = World::plain(3, Balancing::default().outlier(outlier(time))).await;
        world.fail(1, 5);
        turn().await;
        let (_, circuit, _) = world.of_port(1);
        assert_ne!(circuit, CircuitState::Closed);
        world.end().await;
    }
}
