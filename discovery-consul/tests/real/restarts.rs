//! Servers that end, start again, start late, or lose their leader.

use std::time::Duration;

use discovery_consul::{Consistency, backend};
use discovery_core::{ErrorKind, Evidence, HealthReport, Query, Renewal, Source, Status, Suspicion};
use discovery_testkit::{eventually, server::Server};

use crate::support::{
    LONG, PATIENCE, Setup, TTL, Views, brisk, client, direct, numbered, ports, register, sees, started, turns,
};

/// Registered again, by the next heartbeat after the agent's return.
pub(crate) async fn killed_and_restarted_empty(setup: Setup) {
    let consul = setup.started().await;
    let (truth, ttl) = (direct(&consul), Duration::from_secs(9));
    let client = client(brisk(consul.endpoint()));
    client.register(numbered("web", 80, ttl)).await.unwrap();
    for _ in 0..2 {
        sees(&truth, "web", &[80]).await;
        consul.restart_empty().await.unwrap();
        sees(&truth, "web", &[80]).await;
    }
    turns(&truth, "web", Status::Passing, PATIENCE).await;
    client.shutdown(PATIENCE).await.unwrap();
    sees(&truth, "web", &[]).await;
}

pub(crate) async fn killed_and_restarted_with_its_data(setup: Setup) {
    let consul = started(setup.consul().persistent()).await;
    let truth = direct(&consul);
    register(&truth, "db", &[1, 2]).await;
    let client = client(brisk(consul.endpoint()));
    client.register(numbered("web", 80, TTL)).await.unwrap();
    turns(&truth, "web", Status::Passing, PATIENCE).await;
    let mut db = Views::of(&client, &Query::service("db").unwrap(), &[1, 2]).await;
    consul.kill().await.unwrap();
    db.stale(&[1, 2]).await;
    db.keeps(&[1, 2], consul.start()).await.unwrap();
    let again = async {
        turns(&truth, "web", Status::Passing, PATIENCE).await;
        eventually("a live view", PATIENCE, || async {
            let view = client.service("db").unwrap().instances().await.unwrap();
            if view.source == Source::Live {
                Ok(())
            } else {
                Err(format!("{view:?}"))
            }
        })
        .await;
    };
    db.keeps(&[1, 2], again).await;
    truth.registry.register(&numbered("db", 3, LONG)).await.unwrap();
    db.live(&[1, 2, 3], PATIENCE).await;
    client.shutdown(PATIENCE).await.unwrap();
    sees(&truth, "web", &[]).await;
}

pub(crate) async fn a_server_that_starts_late(setup: Setup) {
    let consul = setup.consul().build().await.unwrap();
    let client = client(brisk(consul.endpoint()));
    let service = client.service("web").unwrap();
    let error = service.ready().await.unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
        "{error:?}"
    );
    let error = client.register(numbered("web", 80, TTL)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    let query = Query::service("web").unwrap();
    assert!(
        client.lookup(&query).await.is_err(),
        "never nothing for a failure"
    );
    consul.start().await.unwrap();
    sees(&direct(&consul), "web", &[]).await;
    client.register(numbered("web", 80, TTL)).await.unwrap();
    Views::of(&client, &query, &[80]).await;
    assert_eq!(service.acquire().unwrap().port, 80);
    client.shutdown(PATIENCE).await.unwrap();
}

pub(crate) async fn a_cold_start_from_disk(setup: Setup) {
    let consul = started(setup.consul().persistent()).await;
    let (disk, query) = (tempfile::tempdir().unwrap(), Query::service("db").unwrap());
    register(&direct(&consul), "db", &[1, 2]).await;
    let make = || {
        discovery::Client::builder(backend(brisk(consul.endpoint())).unwrap())
            .snapshot_dir(disk.path())
            .timeout(PATIENCE)
            .build()
            .unwrap()
    };
    let client = make();
    Views::of(&client, &query, &[1, 2]).await;
    client.shutdown(PATIENCE).await.unwrap();
    consul.stop().await.unwrap();

    let client = make();
    let service = client.query(&query).unwrap();
    let view = service.ready().await.unwrap();
    assert_eq!((view.source, ports(&view)), (Source::Disk, vec![1, 2]));
    assert!(service.acquire().is_ok(), "it can be picked from");
    consul.start().await.unwrap();
    Views::of(&client, &query, &[1, 2]).await;
    client.shutdown(PATIENCE).await.unwrap();
}

pub(crate) async fn c_12_c_30_a_lost_quorum(setup: Setup) {
    let cluster = setup.consul().cluster().await.unwrap();
    cluster.start().await.unwrap();
    let [survivor, others @ ..] = cluster.members();
    let plain = direct(survivor);
    let lease = plain.registry.register(&numbered("web", 80, LONG)).await.unwrap();
    sees(&plain, "web", &[80]).await;
    let mut config = brisk(survivor.endpoint());
    config.discovery.consistency = Consistency::Stale;
    config.discovery.max_staleness = Duration::from_secs(1);
    let stale = backend(config).unwrap();
    sees(&stale, "web", &[80]).await;
    let query = Query::service("web").unwrap();
    let client = client(brisk(survivor.endpoint()));
    let mut view = Views::of(&client, &query, &[80]).await;
    for other in others {
        other.kill().await.unwrap();
    }
    // Default reads fail, in time and as what may heal; heartbeats go to the agent alone and go on.
    eventually("the loss", PATIENCE, || async {
        match plain.registry.instances(&query).await {
            Ok(found) => Err(format!("{found:?}")),
            Err(error) => {
                assert!(error.is_retryable(), "{error:?}");
                Ok(())
            }
        }
    })
    .await;
    let renewal = Renewal::new([(lease.key.clone(), HealthReport::default())]);
    // An agent that is telling servers what it knows holds up its own callers for as long: a heartbeat may be late once.
    eventually("a heartbeat without a leader", PATIENCE, || async {
        let renewed = plain.registry.renew(&lease.group, &renewal).await;
        renewed.map_err(|error| {
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
            error.to_string()
        })
    })
    .await;
    view.stale(&[80]).await;
    // Stale reads go on, and say what they are.
    eventually("an answer that says how old it is", PATIENCE, || async {
        let found = stale.registry.instances(&query).await.unwrap();
        assert_eq!(found.instances.len(), 1, "whatever it says, it hides nothing");
        match found.evidence {
            Evidence::Suspect(Suspicion::NoLeader) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    view.keeps(&[80], cluster.start()).await.unwrap();
    sees(&plain, "web", &[80]).await;
    view.live(&[80], PATIENCE * 2).await;
    client.shutdown(PATIENCE).await.unwrap();
}
