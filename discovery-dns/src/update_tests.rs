use std::sync::Mutex;

use discovery_testkit::proxy::dns::{Act, DnsProxy};
use hickory_proto::op::ResponseCode;

use super::*;
use crate::{
    config::{Update, Zone, ZoneType},
    testing::{self, Records},
};

/// A server that takes every update and shows what `registered` would.
async fn taking() -> (DnsProxy, Arc<Mutex<Vec<Message>>>) {
    let server = DnsProxy::stub().await.unwrap();
    let taken: Arc<Mutex<Vec<Message>>> = Arc::default();
    let log = taken.clone();
    server.rule(move |packet| {
        let message = Message::from_vec(packet.bytes).unwrap();
        let reply = if message.metadata.op_code == OpCode::Update {
            let mut log = log.lock().unwrap();
            log.push(message.clone());
            // The first is lost.
            if log.len() == 1 {
                return Act::Silence;
            }
            let mut reply = Message::response(message.metadata.id, OpCode::Update);
            reply.metadata.response_code = ResponseCode::NoError;
            reply
        } else {
            let log = log.lock().unwrap();
            let added = log
                .last()
                .map(|update| update.authorities.clone())
                .unwrap_or_default();
            let added = added.into_iter().filter(|one| one.dns_class == DNSClass::IN);
            Records::of(added).answer(packet.bytes)
        };
        Act::Reply(vec![reply.to_vec().unwrap()])
    });
    (server, taken)
}

#[tokio::test]
async fn d_26_d_27_one_message_with_one_ttl_is_sent_again_when_it_is_lost() {
    let (server, taken) = taking().await;
    let mut config = testing::config(&server)
        .zone(Zone::new("svc.test", ZoneType::DnsSd))
        .update(Update::default());
    config.timeout = std::time::Duration::from_secs(1);
    let backend = crate::backend(config).unwrap();
    let registration = Registration::builder("api", "192.0.2.1", 80).build().unwrap();
    backend.registry.register(&registration).await.unwrap();

    let taken = taken.lock().unwrap();
    assert_eq!(taken.len(), 2);
    assert_ne!(taken[0].metadata.id, taken[1].metadata.id);
    assert_eq!(
        taken[0].authorities, taken[1].authorities,
        "the same is asked for"
    );
    let added: Vec<_> = taken[1]
        .authorities
        .iter()
        .filter(|one| one.dns_class == DNSClass::IN)
        .collect();
    assert!(added.iter().all(|one| one.ttl == 30), "{added:?}");
    let kinds: Vec<_> = added.iter().map(|one| one.record_type().to_string()).collect();
    assert_eq!(kinds, ["SRV", "TXT", "A", "SRV", "PTR", "PTR"]);
    let removed: Vec<_> = taken[1]
        .authorities
        .iter()
        .filter(|one| one.dns_class == DNSClass::ANY)
        .collect();
    assert_eq!(removed.len(), 2, "only at names of our own: {removed:?}");
}

#[tokio::test]
async fn what_dns_cannot_hold_is_refused_before_anything_is_sent() {
    let (server, _) = taking().await;
    let config = testing::config(&server)
        .zone(Zone::new("svc.test", ZoneType::DnsSd))
        .update(Update::default());
    let backend = crate::backend(config).unwrap();
    let build = |name: &str, address: &str, id: &str| {
        Registration::builder(name, address, 80).id(id).build().unwrap()
    };
    for registration in [
        build("api", "host.test", "x"),
        build("a b", "192.0.2.1", "x"),
        build("größe", "192.0.2.1", "x"),
        build("api", "192.0.2.1", &"x".repeat(64)),
    ] {
        let error = backend.registry.register(&registration).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{registration:?}");
        assert!(error.hint().is_some());
    }
    assert_eq!(server.count(), 0);
}
