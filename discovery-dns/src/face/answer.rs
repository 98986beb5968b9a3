//! From a question to its answer; no I/O, nothing is remembered.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use discovery_core::Instance;
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, SOA, SRV, TXT},
    },
};

use super::index::Index;
use crate::{name, wire::PAYLOAD};

/// How much passes over UDP to one who does not say (RFC 1035).
const SMALL: u16 = 512;
/// How long an answer from a view that nobody confirms is good for, in seconds.
const STALE: u32 = 1;
/// The most that a string of a TXT record holds.
const STRING: usize = 255;
const SERVICE: &str = "service";
const ADDRESS: &str = "addr";

/// What answers are made of.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) zone: Name,
    pub(crate) ttl: u32,
    pub(crate) negative_ttl: u32,
    pub(crate) index: ArcSwapOption<Index>,
}

/// What is at a name.
enum At<'a> {
    /// The zone itself, or a name between it and others.
    Node,
    /// Instances of a service.
    Instances(Vec<&'a Arc<Instance>>),
    /// An address in a name.
    Address(IpAddr),
    Nothing,
}

impl Desk {
    /// The answer to a packet; none to what is no question at all, or an answer itself.
    pub(crate) fn answer(&self, packet: &[u8], tcp: bool) -> Option<Vec<u8>> {
        // The head has twelve bytes, and the first bit of the third says what it is.
        let head = packet.get(..12)?;
        if head[2] & 0x80 != 0 {
            return None;
        }
        let id = u16::from_be_bytes([head[0], head[1]]);
        let Ok(question) = Message::from_vec(packet) else {
            return Message::error_msg(id, OpCode::Query, ResponseCode::FormErr)
                .to_vec()
                .ok();
        };
        let mut reply = Message::new(id, MessageType::Response, question.metadata.op_code);
        reply.metadata.recursion_desired = question.metadata.recursion_desired;
        let mut most = if tcp { u16::MAX } else { SMALL };
        if let Some(asked) = &question.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD);
            reply.set_edns(edns);
            if !tcp {
                most = asked.max_payload().clamp(SMALL, PAYLOAD);
            }
        }
        self.fill(&question, &mut reply);
        fit(reply, usize::from(most))
    }

    fn fill(&self, question: &Message, reply: &mut Message) {
        let code = |reply: &mut Message, code| reply.metadata.response_code = code;
        if question.metadata.op_code != OpCode::Query {
            return code(reply, ResponseCode::NotImp);
        }
        if question.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return code(reply, ResponseCode::BADVERS);
        }
        let [query] = &question.queries[..] else {
            return code(reply, ResponseCode::FormErr);
        };
        reply.add_query(query.clone());
        if query.query_class != DNSClass::IN || !self.zone.zone_of(&query.name) {
            return code(reply, ResponseCode::Refused);
        }
        let index = self.index.load();
        let Some(index) = &*index else {
            return code(reply, ResponseCode::ServFail);
        };
        reply.metadata.authoritative = true;
        let ttl = if index.live { self.ttl } else { self.ttl.min(STALE) };
        let wants = |kind| query.query_type == kind || query.query_type == RecordType::ANY;
        match self.at(&query.name, index) {
            At::Node if query.name == self.zone && wants(RecordType::SOA) => {
                reply.add_answer(self.soa());
            }
            At::Node => {}
            At::Nothing => code(reply, ResponseCode::NXDomain),
            At::Address(ip) => {
                let data = address(ip);
                if wants(data.record_type()) {
                    reply.add_answer(Record::from_rdata(query.name.clone(), ttl, data));
                }
            }
            At::Instances(mut all) => {
                all.retain(|one| one.is_available());
                // So that one who gets a part, or takes the first, gets another one each time.
                if !all.is_empty() {
                    let by = fastrand::usize(..all.len());
                    all.rotate_left(by);
                }
                let add = |data| Record::from_rdata(query.name.clone(), ttl, data);
                if wants(RecordType::A) || wants(RecordType::AAAA) {
                    let mut seen = BTreeSet::new();
                    let ips = all.iter().filter_map(|one| one.host.parse().ok());
                    let data = ips.filter(|ip: &IpAddr| seen.insert(*ip)).map(address);
                    reply.add_answers(data.filter(|data| wants(data.record_type())).map(add));
                }
                if wants(RecordType::SRV) {
                    self.services(&all, ttl, &query.name, reply);
                }
                if wants(RecordType::TXT) {
                    reply.add_answers(all.iter().filter_map(|one| text(one)).map(add));
                }
            }
        }
        if reply.answers.is_empty() {
            reply.add_authority(self.soa());
        }
    }

    /// SRV records, and the addresses they lead to.
    fn services(&self, all: &[&Arc<Instance>], ttl: u32, owner: &Name, reply: &mut Message) {
        let mut seen = BTreeSet::new();
        for one in all {
            let (target, ip) = match one.host.parse::<IpAddr>() {
                Ok(ip) => (self.name_of(ip), Some(ip)),
                Err(_) => (name::absolute(&one.host).ok(), None),
            };
            let Some(target) = target else { continue };
            if let Some(ip) = ip.filter(|ip| seen.insert(*ip)) {
                reply.add_additional(Record::from_rdata(target.clone(), ttl, address(ip)));
            }
            let data = SRV::new(one.priority, one.weight.0, one.port, target);
            reply.add_answer(Record::from_rdata(owner.clone(), ttl, RData::SRV(data)));
        }
    }

    /// `<hex>.addr.<zone>`
    fn name_of(&self, ip: IpAddr) -> Option<Name> {
        let hex = match ip {
            IpAddr::V4(ip) => format!("{:08x}", u32::from(ip)),
            IpAddr::V6(ip) => format!("{:032x}", u128::from(ip)),
        };
        name::from_labels(
            [hex.as_bytes(), ADDRESS.as_bytes()]
                .into_iter()
                .chain(self.zone.iter()),
        )
        .ok()
    }

    fn at<'a>(&self, asked: &Name, index: &'a Index) -> At<'a> {
        let own = usize::from(asked.num_labels().saturating_sub(self.zone.num_labels()));
        let labels: Vec<_> = asked
            .iter()
            .take(own)
            .map(|label| String::from_utf8_lossy(label).to_lowercase())
            .collect();
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        let (service, tag) = match labels[..] {
            [] | [SERVICE | ADDRESS] => return At::Node,
            [hex, ADDRESS] => return unhex(hex).map_or(At::Nothing, At::Address),
            [service, SERVICE] => (service, None),
            [first, second, SERVICE] => match (first.strip_prefix('_'), second.strip_prefix('_')) {
                (Some(service), Some("tcp" | "udp")) => (service, None),
                (Some(service), Some(tag)) => (service, Some(tag)),
                _ => (second, Some(first)),
            },
            _ => return At::Nothing,
        };
        index.find(service, tag).map_or(At::Nothing, At::Instances)
    }

    fn soa(&self) -> Record {
        let (zone, second) = (self.zone.clone(), 1);
        let data = SOA::new(
            zone.clone(),
            zone.clone(),
            1,
            second,
            second,
            second,
            self.negative_ttl,
        );
        Record::from_rdata(zone, self.negative_ttl, RData::SOA(data))
    }
}

fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

fn unhex(hex: &str) -> Option<IpAddr> {
    if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    match hex.len() {
        8 => u32::from_str_radix(hex, 16)
            .ok()
            .map(|bits| Ipv4Addr::from(bits).into()),
        32 => u128::from_str_radix(hex, 16)
            .ok()
            .map(|bits| Ipv6Addr::from(bits).into()),
        _ => None,
    }
}

/// An instance's metadata, as far as strings hold it; nothing where there is none.
fn text(instance: &Instance) -> Option<RData> {
    let strings: Vec<_> = instance
        .meta
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .filter(|string| string.len() <= STRING)
        .collect();
    (!strings.is_empty()).then(|| RData::TXT(TXT::new(strings)))
}

/// The bytes of an answer, cut where it is longer than may be: first what only comes along, then with TC set.
fn fit(mut reply: Message, most: usize) -> Option<Vec<u8>> {
    let bytes = reply.to_vec().ok()?;
    if bytes.len() <= most {
        return Some(bytes);
    }
    reply.additionals.clear();
    loop {
        let bytes = reply.to_vec().ok()?;
        if bytes.len() <= most || reply.answers.is_empty() {
            return Some(bytes);
        }
        reply.metadata.truncation = true;
        // As many as fit if all are alike; a few less if not.
        let fits = (reply.answers.len() * most / bytes.len()).min(reply.answers.len() - 1);
        reply.answers.truncate(fits);
    }
}
