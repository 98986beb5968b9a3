//! Two servers.

use std::time::Duration;

use discovery::Client;
use discovery_core::{Backend, Query};
use discovery_eureka::backend;
use discovery_testkit::{
    eventually,
    server::{
        Server,
        eureka::{Eureka, EurekaPair},
    },
};

use crate::{
    Setup, slow,
    support::{PATIENCE, on, quick, shows, web},
};

async fn pair(setup: &Setup) -> EurekaPair {
    let pair = Eureka::dev(&setup.jar).pair().unwrap();
    pair.start().await.unwrap();
    pair
}

/// A backend that prefers the first of these.
fn preferring(first: &Eureka, second: &Eureka) -> Backend {
    let mut config = quick([second.url()]);
    config.server.zone = Some("z".to_owned());
    config
        .server
        .zones
        .insert("z".to_owned(), vec![first.url().into()]);
    backend(config).unwrap()
}

async fn ports(client: &Client) -> Vec<u16> {
    let view = client.service("web").unwrap().instances().await.unwrap();
    let mut ports: Vec<_> = view.instances.iter().map(|i| i.port).collect();
    ports.sort_unstable();
    ports
}

/// What registers at one side is kept alive there; who watches one side is not led astray by the other's memory.
pub(crate) async fn u_20_one_cut_off_then_back_pollutes_nothing(setup: Setup) {
    let pair = pair(&setup).await;
    let [first, second] = pair.peers();
    let provider = Client::builder(preferring(first, second)).build().unwrap();
    let consumer = Client::builder(preferring(first, second)).build().unwrap();
    for port in 1..=3 {
        let registration = web(port).ttl(Duration::from_secs(3)).build().unwrap();
        provider.register(registration).await.unwrap();
    }
    shows(&on(second), "web", &[1, 2, 3]).await;
    eventually("all three", PATIENCE, async || {
        ports(&consumer).await == [1, 2, 3]
    })
    .await;
    pair.cut_off().await;
    // The other side hears no heartbeat and evicts them; who watches this side sees what is true here.
    let (one, query) = (on(second), Query::service("web").unwrap());
    eventually("the other side's eviction", PATIENCE, async || {
        assert_eq!(ports(&consumer).await, [1, 2, 3]);
        one.registry.instances(&query).await.unwrap().instances.is_empty()
    })
    .await;
    provider
        .deregister(&discovery_core::InstanceId::new("web-1").unwrap())
        .await
        .unwrap();
    eventually("two", PATIENCE, async || ports(&consumer).await == [2, 3]).await;
    if slow() {
        // Longer than servers keep changes for each other.
        let until = tokio::time::Instant::now() + std::time::Duration::from_secs(200);
        eventually("the end of a long separation", PATIENCE * 8, async || {
            assert_eq!(ports(&consumer).await, [2, 3]);
            tokio::time::Instant::now() > until
        })
        .await;
    }
    pair.heal().unwrap();
    eventually("both sides to agree", PATIENCE, async || {
        assert_eq!(ports(&consumer).await, [2, 3]);
        one.registry.instances(&query).await.unwrap().instances.len() == 2
    })
    .await;
    provider.shutdown(PATIENCE).await.unwrap();
    shows(&on(first), "web", &[]).await;
    consumer.shutdown(PATIENCE).await.unwrap();
    pair.stop().await.unwrap();
}

pub(crate) async fn u_30_a_peer_that_dies_is_left(setup: Setup) {
    let pair = pair(&setup).await;
    let [first, second] = pair.peers();
    let provider = Client::builder(preferring(first, second)).build().unwrap();
    let consumer = Client::builder(preferring(first, second)).build().unwrap();
    for port in 1..=3 {
        let registration = web(port).ttl(Duration::from_secs(3)).build().unwrap();
        provider.register(registration).await.unwrap();
    }
    eventually("all three", PATIENCE, async || {
        ports(&consumer).await == [1, 2, 3]
    })
    .await;
    shows(&on(second), "web", &[1, 2, 3]).await;
    first.kill().await.unwrap();
    provider
        .register(web(4).ttl(Duration::from_secs(3)).build().unwrap())
        .await
        .unwrap();
    eventually("the fourth, by the other peer", PATIENCE, async || {
        let ports = ports(&consumer).await;
        assert!(ports.starts_with(&[1, 2, 3]), "{ports:?}");
        ports == [1, 2, 3, 4]
    })
    .await;
    // Heartbeats go to the other peer, too: longer than any lease.
    let later = tokio::time::Instant::now() + Duration::from_secs(8);
    eventually("eight seconds", PATIENCE, async || {
        assert_eq!(ports(&consumer).await, [1, 2, 3, 4]);
        tokio::time::Instant::now() > later
    })
    .await;
    provider.shutdown(PATIENCE).await.unwrap();
    shows(&on(second), "web", &[]).await;
    consumer.shutdown(PATIENCE).await.unwrap();
    pair.stop().await.unwrap();
}
