//! Who takes part, and with what weight: whatever goes around a strategy.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::{Instant, advance};

use super::{
    Balancing, Endpoints, Locality, PickContext, Picker, RoundRobin, STRATEGIES, SlowStart, Strategy, Subset,
    Verdict,
    fixture::{counts, endpoints, instance, of, placed, seeded},
    strategy_named,
};
use crate::model::{Instance, InstanceId, InstanceKey, ServiceName, Status};

fn shares(balancing: &Balancing, strategy: &str, endpoints: &Endpoints) -> Vec<u32> {
    let around = balancing.prepare(&*strategy_named(strategy).unwrap(), endpoints);
    counts(&*around.picker, endpoints.len(), 10_000)
}

fn built(
    id: usize,
    build: impl FnOnce(crate::model::InstanceBuilder) -> crate::model::InstanceBuilder,
) -> Instance {
    let key = InstanceKey::new(
        "test",
        ServiceName::observed("api"),
        InstanceId::observed(id.to_string()),
    );
    build(Instance::builder(key, "127.0.0.1", 80)).build()
}

/// `n` instances of which the first `bad` have this status.
fn with_status(n: usize, bad: usize, status: Status) -> Endpoints {
    of((0..n).map(|id| built(id, |it| if id < bad { it.status(status) } else { it })))
}

fn used(counts: &[u32]) -> Vec<usize> {
    (0..counts.len()).filter(|index| counts[*index] > 0).collect()
}

#[test]
fn nothing_set_leaves_the_strategy_alone() {
    let around = Balancing::default().prepare(&RoundRobin, &endpoints(&[1; 3]));
    assert!(around.verdicts.is_none());
    let plain = format!("{:?}", around.picker);
    assert!(plain.starts_with("Rotation"), "{plain}");
    // And so does what all instances pass.
    let all = Balancing::default().locality(Locality::new(None, None));
    let around = all.prepare(&RoundRobin, &endpoints(&[1; 3]));
    assert_eq!(format!("{:?}", around.picker), plain);
}

/// Keeps the time it is told.
#[derive(Debug, Clone, Default)]
struct Clocked(Arc<std::sync::Mutex<Vec<Instant>>>);

impl Strategy for Clocked {
    fn name(&self) -> &'static str {
        "clocked"
    }

    fn prepare(&self, _: &Endpoints) -> Box<dyn Picker> {
        Box::new(self.clone())
    }
}

impl Picker for Clocked {
    fn pick(&self, _: &mut PickContext) -> Option<usize> {
        None
    }

    fn pick_at(&self, _: &mut PickContext, now: Instant) -> Option<usize> {
        self.0.lock().unwrap().push(now);
        Some(0)
    }
}

#[test]
fn a_time_that_was_read_already_reaches_the_strategy_through_what_is_around_it() {
    let (clocked, now) = (Clocked::default(), Instant::now());
    let endpoints = of((0..2).map(|id| built(id, |it| if id == 1 { it.tags(["v2"]) } else { it })));
    let around = Balancing::default().tag("v2").prepare(&clocked, &endpoints);
    let tagged = around.picker.pick_at(&mut seeded(1), now);
    assert_eq!((tagged, &**clocked.0.lock().unwrap()), (Some(1), &[now][..]));
}

#[test]
fn filters_by_tag_and_metadata_under_every_strategy() {
    let endpoints = of((0..12).map(|id| {
        built(id, |it| {
            let it = if id % 2 == 0 { it.tags(["v2"]) } else { it };
            it.meta([("shard", (id % 3).to_string())])
        })
    }));
    let balancing = Balancing::default().tag("v2").meta("shard", "1");
    for strategy in STRATEGIES {
        assert_eq!(
            used(&shares(&balancing, strategy, &endpoints)),
            [4, 10],
            "{strategy}"
        );
        let nobody = Balancing::default()
            .tag("v3")
            .prepare(&*strategy_named(strategy).unwrap(), &endpoints);
        assert_eq!(nobody.picker.pick(&mut seeded(1)), None);
        assert!(
            nobody
                .verdicts
                .unwrap()
                .iter()
                .all(|verdict| *verdict == Verdict::Filtered)
        );
    }
}

#[test]
fn a_subset_stays_and_all_clients_together_use_everybody() {
    let hundred = endpoints(&[1; 100]);
    let of_client = |client: usize, endpoints: &Endpoints| {
        let balancing = Balancing::default().subset(Subset::new(format!("client-{client}"), 10));
        let verdicts = balancing.prepare(&RoundRobin, endpoints).verdicts.unwrap();
        (0..endpoints.len())
            .filter(|index| verdicts[*index] == Verdict::Used)
            .collect::<Vec<_>>()
    };
    let mut users: HashMap<usize, usize> = HashMap::new();
    for client in 0..500 {
        let mine = of_client(client, &hundred);
        assert_eq!(mine.len(), 10);
        for index in &mine {
            *users.entry(*index).or_default() += 1;
        }
        // One goes: nobody changes more than one.
        let fewer = of_client(client, &endpoints(&[1; 99]));
        assert_eq!(
            mine.iter().filter(|index| !fewer.contains(index)).count(),
            usize::from(mine.contains(&99))
        );
    }
    assert_eq!(users.len(), 100);
    assert!(users.values().all(|n| (25..80).contains(n)), "{users:?}");
}

#[test]
fn health_counts_and_too_few_left_are_panic() {
    for (bad, used_now) in [
        (4, (4..10).collect::<Vec<_>>()),
        (5, (5..10).collect()),
        (6, (0..10).collect()),
    ] {
        let endpoints = with_status(10, bad, Status::Critical);
        let balancing = Balancing::default().locality(Locality::new(None, None));
        assert_eq!(
            used(&shares(&balancing, "round_robin", &endpoints)),
            used_now,
            "{bad}"
        );
        let never = balancing.panic_below(0);
        assert_eq!(
            used(&shares(&never, "random", &endpoints)),
            (bad..10).collect::<Vec<_>>()
        );
    }
}

/// A view of everything the registry knows: healthy ones are picked, and all but draining ones in panic.
#[test]
fn a_view_that_holds_the_unhealthy_does_not_pick_them() {
    let mut all: Vec<Instance> = with_status(5, 1, Status::Critical)
        .instances()
        .iter()
        .map(|instance| Instance::clone(instance))
        .collect();
    all[4].draining = true;
    let balancing = Balancing::default().among_all();
    for strategy in STRATEGIES {
        assert_eq!(
            used(&shares(&balancing, strategy, &of(all.clone()))),
            [1, 2, 3],
            "{strategy}"
        );
    }
    for instance in &mut all {
        instance.status = Status::Critical;
    }
    for strategy in STRATEGIES {
        assert_eq!(
            used(&shares(&balancing, strategy, &of(all.clone()))),
            [0, 1, 2, 3],
            "{strategy}"
        );
    }
}

#[test]
fn who_drains_stays_out_even_in_panic() {
    let endpoints = of((0..4).map(|id| built(id, |it| it.draining(id < 3))));
    let balancing = Balancing::default().locality(Locality::new(None, None));
    assert_eq!(used(&shares(&balancing, "p2c", &endpoints)), [3]);
}

/// Ten here, of which `bad` are ill, ten in the same datacenter, ten elsewhere.
fn three_tiers(bad: usize) -> Endpoints {
    of((0..30).map(|id| {
        let mut instance = match id / 10 {
            0 => placed(id, "dc1", "a"),
            1 => placed(id, "dc1", "b"),
            _ => placed(id, "dc2", "a"),
        };
        if id < bad {
            instance.status = Status::Critical;
        }
        instance
    }))
}

#[test]
fn the_zone_is_enough_until_its_health_times_140_percent_is_not() {
    let balancing = Balancing::default().locality(Locality::new(Some("dc1"), Some("a")));
    for (bad, here) in [(0, 1.0), (2, 1.0), (3, 0.98), (5, 0.7), (9, 0.14), (10, 0.0)] {
        for strategy in ["round_robin", "maglev", "least_connections"] {
            let shares = shares(&balancing, strategy, &three_tiers(bad));
            let local = f64::from(shares[..10].iter().sum::<u32>()) / 10_000.0;
            assert!((local - here).abs() < 0.02, "{strategy} {bad} {local}");
            assert_eq!(
                shares[20..].iter().sum::<u32>(),
                0,
                "the rest of the datacenter is enough"
            );
        }
    }
}

#[test]
fn a_key_keeps_to_its_tier() {
    let balancing = Balancing::default().locality(Locality::new(Some("dc1"), Some("a")));
    let endpoints = three_tiers(5);
    let around = balancing.prepare(&*strategy_named("rendezvous").unwrap(), &endpoints);
    for key in 0..100 {
        let mut context = seeded(key);
        context.key = Some(super::hash_key(key.to_string()));
        let first = around.picker.pick(&mut context);
        assert!((0..20).all(|_| around.picker.pick(&mut context) == first));
    }
}

#[test]
fn a_small_set_knows_no_zones() {
    let endpoints = of([
        placed(0, "dc1", "a"),
        placed(1, "dc1", "b"),
        placed(2, "dc2", "c"),
    ]);
    let balancing = Balancing::default().locality(Locality::new(Some("dc1"), Some("a")));
    assert_eq!(used(&shares(&balancing, "round_robin", &endpoints)), [0, 1, 2]);
    let always = Balancing::default().locality(Locality::new(Some("dc1"), Some("a")).minimum_size(1));
    assert_eq!(used(&shares(&always, "round_robin", &endpoints)), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_new_instance_starts_slowly() {
    let mut endpoints = endpoints(&[1; 4]);
    let balancing = Balancing::default().slow_start(SlowStart::new(Duration::from_secs(100)));
    assert!(
        balancing.prepare(&RoundRobin, &endpoints).next.is_none(),
        "all are new alike"
    );
    advance(Duration::from_secs(1_000)).await;
    endpoints.instances.0.push(Arc::new(instance(4, 1)));
    endpoints.loads.push(Arc::default());
    for (seconds, factor) in [(0, 0.1), (5, 0.1), (45, 0.5), (25, 0.75)] {
        advance(Duration::from_secs(seconds)).await;
        let around = balancing.prepare(&RoundRobin, &endpoints);
        assert!(around.next.is_some(), "it changes by itself");
        for strategy in ["round_robin", "random", "weighted_round_robin", "weighted_random"] {
            let shares = shares(&balancing, strategy, &endpoints);
            let relative = f64::from(shares[4]) / f64::from(shares[0]);
            assert!((relative - factor).abs() < 0.08, "{strategy} {factor} {relative}");
        }
    }
    advance(Duration::from_secs(25)).await;
    assert!(balancing.prepare(&RoundRobin, &endpoints).next.is_none());
}
