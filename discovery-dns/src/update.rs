//! Registration by dynamic update (RFC 2136).
//!
//! Everything of an instance is at two names of its own: its SRV and TXT records at `<id>._<service>._<protocol>.<zone>`, its
//! address at the host name these lead to, since servers refuse SRV targets that are none. Shared with others are three sets of records, of which only our own are ever added or removed (D-25): the pointers
//! and SRV records at `_<service>._<protocol>.<zone>`, and the service types of the zone. One message does all of it, or
//! nothing.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use discovery_core::{
    Error, ErrorKind, HealthReport, InstanceKey, Lease, LeaseGroup, MetaChange, Registration, Result, Retry,
};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, PTR, SRV, TXT},
    },
};

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    client::Client,
    config::{DnsConfig, HealthAwareness, Transport},
    convert::Content,
    error::{self, error},
    lookup::{Lookup, OWN_HOST},
    name,
    route::{Form, Place, Routes},
    tsig::{self, Key, Said},
};

/// How often a change is tried while others change the same record.
const ATTEMPTS: usize = 5;

/// What writes.
#[derive(Debug)]
pub(crate) struct Writer {
    /// Reads from the primary.
    pub(crate) reader: Lookup,
    primary: Arc<Client>,
    zone: Name,
    protocol: String,
    key: Option<Key>,
    ttl: u32,
    health: HealthAwareness,
}

/// The names of one instance.
struct Names {
    instance: Name,
    host: Name,
    kind: Name,
    place: Place,
}

/// What the server has of an instance.
struct Current {
    srv: SRV,
    txt: Vec<RData>,
    content: Content,
}

impl Writer {
    /// What writes, where that is configured.
    pub(crate) fn new(config: &DnsConfig, lookup: &Arc<Lookup>) -> Result<Option<Self>> {
        let (Some(update), Some((zone, settings))) = (&config.update, lookup.routes.own()) else {
            return Ok(None);
        };
        let server = match &update.server {
            Some(server) => server.clone(),
            None => lookup.routes.client(zone).first().to_string(),
        };
        let mut primary = config.clone();
        primary.servers = vec![server];
        primary.resolution.clear();
        if primary.transport != Transport::Tls {
            primary.transport = Transport::Tcp;
        }
        let reader = Lookup {
            routes: Routes::new(&primary)?,
        };
        Ok(Some(Self {
            primary: reader.routes.default.clone(),
            reader,
            zone: zone.clone(),
            protocol: settings.protocol.clone(),
            key: Key::new(update)?,
            ttl: u32::try_from(update.ttl.as_secs()).unwrap_or(u32::MAX),
            health: config.health_awareness.clone(),
        }))
    }

    pub(crate) async fn register(&self, registration: &Registration) -> Result<Lease> {
        let names = self.names(registration.service.as_str(), registration.id.as_str())?;
        let address: IpAddr = registration.address.parse().map_err(|_| {
            error(
                ErrorKind::InvalidInput,
                "an instance is registered in DNS by its address",
            )
            .with_context("address", registration.address.to_string())
            .with_hint("give an IP address; where it is a name already, register that in the zone itself")
        })?;
        let mut content = Content {
            meta: registration.meta.clone(),
            ..Content::default()
        };
        content.more.tags.clone_from(&registration.tags);
        content.more.ports.clone_from(&registration.ports);
        let mut srv = SRV::new(0, registration.weight.0, registration.port, names.host.clone());
        self.show(&registration.health, &mut srv, &mut content);
        let text = text(&content)?;

        let current = self.current(&names).await?;
        let mut update = Change::of(&self.zone);
        update.clear(&names.instance);
        update.clear(&names.host);
        if let Some(current) = current.filter(|current| current.srv != srv) {
            update.remove(&names.kind, RData::SRV(current.srv));
        }
        update.add(&names.instance, self.ttl, RData::SRV(srv.clone()));
        update.add(&names.instance, self.ttl, text);
        update.add(
            &names.host,
            self.ttl,
            match address {
                IpAddr::V4(ip) => RData::A(A(ip)),
                IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
            },
        );
        update.add(&names.kind, self.ttl, RData::SRV(srv));
        update.add(&names.kind, self.ttl, RData::PTR(PTR(names.instance.clone())));
        update.add(&self.types()?, self.ttl, RData::PTR(PTR(names.kind.clone())));
        self.send(update).await?;

        let shown = self
            .reader
            .labelled(&registration.service, &names.instance, &names.place)
            .await?;
        let place = SocketAddr::new(address, registration.port).to_string();
        if !shown.instances.iter().any(|one| one.address() == place) {
            return Err(error(
                ErrorKind::Unavailable,
                "the server took the update and does not show it",
            )
            .with_context("name", name::shown(&names.instance)));
        }
        let key = InstanceKey::new(
            error::SCHEME,
            registration.service.clone(),
            registration.id.clone(),
        );
        let group = LeaseGroup::new(registration.id.as_str());
        Ok(Lease::new(key, group, None))
    }

    pub(crate) async fn deregister(&self, key: &InstanceKey) -> Result<()> {
        // What could not be registered is not there.
        let Ok(names) = self.names(key.service.as_str(), key.id.as_str()) else {
            return Ok(());
        };
        let current = self.current(&names).await?;
        let mut update = Change::of(&self.zone);
        update.clear(&names.instance);
        update.clear(&names.host);
        update.remove(&names.kind, RData::PTR(PTR(names.instance.clone())));
        if let Some(current) = current {
            update.remove(&names.kind, RData::SRV(current.srv));
        }
        self.send(update).await?;
        if self.current(&names).await?.is_some() {
            return Err(error(
                ErrorKind::Unavailable,
                "the server took the update and still shows what it removes",
            )
            .with_context("name", name::shown(&names.instance)));
        }
        // The type goes with its last instance. That it stays listed does no harm.
        let mut update = Change::of(&self.zone);
        update.unless_there(&names.kind, RecordType::PTR);
        update.remove(&self.types()?, RData::PTR(PTR(names.kind)));
        if let Err(error) = self.send(update).await {
            tracing::debug!(%error, "a service type without instances stays listed");
        }
        Ok(())
    }

    pub(crate) async fn update_meta(&self, key: &InstanceKey, change: &MetaChange) -> Result<()> {
        self.edit(key, |_, content| change.apply(&mut content.meta)).await
    }

    pub(crate) async fn report_health(&self, key: &InstanceKey, report: &HealthReport) -> Result<()> {
        self.edit(key, |srv, content| self.show(report, srv, content))
            .await
    }

    /// Puts this health into the records.
    fn show(&self, health: &HealthReport, srv: &mut SRV, content: &mut Content) {
        let weight = content.more.weight.take().unwrap_or(srv.weight);
        content.more.status = health.status;
        content.more.draining = health.draining;
        srv.weight = weight;
        if self.health.enabled && (!health.status.is_serving() || health.draining) {
            srv.weight = self.health.unhealthy_weight;
            content.more.weight = Some(weight);
        }
    }

    /// Reads, changes and writes an instance's records, provided that they are still what was read.
    async fn edit(&self, key: &InstanceKey, change: impl Fn(&mut SRV, &mut Content)) -> Result<()> {
        let missing = || {
            error(ErrorKind::NotFound, "DNS does not show this registration")
                .with_context("key", key.to_string())
        };
        let names = self
            .names(key.service.as_str(), key.id.as_str())
            .map_err(|_| missing())?;
        for _ in 0..ATTEMPTS {
            let Current {
                srv,
                txt,
                mut content,
            } = self.current(&names).await?.ok_or_else(missing)?;
            let mut changed = srv.clone();
            change(&mut changed, &mut content);
            let mut update = Change::of(&self.zone);
            update.only_if(&names.instance, RData::SRV(srv.clone()));
            for text in &txt {
                update.only_if(&names.instance, text.clone());
            }
            update.clear_type(&names.instance, RecordType::TXT);
            update.add(&names.instance, self.ttl, text(&content)?);
            if changed != srv {
                update.remove(&names.kind, RData::SRV(srv));
                update.clear_type(&names.instance, RecordType::SRV);
                update.add(&names.instance, self.ttl, RData::SRV(changed.clone()));
                update.add(&names.kind, self.ttl, RData::SRV(changed));
            }
            if self.send(update).await? == Said::Done {
                return Ok(());
            }
        }
        Err(error(ErrorKind::Conflict, "others keep changing this record")
            .with_context("key", key.to_string())
            .with_retry(Retry::Transient { after: None }))
    }

    /// What the primary has at an instance's name.
    async fn current(&self, names: &Names) -> Result<Option<Current>> {
        let (srv, txt) = futures::try_join!(
            self.reader.data(&names.instance, RecordType::SRV),
            self.reader.data(&names.instance, RecordType::TXT)
        )?;
        let srv = srv.into_iter().find_map(|data| match data {
            RData::SRV(srv) => Some(srv),
            _ => None,
        });
        Ok(srv.map(|srv| Current {
            content: Content::read(crate::lookup::strings(&txt)),
            srv,
            txt,
        }))
    }

    /// Sends an update, once more where it may have been lost: it says the same as before (D-27).
    async fn send(&self, change: Change) -> Result<Said> {
        let mut lost = None;
        for _ in 0..2 {
            let message = change.message();
            let (bytes, verifier) = tsig::seal(message, self.key.as_ref())?;
            match self.primary.tell(&bytes).await {
                Ok(packet) => return tsig::answer(&packet, verifier),
                Err(error) if error.kind() == ErrorKind::Timeout => lost = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(lost.unwrap_or_else(error::garbled))
    }

    fn names(&self, service: &str, id: &str) -> Result<Names> {
        let labels = [
            format!("_{}", name::label(service)?),
            format!("_{}", self.protocol),
        ];
        let kind = name::from_labels(labels.iter().map(String::as_bytes).chain(self.zone.iter()))?;
        let instance = name::under(id.as_bytes(), &kind).map_err(|error: Error| {
            error
                .with_hint("an id is one DNS label here: up to 63 bytes; give the registration a shorter one")
        })?;
        // Its own, and a host name whatever the id is.
        let hash = xxh3_64(
            format!("{service}/{}/{id}", self.protocol)
                .to_lowercase()
                .as_bytes(),
        );
        Ok(Names {
            host: name::under(format!("{OWN_HOST}{hash:016x}").as_bytes(), &self.zone)?,
            instance,
            place: Place {
                form: Form::Instances(kind.clone()),
                whole: false,
                bailiwick: self.zone.clone(),
            },
            kind,
        })
    }

    fn types(&self) -> Result<Name> {
        let labels = [&b"_services"[..], b"_dns-sd", b"_udp"];
        name::from_labels(labels.into_iter().chain(self.zone.iter()))
    }
}

fn text(content: &Content) -> Result<RData> {
    let strings = content.strings()?;
    Ok(RData::TXT(TXT::from_bytes(
        strings.iter().map(Vec::as_slice).collect(),
    )))
}

/// One update in the making.
struct Change {
    zone: Name,
    conditions: Vec<Record>,
    changes: Vec<Record>,
}

impl Change {
    fn of(zone: &Name) -> Self {
        Self {
            zone: zone.clone(),
            conditions: Vec::new(),
            changes: Vec::new(),
        }
    }

    fn add(&mut self, name: &Name, ttl: u32, data: RData) {
        self.changes.push(Record::from_rdata(name.clone(), ttl, data));
    }

    /// Removes this very record.
    fn remove(&mut self, name: &Name, data: RData) {
        let mut record = Record::from_rdata(name.clone(), 0, data);
        record.dns_class = DNSClass::NONE;
        self.changes.push(record);
    }

    /// Removes everything at a name.
    fn clear(&mut self, name: &Name) {
        self.clear_type(name, RecordType::ANY);
    }

    fn clear_type(&mut self, name: &Name, kind: RecordType) {
        let mut record = Record::update0(name.clone(), 0, kind);
        record.dns_class = DNSClass::ANY;
        self.changes.push(record);
    }

    /// Only if this record is there; of several of one set and type, exactly they must be.
    fn only_if(&mut self, name: &Name, data: RData) {
        self.conditions.push(Record::from_rdata(name.clone(), 0, data));
    }

    /// Only if there is no record of this type.
    fn unless_there(&mut self, name: &Name, kind: RecordType) {
        let mut record = Record::update0(name.clone(), 0, kind);
        record.dns_class = DNSClass::NONE;
        self.conditions.push(record);
    }

    /// The message, under an id of its own.
    fn message(&self) -> Message {
        let id = Message::query().metadata.id;
        let mut message = Message::new(id, MessageType::Query, OpCode::Update);
        message.add_query(Query::query(self.zone.clone(), RecordType::SOA));
        message.insert_answers(self.conditions.clone());
        message.insert_authorities(self.changes.clone());
        message
    }
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
