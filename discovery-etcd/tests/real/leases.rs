//! Leases: granted, kept, lost and got again.

use std::time::Duration;

use discovery_core::{
    ErrorKind, HealthReport, LeaseMode, MetaChange, Registration, Renewal, Status,
    registrar::RegistrationPhase,
};
use discovery_etcd::{LeaseSharing, backend};
use discovery_testkit::{
    eventually,
    proxy::{Flow, Proxy},
    server::{Server, etcd::Etcd},
};
use futures::{
    StreamExt,
    future::{join_all, try_join_all},
    stream,
};
use tokio::time::{Instant, timeout};

use crate::support::{
    KEY, PATIENCE, Setup, TTL, api, at, client, config, leases, of, ports, shows, started, view_shows,
};

pub(crate) async fn e_1_the_servers_ttl_counts(setup: Setup) {
    let etcd = started(setup.etcd().flag("--election-timeout=2000")).await;
    let registration = Registration::builder("api", "192.0.2.1", 1).ttl(Duration::from_secs(1));
    let lease = of(&etcd)
        .registry
        .register(&registration.build().unwrap())
        .await
        .unwrap();
    let half_as_long_again = Duration::from_secs(3);
    assert_eq!(lease.ttl, Some(half_as_long_again));
}

pub(crate) async fn e_2_a_revoked_lease_is_granted_anew(setup: Setup) {
    let etcd = setup.started().await;
    let client = client(of(&etcd));
    client.register(api(1)).await.unwrap();
    let before = leases(&etcd).await;
    assert_eq!(before.len(), 1, "{before:?}");
    etcd.ctl(&["lease", "revoke", &before[0]]).await.unwrap();
    // The next heartbeat finds it out: nothing else would.
    shows(&of(&etcd), &[1]).await;
    assert_ne!(leases(&etcd).await, before);
    client.shutdown(PATIENCE).await.unwrap();
    shows(&of(&etcd), &[]).await;
    assert_eq!(leases(&etcd).await, [""; 0], "shutdown revokes");
}

pub(crate) async fn e_3_silence_longer_than_the_ttl_is_a_lost_lease(setup: Setup) {
    let etcd = setup.started().await;
    let way = Proxy::start(etcd.endpoint()).unwrap();
    let client = client(at([way.addr()]));
    client.register(api(1)).await.unwrap();
    way.flow_both(Flow::Stall);
    let silent = Instant::now();
    // Nobody says so: its own clock does.
    eventually("a lost lease", PATIENCE, || async {
        let state = client.status().await.registrations.remove(0);
        match state.phase {
            RegistrationPhase::Lost => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(silent.elapsed() > TTL * 2 / 3, "{:?}", silent.elapsed());
    shows(&of(&etcd), &[]).await;
    way.heal().unwrap();
    shows(&of(&etcd), &[1]).await;
    client.shutdown(PATIENCE).await.unwrap();
}

pub(crate) async fn e_4_leases_of_many_are_kept_on_one_stream(setup: Setup) {
    let etcd = setup.started().await;
    let way = Proxy::start(etcd.endpoint()).unwrap();
    let mut config = config([way.addr()]);
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
        try_join_all(all).await.unwrap();
    }
    assert_eq!(way.counters().accepted, 1);
    let opened = keep_alives(&etcd, "started").await;
    assert_eq!(opened, 1, "one stream for all of them");
    // One whose caller went away takes no answer from the others.
    let renewal = Renewal::new([(granted[0].key.clone(), HealthReport::default())]);
    for _ in 0..20 {
        // Whether it was in time does not matter.
        let _ = timeout(
            Duration::from_micros(200),
            backend.registry.renew(&granted[0].group, &renewal),
        )
        .await;
        backend.registry.renew(&granted[0].group, &renewal).await.unwrap();
    }
    assert_eq!(way.counters().accepted, 1);
    // Each is ended by itself.
    backend.registry.deregister(&granted[0].key).await.unwrap();
    assert_eq!(leases(&etcd).await.len(), 49);
    assert_eq!(ports(&backend).await.unwrap().len(), 49);
}

/// What the server counts of keep-alives: `started` streams, messages `msg_received`.
async fn keep_alives(etcd: &Etcd, what: &str) -> u64 {
    let (metrics, name) = (etcd.metrics().await.unwrap(), format!("grpc_server_{what}_total"));
    let line = metrics
        .lines()
        .find(|line| line.starts_with(&name) && line.contains("\"LeaseKeepAlive\""));
    line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

/// One deadline for all of them; and the answers to what was asked before it are no one else's.
pub(crate) async fn e_4_silence_of_the_stream_is_told_to_all_who_wait(setup: Setup) {
    let etcd = setup.started().await;
    let way = Proxy::start(etcd.endpoint()).unwrap();
    let mut config = config([way.addr()]);
    config.service_registration.lease = LeaseSharing::Single;
    config.service_registration.ttl = Duration::from_secs(60);
    config.request_timeout = Duration::from_secs(2);
    let backend = backend(config).unwrap();
    let mut renewals = Vec::new();
    for port in 1..=300 {
        let lease = backend.registry.register(&api(port)).await.unwrap();
        renewals.push((lease.group, Renewal::new([(lease.key, HealthReport::default())])));
    }
    let renew_all = || {
        let all = renewals.iter();
        join_all(all.map(|(group, renewal)| backend.registry.renew(group, renewal)))
    };
    assert!(
        renew_all().await.iter().all(Result::is_ok),
        "more than are under way at once"
    );
    way.flow_both(Flow::Stall);
    let silent = Instant::now();
    for renewed in renew_all().await {
        let failed = renewed.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Timeout, "{failed:?}");
    }
    assert!(silent.elapsed() >= Duration::from_secs(2));
    way.heal().unwrap();
    eventually("renewals", PATIENCE, || async {
        match renew_all().await.into_iter().find_map(Result::err) {
            None => Ok(()),
            Some(failed) => Err(format!("{failed:?}")),
        }
    })
    .await;
    assert_eq!(leases(&etcd).await.len(), 300, "none was lost");
}

/// The lease of one of them is revoked; the others learn theirs from the same stream.
pub(crate) async fn e_2_one_lost_lease_takes_none_of_the_others(setup: Setup) {
    let etcd = setup.started().await;
    let mut config = config([etcd.url()]);
    config.service_registration.lease = LeaseSharing::Single;
    config.service_registration.ttl = Duration::from_secs(60);
    let backend = backend(config).unwrap();
    let mut granted = Vec::new();
    for port in 1..=20 {
        granted.push(backend.registry.register(&api(port)).await.unwrap());
    }
    etcd.ctl(&["lease", "revoke", granted[7].group.as_str()])
        .await
        .unwrap();
    let renewed = join_all(granted.iter().map(async |lease| {
        let renewal = Renewal::new([(lease.key.clone(), HealthReport::default())]);
        backend.registry.renew(&lease.group, &renewal).await
    }));
    for (place, renewed) in renewed.await.into_iter().enumerate() {
        match renewed {
            Ok(()) => assert_ne!(place, 7),
            Err(failed) => assert_eq!((place, failed.kind()), (7, ErrorKind::NotFound)),
        }
    }
}

/// However many live by it, one lease costs one keep-alive.
pub(crate) async fn e_4_one_keep_alive_carries_five_thousand(setup: Setup) {
    const ALL: u16 = 5000;
    let etcd = setup.started().await;
    let mut config = config([etcd.url()]);
    config.service_registration.ttl = Duration::from_secs(60);
    let backend = backend(config).unwrap();
    let registered = stream::iter(1..=ALL).map(|port| {
        let registry = backend.registry.clone();
        async move { registry.register(&api(port)).await.unwrap() }
    });
    let registered: Vec<_> = registered.buffer_unordered(16).collect().await;
    let group = registered[0].group.clone();
    assert!(registered.iter().all(|lease| lease.group == group));
    assert_eq!(leases(&etcd).await, [group.as_str()]);
    let keys = registered
        .into_iter()
        .map(|lease| (lease.key, HealthReport::default()));
    let renewal = Renewal::new(keys);
    // The first also makes sure of what each shows.
    backend.registry.renew(&group, &renewal).await.unwrap();
    let before = keep_alives(&etcd, "msg_received").await;
    for _ in 0..3 {
        backend.registry.renew(&group, &renewal).await.unwrap();
    }
    assert_eq!(keep_alives(&etcd, "msg_received").await - before, 3);
    // Deregistering one of them deletes its key; the lease goes on for the others.
    backend.registry.deregister(&renewal.members[0].0).await.unwrap();
    assert_eq!(ports(&backend).await.unwrap().len(), usize::from(ALL) - 1);
    assert_eq!(leases(&etcd).await, [group.as_str()]);
    backend.registry.release(&group).await.unwrap();
    shows(&backend, &[]).await;
}

pub(crate) async fn e_7_a_write_under_a_dead_lease_gets_another(setup: Setup) {
    let etcd = setup.started().await;
    let backend = of(&etcd);
    let first = backend.registry.register(&api(1)).await.unwrap();
    etcd.ctl(&["lease", "revoke", &leases(&etcd).await[0]])
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

pub(crate) async fn e_10_changed_metadata_stays_under_its_lease(setup: Setup) {
    let etcd = setup.started().await;
    let backend = of(&etcd);
    let lease = backend.registry.register(&api(1)).await.unwrap();
    let change = MetaChange::new().set("version", "2");
    backend.registry.update_meta(&lease.key, &change).await.unwrap();
    let report = HealthReport::new(Status::Warning);
    backend.registry.report_health(&lease.key, &report).await.unwrap();
    // Another client changes it, too, and does not adopt it.
    let change = MetaChange::new().set("changed", "elsewhere");
    of(&etcd).registry.update_meta(&lease.key, &change).await.unwrap();
    let found = backend.registry.instance(&lease.key).await.unwrap().unwrap();
    assert_eq!((found.meta.len(), found.status), (2, Status::Warning));
    // Nobody renews: it goes.
    shows(&backend, &[]).await;
}

pub(crate) async fn e_11_release_revokes_and_absence_is_success(setup: Setup) {
    let etcd = setup.started().await;
    let backend = of(&etcd);
    let lease = backend.registry.register(&api(1)).await.unwrap();
    backend.registry.release(&lease.group).await.unwrap();
    assert_eq!(ports(&backend).await.unwrap(), [0_u16; 0]);
    assert_eq!(leases(&etcd).await, [""; 0]);
    backend.registry.release(&lease.group).await.unwrap();
}

pub(crate) async fn e_12_a_key_deleted_behind_our_back_returns(setup: Setup) {
    let etcd = setup.started().await;
    let client = client(of(&etcd));
    client.register(api(1)).await.unwrap();
    view_shows(&client, 1).await;
    assert_eq!(etcd.ctl(&["del", KEY]).await.unwrap().trim(), "1");
    shows(&of(&etcd), &[1]).await;
    client.shutdown(PATIENCE).await.unwrap();
}
