//! What programs read: `docs/reference/cli.md` describes it, and it does not change but by addition.

use std::{borrow::Cow, collections::BTreeMap, str, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use discovery::{
    BackendInfo, BackendStatus, Capabilities, CheckResult, ConfigEntry, Instance, InstanceKey, ServiceHealth,
    ServiceName, ServiceSummary, Status,
    config::Setting,
    pick::{Explained, Verdict},
};
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Done<'a> {
    #[serde(rename = "done")]
    what: &'static str,
    service: &'a str,
    id: &'a str,
    /// Of a report.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

impl<'a> Done<'a> {
    pub(super) fn new(what: &'static str, key: &'a InstanceKey) -> Self {
        Self {
            what,
            service: key.service.as_str(),
            id: key.id.as_str(),
            status: None,
        }
    }

    /// The same, having said so.
    pub(super) fn saying(mut self, status: Status) -> Self {
        self.status = Some(status);
        self
    }
}

#[derive(Serialize)]
pub(super) struct Registered<'a> {
    #[serde(flatten)]
    done: Done<'a>,
    /// Nothing where it lives until it is deregistered.
    ttl_seconds: Option<f64>,
}

impl<'a> Registered<'a> {
    pub(super) fn new(key: &'a InstanceKey, ttl: Option<Duration>) -> Self {
        Self {
            done: Done::new("registered", key),
            ttl_seconds: ttl.map(|ttl| ttl.as_secs_f64()),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Written<'a> {
    #[serde(rename = "done")]
    pub(super) what: &'static str,
    pub(super) key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Imported<'a> {
    #[serde(rename = "done")]
    pub(super) what: &'static str,
    pub(super) keys: &'a [&'a str],
}

#[derive(Serialize)]
pub(super) struct Step<'a> {
    #[serde(rename = "step")]
    what: &'static str,
    text: &'a str,
    millis: f64,
}

impl<'a> Step<'a> {
    pub(super) fn new(what: &'static str, text: &'a str, took: Duration) -> Self {
        Self {
            what,
            text,
            millis: took.as_secs_f64() * 1e3,
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
    /// Nothing where the registry keeps a status only.
    pub(super) check: Option<&'a str>,
    pub(super) status: Status,
    pub(super) output: &'a str,
}

impl<'a> CheckLine<'a> {
    /// A line for each check of an instance, or one for an instance without checks.
    pub(super) fn all(one: &'a Instance) -> impl Iterator<Item = Self> {
        let line = |check: Option<&'a str>, status, output| Self {
            service: one.key.service.as_str(),
            id: one.key.id.as_str(),
            check,
            status,
            output,
        };
        let bare = one.checks.is_empty().then(|| line(None, one.status, ""));
        let checks = one.checks.iter();
        let checks = checks.map(move |check| line(Some(&check.name), check.status, &check.output));
        bare.into_iter().chain(checks)
    }
}

#[derive(Serialize)]
pub(super) struct ExplainedValue<'a> {
    #[serde(flatten)]
    instance: InstanceValue<'a>,
    verdict: Verdict,
    pub(super) why: &'static str,
}

impl<'a> ExplainedValue<'a> {
    pub(super) fn of(one: &'a Explained) -> Self {
        Self {
            instance: InstanceValue::of(&one.instance),
            verdict: one.verdict,
            why: one.verdict.describe(),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Entry<'a> {
    pub(super) key: &'a str,
    /// Nothing where it is no text.
    value: Option<&'a str>,
    /// Only there where it is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    pub(super) version: &'a str,
}

impl<'a> Entry<'a> {
    pub(super) fn of(entry: &'a ConfigEntry) -> Self {
        let value = str::from_utf8(&entry.value).ok();
        Self {
            key: entry.key.as_str(),
            value,
            base64: value.is_none().then(|| STANDARD.encode(&entry.value)),
            version: entry.version.as_str(),
        }
    }

    /// It on one line.
    pub(super) fn short(&self) -> String {
        let text = match (self.value, &self.base64) {
            (Some(text), _) => Cow::Borrowed(text),
            (None, base64) => Cow::Owned(format!("base64:{}", base64.as_deref().unwrap_or_default())),
        };
        match text.split_once('\n') {
            Some((first, rest)) if !rest.is_empty() => format!("{first}…"),
            Some((first, _)) => first.to_owned(),
            None => text.into_owned(),
        }
    }
}

#[cfg(feature = "dns")]
#[derive(Serialize)]
pub(super) struct RecordValue<'a> {
    pub(super) name: &'a str,
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
    pub(super) ttl_seconds: u64,
    pub(super) value: &'a str,
}

#[cfg(feature = "dns")]
impl<'a> RecordValue<'a> {
    pub(super) fn of(record: &'a discovery::dns::Record) -> Self {
        Self {
            name: &record.name,
            kind: &record.kind,
            ttl_seconds: record.ttl.as_secs(),
            value: &record.value,
        }
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
                ("can_register", can.register),
                ("can_report_health", can.report_health),
                ("can_list_services", can.list_services),
                ("can_watch_everything", can.watch_all),
                ("has_datacenters", can.datacenters),
                ("has_namespaces", can.namespaces),
                ("runs_checks", can.runs_checks),
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
