//! Many of everything.

use std::time::Duration;

use discovery_consul::ConsulConfig;
use discovery_core::{Status, pick::Service};
use discovery_testkit::{eventually, proxy::Proxy, server::Server};
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use serde_json::json;
use tokio::time::Instant;

use crate::support::{PATIENCE, Setup, direct, numbered, register, sees, status, turns, web};

/// Of the one that beats: two heartbeats in a row may be late on a busy machine, not a third.
const TTL: Duration = Duration::from_secs(9);
/// An agent allows 200 connections from one address.
const CONNECTIONS: usize = 200;

pub(crate) async fn c_16_300_watches_beside_heartbeats(setup: Setup) {
    let consul = setup.started().await;
    let (truth, way) = (direct(&consul), Proxy::start(consul.endpoint()).unwrap());
    register(&truth, "s299", &[1]).await;
    let client = discovery::Client::builder(
        discovery_consul::backend(ConsulConfig::at(way.addr().to_string())).unwrap(),
    )
    .timeout(PATIENCE)
    .build()
    .unwrap();
    client.register(numbered("web", 80, TTL)).await.unwrap();
    turns(&truth, "web", Status::Passing, PATIENCE).await;
    let services: Vec<Service> = (0..300)
        .map(|n| client.service(format!("s{n}")).unwrap())
        .collect();
    let watched = async {
        try_join_all(services.iter().map(Service::ready)).await.unwrap();
        let open = Instant::now();
        // Now that all are open, or wait for their turn.
        eventually("twice the TTL", PATIENCE, || async { open.elapsed() > 2 * TTL }).await;
    };
    // A heartbeat that is missed long enough to matter makes it critical at once.
    let alive = async {
        loop {
            assert_eq!(status(&truth, "web").await.unwrap(), Status::Passing);
            let states = client.status().await.registrations;
            let confirmed = states[0].confirmed.unwrap();
            assert!(confirmed < TTL, "confirmed {confirmed:?} ago");
            assert!(states[0].last_error.is_none(), "{states:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = watched => {}
        () = alive => {}
    }
    let peak = way.counters().peak;
    assert!((100..CONNECTIONS).contains(&peak), "{peak} connections");
    assert_eq!(client.status().await.watches, 300);
    assert_eq!(services[299].instances().await.unwrap().instances.len(), 1);
    client.shutdown(PATIENCE).await.unwrap();
    sees(&truth, "web", &[]).await;
    eventually("every connection's end", PATIENCE, || async {
        match way.counters().open {
            // Those kept for later requests.
            0..=40 => Ok(()),
            open => Err(format!("{open} connections")),
        }
    })
    .await;
}

pub(crate) async fn a_thousand_cycles_leave_nothing(setup: Setup) {
    let consul = setup.started().await;
    let truth = &direct(&consul);
    stream::iter(0..1000)
        .map(|n| async move {
            let lease = truth.registry.register(&web(&format!("web-{n}"))).await?;
            truth.registry.deregister(&lease.key).await
        })
        .buffer_unordered(16)
        .try_collect::<()>()
        .await
        .unwrap();
    sees(truth, "web", &[]).await;
    assert_eq!(consul.agent_services().await.unwrap(), json!({}));
    assert_eq!(consul.get("/v1/agent/checks").await.unwrap(), json!({}));
}
