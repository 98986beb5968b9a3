//! Registration by dynamic update.

use discovery_core::{ErrorKind, HealthReport, Query, Registration, Status};
use discovery_dns::{Update, Zone, ZoneType, backend};
use discovery_testkit::{
    capture::Capture,
    proxy::dns::{Act, DnsProxy},
    server::Server,
};
use futures::future::{join_all, try_join_all};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::support::{Setup, config, instances, ports, web, writer, writing};

/// Concurrent registrants share record sets, and add and remove their own.
pub(crate) async fn d_25_fifty_at_once(setup: Setup) {
    let server = setup.started("").await;
    let clients: Vec<_> = (0..50).map(|_| writer(&server, server.endpoint())).collect();
    let registered = clients
        .iter()
        .zip(1..)
        .map(|(client, port)| async move { client.registry.register(&web(port)).await });
    let leases = try_join_all(registered).await.unwrap();
    let all: Vec<_> = (1..=50).collect();
    assert_eq!(ports(&clients[0], "web").await, all);
    // Half of them leave, the others stay.
    let leaving = clients
        .iter()
        .zip(&leases)
        .filter(|(_, lease)| lease.key.id.as_str().len() % 2 == 0);
    let left: Vec<_> = leaving
        .map(|(client, lease)| client.registry.deregister(&lease.key))
        .collect();
    let gone = join_all(left).await;
    assert!(gone.iter().all(Result::is_ok), "{gone:?}");
    let stays = |port: &u16| web(*port).id.as_str().len() % 2 == 1;
    assert_eq!(
        ports(&clients[0], "web").await,
        all.into_iter().filter(stays).collect::<Vec<_>>()
    );
    server.stop().await.unwrap();
}

pub(crate) async fn d_23_a_wrong_key_is_told(setup: Setup) {
    const SENTINEL: &str = "c2VudGluZWxzZW50aW5lbHNlbnRpbmVsc2VudGluZWw";
    let capture = Capture::install().ok();
    let server = setup.started("").await;
    let zoned = || config(server.endpoint()).zone(Zone::new("svc.test", ZoneType::DnsSd));
    let name = &server.key().unwrap().name;
    let try_with = async |update| {
        backend(zoned().update(update))
            .unwrap()
            .registry
            .register(&web(80))
            .await
            .unwrap_err()
    };
    for (what, update, kinds) in [
        (
            "another secret",
            Update::signed(name, SENTINEL.to_owned() + "="),
            &[ErrorKind::Unauthenticated][..],
        ),
        (
            "another name",
            Update::signed("nobody", SENTINEL.to_owned() + "="),
            &[ErrorKind::Unauthenticated],
        ),
        (
            "none",
            Update::default(),
            &[ErrorKind::PermissionDenied, ErrorKind::Unsupported],
        ),
    ] {
        let error = try_with(update).await;
        assert!(kinds.contains(&error.kind()), "{what}: {error:?}");
        assert!(error.hint().is_some(), "{what}");
        assert!(!format!("{error:?}").contains(SENTINEL), "{what}");
    }
    if let Some(capture) = capture {
        assert!(!capture.text().contains(SENTINEL), "A-6");
    }
    server.stop().await.unwrap();
}

pub(crate) async fn d_24_a_stripped_signature_is_no_success(setup: Setup) {
    let server = setup.started("").await;
    let proxy = DnsProxy::start(server.endpoint()).await.unwrap();
    proxy.rule(|packet| {
        // An update (opcode 5): its answer loses all but head and zone.
        if packet.bytes[2] >> 3 & 0xf == 5 {
            Act::edit(|reply| vec![unsigned(reply)])
        } else {
            Act::Pass
        }
    });
    let error = writer(&server, proxy.addr())
        .registry
        .register(&web(80))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    server.stop().await.unwrap();
}

/// The message without what follows its zone section.
fn unsigned(mut reply: Vec<u8>) -> Vec<u8> {
    let mut end = 12;
    if reply[5] > 0 {
        while reply[end] > 0 {
            end += usize::from(reply[end]) + 1;
        }
        end += 5;
    }
    reply.truncate(end);
    reply[6..12].fill(0);
    reply
}

pub(crate) async fn d_27_a_lost_answer_is_asked_for_again(setup: Setup) {
    let server = setup.started("").await;
    let proxy = DnsProxy::start(server.endpoint()).await.unwrap();
    let updates = Arc::new(AtomicUsize::new(0));
    let counted = updates.clone();
    proxy.rule(move |packet| {
        let update = packet.bytes[2] >> 3 & 0xf == 5;
        // The server does it, and nobody hears of it.
        if update && counted.fetch_add(1, Ordering::Relaxed) == 0 {
            Act::edit(|_| Vec::new())
        } else {
            Act::Pass
        }
    });
    let mut impatient = writing(proxy.addr(), server.key().unwrap());
    impatient.timeout = std::time::Duration::from_secs(2);
    let backend = backend(impatient).unwrap();
    backend.registry.register(&web(80)).await.unwrap();
    assert_eq!(updates.load(Ordering::Relaxed), 2);
    assert_eq!(ports(&writer(&server, server.endpoint()), "web").await, [80]);
    server.stop().await.unwrap();
}

pub(crate) async fn d_28_what_a_crash_leaves_is_there_until_it_is_removed(setup: Setup) {
    let server = setup.started("").await;
    let lease = {
        let crashing = writer(&server, server.endpoint());
        crashing.registry.register(&web(80)).await.unwrap()
    };
    assert_eq!(lease.ttl, None, "it lives by nothing");
    let other = writer(&server, server.endpoint());
    assert_eq!(ports(&other, "web").await, [80]);
    other.registry.deregister(&lease.key).await.unwrap();
    assert_eq!(ports(&other, "web").await, [0; 0]);
    server.stop().await.unwrap();
}

/// Plain SRV shows it as DNS-SD does, and an unhealthy one gets the weight that is configured.
pub(crate) async fn what_is_registered_is_what_any_client_of_dns_sees(setup: Setup) {
    let server = setup.started("").await;
    let ours = writer(&server, server.endpoint());
    let registration = Registration::builder("web", "127.0.0.1", 80)
        .weight(7)
        .meta("version", "2")
        .build()
        .unwrap();
    let lease = ours.registry.register(&registration).await.unwrap();
    let plain = backend(config(server.endpoint())).unwrap();
    let weight = async || {
        let found = instances(&plain, "_web._tcp.svc.test").await;
        let [one] = &found[..] else { panic!("{found:?}") };
        assert_eq!(one.address(), "127.0.0.1:80");
        one.weight.0
    };
    assert_eq!(weight().await, 7);
    let critical = HealthReport::new(Status::Critical);
    ours.registry.report_health(&lease.key, &critical).await.unwrap();
    assert_eq!(weight().await, 0, "`unhealthy_weight`");
    let own = ours.registry.instance(&lease.key).await.unwrap().unwrap();
    assert_eq!((own.status, own.weight.0), (Status::Critical, 7));
    let all = ours
        .registry
        .instances(&Query::service("web").unwrap())
        .await
        .unwrap();
    assert_eq!(all.instances.iter().filter(|one| one.is_available()).count(), 0);
    // Its type is listed while it is there, and no longer.
    let scope = discovery_core::Scope::default();
    assert_eq!(ours.registry.services(&scope).await.unwrap().len(), 1);
    ours.registry.deregister(&lease.key).await.unwrap();
    assert!(ours.registry.services(&scope).await.unwrap().is_empty());
    // 12: PTR.
    let types = server.ask("_services._dns-sd._udp.svc.test", 12).await.unwrap();
    assert_eq!(types.answers, 0, "{types:?}");
    server.stop().await.unwrap();
}
