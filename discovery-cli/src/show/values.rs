//! What programs read: `docs/reference/cli.md` describes it, and it does not change but by addition.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use discovery::{
    BackendInfo, BackendStatus, Capabilities, CheckResult, Instance, InstanceKey, ServiceHealth, ServiceName,
    ServiceSummary, Status, config::Setting,
};
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Done<'a> {
    #[serde(rename = "done")]
    what: &'static str,
    service: &'a str,
    id: &'a str,
}

impl<'a> Done<'a> {
    pub(super) fn new(what: &'static str, key: &'a InstanceKey) -> Self {
        Self {
            what,
            service: key.service.as_str(),
            id: key.id.as_str(),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Service {
    pub(super) name: String,
    /// Nothing where the registry does not say.
    pub(super) instances: Option<usize>,
    pub(super) tags: Vec<String>,
}

impl Service {
    pub(super) fn of(service: &ServiceSummary) -> Self {
        Self {
            name: service.name.to_string(),
            instances: service.instances,
            tags: service.tags.clone(),
        }
    }
}

#[derive(Serialize)]
pub(super) struct InstanceValue<'a> {
    service: &'a str,
    id: &'a str,
    address: &'a str,
    port: u16,
    ports: BTreeMap<&'a str, u16>,
    tags: &'a [String],
    meta: &'a BTreeMap<String, String>,
    status: Status,
    draining: bool,
    weight: u16,
    datacenter: Option<&'a str>,
    zone: Option<&'a str>,
    namespace: Option<&'a str>,
    node: Option<&'a str>,
    checks: &'a [CheckResult],
}

fn text(part: Option<&Arc<str>>) -> Option<&str> {
    part.map(|part| &**part)
}

impl<'a> InstanceValue<'a> {
    pub(super) fn of(one: &'a Instance) -> Self {
        Self {
            service: one.key.service.as_str(),
            id: one.key.id.as_str(),
            address: &one.host,
            port: one.port,
            ports: one
                .ports
                .iter()
                .map(|port| (port.name.as_str(), port.number))
                .collect(),
            tags: &one.tags,
            meta: &one.meta,
            status: one.status,
            draining: one.draining,
            weight: one.weight.0,
            datacenter: text(one.key.datacenter.as_ref()),
            zone: text(one.locality.zone.as_ref()),
            namespace: text(one.key.namespace.as_ref()),
            node: text(one.key.node.as_ref()),
            checks: &one.checks,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Health<'a> {
    service: &'a str,
    id: &'a str,
    status: Status,
    draining: bool,
    checks: &'a [CheckResult],
}

impl<'a> Health<'a> {
    pub(super) fn of(one: &'a Instance) -> Self {
        Self {
            service: one.key.service.as_str(),
            id: one.key.id.as_str(),
            status: one.status,
            draining: one.draining,
            checks: &one.checks,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Summary<'a> {
    pub(super) service: &'a ServiceName,
    pub(super) status: Status,
    pub(super) passing: usize,
    pub(super) warning: usize,
    pub(super) critical: usize,
    pub(super) draining: usize,
}

impl<'a> Summary<'a> {
    pub(super) fn of(health: &'a ServiceHealth) -> Self {
        Self {
            service: &health.service,
            status: health.status,
            passing: health.passing,
            warning: health.warning,
            critical: health.critical,
            draining: health.draining,
        }
    }
}

#[derive(Serialize)]
pub(super) struct CheckLine<'a> {
    pub(super) service: &'a str,
    pub(super) id: &'a str,
    pub(super) check: &'a str,
    pub(super) status: Status,
    pub(super) output: &'a str,
}

impl<'a> CheckLine<'a> {
    pub(super) fn all(one: &'a Instance) -> impl Iterator<Item = Self> {
        one.checks.iter().map(|check| Self {
            service: one.key.service.as_str(),
            id: one.key.id.as_str(),
            check: &check.name,
            status: check.status,
            output: &check.output,
        })
    }
}

#[derive(Serialize)]
pub(super) struct StatusValue<'a> {
    backend: &'a str,
    address: &'a str,
    version: Option<&'a str>,
    leader: Option<&'a str>,
    latency_ms: f64,
    pub(super) details: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) capabilities: Option<BTreeMap<&'static str, bool>>,
}

impl<'a> StatusValue<'a> {
    pub(super) fn of(info: &'a BackendInfo, status: &'a BackendStatus, can: Option<&Capabilities>) -> Self {
        let able = |can: &Capabilities| {
            BTreeMap::from([
                ("can register", can.register),
                ("can report health", can.report_health),
                ("can list services", can.list_services),
                ("can watch everything", can.watch_all),
                ("has datacenters", can.datacenters),
                ("has namespaces", can.namespaces),
                ("runs checks", can.runs_checks),
            ])
        };
        Self {
            backend: info.scheme,
            address: &info.address,
            version: status.version.as_deref(),
            leader: status.leader.as_deref(),
            latency_ms: status.latency.as_secs_f64() * 1e3,
            details: status
                .details
                .iter()
                .map(|(key, text)| (key.as_str(), text.as_str()))
                .collect(),
            capabilities: can.map(able),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Port<'a> {
    pub(super) address: &'a str,
    pub(super) state: &'a str,
    pub(super) millis: u128,
}

#[derive(Serialize)]
pub(super) struct SettingValue<'a> {
    pub(super) path: &'a str,
    pub(super) value: &'a serde_json::Value,
    pub(super) origin: String,
}

impl<'a> SettingValue<'a> {
    pub(super) fn of(setting: &'a Setting) -> Self {
        Self {
            path: &setting.path,
            value: &setting.value,
            origin: setting.origin.to_string(),
        }
    }
}

/// A change that a watch saw.
#[derive(Debug, Serialize)]
pub(crate) struct Change {
    /// Seconds since 1970, as this program saw it.
    time: f64,
    #[serde(rename = "change")]
    what: &'static str,
    service: String,
    id: String,
    address: String,
    status: Status,
    /// What is different, of one that changed.
    difference: String,
}

impl Change {
    pub(crate) fn new(what: &'static str, one: &Instance, difference: String) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Self {
            time: now.as_secs_f64(),
            what,
            service: one.key.service.to_string(),
            id: one.key.id.to_string(),
            address: one.address(),
            status: one.status,
            difference,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            id,
            address,
            status,
            ..
        } = self;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "seconds since 1970 are neither negative nor many"
        )]
        let second = self.time as u64 % 86_400;
        let (hour, minute) = (second / 3600, second / 60 % 60);
        write!(
            f,
            "{hour:02}:{minute:02}:{:02}Z {what:<8} {id} {address} {status}",
            second % 60
        )?;
        if !self.difference.is_empty() {
            write!(f, " ({})", self.difference)?;
        }
        Ok(())
    }
}
