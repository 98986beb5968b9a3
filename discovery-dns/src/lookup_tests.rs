use discovery_core::ErrorKind;
use hickory_proto::rr::Record;

use super::*;
use crate::{
    config::{Caching, Transport, Zone, ZoneType},
    testing::{self, Records, alias, config, find, ip, n, places, pointer, record, soa, srv, text},
};

const WEB: &str = "_web._tcp.svc.test";

async fn found(records: impl IntoIterator<Item = Record>) -> Result<Found> {
    find(&testing::server(Records::of(records)).await, WEB).await
}

#[tokio::test]
async fn d_8_aliases_are_followed_and_loops_end() {
    let two = [
        alias(WEB, "_x._tcp.svc.test"),
        srv("_x._tcp.svc.test", 1, 1, 80, "a.svc.test"),
        alias("a.svc.test", "b.svc.test"),
        ip("b.svc.test", "192.0.2.1"),
    ];
    assert_eq!(places(&found(two).await.unwrap()), ["192.0.2.1:80"]);
    let a_loop = [alias(WEB, "_x._tcp.svc.test"), alias("_x._tcp.svc.test", WEB)];
    let error = found(a_loop).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    let names: Vec<_> = (0..12).map(|n| format!("_{n}._tcp.svc.test")).collect();
    let long = names
        .windows(2)
        .map(|pair| alias(&pair[0], &pair[1]))
        .chain([alias(WEB, &names[0])]);
    assert_eq!(found(long).await.unwrap_err().kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn d_8_an_alias_that_leads_elsewhere_is_asked_for_again() {
    let server = testing::server(Records::default()).await;
    let records = Records::of([
        alias(WEB, "_x._tcp.svc.test"),
        srv("_x._tcp.svc.test", 1, 1, 80, "a.svc.test"),
        ip("a.svc.test", "192.0.2.1"),
    ]);
    server.rule(move |packet| {
        let mut answer = records.answer(packet.bytes);
        if answer.queries[0].name == n(WEB) {
            answer
                .answers
                .retain(|one| one.record_type() == RecordType::CNAME);
        }
        discovery_testkit::proxy::dns::Act::Reply(vec![answer.to_vec().unwrap()])
    });
    assert_eq!(places(&find(&server, WEB).await.unwrap()), ["192.0.2.1:80"]);
}

#[tokio::test]
async fn d_9_a_target_of_a_dot_says_that_there_is_nothing() {
    assert_eq!(places(&found([srv(WEB, 0, 0, 0, ".")]).await.unwrap()), [""; 0]);
    let mixed = [
        srv(WEB, 0, 0, 0, "."),
        srv(WEB, 1, 1, 80, "a.svc.test"),
        ip("a.svc.test", "192.0.2.1"),
    ];
    assert_eq!(places(&found(mixed).await.unwrap()), ["192.0.2.1:80"]);
}

/// A call goes to every instance of the lowest priority before it goes to one of the next.
#[tokio::test]
async fn d_10_a_call_tries_the_next_priority_last() {
    let records = [
        srv(WEB, 10, 60, 80, "a.svc.test"),
        srv(WEB, 10, 0, 81, "a.svc.test"),
        srv(WEB, 20, 9, 90, "a.svc.test"),
        srv(WEB, 20, 9, 91, "a.svc.test"),
        ip("a.svc.test", "192.0.2.1"),
    ];
    let server = testing::server(Records::of(records)).await;
    let client = discovery::Client::builder(crate::backend(config(&server)).unwrap())
        .build()
        .unwrap();
    let strategy: std::sync::Arc<dyn discovery_core::pick::Strategy> = std::sync::Arc::new(crate::Rfc2782);
    let query = discovery_core::Query::service(WEB).unwrap();
    let service = client.balanced(&query, &strategy).unwrap();
    service.ready().await.unwrap();
    for _ in 0..100 {
        let mut tried = Vec::new();
        while tried.len() < 3 {
            tried.push(service.acquire_other(&tried).unwrap().key.clone());
        }
        let ports: Vec<_> = tried
            .iter()
            .map(|key| key.id.as_str().rsplit(':').next().unwrap())
            .collect();
        assert!(
            ports[..2].contains(&"80") && ports[..2].contains(&"81"),
            "{ports:?}"
        );
        assert!(["90", "91"].contains(&ports[2]), "{ports:?}");
    }
    client.shutdown(std::time::Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn d_11_additional_addresses_are_believed_of_targets_within_the_zone_only() {
    let mut records = Records::of([
        srv(WEB, 1, 1, 80, "a.svc.test"),
        srv(WEB, 1, 1, 80, "elsewhere.example"),
        ip("a.svc.test", "192.0.2.1"),
        ip("elsewhere.example", "192.0.2.2"),
    ]);
    records.extra = vec![
        ip("A.svc.TEST", "192.0.2.1"),
        // Not ours to say, and nobody's target.
        ip("elsewhere.example", "203.0.113.66"),
        ip("b.svc.test", "203.0.113.67"),
    ];
    let server = testing::server(records).await;
    let found = find(&server, WEB).await.unwrap();
    assert_eq!(places(&found), ["192.0.2.1:80", "192.0.2.2:80"]);
    let asked: Vec<_> = server.asked().into_iter().map(|(name, ..)| name).collect();
    assert!(!asked.contains(&"a.svc.test".to_owned()), "{asked:?}");
}

#[tokio::test]
async fn d_11_addresses_that_do_not_come_along_are_asked_for_in_both_families() {
    let records = [
        srv(WEB, 1, 1, 80, "a.svc.test"),
        ip("a.svc.test", "192.0.2.1"),
        ip("a.svc.test", "2001:db8::1"),
    ];
    let server = testing::server(Records::of(records)).await;
    let found = find(&server, WEB).await.unwrap();
    assert_eq!(places(&found), ["192.0.2.1:80", "[2001:db8::1]:80"]);
    // One family that fails does no harm; both do.
    let records = Records::of([srv(WEB, 1, 1, 80, "a.svc.test"), ip("a.svc.test", "192.0.2.1")]);
    let failing = |kinds: &'static [u16]| {
        let records = records.clone();
        move |packet: &discovery_testkit::proxy::dns::Packet<'_>| {
            let reply = match packet.asks() {
                Some((_, kind)) if kinds.contains(&kind) => {
                    discovery_testkit::proxy::dns::refusal(packet.bytes, 2)
                }
                _ => records.answer(packet.bytes).to_vec().unwrap(),
            };
            discovery_testkit::proxy::dns::Act::Reply(vec![reply])
        }
    };
    server.rule(failing(&[28]));
    assert_eq!(places(&find(&server, WEB).await.unwrap()), ["192.0.2.1:80"]);
    server.rule(failing(&[1, 28]));
    assert_eq!(
        find(&server, WEB).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
}

#[tokio::test]
async fn d_12_dangling_targets_are_passed_over_and_places_are_there_once() {
    let records = [
        srv(WEB, 1, 1, 80, "nowhere.svc.test"),
        srv(WEB, 1, 7, 80, "two.svc.test"),
        srv(WEB, 2, 9, 80, "same.svc.test"),
        ip("two.svc.test", "192.0.2.1"),
        ip("two.svc.test", "192.0.2.2"),
        ip("same.svc.test", "192.0.2.2"),
    ];
    let found = found(records).await.unwrap();
    assert_eq!(places(&found), ["192.0.2.1:80", "192.0.2.2:80"]);
    for one in &found.instances {
        assert_eq!((one.priority, one.weight.0), (1, 7), "{one:?}");
        assert_eq!(one.locality.node.as_deref(), Some("two.svc.test"));
    }
}

#[tokio::test]
async fn d_14_the_shortest_ttl_of_all_that_was_used_counts() {
    let data = |record: Record| record.data;
    let with = |cname, service, address| {
        [
            record(WEB, cname, data(alias(WEB, "_x._tcp.svc.test"))),
            record(
                "_x._tcp.svc.test",
                service,
                data(srv(WEB, 1, 1, 80, "a.svc.test")),
            ),
            record("a.svc.test", address, data(ip("a.svc.test", "192.0.2.1"))),
        ]
    };
    for (ttls, shortest) in [
        ((5, 20, 20), 5),
        ((20, 6, 20), 6),
        ((20, 20, 7), 7),
        ((20, 0, 20), 0),
        // The top bit is set.
        ((20, 0x8000_0001, 20), 0),
    ] {
        let found = found(with(ttls.0, ttls.1, ttls.2)).await.unwrap();
        assert_eq!(found.ttl, Ttl(Some(shortest)), "{ttls:?}");
    }
}

#[test]
fn d_14_ttls_are_kept_within_bounds() {
    let caching = Caching::default();
    let within = |seconds, empty| Ttl(seconds).within(&caching, empty).as_secs();
    assert_eq!(
        [Some(0), Some(1), Some(5), Some(29), Some(3600)].map(|ttl| within(ttl, false)),
        [2, 2, 5, 29, 30]
    );
    assert_eq!(
        [Some(0), Some(5), Some(3600)].map(|ttl| within(ttl, true)),
        [2, 5, 10]
    );
    assert_eq!(within(None, true), 2, "nothing says how long");
}

#[tokio::test]
async fn d_15_absence_lasts_as_its_zone_says() {
    for (ttl, minimum, seconds) in [(60, 5, 5), (4, 60, 4), (60, 0, 0)] {
        let found = found([soa("svc.test", ttl, minimum)]).await.unwrap();
        assert_eq!((found.instances.len(), found.ttl), (0, Ttl(Some(seconds))));
    }
    // Of another zone, or of none.
    for records in [vec![soa("other.test", 60, 5)], vec![]] {
        assert_eq!(found(records).await.unwrap().ttl, Ttl(None));
    }
}

#[tokio::test]
async fn d_17_no_such_name_and_no_such_records_are_alike() {
    let nothing = found([soa("svc.test", 60, 5)]).await.unwrap();
    let no_data = found([soa("svc.test", 60, 5), ip(WEB, "192.0.2.1")])
        .await
        .unwrap();
    assert_eq!(nothing, no_data);
    assert!(nothing.instances.is_empty());
}

#[tokio::test]
async fn d_19_ports_weights_and_priorities_may_be_anything() {
    let records = [
        srv(WEB, 0, 0, 0, "a.svc.test"),
        srv(WEB, u16::MAX, u16::MAX, u16::MAX, "a.svc.test"),
        ip("a.svc.test", "192.0.2.1"),
    ];
    let found = found(records).await.unwrap();
    let all: Vec<_> = found
        .instances
        .iter()
        .map(|one| (one.port, one.priority, one.weight.0))
        .collect();
    assert_eq!(all, [(0, 0, 0), (u16::MAX, u16::MAX, u16::MAX)]);
}

#[tokio::test]
async fn d_20_order_is_no_change() {
    let mut records = vec![
        srv(WEB, 1, 1, 80, "a.svc.test"),
        srv(WEB, 1, 1, 81, "b.svc.test"),
        ip("a.svc.test", "192.0.2.1"),
        ip("b.svc.test", "192.0.2.2"),
    ];
    let one = found(records.clone()).await.unwrap();
    records.reverse();
    assert_eq!(found(records).await.unwrap(), one);
}

#[tokio::test]
async fn d_21_instances_of_dns_sd() {
    let kind = "_http._tcp.svc.test";
    let label = "Büro. 2nd floor";
    let name = name::under(label.as_bytes(), &n(kind)).unwrap();
    let of_name = |record: Record| Record::from_rdata(name.clone(), record.ttl, record.data);
    let records = [
        pointer(kind, name.clone()),
        pointer(kind, n("gone._http._tcp.svc.test")),
        pointer(kind, n("stranger.example")),
        of_name(srv(WEB, 1, 2, 80, "a.svc.test")),
        of_name(srv(WEB, 1, 2, 81, "a.svc.test")),
        text(
            name.clone(),
            &[
                b"Path=/a=b",
                b"path=/x",
                b"flag",
                b"",
                b"=nothing",
                b"bin=\xff\x00",
            ],
        ),
        ip("a.svc.test", "192.0.2.1"),
        ip("stranger.example", "192.0.2.66"),
    ];
    let server = testing::server(Records::of(records)).await;
    let config = config(&server).zone(Zone::new("svc.test", ZoneType::DnsSd));
    for service in ["http", kind] {
        let found = testing::lookup(&config)
            .service(&ServiceName::new(service).unwrap())
            .await
            .unwrap();
        assert_eq!(places(&found), ["192.0.2.1:80", "192.0.2.1:81"]);
        let ids: Vec<_> = found.instances.iter().map(|one| one.key.id.as_str()).collect();
        assert_eq!(ids, [label, "Büro. 2nd floor@192.0.2.1:81"]);
        let meta = &found.instances[0].meta;
        let wanted = [("Path", "/a=b"), ("bin", "\u{fffd}\0"), ("flag", "")];
        assert_eq!(
            meta.iter()
                .map(|(k, v)| (k.as_str(), v.as_str()))
                .collect::<Vec<_>>(),
            wanted
        );
    }
}

#[tokio::test]
async fn addresses_are_found_at_the_port_that_is_configured() {
    let records = [
        ip("api.svc.test", "192.0.2.1"),
        ip("api.svc.test", "2001:db8::1"),
        soa("svc.test", 60, 5),
    ];
    let server = testing::server(Records::of(records)).await;
    let zoned = config(&server).zone(Zone::new("svc.test", ZoneType::Address).port(8080));
    let mut plain = config(&server);
    plain.port = Some(8080);
    for (config, service) in [
        (&zoned, "api"),
        (&zoned, "api.svc.test"),
        (&plain, "api.svc.test"),
    ] {
        let found = testing::lookup(config)
            .service(&ServiceName::new(service).unwrap())
            .await
            .unwrap();
        assert_eq!(
            places(&found),
            ["192.0.2.1:8080", "[2001:db8::1]:8080"],
            "{service}"
        );
    }
    let without = find(&server, "api.svc.test").await.unwrap();
    assert!(without.instances.is_empty(), "no port is made up");
}

#[tokio::test]
async fn short_names_are_looked_for_in_zones_and_then_in_search_domains() {
    let records = [
        srv("_web._tcp.svc.test", 1, 1, 80, "a.svc.test"),
        ip("a.svc.test", "192.0.2.1"),
    ];
    let server = testing::server(Records::of(records)).await;
    let mut config = config(&server)
        .zone(Zone::new("consul", ZoneType::Consul))
        .zone(Zone::new("svc.test", ZoneType::Srv));
    config.search = vec!["search.test".to_owned()];
    config.transport = Transport::Udp;
    let lookup = testing::lookup(&config);
    let found = lookup.service(&ServiceName::new("web").unwrap()).await.unwrap();
    assert_eq!(places(&found), ["192.0.2.1:80"]);
    lookup.service(&ServiceName::new("db").unwrap()).await.unwrap();
    let mut asked: Vec<_> = server.asked().into_iter().map(|(name, ..)| name).collect();
    asked.dedup();
    assert_eq!(
        asked,
        [
            "web.service.consul",
            "_web._tcp.svc.test",
            "a.svc.test",
            "db.service.consul",
            "_db._tcp.svc.test",
            "db.search.test"
        ]
    );
    // A full name stays what it is.
    lookup
        .service(&ServiceName::new("db.example").unwrap())
        .await
        .unwrap();
    assert_eq!(
        server.asked().last().map(|(name, ..)| name.as_str()),
        Some("db.example")
    );
}
