//! Wire ↔ model: pure, and where evidence is stated.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use discovery_core::{
    Check, CheckKind, CheckResult, ConfigEntry, ConfigKey, ErrorKind, Evidence, HealthReport, Instance,
    InstanceId, InstanceKey, Locality, NamedPort, Registration, Result, ServiceName, ServiceSummary, Status,
    Suspicion, Version,
};
use reqwest::header::HeaderMap;

use crate::{
    config::{Consistency, ConsulConfig},
    error, wire,
};

/// Checks by which Consul takes an instance, or all of a node, out of service for maintenance.
const SERVICE_MAINTENANCE: &str = "_service_maintenance:";
const NODE_MAINTENANCE: &str = "_node_maintenance";
/// Metadata keys under which further ports are kept, as no version before 1.22 has a field for them.
const PORT: &str = "discovery-port-";
/// Consul raises a shorter `DeregisterCriticalServiceAfter` to this.
pub(crate) const MIN_DEREGISTER_AFTER: Duration = Duration::from_secs(60);

// === ids ===

/// The check that the heartbeats of a registration renew.
pub(crate) fn ttl_check(id: &str) -> String {
    format!("{id}:ttl")
}

/// C-27: checks are unique per agent. The last segment has no `:`, so no two pairs of id and name give the same one.
fn agent_check(id: &str, name: &str) -> String {
    format!("{id}:check-{name}")
}

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

fn maintenance(check: &wire::Check) -> bool {
    check.id == NODE_MAINTENANCE || check.id.starts_with(SERVICE_MAINTENANCE)
}

fn word(text: &str) -> Option<Arc<str>> {
    (!text.is_empty()).then(|| text.into())
}

fn port(number: i64) -> u16 {
    u16::try_from(number).unwrap_or_default()
}

/// An instance of the catalogue; C-37 and H-7: its status is the worst of all checks of service and node.
pub(crate) fn instance(entry: wire::ServiceEntry, with_checks: bool) -> Instance {
    let wire::ServiceEntry {
        node,
        service,
        checks,
    } = entry;
    let draining = checks
        .iter()
        .any(|check| maintenance(check) && check.status != "passing");
    let worst = checks
        .iter()
        .filter(|check| !maintenance(check))
        .map(|check| status(&check.status))
        .max()
        .unwrap_or_default();
    let mut key = InstanceKey::new(
        error::SCHEME,
        ServiceName::observed(service.name),
        InstanceId::observed(service.id),
    );
    key.datacenter = word(&node.datacenter);
    key.namespace = word(&service.namespace);
    key.node = word(&node.name);
    let host = if service.address.is_empty() {
        node.address
    } else {
        service.address
    };
    let (mut meta, mut ports) = (service.meta, Vec::new());
    meta.retain(|key, value| match named_port(key, value) {
        Some(port) => {
            ports.push(port);
            false
        }
        None => true,
    });
    let mut main = port(service.port);
    for other in service.ports {
        if other.default && main == 0 {
            main = port(other.port);
        }
        ports.push(NamedPort {
            name: other.name,
            number: port(other.port),
            secure: false,
        });
    }
    let weight = service.weights.map_or(1, |weights| match worst {
        Status::Warning => weights.warning,
        _ => weights.passing,
    });
    let zone = service.locality.and_then(|locality| word(&locality.zone));
    let locality = Locality::new(key.datacenter.clone(), zone, key.node.clone());
    let mut builder = Instance::builder(key, host, main)
        .tags(service.tags)
        .meta(meta)
        .status(worst)
        .weight(u16::try_from(weight.max(0)).unwrap_or(u16::MAX))
        .draining(draining)
        .locality(locality);
    for port in ports {
        builder = builder.port(port.name, port.number, port.secure);
    }
    if with_checks {
        let shown = |check: wire::Check| CheckResult::new(check.name, status(&check.status), check.output);
        builder = builder.checks(checks.into_iter().filter(|check| !maintenance(check)).map(shown));
    }
    builder.build()
}

/// The instances of an answer; C-19: in the server's order where it was asked to sort, else by key.
pub(crate) fn instances(
    entries: Vec<wire::ServiceEntry>,
    with_checks: bool,
    keep_order: bool,
) -> Vec<Arc<Instance>> {
    let mut all: Vec<_> = entries
        .into_iter()
        .filter(|entry| !entry.service.id.is_empty())
        .map(|entry| Arc::new(instance(entry, with_checks)))
        .collect();
    if !keep_order {
        all.sort_by(|a, b| a.key.cmp(&b.key));
    }
    all
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

/// A duration as Go reads it.
pub(crate) fn go(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
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
    let mut checks = Vec::new();
    if let Some(ttl) = ttl {
        let after = config.health_checks.deregister_after;
        checks.push(wire::RegisterCheck {
            check_id: ttl_check(id),
            name: "heartbeat".to_owned(),
            ttl: Some(go(ttl)),
            // C-24: it would start critical. Where the agent runs checks, they have the say from the start.
            status: Some(if registration.checks.is_empty() {
                status_text(registration.health.status)
            } else {
                "passing"
            }),
            deregister_critical_service_after: (!after.is_zero())
                .then(|| go(after.max(MIN_DEREGISTER_AFTER))),
            ..wire::RegisterCheck::default()
        });
    }
    for check in &registration.checks {
        checks.push(agent_run(id, check, registration.health.status)?);
    }
    if registration.health.draining {
        checks.push(maintenance_check(id, &registration.health));
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
        checks,
    })
}

/// Maintenance as a check of the registration itself: one that is enabled afterwards would be dropped by
/// `replace-existing-checks`, and the instance would be in service until it is enabled again. Nobody ever passes it.
fn maintenance_check(id: &str, health: &HealthReport) -> wire::RegisterCheck {
    wire::RegisterCheck {
        check_id: format!("{SERVICE_MAINTENANCE}{id}"),
        name: "Service Maintenance Mode".to_owned(),
        ttl: Some("1h".to_owned()),
        status: Some("critical"),
        notes: health.output.clone(),
        ..wire::RegisterCheck::default()
    }
}

fn agent_run(id: &str, check: &Check, starts: Status) -> Result<wire::RegisterCheck> {
    if check.name.contains(':') {
        return Err(invalid("check", &check.name).with_hint("give the check a name without `:`"));
    }
    let mut wire = wire::RegisterCheck {
        check_id: agent_check(id, &check.name),
        name: check.name.clone(),
        interval: Some(go(check.interval)),
        timeout: Some(go(check.timeout)),
        status: Some(status_text(starts)),
        deregister_critical_service_after: check
            .deregister_after
            .map(|after| go(after.max(MIN_DEREGISTER_AFTER))),
        ..wire::RegisterCheck::default()
    };
    match &check.kind {
        CheckKind::Http { url } => wire.http = Some(url.clone()),
        CheckKind::Tcp { address } => wire.tcp = Some(address.clone()),
        _ => {
            return Err(error::error(
                ErrorKind::Unsupported,
                "this kind of check cannot be run by the agent",
            )
            .with_context("check", check.name.clone()));
        }
    }
    Ok(wire)
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

fn invalid(field: &'static str, value: &str) -> discovery_core::Error {
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
