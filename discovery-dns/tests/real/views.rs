//! Look-ups and views on BIND and Knot.

use std::time::Duration;

use discovery_core::Source;
use discovery_dns::{Transport, backend};
use discovery_testkit::{
    proxy::dns::{Act, DnsProxy, refusal},
    server::Server,
};
use tokio::time::{Instant, interval};

use crate::support::{Setup, big, config, instances, ports, shows, view, web, writer};

const RECORDS: &str = "_web._tcp SRV 10 60 8080 a
_web._tcp SRV 10 40 8080 b
_web._tcp SRV 20 0 8081 b
_none._tcp SRV 0 0 0 .
_cname._tcp CNAME _web._tcp
_loop._tcp CNAME _pool._tcp
_pool._tcp CNAME _loop._tcp
_dangling._tcp SRV 0 0 80 nowhere
a A 127.0.0.11
b A 127.0.0.12
";
const DEADLINE: Duration = Duration::from_secs(5);

pub(crate) async fn d_8_d_9_d_12_records_as_servers_have_them(setup: Setup) {
    let server = setup.started(RECORDS).await;
    for transport in [Transport::Udp, Transport::Tcp] {
        let backend = backend(config(server.endpoint()).transport(transport)).unwrap();
        for name in ["_web._tcp.svc.test", "_cname._tcp.svc.test"] {
            let found = instances(&backend, name).await;
            let shown: Vec<_> = found
                .iter()
                .map(|one| (one.address(), one.priority, one.weight.0))
                .collect();
            let wanted = [
                ("127.0.0.11:8080", 10, 60),
                ("127.0.0.12:8080", 10, 40),
                ("127.0.0.12:8081", 20, 0),
            ];
            assert_eq!(
                shown,
                wanted.map(|(address, priority, weight)| (address.to_owned(), priority, weight)),
                "{name}"
            );
        }
        for name in [
            "_none._tcp.svc.test",
            "_dangling._tcp.svc.test",
            "_nobody._tcp.svc.test",
        ] {
            assert_eq!(ports(&backend, name).await, [0; 0], "{name}");
        }
        let query = discovery_core::Query::service("_loop._tcp.svc.test").unwrap();
        let looped = backend.registry.instances(&query).await.unwrap_err();
        assert!(
            matches!(
                looped.kind(),
                discovery_core::ErrorKind::Protocol | discovery_core::ErrorKind::Unavailable
            ),
            "{looped:?}"
        );
    }
    server.stop().await.unwrap();
}

pub(crate) async fn d_2_a_hundred_instances_over_udp(setup: Setup) {
    let server = setup.started(&big()).await;
    let backend = backend(config(server.endpoint())).unwrap();
    let wanted: Vec<_> = (8001..=8100).collect();
    assert_eq!(ports(&backend, "_big._tcp.svc.test").await, wanted);
    server.stop().await.unwrap();
}

/// RFC 8767: the last good view is shown, said to be stale, and is live again soon after.
pub(crate) async fn d_16_servfail_empties_no_view(setup: Setup) {
    let slow = std::env::var("DISCOVERY_TEST_TIER").is_ok_and(|tier| tier == "slow");
    let outage = Duration::from_secs(if slow { 120 } else { 6 });
    let server = setup.started(RECORDS).await;
    let proxy = DnsProxy::start(server.endpoint()).await.unwrap();
    let (client, service) = view(backend(config(proxy.addr())).unwrap(), "_web._tcp.svc.test");
    shows(&service, "three", |view| view.instances.len() == 3).await;
    proxy.rule(|packet| Act::Reply(vec![refusal(packet.bytes, 2)]));
    shows(&service, "a stale view", |view| view.source == Source::Stale).await;
    let (over, before) = (Instant::now() + outage, proxy.count());
    let mut ticks = interval(Duration::from_millis(50));
    while Instant::now() < over {
        ticks.tick().await;
        let view = service.instances().await.unwrap();
        assert_eq!((view.instances.len(), view.source), (3, Source::Stale));
    }
    let tries = proxy.count() - before;
    assert!(tries < 40, "{tries} tries in {outage:?}: no backoff");
    proxy.heal().await.unwrap();
    let patience = Duration::from_secs(90);
    discovery_testkit::eventually("a live view", patience, || async {
        service
            .instances()
            .await
            .is_ok_and(|view| view.source == Source::Live && view.instances.len() == 3)
    })
    .await;
    client.shutdown(DEADLINE).await.unwrap();
    server.stop().await.unwrap();
}

/// that there is nothing any more is an answer, and believed at once.
pub(crate) async fn d_16_the_last_instance_leaves_at_once(setup: Setup) {
    let server = setup.started("").await;
    let backend = writer(&server, server.endpoint());
    let lease = backend.registry.register(&web(80)).await.unwrap();
    let (client, service) = view(backend.clone(), "web");
    shows(&service, "one", |view| view.instances.len() == 1).await;
    backend.registry.deregister(&lease.key).await.unwrap();
    let view = shows(&service, "none", |view| view.instances.is_empty()).await;
    assert_eq!((view.source, view.held), (Source::Live, None));
    client.shutdown(DEADLINE).await.unwrap();
    server.stop().await.unwrap();
}

pub(crate) async fn d_7_one_of_two_resolvers_is_dead(setup: Setup) {
    let server = setup.started(RECORDS).await;
    let dead = DnsProxy::stub().await.unwrap();
    for how in ["silent", "refusing"] {
        if how == "refusing" {
            dead.refuse().await;
        }
        let backend = backend(config(dead.addr()).server(server.endpoint().to_string())).unwrap();
        assert_eq!(
            ports(&backend, "_web._tcp.svc.test").await,
            [8080, 8080, 8081],
            "{how}"
        );
        let before = dead.count();
        assert_eq!(ports(&backend, "_web._tcp.svc.test").await, [8080, 8080, 8081]);
        assert_eq!(dead.count(), before, "the dead one was asked first again");
    }
    server.stop().await.unwrap();
}

pub(crate) async fn d_18_a_slow_refresh_drops_nothing(setup: Setup) {
    let server = setup.started(RECORDS).await;
    let proxy = DnsProxy::start(server.endpoint()).await.unwrap();
    let (client, service) = view(backend(config(proxy.addr())).unwrap(), "_web._tcp.svc.test");
    shows(&service, "three", |view| view.instances.len() == 3).await;
    // Later than the records are good for.
    proxy.rule(|_| Act::Delay(Duration::from_millis(1500)));
    let over = Instant::now() + Duration::from_secs(6);
    let mut ticks = interval(Duration::from_millis(20));
    while Instant::now() < over {
        ticks.tick().await;
        let view = service.instances().await.unwrap();
        assert_eq!((view.instances.len(), view.source), (3, Source::Live));
    }
    client.shutdown(DEADLINE).await.unwrap();
    server.stop().await.unwrap();
}
