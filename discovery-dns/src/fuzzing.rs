//! What `fuzz/` gives to strangers' bytes. Only there when it is built for that.

use std::sync::LazyLock;

use arc_swap::ArcSwapOption;
use discovery_core::{Instance, InstanceId, InstanceKey, ServiceName, Snapshot, Target};
use hickory_proto::{
    op::{Message, MessageType, OpCode},
    rr::{Name, RecordType},
};

use crate::{
    config::Update,
    face::{Desk, Index},
    lookup,
    tsig::{self, Key},
    wire::{Question, Read},
};

static KEY: LazyLock<Option<Key>> =
    LazyLock::new(|| Key::new(&Update::signed("update", "c2VjcmV0")).ok().flatten());

static QUESTION: LazyLock<Option<Question>> =
    LazyLock::new(|| Question::new(&name("_api._tcp.test.")?, RecordType::SRV, true).ok());

static DESK: LazyLock<Option<Desk>> = LazyLock::new(|| {
    let key = InstanceKey::new(
        "memory",
        ServiceName::observed("api"),
        InstanceId::observed("api-1"),
    );
    let instance = Instance::builder(key, "10.0.0.1", 80)
        .tags(["v1"])
        .meta([("a", "b")])
        .build();
    Some(Desk {
        zone: name("discovery.")?,
        ttl: 5,
        negative_ttl: 2,
        index: ArcSwapOption::from_pointee(Some(Index::new(&Snapshot::live(Target::All, vec![instance])))),
    })
});

fn name(text: &str) -> Option<Name> {
    Name::from_ascii(text).ok()
}

/// Reads a packet as the answer to a question, whatever its id, and makes of it what can be made.
pub fn answer(packet: &[u8]) {
    let Some(question) = &*QUESTION else { return };
    let mut packet = packet.to_vec();
    if let Some(id) = packet.first_chunk_mut() {
        *id = question.id.to_be_bytes();
    }
    if let Read::Answer(message) = question.read(&packet) {
        lookup::digest(&message);
    }
}

/// Answers a packet, as over UDP and over TCP.
pub fn question(packet: &[u8]) {
    if let Some(desk) = &*DESK {
        for tcp in [false, true] {
            drop(desk.answer(packet, tcp));
        }
    }
}

/// Reads a packet as the answer to an update, unsigned and signed.
pub fn update(packet: &[u8]) {
    drop(tsig::answer(packet, None));
    let mut message = Message::new(1, MessageType::Query, OpCode::Update);
    let verifier = KEY.as_ref().and_then(|key| key.sign(&mut message).ok().flatten());
    drop(tsig::answer(packet, verifier));
}
