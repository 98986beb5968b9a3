use proptest::prelude::*;

use super::*;
use crate::{
    convert::Content,
    testing::{self, Records, ip, n, srv},
};

fn question() -> Question {
    Question::new(&n("_web._tcp.svc.test"), RecordType::SRV, true).unwrap()
}

fn answer(question: &Question) -> Message {
    let records = [
        srv("_web._tcp.svc.test", 1, 2, 80, "a.svc.test"),
        ip("a.svc.test", "192.0.2.1"),
    ];
    Records::of(records).answer(&question.bytes)
}

#[test]
fn d_3_questions_say_how_much_we_take() {
    let sent = Message::from_vec(&question().bytes).unwrap();
    assert_eq!(sent.edns.map(|edns| edns.max_payload()), Some(1232));
    assert!(sent.metadata.recursion_desired);
    let plain = Question::new(&n("a.test"), RecordType::A, false).unwrap();
    assert_eq!(Message::from_vec(&plain.bytes).unwrap().edns, None);
}

#[test]
fn d_4_only_the_answer_to_the_question_is_one() {
    let question = question();
    let good = answer(&question);
    let read = |message: &Message| question.read(&message.to_vec().unwrap());
    assert!(matches!(read(&good), Read::Answer(_)));

    let mut other = good.clone();
    other.metadata.id = other.metadata.id.wrapping_add(1);
    assert!(matches!(read(&other), Read::Other), "another id");
    let mut other = good.clone();
    other.queries[0].name = n("_other._tcp.svc.test");
    assert!(matches!(read(&other), Read::Other), "another name");
    let mut other = good.clone();
    other.queries[0].query_type = RecordType::A;
    assert!(matches!(read(&other), Read::Other), "another type");
    let mut other = good.clone();
    other.metadata.message_type = MessageType::Query;
    assert!(matches!(read(&other), Read::Other), "a question");
    let mut other = good.clone();
    other.queries.clear();
    assert!(matches!(read(&other), Read::Other), "no question");
    let mut other = good;
    other.queries[0].name = n("_WEB._tcp.SVC.test");
    assert!(
        matches!(read(&other), Read::Answer(_)),
        "case makes no difference"
    );
    let ids: std::collections::HashSet<u16> = (0..100).map(|_| self::question().id).collect();
    assert!(ids.len() > 90, "ids are random");
}

#[test]
fn d_2_what_a_cut_answer_holds_is_not_looked_at() {
    let question = question();
    let mut message = answer(&question);
    message.metadata.truncation = true;
    let packet = message.to_vec().unwrap();
    assert!(matches!(question.read(&packet), Read::Cut));
    assert!(
        matches!(question.read(&packet[..packet.len() - 3]), Read::Cut),
        "within a record"
    );
}

/// Packets that have hung or crashed readers of DNS.
#[test]
fn d_6_hostile_packets_are_refused() {
    let question = question();
    let id = question.id.to_be_bytes();
    let packet = |tail: &[u8]| {
        let mut packet = vec![id[0], id[1], 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        packet.extend(tail);
        packet
    };
    let long = [
        &[63; 64][..],
        &[63; 64],
        &[63; 64],
        &[63; 64],
        &[0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    for (what, tail) in [
        ("a pointer to itself", &[0xc0, 12, 0, 1, 0, 1][..]),
        ("a pointer forward", &[0xc0, 20, 0, 1, 0, 1, 0, 0, 0, 0]),
        ("two pointers at each other", &[0xc0, 14, 0xc0, 12]),
        ("a name of 256 bytes", &long),
        ("a label of 64 bytes", &[0x40; 80]),
        ("an end within a name", &[5, b'a']),
        (
            "an address of three bytes",
            &[0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 3, 1, 2, 3],
        ),
        (
            "more data than there is",
            &[0, 0, 16, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 1],
        ),
    ] {
        let read = question.read(&packet(tail));
        assert!(matches!(read, Read::Garbage), "{what}: {read:?}");
    }
    for short in 0..12 {
        let read = question.read(&packet(&[])[..short]);
        assert!(matches!(read, Read::Garbage), "{short} bytes: {read:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn d_6_no_packet_panics(mut packet in prop::collection::vec(any::<u8>(), 0..600)) {
        let question = question();
        // Deep enough to be read as an answer.
        for (byte, id) in packet.iter_mut().zip(question.id.to_be_bytes()) {
            *byte = id;
        }
        drop(question.read(&packet));
    }

    #[test]
    fn d_6_no_damage_to_an_answer_panics(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let question = question();
        let mut packet = answer(&question).to_vec().unwrap();
        let at = at.index(packet.len());
        packet[at] = byte;
        packet.truncate(cut.index(packet.len()) + 1);
        drop(question.read(&packet));
    }

    #[test]
    fn d_21_no_strings_panic(strings in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..255), 0..20)) {
        drop(Content::read(strings.iter().map(Vec::as_slice)));
    }
}

#[test]
fn an_id_is_where_the_server_puts_it() {
    let question = question();
    assert_eq!(question.bytes[..2], question.id.to_be_bytes());
    drop(testing::n("a.test"));
}
