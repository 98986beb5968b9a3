//! Several sources for one client: when one steps in for another, and when it steps back.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not know as such"
)]

use std::time::Duration;

use discovery::{
    Backend, Client, ErrorKind, InstanceId, InstanceKey, Query, Registration, Route, ServiceName, Snapshot,
    Source, Sources,
    failover::FailoverPolicy,
    memory::{MemoryConfig, MemoryStore},
    pick::{Balancing, Outcome, Outlier, Service, Verdict, strategy_named},
};
use discovery_testkit::chaos::Chaos;
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);
/// The limits unless set.
const LIMIT: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(600);

/// A registry that fails on demand.
struct Place {
    backend: Backend,
    chaos: Chaos,
}

impl Place {
    fn new() -> Self {
        let config = MemoryConfig::default().ttl(Duration::from_secs(86_400));
        let (backend, chaos) = Chaos::wrap(MemoryStore::with_config(config).unwrap().backend());
        Self { backend, chaos }
    }

    async fn with(ports: &[u16]) -> Self {
        let place = Self::new();
        for port in ports {
            place.put(*port).await;
        }
        place
    }

    async fn put(&self, port: u16) {
        let registration = Registration::builder("api", "127.0.0.1", port);
        let registration = registration.id(format!("api-{port}")).tag("v1").build().unwrap();
        self.backend.registry.register(&registration).await.unwrap();
    }

    async fn take(&self, port: u16) {
        let id = InstanceId::new(format!("api-{port}")).unwrap();
        let key = InstanceKey::new("memory", ServiceName::new("api").unwrap(), id);
        self.backend.registry.deregister(&key).await.unwrap();
    }

    fn down(&self) {
        self.chaos.cut(ErrorKind::Unavailable);
    }

    fn up(&self) {
        self.chaos.heal();
    }
}

/// A client of places called `a`, `b`, `c`.
fn client_of(places: &[&Place], change: impl FnOnce(Sources) -> Sources) -> Client {
    let mut sources = Sources::new("a");
    for (name, place) in ["b", "c"].into_iter().zip(&places[1..]) {
        sources = sources.then(name, place.backend.clone());
    }
    Client::builder(places[0].backend.clone())
        .sources(change(sources))
        .build()
        .unwrap()
}

fn client(places: &[&Place]) -> Client {
    client_of(places, |sources| sources)
}

/// `source:port` of each instance, sorted.
fn shown(snapshot: &Snapshot) -> Vec<String> {
    let instances = snapshot.instances.iter();
    let mut all: Vec<_> = instances
        .map(|one| format!("{}:{}", one.key.source, one.port))
        .collect();
    all.sort_unstable();
    all
}

/// Waits until the view shows this, and answers how long it took.
async fn until(service: &Service, source: Source, wanted: &[&str]) -> Duration {
    let started = Instant::now();
    let mut changes = service.subscribe();
    let mut last = None;
    let seen = async {
        loop {
            let view = changes.next().await.unwrap();
            if view.source == source && shown(&view) == wanted {
                return;
            }
            last = Some((view.source, shown(&view)));
        }
    };
    let seen = timeout(PATIENCE, seen).await;
    assert!(seen.is_ok(), "never {wanted:?} ({source}), last {last:?}");
    started.elapsed()
}

fn now(service: &Service) -> (Source, Vec<String>) {
    let view = service.view().snapshot().unwrap();
    (view.source, shown(&view))
}

/// What `acquire` picks, in twelve picks.
fn picked(service: &Service) -> Vec<String> {
    let mut all: Vec<_> = (0..12)
        .map(|_| {
            let picked = service.acquire().unwrap();
            format!("{}:{}", picked.key.source, picked.port)
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// From the first to the second and back.
#[tokio::test(start_paused = true)]
async fn an_outage_is_borne_to_its_limit_and_the_way_back_takes_its_time() {
    let (a, b) = (Place::with(&[1, 2]).await, Place::with(&[11]).await);
    let client = client(&[&a, &b]);
    let api = client.service("api").unwrap();
    until(&api, Source::Live, &["a:1", "a:2"]).await;
    assert_eq!(picked(&api), ["a:1", "a:2"]);

    // The last good view is kept, and says so, until the limit.
    a.down();
    until(&api, Source::Stale, &["a:1", "a:2"]).await;
    assert_eq!(picked(&api), ["a:1", "a:2"]);
    let took = until(&api, Source::Live, &["b:11"]).await;
    assert!((29 * SECOND..=31 * SECOND).contains(&took), "{took:?}");
    assert_eq!(picked(&api), ["b:11"]);
    let doing = &client.status().await.failovers[0];
    assert_eq!((doing.tier, &*doing.using[0]), (1, "b"));

    // It comes back after it has been good for the hold time without a break.
    a.up();
    let watched = a.chaos.clone();
    let back = async {
        while watched.open_streams() == 0 {
            sleep(SECOND).await;
        }
    };
    timeout(PATIENCE, back).await.unwrap();
    sleep(25 * SECOND).await;
    assert_eq!(now(&api), (Source::Live, vec!["b:11".to_owned()]));
    a.chaos.cut_streams();
    let took = until(&api, Source::Live, &["a:1", "a:2"]).await;
    assert!(took >= LIMIT, "a break starts the time anew: {took:?}");
    assert_eq!(client.status().await.failovers[0].tier, 0);
    client.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn with_every_source_down_the_last_good_view_stays_and_says_so() {
    let (a, b) = (Place::with(&[1]).await, Place::with(&[11]).await);
    let client = client(&[&a, &b]);
    let api = client.service("api").unwrap();
    until(&api, Source::Live, &["a:1"]).await;
    a.down();
    until(&api, Source::Live, &["b:11"]).await;
    b.down();
    until(&api, Source::Stale, &["b:11"]).await;
    sleep(20 * LIMIT).await;
    assert_eq!(now(&api), (Source::Stale, vec!["b:11".to_owned()]));
    assert!(api.instances().await.unwrap().age() >= 20 * LIMIT);
    assert_eq!(picked(&api), ["b:11"]);

    // Where nothing else is good, what is good again is used at once.
    let api_again = async {
        a.up();
        until(&api, Source::Live, &["a:1"]).await
    };
    let took = api_again.await;
    assert!(took <= LIMIT + SECOND, "only the watch's backoff: {took:?}");
    client.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn too_few_healthy_instances_give_way_at_once() {
    let (a, b, c) = (
        Place::with(&[1, 2]).await,
        Place::with(&[11]).await,
        Place::with(&[21, 22]).await,
    );
    let policy = FailoverPolicy::default().min_healthy(2).hold(10 * SECOND);
    let client = client_of(&[&a, &b, &c], |sources| sources.policy(policy));
    let api = client.service("api").unwrap();
    until(&api, Source::Live, &["a:1", "a:2"]).await;
    a.take(1).await;
    // The second has too few as well.
    let took = until(&api, Source::Live, &["c:21", "c:22"]).await;
    assert!(took < SECOND, "{took:?}");
    b.put(12).await;
    let took = until(&api, Source::Live, &["b:11", "b:12"]).await;
    assert!((9 * SECOND..=11 * SECOND).contains(&took), "{took:?}");
    // None has enough: what there is.
    for (place, port) in [(&c, 21), (&b, 11)] {
        place.take(port).await;
    }
    until(&api, Source::Live, &["b:12"]).await;
    client.shutdown(SECOND).await.unwrap();
}

/// Its registry is well, and says that it is well; those who call it know better.
#[tokio::test(start_paused = true)]
async fn what_is_ejected_counts_as_not_there() {
    let (a, b) = (Place::with(&[1]).await, Place::with(&[11]).await);
    let client = Client::builder(a.backend.clone())
        .balancing(Balancing::default().outlier(Outlier::default()))
        .sources(Sources::new("a").then("b", b.backend.clone()))
        .build()
        .unwrap();
    let api = client.service("api").unwrap();
    until(&api, Source::Live, &["a:1"]).await;
    for _ in 0..5 {
        api.acquire().unwrap().report(Outcome::Failure);
    }
    let took = until(&api, Source::Live, &["b:11"]).await;
    assert!(took < SECOND, "{took:?}");
    // Once it may be tried again, and has not failed for a while.
    let took = until(&api, Source::Live, &["a:1"]).await;
    assert!(took >= 59 * SECOND, "{took:?}");
    client.shutdown(SECOND).await.unwrap();
}

/// Two registries of one kind, with the same ids.
#[tokio::test(start_paused = true)]
async fn a_removal_in_one_source_never_touches_anothers_instances() {
    let (a, b) = (Place::with(&[1, 2]).await, Place::with(&[1, 2]).await);
    let client = client_of(&[&a, &b], |sources| {
        let strategy = strategy_named("round_robin").unwrap();
        sources
            .others(Route::to(["a"]))
            .service("api", Route::to(["a", "b"]).strategy(strategy))
    });
    let api = client.service("api").unwrap();
    until(&api, Source::Live, &["a:1", "a:2", "b:1", "b:2"]).await;
    assert_eq!(picked(&api).len(), 4);
    a.take(1).await;
    until(&api, Source::Live, &["a:2", "b:1", "b:2"]).await;
    b.take(2).await;
    until(&api, Source::Live, &["a:2", "b:1"]).await;

    // Together they are as old as the older, and what is too old takes no part while the other does.
    a.down();
    until(&api, Source::Stale, &["a:2", "b:1"]).await;
    sleep(20 * SECOND).await;
    assert!(api.instances().await.unwrap().age() >= 20 * SECOND);
    until(&api, Source::Live, &["b:1"]).await;
    assert!(api.instances().await.unwrap().age() <= 6 * SECOND);
    a.up();
    until(&api, Source::Live, &["a:2", "b:1"]).await;

    // Other services have their own backend alone.
    let other = client.service("other").unwrap();
    assert!(other.ready().await.unwrap().instances.is_empty());
    assert!(
        client
            .status()
            .await
            .failovers
            .iter()
            .all(|one| one.service == "api")
    );
    client.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn load_is_carried_over_and_a_pick_outlives_the_failover() {
    let (a, b) = (Place::with(&[1]).await, Place::with(&[11]).await);
    let client = client(&[&a, &b]);
    let api = client.service("api").unwrap();
    until(&api, Source::Live, &["a:1"]).await;
    let mut reader = api.reader();
    assert_eq!(reader.pick().unwrap().port, 1);
    let under_way = api.acquire().unwrap();
    api.acquire().unwrap().report(Outcome::Success);
    a.down();
    until(&api, Source::Live, &["b:11"]).await;
    assert_eq!(reader.pick().unwrap().port, 11);
    assert_eq!(under_way.load().in_flight(), 1);
    a.up();
    until(&api, Source::Live, &["a:1"]).await;
    let again = api.acquire().unwrap();
    assert_eq!((again.load().in_flight(), again.load().succeeded()), (2, 1));
    under_way.report(Outcome::Failure);
    assert_eq!((again.load().in_flight(), again.load().failed()), (1, 1));
    assert_eq!(reader.pick().unwrap().port, 1);
    client.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn writes_go_to_the_primary_alone() {
    let (a, b) = (Place::new(), Place::with(&[11]).await);
    let client = client(&[&a, &b]);
    let api = client.service("api").unwrap();
    until(&api, Source::Live, &["b:11"]).await;
    let before = b.chaos.calls("register");
    let registration = Registration::builder("api", "127.0.0.1", 1).build().unwrap();
    let one = client.register(registration).await.unwrap();
    assert_eq!(&*one.key().source, "a");
    until(&api, Source::Live, &["a:1"]).await;
    a.down();
    until(&api, Source::Live, &["b:11"]).await;
    // Its heartbeats go on, and what is written fails rather than go elsewhere.
    a.chaos.stall();
    let other = Registration::builder("api", "127.0.0.1", 2).build().unwrap();
    client.register(other).await.unwrap_err();
    a.up();
    one.deregister().await.unwrap();
    for write in ["renew", "deregister", "update_meta", "report_health", "release"] {
        assert_eq!(b.chaos.calls(write), 0, "{write}");
    }
    assert_eq!(b.chaos.calls("register"), before);
    client.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_for_the_first_source_for_a_moment_only() {
    // A moment slower than the next: not passed over.
    let (a, b) = (Place::with(&[1]).await, Place::with(&[11]).await);
    a.chaos.latency(Duration::from_millis(600));
    let quick = client(&[&a, &b]);
    assert_eq!(
        shown(&quick.service("api").unwrap().ready().await.unwrap()),
        ["a:1"]
    );
    quick.shutdown(SECOND).await.unwrap();

    // Down, or silent: the next.
    for hang in [false, true] {
        let (a, b) = (Place::with(&[1]).await, Place::with(&[11]).await);
        if hang {
            a.chaos.stall();
        } else {
            a.down();
        }
        let client = client(&[&a, &b]);
        let started = Instant::now();
        let seen = client.service("api").unwrap().ready().await.unwrap();
        assert_eq!(
            (seen.source, shown(&seen)),
            (Source::Live, vec!["b:11".to_owned()])
        );
        assert!(started.elapsed() <= 2 * SECOND, "{:?}", started.elapsed());
        client.shutdown(SECOND).await.unwrap();
    }

    // Nobody answers: the error of the first, and `ready` waits for any of them.
    let (a, b) = (Place::with(&[1]).await, Place::with(&[11]).await);
    a.chaos.cut(ErrorKind::PermissionDenied);
    b.down();
    let none = client(&[&a, &b]);
    let error = none.service("api").unwrap().ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    b.chaos.stall();
    b.up();
    let api = none.service("api").unwrap();
    until(&api, Source::Live, &["b:11"]).await;
    none.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_first_source_that_has_nothing_waits_for_the_next_for_a_moment_only() {
    // A moment slower than the first: what it has is what there is.
    let (a, b) = (Place::new(), Place::with(&[11]).await);
    b.chaos.latency(Duration::from_millis(600));
    let late = client(&[&a, &b]);
    assert_eq!(
        shown(&late.service("api").unwrap().ready().await.unwrap()),
        ["b:11"]
    );
    late.shutdown(SECOND).await.unwrap();

    // Silent: there is nothing, as the first says.
    let (a, b) = (Place::new(), Place::with(&[11]).await);
    b.chaos.stall();
    let alone = client(&[&a, &b]);
    let started = Instant::now();
    let seen = alone.service("api").unwrap().ready().await.unwrap();
    assert_eq!((seen.source, shown(&seen)), (Source::Live, Vec::new()));
    assert!(started.elapsed() <= 2 * SECOND, "{:?}", started.elapsed());
    alone.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_source_has_one_watch_and_shutdown_ends_them_all() {
    let (a, b) = (Place::with(&[1]).await, Place::with(&[11]).await);
    let client = client(&[&a, &b]);
    let query = Query::service("api").unwrap();
    let mut handles = vec![
        client.query(&query).unwrap(),
        client.query(&query.clone().tag("v1")).unwrap(),
        client.query(&query.clone().include_unhealthy()).unwrap(),
        client.balanced(&query, &strategy_named("p2c").unwrap()).unwrap(),
    ];
    for handle in &handles {
        until(handle, Source::Live, &["a:1"]).await;
    }
    // The second is watched all the time, so that it is there when it is needed.
    assert_eq!((a.chaos.open_streams(), b.chaos.open_streams()), (1, 1));
    assert_eq!(client.status().await.watches, 2);
    assert_eq!(client.status().await.failovers.len(), 4);

    // What nobody uses any more is let go, and its watches.
    handles.truncate(1);
    let one = &handles[0];
    sleep(3 * LIMIT).await;
    assert_eq!(client.status().await.failovers.len(), 1);
    let mut changes = one.subscribe();
    changes.next().await.unwrap();
    client.shutdown(SECOND).await.unwrap();
    assert_eq!(changes.next().await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(one.acquire().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(client.service("api").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!((a.chaos.open_streams(), b.chaos.open_streams()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn unused_failover_stops_every_watch() {
    let (a, b) = (Place::with(&[1]).await, Place::with(&[11]).await);
    let client = client(&[&a, &b]);
    let api = client.service("api").unwrap();
    until(&api, Source::Live, &["a:1"]).await;
    drop(api);
    sleep(4 * LIMIT).await;
    assert_eq!((a.chaos.open_streams(), b.chaos.open_streams()), (0, 0));
    assert_eq!(client.status().await.watches, 0);
    client.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn looking_once_fails_over_and_explaining_tells_of_all() {
    let (a, b) = (Place::with(&[1]).await, Place::with(&[11]).await);
    let client = client(&[&a, &b]);
    let query = Query::service("api").unwrap();
    assert_eq!(shown(&client.lookup(&query).await.unwrap()), ["a:1"]);
    assert_eq!(client.health("api").await.unwrap().instances.len(), 2);
    let explained = client.explain("api").await.unwrap();
    let verdicts: Vec<_> = explained
        .iter()
        .map(|one| (&*one.instance.key.source, one.verdict))
        .collect();
    assert_eq!(verdicts, [("a", Verdict::Used), ("b", Verdict::StandBy)]);

    let fresh = client_of(&[&a, &b], |sources| sources);
    a.down();
    assert_eq!(shown(&fresh.lookup(&query).await.unwrap()), ["b:11"]);
    assert_eq!(
        shown(&client.lookup(&query).await.unwrap()),
        ["a:1"],
        "within the limit"
    );
    b.down();
    let error = client_of(&[&a, &b], |sources| sources)
        .lookup(&query)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    // The whole registry, and what names a place within it, is the backend's own business.
    a.up();
    assert_eq!(shown(&fresh.lookup(&Query::all()).await.unwrap()), ["a:1"]);
    let error = fresh.query(&query.datacenter("dc9")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    for client in [client, fresh] {
        client.shutdown(SECOND).await.unwrap();
    }
}

/// A client as this text says.
fn from_text(text: &str) -> discovery::Result<Client> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("discovery.yaml");
    std::fs::write(&path, text).unwrap();
    Client::from_config(&path)
}

#[tokio::test(start_paused = true)]
async fn a_file_names_further_sources_and_may_switch_them_off() {
    let far = MemoryConfig::default().name("failover-file-far");
    let far = MemoryStore::with_config(far).unwrap().backend();
    let registration = Registration::builder("api", "127.0.0.1", 11).build().unwrap();
    far.registry.register(&registration).await.unwrap();
    let text = |name: &str| {
        format!(
            "memory: {{ name: failover-file-{name} }}\nfailover:\n  name: near\n  hold: 5s\n  sources:\n  \
             - {{ name: far, uri: \"memory://failover-file-far\" }}\n"
        )
    };
    let client = from_text(&text("near")).unwrap();
    let api = client.service("api").unwrap();
    until(&api, Source::Live, &["far:11"]).await;
    let near = Registration::builder("api", "127.0.0.1", 1).build().unwrap();
    client.register(near).await.unwrap();
    let took = until(&api, Source::Live, &["near:1"]).await;
    assert!((4 * SECOND..=6 * SECOND).contains(&took), "{took:?}");

    let off = "high_availability: { discovery: { failover_mechanisms: false } }\n";
    let alone = from_text(&format!("{}{off}", text("other"))).unwrap();
    assert!(
        alone
            .service("api")
            .unwrap()
            .ready()
            .await
            .unwrap()
            .instances
            .is_empty()
    );
    let query = Query::service("api").unwrap();
    assert!(alone.lookup(&query).await.unwrap().instances.is_empty());
    for client in [client, alone] {
        client.shutdown(SECOND).await.unwrap();
    }

    let wrong = text("wrong").replace("memory://", "memry://");
    let error = from_text(&wrong).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert!(error.to_string().contains("far"), "{error}");
    let unknown = text("wrong").replace("hold", "held");
    assert_eq!(
        from_text(&unknown).unwrap_err().hint(),
        Some("did you mean `hold`?")
    );
}

/// Character for character; opening a client contacts nobody.
#[cfg(feature = "consul")]
#[tokio::test]
async fn the_federation_of_the_specification_drives_the_client() {
    let text = include_str!("specification/multi-dc-federation.yaml");
    let client = from_text(text).unwrap();
    assert_eq!((client.info().scheme, &*client.info().source), ("consul", "dc1"));
    assert_eq!(client.info().address, "consul-dc1.company.com:8500");
    client.shutdown(SECOND).await.unwrap();

    let nobody = text.replace("primary: true", "primary: false");
    let error = from_text(&nobody).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert!(error.hint().unwrap().contains("primary: true"), "{error}");
    let renamed = format!("{text}\nfailover: {{ name: dc9 }}\n");
    assert_eq!(from_text(&renamed).unwrap_err().hint(), Some("leave it out"));
}

#[tokio::test]
async fn sources_and_routes_that_make_no_sense_are_refused() {
    let store = MemoryStore::new();
    let sources = || Sources::new("a").then("b", store.backend());
    for (wrong, said) in [
        (sources().then("a", store.backend()), "a name of its own"),
        (sources().then("", store.backend()), "a name of its own"),
        (sources().others(Route::to(["c"])), "not there"),
        (sources().service("api", Route::to(["a"]).or(["a"])), "twice"),
        (sources().others(Route::to::<&str>([])), "no source"),
    ] {
        let error = Client::builder(store.backend())
            .sources(wrong)
            .build()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        assert!(error.to_string().contains(said), "{error}");
    }
}
