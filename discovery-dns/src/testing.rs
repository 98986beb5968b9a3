//! Helpers of this crate's own tests: a server that has some records.

use std::{net::IpAddr, sync::Arc, time::Duration};

use discovery_core::{Result, ServiceName};
use discovery_testkit::proxy::dns::{Act, DnsProxy};
use hickory_proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, PTR, SOA, SRV, TXT},
    },
};

use crate::{
    config::{DnsConfig, Transport},
    lookup::{Found, Lookup},
    name,
    route::Routes,
};

pub(crate) fn n(text: &str) -> Name {
    name::absolute(text).unwrap()
}

pub(crate) fn record(owner: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(n(owner), ttl, data)
}

pub(crate) fn srv(owner: &str, priority: u16, weight: u16, port: u16, target: &str) -> Record {
    let target = if target == "." { Name::root() } else { n(target) };
    record(owner, 60, RData::SRV(SRV::new(priority, weight, port, target)))
}

pub(crate) fn ip(owner: &str, address: &str) -> Record {
    let data = match address.parse().unwrap() {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    };
    record(owner, 60, data)
}

pub(crate) fn alias(owner: &str, target: &str) -> Record {
    record(owner, 60, RData::CNAME(CNAME(n(target))))
}

pub(crate) fn pointer(owner: &str, target: Name) -> Record {
    record(owner, 60, RData::PTR(PTR(target)))
}

pub(crate) fn text(owner: Name, strings: &[&[u8]]) -> Record {
    Record::from_rdata(owner, 60, RData::TXT(TXT::from_bytes(strings.to_vec())))
}

pub(crate) fn soa(zone: &str, ttl: u32, minimum: u32) -> Record {
    let data = SOA::new(n("ns.test"), n("root.test"), 1, 1, 1, 1, minimum);
    record(zone, ttl, RData::SOA(data))
}

/// What a server of one zone answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Records {
    pub(crate) all: Vec<Record>,
    /// Whether addresses of targets come along.
    pub(crate) additional: bool,
    /// What comes along whatever is asked.
    pub(crate) extra: Vec<Record>,
}

impl Records {
    pub(crate) fn of(all: impl IntoIterator<Item = Record>) -> Self {
        Self {
            all: all.into_iter().collect(),
            ..Self::default()
        }
    }

    /// The answer to a question.
    pub(crate) fn answer(&self, question: &[u8]) -> Message {
        let question = Message::from_vec(question).unwrap();
        let query = question.queries[0].clone();
        let mut reply = Message::response(question.metadata.id, OpCode::Query);
        reply.metadata.authoritative = true;
        reply.add_query(query.clone());
        let mut owner = query.name.clone();
        for _ in 0..20 {
            let at = |kind: RecordType| {
                let owner = owner.clone();
                self.all
                    .iter()
                    .filter(move |one| one.name == owner && one.record_type() == kind)
            };
            reply.add_answers(at(query.query_type).cloned());
            let Some(alias) = at(RecordType::CNAME).next() else {
                break;
            };
            reply.add_answer(alias.clone());
            if let RData::CNAME(next) = &alias.data {
                owner = next.0.clone();
            }
        }
        if self.additional {
            for one in &reply.answers.clone() {
                if let RData::SRV(srv) = &one.data {
                    let addresses = self.all.iter().filter(|one| {
                        one.name == srv.target
                            && matches!(one.record_type(), RecordType::A | RecordType::AAAA)
                    });
                    reply.add_additionals(addresses.cloned());
                }
            }
        }
        reply.add_additionals(self.extra.iter().cloned());
        if reply.answers.is_empty() {
            let soa = self.all.iter().filter(|one| one.record_type() == RecordType::SOA);
            reply.add_authorities(soa.cloned());
            if !self.all.iter().any(|one| one.name == owner) {
                reply.metadata.response_code = ResponseCode::NXDomain;
            }
        }
        reply
    }
}

/// A server that has these records.
pub(crate) async fn server(records: Records) -> DnsProxy {
    let server = DnsProxy::stub().await.unwrap();
    let records = Arc::new(records);
    server.rule(move |packet| Act::Reply(vec![records.answer(packet.bytes).to_vec().unwrap()]));
    server
}

/// How long a server has: short enough to wait for silence, long enough for an answer on a busy machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);

/// Settings that ask `server` over UDP.
pub(crate) fn config(server: &DnsProxy) -> DnsConfig {
    let mut config = DnsConfig::at(server.addr().to_string()).transport(Transport::Udp);
    config.timeout = TIMEOUT;
    config
}

pub(crate) fn lookup(config: &DnsConfig) -> Lookup {
    Lookup {
        routes: Routes::new(config).unwrap(),
    }
}

/// What a look-up of `service` at `server` finds.
pub(crate) async fn find(server: &DnsProxy, service: &str) -> Result<Found> {
    lookup(&config(server))
        .service(&ServiceName::new(service).unwrap())
        .await
}

/// Where the instances found are, sorted as they come.
pub(crate) fn places(found: &Found) -> Vec<String> {
    found
        .instances
        .iter()
        .map(discovery_core::Instance::address)
        .collect()
}
