//! Looking up: records into hosts, hosts into instances.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
};

use discovery_core::{Instance, Result, ServiceName};
use futures::{StreamExt, TryStreamExt, stream};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType},
};

use crate::{
    convert::{self, Content, Host},
    error, name,
    route::{Form, Place, Routes},
    ttl::Ttl,
};

/// How many aliases may lead to a name.
const ALIASES: usize = 8;
/// How many questions about one service are under way at a time.
const AT_ONCE: usize = 32;
/// What the host names begin with that we give instances; they say nothing to anybody.
pub(crate) const OWN_HOST: &str = "sd-";

/// The records of a name.
#[derive(Debug, Default)]
struct Records {
    /// What was asked for, at the end of all aliases.
    found: Vec<RData>,
    ttl: Ttl,
    additional: Vec<Record>,
}

/// The instances of a service, and how long the answer is good for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Found {
    pub(crate) instances: Vec<Instance>,
    pub(crate) ttl: Ttl,
}

/// What reads.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) routes: Routes,
}

impl Lookup {
    /// The instances of a service, wherever the first place that knows any is.
    pub(crate) async fn service(&self, service: &ServiceName) -> Result<Found> {
        let mut nothing = Found::default();
        for place in self.routes.places(service.as_str())? {
            let found = self.at(service, &place).await?;
            if !found.instances.is_empty() {
                return Ok(found);
            }
            nothing.ttl.join(found.ttl);
        }
        Ok(nothing)
    }

    async fn at(&self, service: &ServiceName, place: &Place) -> Result<Found> {
        let (hosts, ttl) = match &place.form {
            Form::Instances(name) => return self.labels(service, name, place).await,
            Form::Address(name, port) => self.at_port(name, *port, place).await?,
            Form::Srv(name, port) => match (self.srv(name, place).await?, port) {
                ((hosts, true, ttl), _) | ((hosts, _, ttl), None) => (hosts, ttl),
                ((_, _, mut ttl), Some(port)) => {
                    let (hosts, more) = self.at_port(name, *port, place).await?;
                    ttl.join(more);
                    (hosts, ttl)
                }
            },
        };
        Ok(Found {
            instances: convert::plain(service, hosts),
            ttl,
        })
    }

    async fn at_port(&self, name: &Name, port: u16, place: &Place) -> Result<(Vec<Host>, Ttl)> {
        let (addresses, ttl) = self.addresses(name, place.whole).await?;
        let host = |address| Host {
            address,
            port,
            priority: 0,
            weight: 1,
            target: None,
        };
        Ok((addresses.into_iter().map(host).collect(), ttl))
    }

    /// The hosts that SRV records lead to, and whether there are such records.
    async fn srv(&self, name: &Name, place: &Place) -> Result<(Vec<Host>, bool, Ttl)> {
        let records = self.records(name, RecordType::SRV, place.whole).await?;
        let mut ttl = records.ttl;
        let there = !records.found.is_empty();
        // A target of `.` says that there is nothing (D-9).
        let services: Vec<_> = records
            .found
            .iter()
            .filter_map(|data| match data {
                RData::SRV(srv) if !srv.target.is_root() => Some(srv),
                _ => None,
            })
            .collect();
        let mut known: BTreeMap<Name, Vec<IpAddr>> = BTreeMap::new();
        for record in &records.additional {
            // Only of a name that was asked about, and that this server may speak for (D-11).
            let wanted = services.iter().any(|srv| srv.target == record.name);
            if let (true, Some(address)) = (wanted && place.bailiwick.zone_of(&record.name), ip(&record.data))
            {
                known.entry(record.name.clone()).or_default().push(address);
                ttl.note(record.ttl);
            }
        }
        let unknown: HashSet<Name> = services
            .iter()
            .map(|srv| srv.target.clone())
            .filter(|target| !known.contains_key(target))
            .collect();
        let asked: Vec<_> = stream::iter(unknown)
            .map(|target| async move {
                let (addresses, ttl) = self.addresses(&target, place.whole).await?;
                Ok::<_, discovery_core::Error>((target, addresses, ttl))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        for (target, addresses, more) in asked {
            ttl.join(more);
            // One without any address is passed over (D-12).
            known.insert(target, addresses);
        }
        let mut hosts = Vec::new();
        for srv in services {
            for address in known.get(&srv.target).into_iter().flatten() {
                hosts.push(Host {
                    address: *address,
                    port: srv.port,
                    priority: srv.priority,
                    weight: srv.weight,
                    target: Some(name::shown(&srv.target)).filter(|target| !target.starts_with(OWN_HOST)),
                });
            }
        }
        Ok((hosts, there, ttl))
    }

    /// The addresses of a name, of both families. One that cannot be asked for does no harm while the other is there.
    async fn addresses(&self, name: &Name, whole: bool) -> Result<(Vec<IpAddr>, Ttl)> {
        let (four, six) = futures::join!(
            self.records(name, RecordType::A, whole),
            self.records(name, RecordType::AAAA, whole)
        );
        let (mut addresses, mut ttl, mut failed) = (Vec::new(), Ttl::default(), None);
        let mut missing = Ttl::default();
        for records in [four, six] {
            match records {
                Ok(records) if records.found.is_empty() => missing.join(records.ttl),
                Ok(records) => {
                    ttl.join(records.ttl);
                    addresses.extend(records.found.iter().filter_map(ip));
                }
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if addresses.is_empty() => Err(error),
            _ if addresses.is_empty() => Ok((addresses, missing)),
            _ => Ok((addresses, ttl)),
        }
    }

    // === DNS-SD ===

    /// The instances that the pointers at a service type name (RFC 6763 §4).
    async fn labels(&self, service: &ServiceName, kind: &Name, place: &Place) -> Result<Found> {
        let records = self.records(kind, RecordType::PTR, place.whole).await?;
        let mut ttl = records.ttl;
        let mut seen = HashSet::new();
        let pointers: Vec<_> = records
            .found
            .into_iter()
            .filter_map(|data| match data {
                RData::PTR(target) => Some(target.0),
                _ => None,
            })
            .filter(|target| kind.zone_of(target) && target != kind && seen.insert(target.clone()))
            .collect();
        let parts: Vec<_> = stream::iter(pointers)
            .map(|pointer| async move { self.labelled(service, &pointer, place).await })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let mut instances = Vec::new();
        for part in parts {
            ttl.join(part.ttl);
            instances.extend(part.instances);
        }
        instances.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Found { instances, ttl })
    }

    /// What is behind one name of an instance: nothing where it has no SRV record.
    pub(crate) async fn labelled(
        &self,
        service: &ServiceName,
        pointer: &Name,
        place: &Place,
    ) -> Result<Found> {
        let (srv, txt) = futures::join!(
            self.srv(pointer, place),
            self.records(pointer, RecordType::TXT, place.whole)
        );
        let ((hosts, _, mut ttl), txt) = (srv?, txt?);
        if hosts.is_empty() {
            return Ok(Found {
                instances: Vec::new(),
                ttl,
            });
        }
        if !txt.found.is_empty() {
            ttl.join(txt.ttl);
        }
        let content = Content::read(strings(&txt.found));
        Ok(Found {
            instances: convert::labelled(service, &name::first(pointer), hosts, &content),
            ttl,
        })
    }

    /// The service types of a zone (RFC 6763 §9), of one protocol, without their underscores.
    pub(crate) async fn types(&self, zone: &Name, protocol: &str) -> Result<(Vec<String>, Ttl)> {
        let meta = name::from_labels(
            [&b"_services"[..], b"_dns-sd", b"_udp"]
                .into_iter()
                .chain(zone.iter()),
        )?;
        let records = self.records(&meta, RecordType::PTR, false).await?;
        let mut types: Vec<_> = records
            .found
            .iter()
            .filter_map(|data| match data {
                RData::PTR(target) => type_of(&target.0, protocol),
                _ => None,
            })
            .collect();
        types.sort_unstable();
        types.dedup();
        Ok((types, records.ttl))
    }

    // === records ===

    /// The data of a name's records of one type.
    #[cfg(feature = "update")]
    pub(crate) async fn data(&self, name: &Name, kind: RecordType) -> Result<Vec<RData>> {
        Ok(self.records(name, kind, false).await?.found)
    }

    /// Whether a zone's server answers for it.
    pub(crate) async fn reaches(&self, zone: &Name) -> Result<()> {
        self.records(zone, RecordType::SOA, false).await.map(drop)
    }

    /// The records of a name and type, through aliases (D-8).
    async fn records(&self, name: &Name, kind: RecordType, whole: bool) -> Result<Records> {
        let failed = |error: discovery_core::Error| error.with_context("name", name::shown(name));
        let (mut owner, mut ttl, mut passed) = (name.clone(), Ttl::default(), Vec::new());
        loop {
            let asked = owner.clone();
            let message = self
                .routes
                .client(&asked)
                .ask(&asked, kind, whole)
                .await
                .map_err(failed)?;
            loop {
                let mut found = Vec::new();
                for record in of(&message, &owner, kind) {
                    ttl.note(record.ttl);
                    found.push(record.data.clone());
                }
                if !found.is_empty() {
                    return Ok(Records {
                        found,
                        ttl,
                        additional: message.additionals,
                    });
                }
                let alias = of(&message, &owner, RecordType::CNAME).next();
                let Some((next, seconds)) = alias.and_then(|record| match &record.data {
                    RData::CNAME(next) => Some((next.0.clone(), record.ttl)),
                    _ => None,
                }) else {
                    break;
                };
                ttl.note(seconds);
                passed.push(std::mem::replace(&mut owner, next));
                if passed.len() > ALIASES || passed.contains(&owner) {
                    return Err(failed(error::aliases(&name::shown(&owner))));
                }
            }
            let none = absence(&message, &owner);
            // The aliases led out of what this server knows.
            let further =
                owner != asked && none.is_none() && message.metadata.response_code == ResponseCode::NoError;
            if !further {
                ttl.join(none.unwrap_or_default());
                return Ok(Records {
                    ttl: none.map_or(Ttl::default(), |_| ttl),
                    ..Records::default()
                });
            }
        }
    }
}

/// The records of an answer with this owner and type.
fn of<'a>(message: &'a Message, owner: &'a Name, kind: RecordType) -> impl Iterator<Item = &'a Record> {
    message.answers.iter().filter(move |record| {
        record.record_type() == kind && record.dns_class == DNSClass::IN && record.name == *owner
    })
}

/// How long it is good that there is nothing: what the zone's SOA record says, where it is there (RFC 2308 §5).
fn absence(message: &Message, owner: &Name) -> Option<Ttl> {
    message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) if record.name.zone_of(owner) => {
            let mut ttl = Ttl::default();
            ttl.note(record.ttl);
            ttl.note(soa.minimum);
            Some(ttl)
        }
        _ => None,
    })
}

fn ip(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(a.0.into()),
        RData::AAAA(aaaa) => Some(aaaa.0.into()),
        _ => None,
    }
}

pub(crate) fn strings(records: &[RData]) -> impl Iterator<Item = &[u8]> {
    records
        .iter()
        .filter_map(|data| match data {
            RData::TXT(txt) => Some(txt.txt_data.iter().map(|string| &**string)),
            _ => None,
        })
        .flatten()
}

/// `api` of `_api._tcp.<zone>`.
fn type_of(name: &Name, protocol: &str) -> Option<String> {
    let mut labels = name.iter();
    let (service, kind) = (labels.next()?, labels.next()?);
    let kind = kind.strip_prefix(b"_")?;
    let service = std::str::from_utf8(service.strip_prefix(b"_")?).ok()?;
    kind.eq_ignore_ascii_case(protocol.as_bytes())
        .then(|| service.to_owned())
}

/// What is made of an answer without asking further, for `fuzz/`.
#[cfg(all(fuzzing, feature = "update"))]
pub(crate) fn digest(message: &Message) {
    let service = ServiceName::observed("api");
    let owners = message.answers.iter().map(|record| &record.name);
    for owner in owners.chain(message.queries.iter().map(hickory_proto::op::Query::name)) {
        let _ = absence(message, owner);
        let data = |kind| {
            of(message, owner, kind)
                .map(|record| record.data.clone())
                .collect::<Vec<_>>()
        };
        let hosts: Vec<_> = data(RecordType::SRV)
            .iter()
            .filter_map(|data| match data {
                RData::SRV(srv) => Some(Host {
                    address: message.additionals.iter().find_map(|record| ip(&record.data))?,
                    port: srv.port,
                    priority: srv.priority,
                    weight: srv.weight,
                    target: Some(name::shown(&srv.target)),
                }),
                _ => None,
            })
            .collect();
        let content = Content::read(strings(&data(RecordType::TXT)));
        let _ = content.strings();
        for data in data(RecordType::PTR) {
            if let RData::PTR(target) = &data {
                let _ = type_of(&target.0, "_tcp");
            }
        }
        let _ = convert::plain(&service, hosts.clone());
        let _ = convert::labelled(&service, &name::first(owner), hosts, &content);
    }
}

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
