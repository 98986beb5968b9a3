//! Consul's own DNS port.

use std::{path::PathBuf, time::Duration};

use discovery_consul::ConsulConfig;
use discovery_core::{Query, Registration};
use discovery_dns::{DnsConfig, Transport, Zone, ZoneType, backend};
use discovery_testkit::{
    eventually,
    proxy::dns::DnsProxy,
    server::{Server, consul::Consul},
    try_eventually,
};
use futures::future::try_join_all;
use tokio::time::{Instant, sleep_until};

use crate::support::{PATIENCE, ports, view};

async fn with(binary: PathBuf, ports: std::ops::RangeInclusive<u16>) -> Consul {
    let consul = Consul::dev(binary).build().await.unwrap();
    consul.start().await.unwrap();
    let agent = discovery_consul::backend(ConsulConfig::at(consul.endpoint().to_string())).unwrap();
    let all: Vec<_> = ports
        .map(|port| {
            let tag = if port % 2 == 0 { "even" } else { "odd" };
            Registration::builder("api", format!("10.1.0.{port}"), port)
                .tag(tag)
                .build()
                .unwrap()
        })
        .collect();
    for some in all.chunks(20) {
        try_join_all(some.iter().map(|one| agent.registry.register(one)))
            .await
            .unwrap();
    }
    consul
}

/// Over UDP, Consul leaves out what does not fit, and does not say so.
pub(crate) async fn d_1_120_instances(binary: PathBuf) {
    let consul = with(binary, 1..=120).await;
    let mut config = DnsConfig::at(consul.dns().to_string());
    config.timeout = Duration::from_secs(5);
    let whole = backend(config.clone()).unwrap();
    let wanted: Vec<_> = (1..=120).collect();
    try_eventually("120 instances", PATIENCE, || async {
        let found = ports(&whole, "api.service.consul").await;
        if found == wanted { Ok(()) } else { Err(found.len()) }
    })
    .await
    .unwrap();
    // Short, in a zone.
    let zoned = backend(config.clone().zone(Zone::new("consul", ZoneType::Consul))).unwrap();
    assert_eq!(ports(&zoned, "api").await, wanted);
    assert_eq!(ports(&whole, "_api._tcp.service.consul").await, wanted);
    // What is missing without TCP is why it is asked for over TCP.
    let cut = backend(config.transport(Transport::Udp)).unwrap();
    let over_udp = ports(&cut, "api.service.consul").await;
    assert!(over_udp.len() < 120, "Consul no longer cuts: {}", over_udp.len());
    consul.stop().await.unwrap();
}

pub(crate) async fn d_14_a_ttl_of_zero_is_no_hot_loop(binary: PathBuf) {
    let consul = with(binary, 1..=2).await;
    let proxy = DnsProxy::start(consul.dns()).await.unwrap();
    let mut config = DnsConfig::at(proxy.addr().to_string());
    config.caching.min_ttl = Duration::from_secs(1);
    let (client, service) = view(backend(config).unwrap(), "api.service.consul");
    eventually("both", PATIENCE, || async {
        service
            .instances()
            .await
            .is_ok_and(|view| view.instances.len() == 2)
    })
    .await;
    let asked = || proxy.asked().iter().filter(|(_, kind, _)| *kind == 33).count();
    let (before, started) = (asked(), Instant::now());
    sleep_until(started + Duration::from_secs(5)).await;
    let (rate, took) = (asked() - before, started.elapsed());
    assert!(rate as u64 <= took.as_secs() + 1, "{rate} questions in {took:?}");
    eventually("two more", PATIENCE, || async { asked() >= before + 2 }).await;
    client.shutdown(Duration::from_secs(5)).await.unwrap();
    consul.stop().await.unwrap();
}

pub(crate) async fn d_22_names_of_consul(binary: PathBuf) {
    let consul = with(binary, 1..=4).await;
    let backend = backend(DnsConfig::at(consul.dns().to_string())).unwrap();
    for (name, wanted) in [
        ("api.service.consul", vec![1, 2, 3, 4]),
        ("api.service.dc1.consul.", vec![1, 2, 3, 4]),
        ("even.api.service.consul", vec![2, 4]),
        ("_api._odd.service.consul", vec![1, 3]),
        ("API.Service.CONSUL", vec![1, 2, 3, 4]),
        ("none.api.service.consul", vec![]),
        ("nobody.service.consul", vec![]),
    ] {
        try_eventually(name, PATIENCE, || async {
            let found = ports(&backend, name).await;
            if found == wanted {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        })
        .await
        .unwrap();
    }
    // An unknown datacenter has nothing, and a node has no service: nothing, or an error, and never somebody else's.
    for name in ["api.service.dc9.consul", "nobody.node.consul"] {
        let found = backend.registry.instances(&Query::service(name).unwrap()).await;
        assert!(
            found.is_err() || found.is_ok_and(|found| found.instances.is_empty()),
            "{name}"
        );
    }
    let status = backend.registry.status().await.unwrap();
    assert!(status.latency < Duration::from_secs(2), "{status:?}");
    consul.stop().await.unwrap();
}
