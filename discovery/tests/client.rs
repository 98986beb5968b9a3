//! A client from its first registration to its end, over a registry that fails on demand.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not know as such"
)]

use std::{sync::Arc, time::Duration};

use discovery::{
    Check, Client, ConfigChange, ErrorKind, HealthReport, Instance, MetaChange, PutMode, Query, Registration,
    RegistrationBuilder, ServiceHealth, Source, Status,
    disk::SnapshotStore,
    memory::MemoryStore,
    pick::{Balancing, CallError, CallPolicy, Outcome, Outlier, Random, Service, Strategy, Verdict},
    registrar::RegistrationPhase,
    resilience::CircuitState,
};
use discovery_testkit::{capture::Capture, chaos::Chaos, eventually};
use futures::StreamExt;
use tokio::{
    net::TcpListener,
    time::{Instant, advance, sleep},
};

const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(120);

fn api(port: u16) -> RegistrationBuilder {
    Registration::builder("api", "127.0.0.1", port)
}

/// A client of `store`, and the faults of its way there.
fn client(store: &MemoryStore) -> (Client, Chaos) {
    let (backend, chaos) = Chaos::wrap(store.backend());
    (Client::builder(backend).build().unwrap(), chaos)
}

/// Waits until the view of `service` has so many instances from `source`.
async fn view(service: &Service, instances: usize, source: Source) {
    let mut changes = service.subscribe();
    let seen = async {
        loop {
            let view = changes.next().await.unwrap();
            if view.instances.len() == instances && view.source == source {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| {
        panic!("never saw {instances} instances, {source}: {service:?}");
    });
}

// === the whole way ===

#[tokio::test(start_paused = true)]
async fn what_is_registered_is_found_and_leaves_with_its_client() {
    let store = MemoryStore::new();
    let (provider, consumer) = (client(&store).0, client(&store).0);
    let api_of_consumer = consumer.service("api").unwrap();
    assert!(api_of_consumer.ready().await.unwrap().instances.is_empty());
    let error = api_of_consumer.acquire().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);

    let one = provider
        .register(api(8001).tag("v2").build().unwrap())
        .await
        .unwrap();
    provider.register(api(8002).build().unwrap()).await.unwrap();
    assert_eq!(one.id().as_str(), "api-127.0.0.1-8001");
    view(&api_of_consumer, 2, Source::Live).await;
    let mut ports = [
        api_of_consumer.acquire().unwrap().port,
        api_of_consumer.acquire().unwrap().port,
    ];
    ports.sort_unstable();
    assert_eq!(ports, [8001, 8002]);
    let tagged = consumer.query(&Query::service("api").unwrap().tag("v2")).unwrap();
    assert_eq!(tagged.instances().await.unwrap().instances[0].port, 8001);

    one.update_meta(MetaChange::new().set("team", "platform"))
        .await
        .unwrap();
    let seen = consumer.lookup(&Query::service("api").unwrap()).await.unwrap();
    assert!(
        seen.instances
            .iter()
            .any(|instance| instance.meta.get("team").is_some_and(|t| t == "platform"))
    );
    drop(one); // changes nothing

    // Far beyond its TTL of 30 s: heartbeats keep it.
    sleep(Duration::from_secs(300)).await;
    view(&api_of_consumer, 2, Source::Live).await;
    provider.shutdown(SECOND).await.unwrap();
    view(&api_of_consumer, 0, Source::Live).await;
    consumer.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_the_registry_forgot_is_registered_again() {
    let store = MemoryStore::new();
    let (client, _) = client(&store);
    let registered = client
        .register(api(8001).meta("a", "1").build().unwrap())
        .await
        .unwrap();
    registered
        .update_meta(MetaChange::new().set("b", "2"))
        .await
        .unwrap();
    let api = client.service("api").unwrap();
    view(&api, 1, Source::Live).await;

    assert!(store.forget(registered.key()));
    view(&api, 0, Source::Live).await;
    view(&api, 1, Source::Live).await;
    let back = &api.instances().await.unwrap().instances[0];
    assert_eq!((back.meta["a"].as_str(), back.meta["b"].as_str()), ("1", "2"));
    client.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_handle_reports_drains_and_withdraws() {
    let store = MemoryStore::new();
    let (client, _) = client(&store);
    let one = client.register(api(8001).build().unwrap()).await.unwrap();
    let two = client.register(api(8002).build().unwrap()).await.unwrap();
    let api = client.service("api").unwrap();
    view(&api, 2, Source::Live).await;

    one.report_health(HealthReport::new(Status::Critical).with_output("disk full"))
        .await
        .unwrap();
    view(&api, 1, Source::Live).await;
    assert_eq!(api.acquire().unwrap().port, 8002);
    one.report_health(HealthReport::new(Status::Warning))
        .await
        .unwrap();
    view(&api, 2, Source::Live).await;

    let started = Instant::now();
    let (drained, ()) = tokio::join!(one.drain(10 * SECOND), async {
        view(&api, 1, Source::Live).await;
        // Out of new traffic, and still there for what is under way.
        assert!(started.elapsed() < SECOND);
        let all = api.query().clone().include_unhealthy();
        let all = client.query(&all).unwrap();
        assert_eq!(all.ready().await.unwrap().instances.len(), 2);
    });
    drained.unwrap();
    assert!(started.elapsed() >= 10 * SECOND);

    two.deregister().await.unwrap();
    assert_eq!(two.deregister().await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(client.status().await.registrations.is_empty());
    client.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn leaving_drains_waits_and_withdraws_within_its_time() {
    let store = MemoryStore::new();
    let (provider, consumer) = (client(&store).0, client(&store).0);
    provider.register(api(8001).build().unwrap()).await.unwrap();
    provider.register(api(8002).build().unwrap()).await.unwrap();
    let api_of_consumer = consumer.service("api").unwrap();
    view(&api_of_consumer, 2, Source::Live).await;
    let under_way = api_of_consumer.acquire().unwrap();

    let started = Instant::now();
    let (left, ()) = tokio::join!(provider.leave(10 * SECOND, 5 * SECOND), async {
        // Out of new traffic at once, and still there for what is under way.
        view(&api_of_consumer, 0, Source::Live).await;
        assert!(started.elapsed() < SECOND);
        let all = Query::service("api").unwrap().include_unhealthy();
        assert_eq!(
            store
                .backend()
                .registry
                .instances(&all)
                .await
                .unwrap()
                .instances
                .len(),
            2
        );
        assert_eq!(under_way.load().in_flight(), 1);
    });
    left.unwrap();
    assert!((10 * SECOND..15 * SECOND).contains(&started.elapsed()));
    under_way.report(Outcome::Success);
    let all = Query::service("api").unwrap().include_unhealthy();
    assert!(consumer.lookup(&all).await.unwrap().instances.is_empty());

    // A registry that hangs costs the time given, not more.
    let (stuck, faults) = client(&store);
    stuck.register(api(8003).build().unwrap()).await.unwrap();
    faults.stall();
    let started = Instant::now();
    stuck.leave(3 * SECOND, 2 * SECOND).await.unwrap_err();
    assert!(started.elapsed() <= 6 * SECOND, "{:?}", started.elapsed());
    // With nothing registered there is nothing to wait for.
    let started = Instant::now();
    consumer.leave(10 * SECOND, SECOND).await.unwrap();
    assert!(started.elapsed() < SECOND);
}

// === looking ===

#[tokio::test(start_paused = true)]
async fn services_and_their_health_are_summed_up() {
    let store = MemoryStore::new();
    let (client, _) = client(&store);
    client
        .register(api(8001).tag("b").tag("a").build().unwrap())
        .await
        .unwrap();
    client
        .register(api(8002).status(Status::Warning).build().unwrap())
        .await
        .unwrap();
    client
        .register(api(8003).status(Status::Critical).build().unwrap())
        .await
        .unwrap();
    client
        .register(Registration::builder("db", "127.0.0.1", 1).build().unwrap())
        .await
        .unwrap();

    let services = client.services().await.unwrap();
    let seen: Vec<_> = services
        .iter()
        .map(|s| (s.name.as_str(), s.tags.len(), s.instances))
        .collect();
    assert_eq!(seen, [("api", 2, Some(3)), ("db", 0, Some(1))]);

    let ServiceHealth {
        status,
        passing,
        warning,
        critical,
        ..
    } = client.health("api").await.unwrap();
    assert_eq!((status, passing, warning, critical), (Status::Passing, 1, 1, 1));
    let nobody = client.health("nobody").await.unwrap();
    assert_eq!((nobody.status, nobody.instances.len()), (Status::Unknown, 0));
    client.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lookups_are_cached_and_an_empty_answer_for_less_long() {
    let (client, chaos) = client(&MemoryStore::new());
    let query = Query::service("api").unwrap();
    for source in [Source::Live, Source::Cache] {
        let nobody = client.lookup(&query).await.unwrap();
        assert_eq!((nobody.instances.len(), nobody.source), (0, source));
    }
    client.register(api(8001).build().unwrap()).await.unwrap();
    advance(SECOND).await;
    for source in [Source::Live, Source::Cache, Source::Cache] {
        let found = client.lookup(&query).await.unwrap();
        assert_eq!((found.instances.len(), found.source), (1, source));
        advance(3 * SECOND).await;
    }
    advance(2 * SECOND).await;
    assert_eq!(client.lookup(&query).await.unwrap().source, Source::Live);
    assert_eq!(chaos.calls("instances"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_serves_the_last_good_answer_while_the_registry_is_down() {
    let (client, chaos) = client(&MemoryStore::new());
    let query = Query::service("api").unwrap();
    client.register(api(8001).build().unwrap()).await.unwrap();
    client.lookup(&query).await.unwrap();
    chaos.cut(ErrorKind::Unavailable);
    advance(60 * SECOND).await;
    let stale = client.lookup(&query).await.unwrap();
    assert_eq!((stale.instances.len(), stale.source), (1, Source::Stale));
    assert!(stale.age() >= 60 * SECOND, "{:?}", stale.age());

    // Never older than asked for, and never an empty success for what was never seen.
    let error = client.lookup(&query.max_stale(30 * SECOND)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let error = client
        .lookup(&Query::service("other").unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(
        client.services().await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
}

#[tokio::test(start_paused = true)]
async fn views_of_two_strategies_stand_side_by_side() {
    let (client, _) = client(&MemoryStore::new());
    for port in 8001..8004 {
        client.register(api(port).build().unwrap()).await.unwrap();
    }
    let query = Query::service("api").unwrap();
    let random: Arc<dyn Strategy> = Arc::new(Random);
    let (turns, random) = (
        client.query(&query).unwrap(),
        client.balanced(&query, &random).unwrap(),
    );
    view(&turns, 3, Source::Live).await;
    view(&random, 3, Source::Live).await;
    assert_eq!(client.status().await.watches, 1);
    let picked = |service: &Service| {
        let mut reader = service.reader();
        (0..30).map(|_| reader.pick().unwrap().port).collect::<Vec<_>>()
    };
    for turn in picked(&turns).chunks(3) {
        assert!((8001..8004).all(|port| turn.contains(&port)), "{turn:?}");
    }
    // Once in 10^11 runs chance alone would take turns.
    assert!(
        picked(&random)
            .chunks(3)
            .any(|turn| turn[0] == turn[1] || turn[1] == turn[2] || turn[0] == turn[2])
    );
}

#[tokio::test(start_paused = true)]
async fn explains_who_is_chosen_and_why_the_others_are_not() {
    let backend = MemoryStore::new().backend();
    let client = Client::builder(backend)
        .balancing(Balancing::default().tag("v2").outlier(Outlier::default()))
        .build()
        .unwrap();
    let ill = api(8002).status(Status::Critical).tag("v2");
    let of = [api(8001).tag("v2"), ill, api(8003), api(8004).tag("v2")];
    for registration in of {
        client.register(registration.build().unwrap()).await.unwrap();
    }
    let service = client.service("api").unwrap();
    view(&service, 3, Source::Live).await;
    for _ in 0..20 {
        let picked = service.acquire().unwrap();
        let outcome = if picked.port == 8004 {
            Outcome::Failure
        } else {
            Outcome::Success
        };
        picked.report(outcome);
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    let mut verdicts: Vec<_> = client
        .explain("api")
        .await
        .unwrap()
        .into_iter()
        .map(|one| (one.instance.port, one.verdict))
        .collect();
    verdicts.sort_by_key(|(port, _)| *port);
    assert_eq!(
        verdicts,
        [
            (8001, Verdict::Used),
            (8002, Verdict::Unhealthy),
            (8003, Verdict::Filtered),
            (8004, Verdict::Ejected)
        ]
    );
    client.shutdown(Duration::from_secs(5)).await.unwrap();
}

// === an outage ===

#[tokio::test(start_paused = true)]
async fn an_outage_keeps_views_and_registrations_and_the_status_tells() {
    let store = MemoryStore::new();
    let (client, chaos) = client(&store);
    client.register(api(8001).build().unwrap()).await.unwrap();
    let api = client.service("api").unwrap();
    view(&api, 1, Source::Live).await;
    let up = client.status().await;
    assert_eq!(
        (up.backend.scheme, up.watches, up.circuit),
        ("memory", 1, CircuitState::Closed)
    );
    assert!(up.registry.unwrap().version.is_some());
    assert_eq!(up.registrations[0].phase, RegistrationPhase::Registered);

    chaos.cut(ErrorKind::Unavailable);
    view(&api, 1, Source::Stale).await;
    // Twice its TTL: the registry has long dropped it, and the view stands.
    sleep(60 * SECOND).await;
    assert_eq!(api.acquire().unwrap().port, 8001);
    let seen = api.instances().await.unwrap();
    assert!(
        seen.source == Source::Stale && seen.age() >= 60 * SECOND,
        "{seen:?}"
    );
    for _ in 0..5 {
        client.lookup(api.query()).await.unwrap_err();
    }
    let down = client.status().await;
    assert_eq!(down.registry.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(down.circuit, CircuitState::Open);
    assert_eq!(down.registrations[0].phase, RegistrationPhase::Lost);
    assert!(down.registrations[0].last_error.is_some());

    chaos.heal();
    view(&api, 1, Source::Live).await;
    eventually("the registration is back", PATIENCE * 4, || async {
        client.status().await.registrations[0].phase == RegistrationPhase::Registered
    })
    .await;
    let direct = store.backend().registry.instances(api.query()).await.unwrap();
    assert_eq!(direct.instances.len(), 1);
    client.shutdown(SECOND).await.unwrap();
}

#[tokio::test]
async fn a_start_while_the_registry_is_down_uses_the_snapshot_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = MemoryStore::new();
    let start = || {
        let (backend, chaos) = Chaos::wrap(store.backend());
        (
            Client::builder(backend).snapshot_dir(dir.path()).build().unwrap(),
            chaos,
        )
    };
    let (before, _) = start();
    before.register(api(8001).build().unwrap()).await.unwrap();
    let seen = before.service("api").unwrap();
    view(&seen, 1, Source::Live).await;
    // The watch saves what it saw when it ends; the registration stays.
    let info = before.info().clone();
    drop((seen, before));
    let (on_disk, query) = (
        SnapshotStore::new(dir.path(), info),
        Query::service("api").unwrap(),
    );
    eventually("a snapshot on disk", PATIENCE, || on_disk.load(&query)).await;

    let (after, chaos) = start();
    chaos.cut(ErrorKind::Unavailable);
    let api = after.service("api").unwrap();
    view(&api, 1, Source::Disk).await;
    assert_eq!(api.acquire().unwrap().port, 8001);
    chaos.heal();
    view(&api, 1, Source::Live).await;
    after.shutdown(PATIENCE).await.unwrap();
}

// === calls ===

#[tokio::test(start_paused = true)]
async fn a_call_goes_on_to_the_next_instance_and_reports() {
    let (client, _) = client(&MemoryStore::new());
    for port in [8001, 8002] {
        client.register(api(port).build().unwrap()).await.unwrap();
    }
    let api = client.service("api").unwrap();
    view(&api, 2, Source::Live).await;
    let policy = CallPolicy::default().timeout(SECOND);
    let call = |instance: Arc<Instance>| async move {
        match instance.port {
            8001 => std::future::pending().await,
            port => Ok::<_, &str>(port),
        }
    };
    for _ in 0..4 {
        assert_eq!(api.call(&policy, call).await.unwrap(), 8002);
    }
    for _ in 0..2 {
        let picked = api.acquire().unwrap();
        let (ok, failed) = (picked.load().succeeded(), picked.load().failed());
        match picked.port {
            8001 => assert!(ok == 0 && failed >= 1, "{ok} {failed}"),
            _ => assert_eq!((ok, failed), (4, 0)),
        }
        assert_eq!(picked.load().in_flight(), 1);
        picked.report(Outcome::Success);
    }

    let refused = |_: Arc<Instance>| async { Err::<(), _>("refused") };
    assert!(matches!(
        api.call(&policy, refused).await,
        Err(CallError::Failed("refused"))
    ));
    let nobody = client.service("nobody").unwrap();
    match nobody.call(&policy, refused).await {
        Err(CallError::NoInstance(error)) => assert_eq!(error.kind(), ErrorKind::Unavailable),
        other => panic!("{other:?}"),
    }
}

// === checks that the client runs ===

#[tokio::test]
async fn a_check_follows_what_listens_and_never_ends_draining() {
    let store = MemoryStore::new();
    let (client, _) = client(&store);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let check = Check::tcp(address.to_string()).every(Duration::from_millis(50));
    let registration = api(address.port()).check(check).build().unwrap();
    let registered = client.register(registration).await.unwrap();

    let all = client
        .query(&Query::service("api").unwrap().include_unhealthy())
        .unwrap();
    let shown = |status: Status, draining: bool| {
        let all = &all;
        eventually(
            format!("{status}, draining: {draining}"),
            PATIENCE,
            move || async move {
                let seen = all.instances().await.map_err(|error| error.to_string())?;
                match seen.instances.get(0) {
                    Some(i) if i.status == status && i.draining == draining => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            },
        )
    };
    shown(Status::Passing, false).await;
    drop(listener);
    shown(Status::Critical, false).await;
    let listener = TcpListener::bind(address).await.unwrap();
    shown(Status::Passing, false).await;

    registered
        .report_health(HealthReport::default().with_draining(true))
        .await
        .unwrap();
    shown(Status::Passing, true).await;
    drop(listener);
    shown(Status::Critical, true).await;
    client.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_registration_with_a_check_is_not_healthy_before_anybody_looked() {
    let store = MemoryStore::new();
    let (client, _) = client(&store);
    let registration = api(8001).check(Check::tcp("127.0.0.1:1")).build().unwrap();
    client.register(registration).await.unwrap();
    // Nothing here yields, so that no look has been possible.
    let seen = store
        .backend()
        .registry
        .instances(&Query::service("api").unwrap())
        .await
        .unwrap();
    assert_eq!(seen.instances[0].status, Status::Starting);

    let https = api(8002)
        .check(Check::http("https://127.0.0.1:1/"))
        .build()
        .unwrap();
    let error = client.register(https).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(client.status().await.registrations.len(), 1);
}

// === configuration values ===

#[tokio::test(start_paused = true)]
async fn values_are_written_compared_watched_and_closed() {
    let client = Client::builder(MemoryStore::new().backend()).build().unwrap();
    let values = client.config().unwrap();
    let mut watch = Box::pin(values.watch("app/"));
    let first = watch.next().await.unwrap().unwrap();
    assert_eq!(first.change, ConfigChange::Reset(Vec::new()));

    let one = values.put("app/limit", "1", PutMode::Create).await.unwrap();
    let two = values
        .put("app/limit", "2", PutMode::IfVersion(one.clone()))
        .await
        .unwrap();
    let error = values
        .put("app/limit", "3", PutMode::IfVersion(one))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.backend()),
        (ErrorKind::Conflict, Some("memory"))
    );
    for value in ["1", "2"] {
        match watch.next().await.unwrap().unwrap().change {
            ConfigChange::Put(entry) => assert_eq!(&*entry.value, value.as_bytes()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        values.get("app//limit").await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(values.list("app/").await.unwrap().entries.len(), 1);
    assert!(values.delete("app/limit", Some(two)).await.unwrap());
    assert!(values.get("app/limit").await.unwrap().is_none());

    client.shutdown(SECOND).await.unwrap();
    let mut last = None;
    while let Some(item) = watch.next().await {
        last = Some(item);
    }
    assert_eq!(last.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(
        values.get("app/limit").await.unwrap_err().kind(),
        ErrorKind::Closed
    );
    let (without, _) = Chaos::wrap(MemoryStore::new().backend());
    let without = Client::builder(without).build().unwrap();
    assert_eq!(without.config().unwrap_err().kind(), ErrorKind::Unsupported);
}

// === the end ===

#[tokio::test(start_paused = true)]
async fn after_shutdown_everything_is_closed() {
    let (client, chaos) = client(&MemoryStore::new());
    let registered = client.register(api(8001).build().unwrap()).await.unwrap();
    let api_handle = client.service("api").unwrap();
    view(&api_handle, 1, Source::Live).await;
    let (mut reader, mut changes) = (api_handle.reader(), api_handle.subscribe());
    changes.next().await.unwrap();
    client.shutdown(SECOND).await.unwrap();
    let calls = chaos.all_calls();

    let id = registered.id().clone();
    let query = Query::service("api").unwrap();
    let policy = CallPolicy::default();
    let call = api_handle.call(&policy, |_| async { Ok::<_, &str>(()) }).await;
    let Err(CallError::NoInstance(call)) = call else {
        panic!("{call:?}")
    };
    let errors = [
        (
            "register",
            client.register(api(8002).build().unwrap()).await.unwrap_err(),
        ),
        ("deregister", registered.deregister().await.unwrap_err()),
        (
            "update_meta",
            registered.update_meta(MetaChange::new()).await.unwrap_err(),
        ),
        (
            "report_health",
            client
                .report_health(&id, HealthReport::default())
                .await
                .unwrap_err(),
        ),
        ("drain", registered.drain(SECOND).await.unwrap_err()),
        ("service", client.service("api").unwrap_err()),
        ("query", client.query(&query).unwrap_err()),
        ("lookup", client.lookup(&query).await.unwrap_err()),
        ("services", client.services().await.unwrap_err()),
        ("health", client.health("api").await.unwrap_err()),
        ("config", client.config().unwrap_err()),
        ("status", client.status().await.registry.unwrap_err()),
        ("ready", api_handle.ready().await.unwrap_err()),
        ("instances", api_handle.instances().await.unwrap_err()),
        ("acquire", api_handle.acquire().unwrap_err()),
        ("call", call),
        ("next", changes.next().await.unwrap_err()),
    ];
    for (method, error) in errors {
        assert_eq!(error.kind(), ErrorKind::Closed, "{method}: {error}");
    }
    assert!(reader.pick().is_none());
    assert_eq!(chaos.all_calls(), calls, "nothing goes to the registry any more");
    assert_eq!(chaos.open_streams(), 0);
    client.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_dropped_without_shutdown_says_so_and_its_registrations_run_out() {
    let (logs, _guard) = Capture::scoped();
    let store = MemoryStore::new();
    let (dropped, chaos) = client(&store);
    let registered = dropped
        .register(api(8001).ttl(10 * SECOND).build().unwrap())
        .await
        .unwrap();
    let query = Query::service("api").unwrap();
    let handle = dropped.service("api").unwrap();
    drop((registered, dropped));
    assert!(
        logs.text().contains("dropped without shutdown"),
        "{}",
        logs.text()
    );

    let left = || async {
        store
            .backend()
            .registry
            .instances(&query)
            .await
            .unwrap()
            .instances
            .len()
    };
    assert_eq!(left().await, 1);
    sleep(11 * SECOND).await;
    assert_eq!(
        (left().await, chaos.calls("renew"), chaos.calls("deregister")),
        (0, 0, 0)
    );
    assert_eq!(handle.ready().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_cannot_withdraw_names_what_is_left_by_its_deadline() {
    let (client, chaos) = client(&MemoryStore::new());
    client.register(api(8001).build().unwrap()).await.unwrap();
    chaos.stall();
    let started = Instant::now();
    let error = client.shutdown(2 * SECOND).await.unwrap_err();
    assert!(started.elapsed() < 3 * SECOND, "{:?}", started.elapsed());
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("api/api-127.0.0.1-8001"), "{error}");
}
