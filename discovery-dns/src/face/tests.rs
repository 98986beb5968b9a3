use discovery_core::{Instance, InstanceId, InstanceKey, ServiceName, Snapshot, Source, Status, Target};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use proptest::prelude::*;

use super::*;
use crate::testing::n;

fn instance(service: &str, n: u16) -> discovery_core::InstanceBuilder {
    let key = InstanceKey::new(
        "memory",
        ServiceName::observed(service),
        InstanceId::observed(format!("{service}-{n}")),
    );
    Instance::builder(key, format!("10.0.{}.{}", n / 250, n % 250 + 1), 8000 + n)
}

fn desk_of(instances: Vec<Instance>, source: Source) -> Desk {
    let snapshot = Snapshot::live(Target::All, instances).with_source(source);
    Desk {
        zone: n("discovery"),
        ttl: 5,
        negative_ttl: 2,
        index: ArcSwapOption::from_pointee(Some(Index::new(&snapshot))),
    }
}

fn desk() -> Desk {
    let all = vec![
        instance("api", 1)
            .tags(["v1"])
            .weight(3)
            .priority(1)
            .meta([("version", "1")])
            .build(),
        instance("api", 2).tags(["V2"]).build(),
        instance("api", 3).status(Status::Critical).tags(["v3"]).build(),
        instance("api", 4).draining(true).build(),
        instance("down", 1).status(Status::Critical).build(),
    ];
    desk_of(all, Source::Live)
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut question = Message::query();
    question.add_query(Query::query(n(name), kind));
    question
}

fn ask(desk: &Desk, name: &str, kind: RecordType) -> Message {
    let question = question(name, kind);
    let reply = desk.answer(&question.to_vec().unwrap(), false).unwrap();
    let reply = Message::from_vec(&reply).unwrap();
    assert_eq!(
        (reply.metadata.id, &reply.queries),
        (question.metadata.id, &question.queries)
    );
    reply
}

fn ports(reply: &Message) -> Vec<u16> {
    let mut ports: Vec<_> = reply
        .answers
        .iter()
        .filter_map(|one| match &one.data {
            RData::SRV(srv) => Some(srv.port),
            _ => None,
        })
        .collect();
    ports.sort_unstable();
    ports
}

#[test]
fn every_form_of_a_name_is_answered() {
    let desk = desk();
    for (name, wanted) in [
        ("api.service.discovery", &[8001, 8002][..]),
        ("API.Service.Discovery", &[8001, 8002]),
        ("_api._tcp.service.discovery", &[8001, 8002]),
        ("v1.api.service.discovery", &[8001]),
        ("_api._v2.service.discovery", &[8002]),
    ] {
        let reply = ask(&desk, name, RecordType::SRV);
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError, "{name}");
        assert!(reply.metadata.authoritative);
        assert_eq!(
            ports(&reply),
            wanted,
            "{name}: unhealthy and draining ones are left out"
        );
        assert_eq!(reply.additionals.len(), wanted.len(), "the addresses come along");
        assert!(reply.answers.iter().all(|one| one.ttl == 5));
    }
    let a = ask(&desk, "api.service.discovery", RecordType::A);
    assert_eq!(a.answers.len(), 2);
    let aaaa = ask(&desk, "api.service.discovery", RecordType::AAAA);
    assert_eq!(
        (aaaa.answers.len(), aaaa.metadata.response_code),
        (0, ResponseCode::NoError)
    );
    let text = ask(&desk, "v1.api.service.discovery", RecordType::TXT);
    assert!(matches!(&text.answers[0].data, RData::TXT(data) if &*data.txt_data[0] == b"version=1"));
}

#[test]
fn a_target_leads_to_its_address() {
    let desk = desk();
    let reply = ask(&desk, "v1.api.service.discovery", RecordType::SRV);
    let RData::SRV(srv) = &reply.answers[0].data else {
        panic!("{reply:?}")
    };
    assert_eq!((srv.priority, srv.weight, srv.port), (1, 3, 8001));
    let target = srv.target.to_ascii();
    let address = ask(&desk, &target, RecordType::A);
    assert_eq!(address.answers[0].data.to_string(), "10.0.0.2");
    assert!(ask(&desk, &target, RecordType::AAAA).answers.is_empty());
    let six = format!("{:032x}.addr.discovery", 1);
    assert_eq!(
        ask(&desk, &six, RecordType::AAAA).answers[0].data.to_string(),
        "::1"
    );
}

#[test]
fn nothing_is_told_apart_from_not_now() {
    let desk = desk();
    let code = |desk: &Desk, name| ask(desk, name, RecordType::SRV).metadata.response_code;
    for (name, wanted) in [
        ("nobody.service.discovery", ResponseCode::NXDomain),
        ("v9.api.service.discovery", ResponseCode::NXDomain),
        ("a.b.c.service.discovery", ResponseCode::NXDomain),
        ("xyz.addr.discovery", ResponseCode::NXDomain),
        ("down.service.discovery", ResponseCode::NoError),
        ("v3.api.service.discovery", ResponseCode::NoError),
        ("service.discovery", ResponseCode::NoError),
        ("api.service.elsewhere", ResponseCode::Refused),
    ] {
        let reply = ask(&desk, name, RecordType::SRV);
        assert_eq!(
            (reply.metadata.response_code, reply.answers.len()),
            (wanted, 0),
            "{name}"
        );
        let soa = reply
            .authorities
            .iter()
            .any(|one| one.record_type() == RecordType::SOA);
        assert_eq!(
            soa,
            wanted != ResponseCode::Refused,
            "{name}: how long that is good"
        );
    }
    desk.index.store(None);
    assert_eq!(code(&desk, "api.service.discovery"), ResponseCode::ServFail);
}

#[test]
fn what_is_stale_is_good_for_a_second() {
    let desk = desk_of(vec![instance("api", 1).build()], Source::Stale);
    assert_eq!(
        ask(&desk, "api.service.discovery", RecordType::A).answers[0].ttl,
        1
    );
}

#[test]
fn what_does_not_fit_is_cut_and_says_so() {
    let desk = desk_of(
        (0..200).map(|n| instance("api", n).build()).collect(),
        Source::Live,
    );
    let mut question = question("api.service.discovery", RecordType::SRV);
    let reply = |question: &Message, tcp| {
        let bytes = desk.answer(&question.to_vec().unwrap(), tcp).unwrap();
        (bytes.len(), Message::from_vec(&bytes).unwrap())
    };
    let (size, small) = reply(&question, false);
    assert!(
        size <= 512 && small.metadata.truncation && !small.answers.is_empty(),
        "{size}"
    );
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    question.set_edns(edns);
    let (size, larger) = reply(&question, false);
    assert!(
        size <= 1232 && larger.metadata.truncation && larger.edns.is_some(),
        "{size}"
    );
    assert!(larger.answers.len() > small.answers.len());
    let (_, whole) = reply(&question, true);
    assert!(!whole.metadata.truncation);
    assert_eq!((whole.answers.len(), whole.additionals.len()), (200, 200));
}

#[test]
fn what_is_no_question_for_us_is_refused() {
    let desk = desk();
    let code = |message: &Message| {
        let reply = desk.answer(&message.to_vec().unwrap(), false)?;
        Some(Message::from_vec(&reply).unwrap().metadata.response_code)
    };
    let mut response = question("api.service.discovery", RecordType::A);
    response.metadata.message_type = MessageType::Response;
    assert_eq!(
        code(&response),
        None,
        "two servers must not answer each other for ever"
    );
    let notify = Message::new(1, MessageType::Query, OpCode::Notify);
    assert_eq!(code(&notify), Some(ResponseCode::NotImp));
    assert_eq!(code(&Message::query()), Some(ResponseCode::FormErr));
    let mut version = question("api.service.discovery", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    version.set_edns(edns);
    assert_eq!(code(&version), Some(crate::wire::BADVERS));
    assert_eq!(desk.answer(&[0; 11], false), None);
    let garbage = desk
        .answer(&[7, 7, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 1], false)
        .unwrap();
    assert_eq!((&garbage[..2], garbage[3] & 0xf), (&[7, 7][..], 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_packet_panics(packet in prop::collection::vec(any::<u8>(), 0..400), tcp in any::<bool>()) {
        drop(desk().answer(&packet, tcp));
    }

    #[test]
    fn no_damage_to_a_question_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut packet = question("v1.api.service.discovery", RecordType::ANY).to_vec().unwrap();
        let at = at.index(packet.len());
        packet[at] = byte;
        let reply = desk().answer(&packet, false);
        prop_assert!(reply.is_none_or(|reply| reply.len() <= 512));
    }
}

#[test]
fn names_of_any_bytes_are_no_harm() {
    let name = Name::from_labels([&b"\xff.\x00"[..], b"service", b"discovery"]).unwrap();
    let mut question = Message::query();
    question.add_query(Query::query(name, RecordType::A));
    let reply = desk().answer(&question.to_vec().unwrap(), false).unwrap();
    assert_eq!(reply[3] & 0xf, 3);
}
