//! Every metric the documentation names appears, under its name and with its labels.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not know as such"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};

use discovery::{
    Check, Client, ErrorKind, Query, Registration, Source, Sources, Suspicion, failover::FailoverPolicy,
    memory::MemoryStore, pick::Service,
};
use discovery_testkit::{chaos::Chaos, eventually};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(120);

/// What was last, or in all, recorded of each metric, by its name and labels.
struct Recorded {
    snapshotter: Snapshotter,
    seen: Mutex<BTreeMap<String, f64>>,
}

impl Recorded {
    /// Records this process: a recorder cannot be put away again.
    fn install() -> Self {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        recorder.install().unwrap();
        Self {
            snapshotter,
            seen: Mutex::default(),
        }
    }

    /// A gauge's value, a counter's sum or how often a histogram was recorded; nothing where it has not appeared.
    fn get(&self, name: &str) -> Option<f64> {
        let mut seen = self.seen.lock().unwrap();
        for (key, _, _, value) in self.snapshotter.snapshot().into_vec() {
            let key = key.key();
            let labels: Vec<_> = key
                .labels()
                .map(|label| format!("{}={}", label.key(), label.value()))
                .collect();
            let name = format!("{}{{{}}}", key.name(), labels.join(","));
            match value {
                DebugValue::Gauge(value) => {
                    seen.insert(name, value.into_inner());
                }
                DebugValue::Counter(count) => {
                    #[expect(clippy::cast_precision_loss, reason = "small counts")]
                    let count = count as f64;
                    let last = seen.entry(name).or_default();
                    *last = last.max(count);
                }
                // A snapshot takes what a histogram holds.
                #[expect(clippy::cast_precision_loss, reason = "small counts")]
                DebugValue::Histogram(values) => *seen.entry(name).or_default() += values.len() as f64,
            }
        }
        seen.get(name).copied()
    }

    async fn until(&self, name: &str, good: impl Fn(f64) -> bool) {
        let good = &good;
        eventually(name, PATIENCE, || async move {
            match self.get(name) {
                Some(value) if good(value) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    async fn is(&self, name: &str, wanted: f64) {
        self.until(name, |value| (value - wanted).abs() < 1e-9).await;
    }

    async fn some(&self, name: &str) {
        self.until(name, |value| value > 0.0).await;
    }

    /// The names that have appeared.
    fn names(&self) -> BTreeSet<String> {
        self.get("");
        let seen = self.seen.lock().unwrap();
        seen.keys()
            .map(|key| key.split('{').next().unwrap().to_owned())
            .collect()
    }
}

/// The names in the table of the README.
fn documented() -> BTreeSet<String> {
    let readme = include_str!("../../README.md");
    let rows = readme.lines().skip_while(|line| !line.starts_with("## Metrics"));
    let rows = rows.skip(1).take_while(|line| !line.starts_with("## "));
    let names = rows.filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    names.map(str::to_owned).collect()
}

/// Registration, read-back and registering again.
async fn register(recorded: &Recorded, client: &Client, store: &MemoryStore) {
    let ttl = Duration::from_secs(1);
    let registration = Registration::builder("api", "127.0.0.1", 8001)
        .ttl(ttl)
        .build()
        .unwrap();
    let registered = client.register(registration).await.unwrap();
    recorded
        .is("registered_services_total{backend=memory,datacenter=}", 1.0)
        .await;
    recorded
        .some("service_registration_duration{backend=memory}")
        .await;
    recorded
        .some("service_discovery_duration{backend=memory,query_type=instance}")
        .await;
    store.forget(registered.key());
    recorded
        .some("discovery_reregistrations_total{backend=memory}")
        .await;
}

/// Looking, with and without the cache, and watching.
async fn look(recorded: &Recorded, client: &Client) -> Service {
    let query = Query::service("api").unwrap();
    for _ in 0..2 {
        client.lookup(&query).await.unwrap();
    }
    client.services().await.unwrap();
    recorded
        .some("service_discovery_duration{backend=memory,query_type=instances}")
        .await;
    recorded
        .some("service_discovery_duration{backend=memory,query_type=services}")
        .await;
    recorded
        .is("discovery_cache_hits_total{backend=memory}", 1.0)
        .await;
    recorded
        .is("discovery_cache_misses_total{backend=memory}", 2.0)
        .await;
    let api = client.service("api").unwrap();
    api.ready().await.unwrap();
    recorded
        .some("service_discovery_duration{backend=memory,query_type=watch}")
        .await;
    recorded
        .is("healthy_services_total{service=api,backend=memory}", 1.0)
        .await;
    recorded
        .is("discovery_watch_up{service=api,backend=memory}", 1.0)
        .await;
    recorded
        .is("discovery_guard_held_instances{service=api,backend=memory}", 0.0)
        .await;
    assert!(
        recorded
            .get("discovery_view_age_seconds{service=api,backend=memory}")
            .is_some()
    );
    api
}

/// Removals held back, and an outage.
async fn fail(recorded: &Recorded, api: &Service, chaos: &Chaos) {
    chaos.suspect(Suspicion::AccessLost);
    recorded
        .is("discovery_guard_held_instances{service=api,backend=memory}", 1.0)
        .await;
    recorded
        .is("healthy_services_total{service=api,backend=memory}", 1.0)
        .await;
    chaos.heal();
    recorded
        .is("discovery_guard_held_instances{service=api,backend=memory}", 0.0)
        .await;
    chaos.cut(ErrorKind::Unavailable);
    recorded
        .is("discovery_watch_up{service=api,backend=memory}", 0.0)
        .await;
    recorded
        .some("discovery_watch_failures_total{backend=memory,kind=unavailable}")
        .await;
    recorded
        .some("discovery_view_age_seconds{service=api,backend=memory}")
        .await;
    assert_eq!(api.instances().await.unwrap().source, Source::Stale);
    chaos.heal();
    recorded
        .is("discovery_watch_up{service=api,backend=memory}", 1.0)
        .await;
}

/// A check of a port where nothing listens.
async fn check(recorded: &Recorded, client: &Client) {
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let check = Check::tcp(closed.to_string())
        .named("port")
        .every(Duration::from_millis(50));
    let checked = Registration::builder("db", "127.0.0.1", closed.port())
        .check(check)
        .build()
        .unwrap();
    client.register(checked).await.unwrap();
    recorded
        .some("health_check_duration{service=db,check_name=port}")
        .await;
    recorded
        .some("health_check_failures_total{service=db,check_name=port,reason=critical}")
        .await;
}

/// One source steps in for another, and back.
async fn fail_over(recorded: &Recorded) {
    let (near, far) = (MemoryStore::new(), MemoryStore::new());
    let registration = Registration::builder("shop", "127.0.0.1", 8001).build().unwrap();
    far.backend().registry.register(&registration).await.unwrap();
    let sources = Sources::new("near").then("far", far.backend());
    let policy = FailoverPolicy::default().hold(Duration::from_secs(1));
    let client = Client::builder(near.backend())
        .sources(sources.policy(policy))
        .build()
        .unwrap();
    let shop = client.service("shop").unwrap();
    shop.ready().await.unwrap();
    recorded.is("discovery_failover_active{service=shop}", 1.0).await;
    // Gauges of a watch tell the sources apart.
    recorded
        .is("healthy_services_total{service=shop,backend=far}", 1.0)
        .await;
    recorded
        .is("healthy_services_total{service=shop,backend=near}", 0.0)
        .await;
    client.register(registration).await.unwrap();
    recorded.is("discovery_failover_active{service=shop}", 0.0).await;
    client.shutdown(PATIENCE).await.unwrap();
}

/// One test: a process has one recorder. The clock is paused: the one real socket is refused at once.
#[tokio::test(start_paused = true)]
async fn every_metric_appears_with_its_labels() {
    let recorded = Recorded::install();
    let store = MemoryStore::new();
    let (backend, chaos) = Chaos::wrap(store.backend());
    let client = Client::builder(backend).build().unwrap();

    register(&recorded, &client, &store).await;
    let api = look(&recorded, &client).await;
    fail(&recorded, &api, &chaos).await;
    check(&recorded, &client).await;
    fail_over(&recorded).await;
    client.shutdown(PATIENCE).await.unwrap();
    recorded
        .is("registered_services_total{backend=memory,datacenter=}", 0.0)
        .await;
    assert_eq!(
        recorded.names(),
        documented(),
        "what appeared, and what the README names"
    );
}
