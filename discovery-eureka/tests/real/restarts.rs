//! A server that forgets everything.

use std::time::Duration;

use discovery::Client;
use discovery_core::Source;
use discovery_testkit::{eventually, server::Server};

use crate::{
    Setup,
    support::{PATIENCE, on, shows, web},
};

/// Programs that beat register again; a view keeps them meanwhile, and loses the one whose program is gone.
pub(crate) async fn u_10_u_25_a_server_restarted_empty(setup: Setup) {
    let eureka = setup.started().await;
    let (provider, consumer) = (
        Client::builder(on(&eureka)).build().unwrap(),
        Client::builder(on(&eureka)).build().unwrap(),
    );
    for port in 1..=3 {
        let registration = web(port).ttl(Duration::from_secs(9)).build().unwrap();
        provider.register(registration).await.unwrap();
    }
    let lost = web(4).ttl(Duration::from_secs(90)).build().unwrap();
    on(&eureka).registry.register(&lost).await.unwrap();
    let service = consumer.service("web").unwrap();
    let ports = async || {
        let view = service.instances().await.unwrap();
        let mut ports: Vec<_> = view.instances.iter().map(|i| i.port).collect();
        ports.sort_unstable();
        (view.source, ports)
    };
    eventually("all four", PATIENCE, async || ports().await.1 == [1, 2, 3, 4]).await;
    eureka.restart().await.unwrap();
    let truth = on(&eureka);
    eventually("those that live, again", PATIENCE, async || {
        assert_eq!(ports().await.1, [1, 2, 3, 4], "nobody withdrew them");
        let read = truth
            .registry
            .instances(&discovery_core::Query::service("web").unwrap())
            .await;
        read.is_ok_and(|read| read.instances.len() == 3)
    })
    .await;
    eventually("a view without the one that is gone", PATIENCE * 2, async || {
        let (source, ports) = ports().await;
        assert!(ports.starts_with(&[1, 2, 3]), "{ports:?}");
        (source, ports.len()) == (Source::Live, 3)
    })
    .await;
    provider.shutdown(PATIENCE).await.unwrap();
    shows(&truth, "web", &[]).await;
    consumer.shutdown(PATIENCE).await.unwrap();
}
