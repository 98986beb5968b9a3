//! What only etcd needs, on real servers, the oldest and the newest supported: quorum, leases behind our back, compaction,
//! tokens, big sets, Go's form. `DISCOVERY_ETCD_OLD` and `DISCOVERY_ETCD_NEW` name the programs.

#![expect(
    clippy::unwrap_used,
    reason = "a test program: what is unexpected ends the case"
)]

use std::{collections::BTreeMap, net::SocketAddr, process::ExitCode, time::Duration};

use discovery::Client;
use discovery_core::{
    Backend, Change, ConfigKey, Cursor, Error, ErrorKind, HealthReport, LeaseMode, MetaChange, PutMode,
    Query, Registration, Renewal, Scope, Status,
};
use discovery_etcd::{EtcdConfig, Format, LeaseSharing, backend};
use discovery_testkit::{
    eventually,
    proxy::{Close, Flow, Proxy},
    server::Server,
};
use etcd_client::{Permission, PermissionType, PutOptions};
use futures::{FutureExt, StreamExt, future::BoxFuture};
use libtest_mimic::{Arguments, Trial};
use tokio::time::{Instant, timeout};

mod servers;

use servers::{Cluster, plain};

const PATIENCE: Duration = Duration::from_secs(20);

/// A version of etcd.
#[derive(Debug, Clone)]
struct Version {
    name: &'static str,
    program: String,
}

impl Version {
    async fn cluster(&self, size: usize, more: &[&str]) -> Cluster {
        Cluster::start(self.name, &self.program, size, more)
            .await
            .unwrap()
    }
}

type Case = (&'static str, fn(Version) -> BoxFuture<'static, ()>);

const CASES: &[Case] = &[
    ("e_1_the_servers_ttl_counts", |v| servers_ttl(v).boxed()),
    ("e_2_a_revoked_lease_is_granted_anew", |v| revoked(v).boxed()),
    ("e_4_leases_of_many_are_kept_on_one_stream", |v| {
        multiplexed(v).boxed()
    }),
    ("e_5_e_6_a_lost_quorum_ends_nothing", |v| quorum(v).boxed()),
    ("e_7_a_write_under_a_dead_lease_gets_another", |v| {
        dead_lease(v).boxed()
    }),
    ("e_10_changed_metadata_stays_under_its_lease", |v| {
        stays_leased(v).boxed()
    }),
    ("e_11_release_revokes_and_absence_is_success", |v| {
        release(v).boxed()
    }),
    ("e_12_a_key_deleted_behind_our_back_returns", |v| {
        deleted(v).boxed()
    }),
    ("e_15_compaction_while_away_loses_no_removal", |v| {
        compacted(v).boxed()
    }),
    ("e_18_a_member_alone_says_so", |v| alone(v).boxed()),
    ("e_19_a_stopped_member_is_left_for_another", |v| {
        stopped(v).boxed()
    }),
    ("e_22_e_34_a_missing_right_is_an_error_not_emptiness", |v| {
        no_right(v).boxed()
    }),
    ("e_23_e_25_a_large_transaction_is_told_whole", |v| {
        large_transaction(v).boxed()
    }),
    ("e_24_a_large_prefix_is_read_in_pages", |v| {
        large_prefix(v).boxed()
    }),
    ("e_28_no_late_write_takes_from_another_owner", |v| {
        other_owner(v).boxed()
    }),
    ("e_31_e_32_expired_tokens_are_replaced", |v| tokens(v).boxed()),
    ("e_33_authentication_may_come_and_go", |v| auth_toggled(v).boxed()),
    ("e_36_a_full_database_refuses_writes_and_keeps_leases", |v| {
        full(v).boxed()
    }),
    ("e_37_the_leader_may_die", |v| leader_dies(v).boxed()),
    ("go_services_see_us_and_we_see_them", |v| go_interop(v).boxed()),
    ("ten_thousand_under_churn_lose_nothing", |v| churn(v).boxed()),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Elections and leases are about time: no more at once than there are processors.
    arguments.test_threads.get_or_insert(2);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let named = servers::named();
    let mut trials = Vec::new();
    for name in ["etcd-old", "etcd-new"] {
        let program = named.iter().find(|(other, _)| *other == name);
        for (case, run) in CASES {
            let handle = runtime.handle().clone();
            let version = program.map(|(name, program)| Version {
                name,
                program: program.clone(),
            });
            let missing = version.is_none();
            let trial = Trial::test(format!("{name}::{case}"), move || {
                let version = version.ok_or("not run: no program is named")?;
                let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    handle.block_on(async {
                        timeout(Duration::from_secs(120), run(version))
                            .await
                            .expect("an end in time");
                    });
                }));
                ended.map_err(|_| "see above".into())
            });
            trials.push(trial.with_ignored_flag(missing));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

// === what cases are made of ===

fn config(endpoints: &[SocketAddr]) -> EtcdConfig {
    let mut config = EtcdConfig::at(endpoints.iter().map(ToString::to_string));
    config.discovery.confirm_interval = Duration::from_secs(1);
    config.service_registration.ttl = Duration::from_secs(2);
    config.service_registration.refresh_interval = Duration::from_millis(500);
    config
}

fn of(cluster: &Cluster) -> Backend {
    backend(config(&cluster.endpoints())).unwrap()
}

fn client(backend: Backend) -> Client {
    Client::builder(backend)
        .timeout(Duration::from_secs(5))
        .build()
        .unwrap()
}

fn api(port: u16) -> Registration {
    Registration::builder("api", "192.0.2.1", port).build().unwrap()
}

async fn ports(backend: &Backend) -> Result<Vec<u16>, Error> {
    let query = Query::service("api")?.include_unhealthy();
    let found = backend.registry.instances(&query).await?;
    let mut ports: Vec<_> = found.instances.iter().map(|i| i.port).collect();
    ports.sort_unstable();
    Ok(ports)
}

/// Waits until the registry shows these ports.
async fn shows(backend: &Backend, wanted: &[u16]) {
    eventually(format!("the ports {wanted:?}"), PATIENCE, || async {
        match ports(backend).await {
            Ok(found) if found == wanted => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// Waits until a view shows so many instances.
async fn view_shows(client: &Client, wanted: usize) {
    let view = client.query(&Query::service("api").unwrap()).unwrap();
    eventually(format!("{wanted} instances"), PATIENCE, || async {
        match view.instances().await {
            Ok(found) if found.instances.len() == wanted => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

async fn leases(at: SocketAddr) -> Vec<i64> {
    let found = plain(at).await.unwrap().leases().await.unwrap();
    found.leases().iter().map(etcd_client::LeaseStatus::id).collect()
}

const KEY: &str = "/services/api/api-192.0.2.1-1";

// === leases ===

async fn servers_ttl(version: Version) {
    let cluster = version
        .cluster(1, &["--heartbeat-interval=100", "--election-timeout=2000"])
        .await;
    let registration = Registration::builder("api", "192.0.2.1", 1).ttl(Duration::from_secs(1));
    let lease = of(&cluster)
        .registry
        .register(&registration.build().unwrap())
        .await
        .unwrap();
    assert_eq!(
        lease.ttl,
        Some(Duration::from_secs(3)),
        "one and a half times the election"
    );
}

async fn revoked(version: Version) {
    let cluster = version.cluster(1, &[]).await;
    let client = client(of(&cluster));
    client.register(api(1)).await.unwrap();
    let before = leases(cluster.endpoints()[0]).await;
    assert_eq!(before.len(), 1);
    let mut etcd = plain(cluster.endpoints()[0]).await.unwrap();
    etcd.lease_revoke(before[0]).await.unwrap();
    shows(&of(&cluster), &[1]).await;
    assert_ne!(leases(cluster.endpoints()[0]).await, before);
    client.shutdown(PATIENCE).await.unwrap();
    shows(&of(&cluster), &[]).await;
    assert!(
        leases(cluster.endpoints()[0]).await.is_empty(),
        "shutdown revokes"
    );
}

async fn multiplexed(version: Version) {
    let cluster = version.cluster(1, &[]).await;
    let way = Proxy::start(cluster.endpoints()[0]).unwrap();
    let mut config = config(&[way.addr()]);
    config.service_registration.lease = LeaseSharing::Single;
    config.service_registration.ttl = Duration::from_secs(30);
    let backend = backend(config).unwrap();
    assert_eq!(backend.registry.capabilities().lease, LeaseMode::Single);
    let mut granted = Vec::new();
    for port in 1..=50 {
        granted.push(backend.registry.register(&api(port)).await.unwrap());
    }
    for _ in 0..10 {
        let all = granted.iter().map(|lease| {
            let renewal = Renewal::new([(lease.key.clone(), HealthReport::default())]);
            let registry = backend.registry.clone();
            async move { registry.renew(&lease.group, &renewal).await }
        });
        futures::future::try_join_all(all).await.unwrap();
    }
    assert_eq!(way.counters().accepted, 1);
    // One whose caller went away takes no answer from the others.
    let renewal = Renewal::new([(granted[0].key.clone(), HealthReport::default())]);
    for _ in 0..20 {
        let dropped = backend.registry.renew(&granted[0].group, &renewal);
        assert!(timeout(Duration::from_micros(200), dropped).await.is_err() || way.counters().accepted == 1);
        backend.registry.renew(&granted[0].group, &renewal).await.unwrap();
    }
    // Each is ended by itself.
    backend.registry.deregister(&granted[0].key).await.unwrap();
    assert_eq!(leases(cluster.endpoints()[0]).await.len(), 49);
    assert_eq!(ports(&backend).await.unwrap().len(), 49);
}

async fn quorum(version: Version) {
    let cluster = version.cluster(3, &[]).await;
    let client = client(of(&cluster));
    client.register(api(1)).await.unwrap();
    view_shows(&client, 1).await;
    cluster.members[0].kill().await.unwrap();
    cluster.members[1].kill().await.unwrap();
    let view = client.query(&Query::service("api").unwrap()).unwrap();
    // For longer than the TTL.
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until {
        let found = view.instances().await.unwrap();
        assert_eq!(found.instances.len(), 1, "an outage removes nothing");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.members[0].start().await.unwrap();
    cluster.members[1].start().await.unwrap();
    cluster.serves().await.unwrap();
    shows(&of(&cluster), &[1]).await;
    view_shows(&client, 1).await;
    client.shutdown(PATIENCE).await.unwrap();
    shows(&of(&cluster), &[]).await;
}

async fn dead_lease(version: Version) {
    let cluster = version.cluster(1, &[]).await;
    let backend = of(&cluster);
    let first = backend.registry.register(&api(1)).await.unwrap();
    let mut etcd = plain(cluster.endpoints()[0]).await.unwrap();
    etcd.lease_revoke(leases(cluster.endpoints()[0]).await[0])
        .await
        .unwrap();
    // At once: the lease counts as fresh here.
    let second = backend.registry.register(&api(2)).await.unwrap();
    assert_ne!(first.group, second.group);
    assert_eq!(ports(&backend).await.unwrap(), [2]);
    let renewal = Renewal::new([(first.key, HealthReport::default())]);
    let renewed = backend.registry.renew(&first.group, &renewal).await.unwrap_err();
    assert_eq!(renewed.kind(), ErrorKind::NotFound);
}

async fn stays_leased(version: Version) {
    let cluster = version.cluster(1, &[]).await;
    let backend = of(&cluster);
    let lease = backend.registry.register(&api(1)).await.unwrap();
    let change = MetaChange::new().set("version", "2");
    backend.registry.update_meta(&lease.key, &change).await.unwrap();
    let report = HealthReport::new(Status::Warning);
    backend.registry.report_health(&lease.key, &report).await.unwrap();
    // Another client changes it, too, and does not adopt it.
    let change = MetaChange::new().set("changed", "elsewhere");
    of(&cluster)
        .registry
        .update_meta(&lease.key, &change)
        .await
        .unwrap();
    let found = backend.registry.instance(&lease.key).await.unwrap().unwrap();
    assert_eq!((found.meta.len(), found.status), (2, Status::Warning));
    // Nobody renews: it goes.
    shows(&backend, &[]).await;
}

async fn release(version: Version) {
    let cluster = version.cluster(1, &[]).await;
    let backend = of(&cluster);
    let lease = backend.registry.register(&api(1)).await.unwrap();
    backend.registry.release(&lease.group).await.unwrap();
    assert_eq!(ports(&backend).await.unwrap(), [0_u16; 0]);
    backend.registry.release(&lease.group).await.unwrap();
}

async fn deleted(version: Version) {
    let cluster = version.cluster(1, &[]).await;
    let client = client(of(&cluster));
    client.register(api(1)).await.unwrap();
    plain(cluster.endpoints()[0])
        .await
        .unwrap()
        .delete(KEY, None)
        .await
        .unwrap();
    shows(&of(&cluster), &[1]).await;
    client.shutdown(PATIENCE).await.unwrap();
}

// === watches and members ===

async fn compacted(version: Version) {
    let cluster = version.cluster(1, &[]).await;
    let way = Proxy::start(cluster.endpoints()[0]).unwrap();
    let (watched, direct) = (client(backend(config(&[way.addr()])).unwrap()), of(&cluster));
    let mut kept = Vec::new();
    for port in 1..=3 {
        kept.push(
            direct
                .registry
                .register(&{
                    Registration::builder("api", "192.0.2.1", port)
                        .ttl(Duration::from_secs(60))
                        .build()
                        .unwrap()
                })
                .await
                .unwrap(),
        );
    }
    view_shows(&watched, 3).await;
    way.refuse();
    way.cut(Close::Reset).await;
    direct.registry.deregister(&kept[0].key).await.unwrap();
    direct.registry.deregister(&kept[1].key).await.unwrap();
    cluster.compact().await.unwrap();
    way.heal().unwrap();
    view_shows(&watched, 1).await;

    // And what the raw watch says of a cursor that is gone.
    let cursor = direct
        .registry
        .instances(&Query::service("api").unwrap())
        .await
        .unwrap();
    let (identity, _) = cursor.cursor.as_ref().unwrap().as_str().split_once(':').unwrap();
    let old = Cursor::new(format!("{identity}:1"));
    let mut raw = direct.watcher.watch(&Query::service("api").unwrap(), Some(old));
    let failed = timeout(PATIENCE, raw.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::WatchExpired);
}

async fn alone(version: Version) {
    let cluster = version.cluster(3, &[]).await;
    let lonely = backend(config(&cluster.endpoints()[2..])).unwrap();
    let mut watch = lonely.watcher.watch(&Query::service("api").unwrap(), None);
    let first = timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(first.change, Change::Reset(_)));
    cluster.members[0].kill().await.unwrap();
    cluster.members[1].kill().await.unwrap();
    let failed = timeout(PATIENCE, async {
        loop {
            if let Err(failed) = watch.next().await.unwrap() {
                return failed;
            }
        }
    })
    .await
    .unwrap();
    assert_eq!(failed.kind(), ErrorKind::Unavailable, "{failed:?}");
    let failed = ports(&lonely).await.unwrap_err();
    assert!(failed.is_retryable(), "{failed:?}");
}

async fn stopped(version: Version) {
    let cluster = version.cluster(3, &[]).await;
    let watched = client(of(&cluster));
    watched.register(api(1)).await.unwrap();
    view_shows(&watched, 1).await;
    // The first is the one we are on: it neither answers nor hangs up.
    cluster.members[0].pause().await.unwrap();
    let began = Instant::now();
    let other = backend(config(&cluster.endpoints()[1..])).unwrap();
    let lease = eventually("a leader among the others", PATIENCE, || async {
        other
            .registry
            .register(&api(2))
            .await
            .map_err(|failed| failed.to_string())
    })
    .await;
    view_shows(&watched, 2).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    shows(&other, &[1, 2]).await;
    cluster.members[0].resume().unwrap();
    other.registry.deregister(&lease.key).await.unwrap();
    view_shows(&watched, 1).await;
    watched.shutdown(PATIENCE).await.unwrap();
    shows(&other, &[]).await;
}

async fn leader_dies(version: Version) {
    let cluster = version.cluster(3, &[]).await;
    let watched = client(of(&cluster));
    watched.register(api(1)).await.unwrap();
    view_shows(&watched, 1).await;
    let status = plain(cluster.endpoints()[0])
        .await
        .unwrap()
        .status()
        .await
        .unwrap();
    for member in &cluster.members {
        let mut etcd = plain(member.endpoint()).await.unwrap();
        let own = etcd.status().await.unwrap();
        if own.header().unwrap().member_id() == status.leader() {
            member.kill().await.unwrap();
        }
    }
    let alive = of(&cluster);
    eventually("a new leader", PATIENCE, || async {
        alive
            .registry
            .register(&api(2))
            .await
            .map_err(|failed| failed.to_string())
    })
    .await;
    view_shows(&watched, 2).await;
    shows(&alive, &[1]).await;
    watched.shutdown(PATIENCE).await.unwrap();
}

async fn large_transaction(version: Version) {
    let cluster = version.cluster(1, &["--max-request-bytes=8000000"]).await;
    let backend = of(&cluster);
    let mut watch = backend.watcher.watch(&Query::service("api").unwrap(), None);
    timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
    let (padding, mut puts) = ("x".repeat(30_000), Vec::new());
    for port in 1..=100 {
        let value = format!(r#"{{"address":"a","port":{port},"output":"{padding}"}}"#);
        puts.push(etcd_client::TxnOp::put(
            format!("/services/api/{port}"),
            value,
            None,
        ));
    }
    let txn = etcd_client::Txn::new().and_then(puts);
    plain(cluster.endpoints()[0])
        .await
        .unwrap()
        .txn(txn)
        .await
        .unwrap();
    loop {
        let event = timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
        match event.change {
            Change::Upsert(all) => return assert_eq!(all.len(), 100, "one revision, told at once"),
            other => assert_eq!(other, Change::Confirmed),
        }
    }
}

async fn large_prefix(version: Version) {
    let cluster = version.cluster(1, &[]).await;
    let mut etcd = plain(cluster.endpoints()[0]).await.unwrap();
    let padding = "x".repeat(200_000);
    for port in 1..=120 {
        let value = format!(r#"{{"address":"a","port":{port},"output":"{padding}"}}"#);
        etcd.put(format!("/services/api/{port}"), value, None)
            .await
            .unwrap();
    }
    // 24 MB: more than one message may have, whatever the number of keys.
    let backend = of(&cluster);
    assert_eq!(ports(&backend).await.unwrap(), (1..=120).collect::<Vec<_>>());
}

// === writes ===

async fn other_owner(version: Version) {
    let cluster = version.cluster(1, &[]).await;
    let (one, two) = (of(&cluster), of(&cluster));
    let first = one.registry.register(&api(1)).await.unwrap();
    // Who starts again under the same id takes it over.
    let second = two.registry.register(&api(1)).await.unwrap();
    assert_ne!(first.group, second.group);
    // The one before withdraws what is no longer its own.
    one.registry.deregister(&first.key).await.unwrap();
    assert_eq!(ports(&two).await.unwrap(), [1]);
    // A change of what is gone brings nothing back.
    two.registry.deregister(&second.key).await.unwrap();
    let change = MetaChange::new().set("a", "b");
    let failed = two.registry.update_meta(&second.key, &change).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::NotFound);
    assert_eq!(ports(&two).await.unwrap(), [0_u16; 0]);
}

async fn full(version: Version) {
    let cluster = version.cluster(1, &["--quota-backend-bytes=1048576"]).await;
    let backend = of(&cluster);
    let lease = backend.registry.register(&api(1)).await.unwrap();
    let mut etcd = plain(cluster.endpoints()[0]).await.unwrap();
    for i in 0..40 {
        if etcd
            .put(format!("fill/{i}"), vec![b'x'; 100_000], None)
            .await
            .is_err()
        {
            break;
        }
    }
    let failed = backend.registry.register(&api(2)).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::RateLimited, "{failed:?}");
    let renewal = Renewal::new([(lease.key, HealthReport::default())]);
    let renewed = backend.registry.renew(&lease.group, &renewal).await;
    renewed.unwrap();
    assert_eq!(ports(&backend).await.unwrap(), [1]);
}

// === authentication ===

const PASSWORD: &str = "s3ntinel";

/// Turns authentication on, with root and a user that may write `/services/` and nothing else.
async fn protect(at: SocketAddr) {
    let mut etcd = plain(at).await.unwrap();
    etcd.user_add("root", PASSWORD, None).await.unwrap();
    let _ = etcd.role_add("root").await;
    etcd.user_grant_role("root", "root").await.unwrap();
    etcd.user_add("app", PASSWORD, None).await.unwrap();
    etcd.role_add("services").await.unwrap();
    let right = Permission::new(PermissionType::Readwrite, "/services/").with_prefix();
    etcd.role_grant_permission("services", right).await.unwrap();
    etcd.user_grant_role("app", "services").await.unwrap();
    etcd.auth_enable().await.unwrap();
}

async fn tokens(version: Version) {
    let cluster = version.cluster(1, &["--auth-token-ttl=3"]).await;
    protect(cluster.endpoints()[0]).await;
    let config = config(&cluster.endpoints()).user("app", PASSWORD);
    let (watched, direct) = (client(backend(config.clone()).unwrap()), backend(config).unwrap());
    watched.register(api(1)).await.unwrap();
    view_shows(&watched, 1).await;
    // Longer than tokens live: unary calls get another, and the streams go on.
    let idle = backend(self::config(&cluster.endpoints()).user("app", PASSWORD)).unwrap();
    assert_eq!(ports(&idle).await.unwrap(), [1]);
    let until = Instant::now() + Duration::from_secs(7);
    while Instant::now() < until {
        let found = ports(&direct).await.unwrap();
        assert_eq!(found, [1]);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(ports(&idle).await.unwrap(), [1]);
    // Tokens live in a member's memory: restarted, it knows none.
    cluster.members[0].stop().await.unwrap();
    // Its own probe needs no user.
    let started = cluster.members[0].start().await;
    assert!(started.is_ok(), "{started:?}");
    shows(&direct, &[1]).await;
    let lease = direct.registry.register(&api(2)).await.unwrap();
    view_shows(&watched, 2).await;
    direct.registry.deregister(&lease.key).await.unwrap();
    view_shows(&watched, 1).await;
    watched.shutdown(PATIENCE).await.unwrap();
}

async fn no_right(version: Version) {
    let cluster = version.cluster(1, &[]).await;
    protect(cluster.endpoints()[0]).await;
    let app = backend(config(&cluster.endpoints()).user("app", PASSWORD)).unwrap();
    app.registry.register(&api(1)).await.unwrap();
    let store = app.config.clone().unwrap();
    let key = ConfigKey::new("a").unwrap();
    let failed = store.put(&key, b"x", PutMode::Upsert).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::PermissionDenied);
    let failed = timeout(PATIENCE, store.watch("", None).next())
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::PermissionDenied);
    // A wider range than the right covers.
    let mut wide = config(&cluster.endpoints()).user("app", PASSWORD);
    "/".clone_into(&mut wide.service_registration.key_prefix);
    "config/".clone_into(&mut wide.config.prefix);
    let failed = backend(wide)
        .unwrap()
        .registry
        .services(&Scope::default())
        .await
        .unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::PermissionDenied);
    // From a place in history, the refusal comes within the stream.
    let cursor = app
        .registry
        .instances(&Query::all())
        .await
        .unwrap()
        .cursor
        .unwrap();
    let mut stream = store.watch("", Some(cursor));
    let failed = timeout(PATIENCE, stream.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::PermissionDenied);
    // Wrong or no credentials.
    for wrong in [
        config(&cluster.endpoints()).user("app", "wrong"),
        config(&cluster.endpoints()),
    ] {
        let failed = ports(&backend(wrong).unwrap()).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Unauthenticated, "{failed:?}");
        assert!(!format!("{failed:?}").contains(PASSWORD));
    }
}

async fn auth_toggled(version: Version) {
    let cluster = version.cluster(1, &[]).await;
    let backend = backend(config(&cluster.endpoints()).user("app", PASSWORD)).unwrap();
    // Off: a user is no obstacle.
    backend.registry.register(&api(1)).await.unwrap();
    protect(cluster.endpoints()[0]).await;
    assert_eq!(ports(&backend).await.unwrap(), [1]);
    let options = etcd_client::ConnectOptions::new().with_user("root", PASSWORD);
    let mut root = etcd_client::Client::connect([cluster.endpoints()[0].to_string()], Some(options))
        .await
        .unwrap();
    root.auth_disable().await.unwrap();
    // The token we hold is refused now.
    assert_eq!(ports(&backend).await.unwrap(), [1]);
    backend.registry.register(&api(1)).await.unwrap();
}

// === others, and many ===

async fn go_interop(version: Version) {
    let cluster = version.cluster(1, &[]).await;
    let mut config = config(&cluster.endpoints());
    config.service_registration.key_prefix = String::new();
    config.service_registration.format = Format::Grpc;
    let backend = backend(config).unwrap();
    let mut etcd = plain(cluster.endpoints()[0]).await.unwrap();
    // As `endpoints.Manager.AddEndpoint` writes it, under a lease of its own.
    let lease = etcd.lease_grant(60, None).await.unwrap().id();
    let value = r#"{"Op":0,"Addr":"192.0.2.9:9","Metadata":{"zone":"a"}}"#;
    let options = PutOptions::new().with_lease(lease);
    etcd.put("api/192.0.2.9:9", value, Some(options)).await.unwrap();
    etcd.put("api2/192.0.2.8:8", value, None).await.unwrap();
    etcd.put("api/nonsense", "?", None).await.unwrap();
    backend.registry.register(&api(1)).await.unwrap();
    assert_eq!(ports(&backend).await.unwrap(), [1, 9]);

    let ours = etcd.get("api/api-192.0.2.1-1", None).await.unwrap();
    let ours: serde_json::Value = serde_json::from_slice(ours.kvs()[0].value()).unwrap();
    assert_eq!((&ours["Op"], &ours["Addr"]), (&0.into(), &"192.0.2.1:1".into()));
    assert!(ours["Metadata"].is_object());

    let failed = backend.registry.services(&Scope::default()).await.unwrap_err();
    assert_eq!(
        failed.kind(),
        ErrorKind::Unsupported,
        "without a prefix there is no list"
    );
}

async fn churn(version: Version) {
    const ALL: u32 = 10_000;
    let cluster = version.cluster(1, &[]).await;
    let mut etcd = plain(cluster.endpoints()[0]).await.unwrap();
    let put = |i: u32, step: u32| {
        let value = format!(
            r#"{{"address":"10.0.0.1","port":{},"meta":{{"step":"{step}"}}}}"#,
            i % 60_000 + 1
        );
        etcd_client::TxnOp::put(format!("/services/api/i{i:05}"), value, None)
    };
    for chunk in (0..ALL).collect::<Vec<_>>().chunks(100) {
        let puts: Vec<_> = chunk.iter().map(|i| put(*i, 0)).collect();
        etcd.txn(etcd_client::Txn::new().and_then(puts)).await.unwrap();
    }
    let way = Proxy::start(cluster.endpoints()[0]).unwrap();
    let watched = client(backend(config(&[way.addr()])).unwrap());
    view_shows(&watched, ALL as usize).await;
    let view = watched.query(&Query::service("api").unwrap()).unwrap();
    // 100 changes a second for ten seconds: a third each changed, removed, added; the way is cut in the middle.
    let mut truth: BTreeMap<String, u32> = (0..ALL).map(|i| (format!("i{i:05}"), 0)).collect();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    for step in 1..=1000_u32 {
        ticks.tick().await;
        let i = fastrand_of(step) % (ALL + 500);
        let key = format!("i{i:05}");
        if step % 3 == 0 {
            etcd.delete(format!("/services/api/{key}"), None).await.unwrap();
            truth.remove(&key);
        } else {
            etcd.txn(etcd_client::Txn::new().and_then([put(i, step)]))
                .await
                .unwrap();
            truth.insert(key, step);
        }
        if step % 400 == 0 {
            way.flow_both(Flow::Pass);
            way.cut(Close::Reset).await;
        }
    }
    eventually("the truth", PATIENCE, || async {
        let found = view.instances().await.map_err(|failed| failed.to_string())?;
        let found: BTreeMap<String, u32> = found
            .instances
            .iter()
            .map(|i| (i.key.id.to_string(), i.meta["step"].parse().unwrap()))
            .collect();
        if found == truth {
            Ok(())
        } else {
            Err(format!("{} instead of {}", found.len(), truth.len()))
        }
    })
    .await;
    watched.shutdown(PATIENCE).await.unwrap();
}

/// Numbers that look random and are the same in every run.
fn fastrand_of(step: u32) -> u32 {
    step.wrapping_mul(2_654_435_761).rotate_left(13)
}
