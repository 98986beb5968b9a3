//! Wire ↔ model: pure, and where evidence is stated.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use discovery_core::{
    CheckResult, ConfigEntry, ConfigKey, ErrorKind, Evidence, Instance, InstanceId, InstanceKey, Locality,
    NamedPort, Registration, Result, ServiceName, ServiceSummary, Status, Suspicion, Version,
};
use reqwest::header::HeaderMap;

use crate::{
    checks::{self, is_maintenance},
    config::{Consistency, ConsulConfig},
    error, wire,
};

/// Metadata keys under which further ports are kept, as no version before 1.22 has a field for them.
const PORT: &str = "discovery-port-";
// === what a read says of itself ===

/// The headers of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Absent where missing, unreadable or zero.
    pub(crate) index: Option<u64>,
    known_leader: Option<bool>,
    last_contact: Option<Duration>,
    pub(crate) streaming: bool,
    pub(crate) filtered: bool,
}

impl Meta {
    /// C-13: header names come in any case, which the map takes care of.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            index: text("x-consul-index")
                .and_then(|index| index.parse().ok())
                .filter(|index| *index > 0),
            known_leader: text("x-consul-knownleader").map(|known| known == "true"),
            last_contact: text("x-consul-lastcontact")
                .and_then(|millis| millis.parse().ok())
                .map(Duration::from_millis),
            streaming: text("x-consul-query-backend") == Some("streaming"),
            filtered: text("x-consul-results-filtered-by-acls") == Some("true"),
        }
    }

    /// How far an answer with these headers can be trusted, but for filtered and empty ones.
    pub(crate) fn evidence(&self, config: &ConsulConfig) -> Evidence {
        // C-11: with the streaming backend, the header is always false.
        if self.known_leader == Some(false) && !self.streaming {
            return Evidence::Suspect(Suspicion::NoLeader);
        }
        // C-12
        let stale = config.discovery.consistency == Consistency::Stale;
        if stale
            && self
                .last_contact
                .is_some_and(|age| age > config.discovery.max_staleness)
        {
            return Evidence::Suspect(Suspicion::NoLeader);
        }
        Evidence::Authoritative
    }
}

// === instances ===

fn status(text: &str) -> Status {
    match text {
        "passing" => Status::Passing,
        "warning" => Status::Warning,
        "critical" => Status::Critical,
        _ => Status::Unknown,
    }
}

/// The three words Consul knows: what is not ready, or not known to be, gets no traffic.
pub(crate) fn status_text(status: Status) -> &'static str {
    match status {
        Status::Passing => "passing",
        Status::Warning => "warning",
        _ => "critical",
    }
}

/// The text, shared with `like` where that is the same.
fn shared(text: &str, like: Option<&Arc<str>>) -> Arc<str> {
    match like {
        Some(like) if **like == *text => like.clone(),
        _ => text.into(),
    }
}

fn word(text: &str, like: Option<&Arc<str>>) -> Option<Arc<str>> {
    (!text.is_empty()).then(|| shared(text, like))
}

fn port(number: i64) -> u16 {
    u16::try_from(number).unwrap_or_default()
}

/// An instance of the catalogue; C-37 and H-7: its status is the worst of all checks of service and node.
pub(crate) fn instance<T: AsRef<str> + Into<String>>(
    entry: wire::ServiceEntry<T>,
    with_checks: bool,
) -> Instance {
    instance_like(entry, with_checks, None)
}

/// The same; what is equal in `like`, another one or an earlier state of it, is shared with that.
pub(crate) fn instance_like<T: AsRef<str> + Into<String>>(
    entry: wire::ServiceEntry<T>,
    with_checks: bool,
    like: Option<&Instance>,
) -> Instance {
    let wire::ServiceEntry {
        node,
        service,
        checks,
    } = entry;
    let draining = checks
        .iter()
        .any(|check| is_maintenance(check) && check.status.as_ref() != "passing");
    let worst = checks
        .iter()
        .filter(|check| !is_maintenance(check))
        .map(|check| status(check.status.as_ref()))
        .max()
        .unwrap_or_default();
    let other = like.map(|like| &like.key);
    let (name, id) = (service.name.as_ref(), service.id.as_ref());
    let mut key = InstanceKey::new(
        shared(error::SCHEME, other.map(|key| &key.source)),
        match other {
            Some(key) if key.service.as_str() == name => key.service.clone(),
            _ => ServiceName::observed(name),
        },
        match other {
            Some(key) if key.id.as_str() == id => key.id.clone(),
            _ => InstanceId::observed(id),
        },
    );
    key.datacenter = word(
        node.datacenter.as_ref(),
        other.and_then(|key| key.datacenter.as_ref()),
    );
    key.namespace = word(
        service.namespace.as_ref(),
        other.and_then(|key| key.namespace.as_ref()),
    );
    key.node = word(node.name.as_ref(), other.and_then(|key| key.node.as_ref()));
    let host = match service.address.as_ref() {
        "" => node.address.as_ref(),
        address => address,
    };
    let host = shared(host, like.map(|like| &like.host));
    let (mut meta, mut ports) = (BTreeMap::new(), Vec::new());
    for (key, value) in service.meta.0 {
        match named_port(key.as_ref(), value.as_ref()) {
            Some(port) => ports.push(port),
            None => {
                meta.insert(key.into(), value.into());
            }
        }
    }
    ports.sort_by(|a, b| a.name.cmp(&b.name));
    let mut main = port(service.port);
    for other in service.ports {
        if other.default && main == 0 {
            main = port(other.port);
        }
        ports.push(NamedPort {
            name: other.name.into(),
            number: port(other.port),
            secure: false,
        });
    }
    let weight = service.weights.map_or(1, |weights| match worst {
        Status::Warning => weights.warning,
        _ => weights.passing,
    });
    let zone = service.locality.and_then(|locality| {
        word(
            locality.zone.as_ref(),
            like.and_then(|like| like.locality.zone.as_ref()),
        )
    });
    let locality = Locality::new(key.datacenter.clone(), zone, key.node.clone());
    let mut builder = Instance::builder(key, host, main)
        .tags(service.tags)
        .status(worst)
        .weight(u16::try_from(weight.max(0)).unwrap_or(u16::MAX))
        .draining(draining)
        .locality(locality);
    for port in ports {
        builder = builder.port(port.name, port.number, port.secure);
    }
    if with_checks {
        let shown =
            |check: wire::Check<T>| CheckResult::new(check.name, status(check.status.as_ref()), check.output);
        builder = builder.checks(
            checks
                .into_iter()
                .filter(|check| !is_maintenance(check))
                .map(shown),
        );
    }
    let mut instance = builder.build();
    instance.meta = meta;
    instance
}

/// The services of `/v1/catalog/services`, sorted by name.
pub(crate) fn services(map: BTreeMap<String, Option<Vec<String>>>) -> Vec<ServiceSummary> {
    map.into_iter()
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, tags)| ServiceSummary::new(ServiceName::observed(name), tags.unwrap_or_default(), None))
        .collect()
}

fn named_port(key: &str, value: &str) -> Option<NamedPort> {
    let name = key.strip_prefix(PORT)?;
    let (number, secure) = match value.strip_suffix("/tls") {
        Some(number) => (number, true),
        None => (value, false),
    };
    Some(NamedPort {
        name: name.to_owned(),
        number: number.parse().ok()?,
        secure,
    })
}

// === registrations ===

/// Whether Consul's DNS shows a service of this name.
pub(crate) fn is_dns_label(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// What the agent is told, or why it would refuse.
pub(crate) fn registration<'a>(
    registration: &'a Registration,
    ttl: Option<Duration>,
    config: &ConsulConfig,
) -> Result<wire::Register<'a>> {
    let id = registration.id.as_str();
    let mut meta = registration.meta.clone();
    for (key, value) in &config.service_registration.meta {
        meta.entry(key.clone()).or_insert_with(|| value.clone());
    }
    for port in &registration.ports {
        let secure = if port.secure { "/tls" } else { "" };
        meta.insert(format!("{PORT}{}", port.name), format!("{}{secure}", port.number));
    }
    check_meta(&meta)?;
    if registration.weight.0 == 0 {
        return Err(invalid("weight", "0")
            .with_hint("give one or more; an instance that should get nothing is `draining`"));
    }
    let mut tags = registration.tags.clone();
    for tag in &config.service_registration.tags {
        if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    Ok(wire::Register {
        id,
        name: registration.service.as_str(),
        address: &registration.address,
        port: registration.port,
        tags,
        meta,
        weights: wire::Weights {
            passing: i64::from(registration.weight.0),
            warning: i64::from(registration.weight.0),
        },
        enable_tag_override: config.service_registration.enable_tag_override,
        checks: checks::of(registration, ttl, config)?,
    })
}

/// C-35: what Consul takes as metadata.
pub(crate) fn check_meta(meta: &BTreeMap<String, String>) -> Result<()> {
    if meta.len() > 64 {
        return Err(invalid("meta", &format!("{} pairs", meta.len()))
            .with_hint("give 64 pairs at most; every named port takes one"));
    }
    for (key, value) in meta {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        let fault = if key.is_empty() || key.len() > 128 || !key.bytes().all(plain) {
            "give keys of letters, digits, `_` and `-`, of 128 at most"
        } else if key.starts_with("consul-") {
            "keys that start with `consul-` are Consul's own"
        } else if value.len() > 512 {
            "give values of 512 bytes at most"
        } else {
            continue;
        };
        return Err(invalid("meta", key).with_hint(fault));
    }
    Ok(())
}

pub(crate) fn invalid(field: &'static str, value: &str) -> discovery_core::Error {
    error::error(ErrorKind::InvalidInput, "Consul does not take this registration")
        .with_context(field, format!("{value:?}"))
}

// === values ===

/// A value as the store shows it.
pub(crate) fn entry(pair: &wire::Pair) -> Result<ConfigEntry> {
    let value = STANDARD.decode(&pair.value).map_err(|failed| {
        error::error(ErrorKind::Protocol, "the server's answer cannot be read")
            .with_context("expected", "a value in base64")
            .with_source(failed)
    })?;
    Ok(ConfigEntry::new(
        ConfigKey::observed(pair.key.as_str()),
        value,
        version(pair.modify_index),
    ))
}

pub(crate) fn encode(value: &[u8]) -> String {
    STANDARD.encode(value)
}

pub(crate) fn version(index: u64) -> Version {
    Version::new(index.to_string())
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
