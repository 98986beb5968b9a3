//! Wire ↔ model: pure.

use std::{borrow::Cow, sync::Arc, time::Duration};

use discovery_core::{
    CheckResult, Error, ErrorKind, HealthReport, Instance, InstanceId, InstanceKey, Locality, NamedPort,
    Registration, Result, ServiceName, Status,
};
use serde_json::{Map, Value, json};

use crate::{config::EurekaConfig, error, wire};

/// Metadata keys of our own, which are not shown as metadata.
const OWN: &str = "discovery-";
/// Further ports by name: `9090` or `9443/tls`.
const PORT: &str = "discovery-port-";
/// Tags, as a list in JSON.
const TAGS: &str = "discovery-tags";
/// A status that Eureka has no word for.
const STATUS: &str = "discovery-status";
/// What others call these two, too.
const WEIGHT: &str = "weight";
const ZONE: &str = "zone";
/// The name under which the port is shown that is secure beside one that is not, or instead of it.
const HTTPS: &str = "https";

/// A status as Eureka writes it, in the order of the alphabet, as the hash has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Word {
    Down,
    OutOfService,
    Starting,
    Unknown,
    Up,
}

impl Word {
    pub(crate) const ALL: [Self; 5] = [
        Self::Down,
        Self::OutOfService,
        Self::Starting,
        Self::Unknown,
        Self::Up,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Down => "DOWN",
            Self::OutOfService => "OUT_OF_SERVICE",
            Self::Starting => "STARTING",
            Self::Unknown => "UNKNOWN",
            Self::Up => "UP",
        }
    }

    /// U-7
    pub(crate) fn read(text: &str) -> Self {
        let all = Self::ALL.into_iter();
        all.into_iter()
            .find(|word| word.as_str().eq_ignore_ascii_case(text.trim()))
            .unwrap_or(Self::Unknown)
    }

    /// What to show for this health. A server answers 404 to the heartbeats of one that is `UNKNOWN`.
    pub(crate) fn of(health: &HealthReport) -> Self {
        match health.status {
            _ if health.draining => Self::OutOfService,
            Status::Passing | Status::Warning => Self::Up,
            Status::Starting => Self::Starting,
            _ => Self::Down,
        }
    }

    /// What it says by itself.
    fn status(self) -> Status {
        match self {
            Self::Up | Self::OutOfService => Status::Passing,
            Self::Down => Status::Critical,
            Self::Starting => Status::Starting,
            Self::Unknown => Status::Unknown,
        }
    }
}

/// The status that goes into metadata because the word does not tell it.
pub(crate) fn mark(health: &HealthReport) -> Option<&'static str> {
    (health.status != Word::of(health).status()).then(|| health.status.as_str())
}

/// The application a service is in: servers have them in upper case.
pub(crate) fn app(service: &str) -> String {
    service.to_uppercase()
}

/// The service that instances of an application belong to: as their VIP address writes it if that is the same name, else
/// in lower case, as Spring Cloud has it.
fn service(app: &str, vip: &str) -> ServiceName {
    if !vip.is_empty() && self::app(vip) == app {
        return ServiceName::observed(vip);
    }
    ServiceName::observed(app.to_lowercase())
}

/// The instance, its status as Eureka has it.
pub(crate) fn instance(found: &wire::Instance<'_>, app: &str, config: &EurekaConfig) -> (Instance, Word) {
    let word = Word::read(&found.status.0);
    let app = if found.app.0.is_empty() { app } else { &found.app.0 };
    let key = InstanceKey::new(
        error::SCHEME,
        service(app, &found.vip_address.0),
        InstanceId::observed(found.id()),
    );
    let host: Arc<str> = match (&*found.host_name.0, &*found.ip_addr.0) {
        (host, "") => host.into(),
        (host, ip) if host.is_empty() || config.discovery.prefer_ip => ip.into(),
        (host, _) => host.into(),
    };
    let (plain, secure) = (found.port, found.secure_port);
    // U-9
    let encrypted = secure.enabled && (!plain.enabled || config.discovery.prefer_secure);
    let port = if encrypted { secure } else { plain };
    let mut builder = Instance::builder(key, host, port.number).draining(word == Word::OutOfService);
    if secure.enabled {
        builder = builder.port(HTTPS, secure.number, true);
    }
    let mut status = word.status();
    let mut locality = Locality::default();
    let metadata = &found.metadata.0;
    for (key, value) in metadata {
        let value = &*value.0;
        if let Some(name) = key.strip_prefix(PORT) {
            if let Some(port) = named_port(name, value) {
                builder = builder.port(port.name, port.number, port.secure);
            }
        } else if key == TAGS {
            builder = builder.tags(serde_json::from_str::<Vec<String>>(value).unwrap_or_default());
        } else if key == STATUS {
            // Somebody may have changed the word without knowing of ours.
            status = match (word, value.parse()) {
                (Word::Up, Ok(Status::Warning)) => Status::Warning,
                (Word::Down, Ok(Status::Unknown)) => Status::Unknown,
                (Word::OutOfService, Ok(found)) => found,
                _ => status,
            };
        } else if !key.starts_with(OWN) {
            builder = builder.meta([(key.as_ref(), value)]);
        }
    }
    if let Some(weight) = metadata.get(WEIGHT).and_then(|weight| weight.0.parse().ok()) {
        builder = builder.weight(weight);
    }
    if let Some(zone) = metadata.get(ZONE).filter(|zone| !zone.0.is_empty()) {
        locality.zone = Some((*zone.0).into());
    }
    (builder.status(status).locality(locality).build(), word)
}

/// The one check there is to show.
pub(crate) fn check(instance: &Instance) -> CheckResult {
    let output = if instance.draining { "out of service" } else { "" };
    CheckResult::new(error::SCHEME, instance.status, output)
}

fn named_port(name: &str, value: &str) -> Option<NamedPort> {
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

/// What to register, but for its status; or why a server would not take it.
pub(crate) fn registration(
    registration: &Registration,
    config: &EurekaConfig,
    dirty: u64,
) -> Result<Map<String, Value>> {
    let (extra, name) = (&config.service_registration, registration.service.as_str());
    let app = app(name);
    for (field, text) in [("name", name), ("id", registration.id.as_str())] {
        if text.contains('\\') {
            return Err(invalid(field, text).with_hint("servers refuse `\\` in a path: leave it out"));
        }
    }
    let mut meta = extra.meta.clone();
    if let Some(zone) = &config.server.zone {
        meta.insert(ZONE.to_owned(), zone.clone());
    }
    meta.extend(
        registration
            .meta
            .iter()
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    check_meta(meta.keys())?;
    if registration.weight.0 != 1 {
        let weight = registration.weight.to_string();
        meta.entry(WEIGHT.to_owned()).or_insert(weight);
    }
    if !registration.tags.is_empty() {
        meta.insert(
            TAGS.to_owned(),
            Value::from(registration.tags.clone()).to_string(),
        );
    }
    if let Some(mark) = mark(&registration.health) {
        meta.insert(STATUS.to_owned(), mark.to_owned());
    }
    let mut secure = extra.secure.then_some(registration.port);
    for port in &registration.ports {
        if port.name == HTTPS && port.secure && secure.is_none_or(|known| known == port.number) {
            secure = Some(port.number);
            continue;
        }
        let tls = if port.secure { "/tls" } else { "" };
        meta.insert(format!("{PORT}{}", port.name), format!("{}{tls}", port.number));
    }
    let ttl = registration.ttl.unwrap_or(extra.ttl);
    let vip = extra.vip.as_deref().unwrap_or(name);
    let scheme = if extra.secure { "https" } else { "http" };
    let host: Cow<'_, str> = match &*registration.address {
        host if host.contains(':') => format!("[{host}]").into(),
        host => host.into(),
    };
    let url = |path: &Option<String>| {
        path.as_ref()
            .map(|path| format!("{scheme}://{host}:{}{path}", registration.port))
    };
    let port = |number: u16, enabled: bool| json!({ "$": number, "@enabled": enabled.to_string() });
    let health_check = url(&extra.health_check_path);
    let body = json!({
        "instanceId": registration.id.as_str(),
        "app": app,
        "hostName": &*registration.address,
        "ipAddr": &*registration.address,
        "overriddenStatus": Word::Unknown.as_str(),
        "port": port(registration.port, !extra.secure),
        "securePort": port(secure.unwrap_or(443), secure.is_some()),
        "countryId": 1,
        "dataCenterInfo": data_center(&extra.data_center, registration.id.as_str()),
        "leaseInfo": {
            "renewalIntervalInSecs": seconds(config.heartbeat(ttl)),
            "durationInSecs": seconds(ttl),
        },
        "metadata": meta,
        "vipAddress": vip,
        "secureVipAddress": extra.secure_vip.as_deref().unwrap_or(vip),
        "homePageUrl": url(&extra.home_page_path),
        "statusPageUrl": url(&extra.status_page_path),
        "healthCheckUrl": health_check.clone().filter(|_| !extra.secure),
        "secureHealthCheckUrl": health_check.filter(|_| extra.secure),
        "isCoordinatingDiscoveryServer": "false",
        "lastUpdatedTimestamp": dirty.to_string(),
        "lastDirtyTimestamp": dirty.to_string(),
    });
    let Value::Object(mut body) = body else {
        return Err(error::error(ErrorKind::Unexpected, "not an object"));
    };
    body.retain(|_, value| !value.is_null());
    Ok(body)
}

/// U-2: without its class the server cannot read it, nor Amazon's without metadata: it would take what follows for that.
fn data_center(name: &str, id: &str) -> Value {
    if name == "Amazon" {
        return json!({
            "@class": "com.netflix.appinfo.AmazonInfo", "name": name, "metadata": { "instance-id": id },
        });
    }
    json!({ "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": name })
}

/// Whole seconds, one at least, never less than asked for.
fn seconds(duration: Duration) -> u64 {
    duration
        .as_millis()
        .div_ceil(1000)
        .max(1)
        .try_into()
        .unwrap_or(u64::MAX)
}

/// Refuses metadata keys that would be lost or taken for ours.
pub(crate) fn check_meta<'a>(keys: impl IntoIterator<Item = &'a String>) -> Result<()> {
    for key in keys {
        if key.is_empty() || key.starts_with('@') {
            return Err(
                invalid("meta", key).with_hint("give keys that are not empty and do not start with `@`")
            );
        }
        if key.starts_with(OWN) {
            return Err(
                invalid("meta", key).with_hint("keys that start with `discovery-` are this library's own")
            );
        }
    }
    Ok(())
}

pub(crate) fn invalid(field: &'static str, value: &str) -> Error {
    error::error(ErrorKind::InvalidInput, "Eureka does not take this registration")
        .with_context(field, format!("{value:?}"))
}

/// A record as a server sent it, to be changed and sent back with all that is not known here.
#[derive(Debug, Clone)]
pub(crate) struct Record(pub(crate) Map<String, Value>);

impl Record {
    fn text(&self, field: &str) -> &str {
        self.0.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn word(&self) -> Word {
        Word::read(self.text("status"))
    }

    /// Whether somebody holds its status.
    pub(crate) fn is_held(&self) -> bool {
        let held = [self.text("overriddenStatus"), self.text("overriddenstatus")];
        held.contains(&Word::OutOfService.as_str())
    }

    pub(crate) fn dirty(&self) -> u64 {
        match self.0.get("lastDirtyTimestamp") {
            Some(Value::String(text)) => text.parse().unwrap_or_default(),
            Some(value) => value.as_u64().unwrap_or_default(),
            None => 0,
        }
    }

    fn metadata(&mut self) -> &mut Map<String, Value> {
        let metadata = self.0.entry("metadata").or_insert_with(|| json!({}));
        if !metadata.is_object() {
            *metadata = json!({});
        }
        let Value::Object(map) = metadata else {
            unreachable!("it was made one")
        };
        map.retain(|key, _| !key.starts_with('@'));
        map
    }

    /// Sets or removes a key of metadata; answers whether that changes anything.
    pub(crate) fn set(&mut self, key: &str, value: Option<&str>) -> bool {
        let metadata = self.metadata();
        match value {
            Some(value) => {
                metadata
                    .insert(key.to_owned(), value.into())
                    .as_ref()
                    .and_then(Value::as_str)
                    != Some(value)
            }
            None => metadata.remove(key).is_some(),
        }
    }

    /// Marks it with this health; answers whether that changes anything.
    pub(crate) fn mark(&mut self, health: &HealthReport) -> bool {
        self.set(STATUS, mark(health))
    }

    /// What to send, with this status.
    pub(crate) fn body(mut self, word: Word, dirty: u64) -> Map<String, Value> {
        self.metadata();
        self.0.remove("overriddenstatus");
        self.0.remove("actionType");
        for (field, value) in [
            ("status", word.as_str().to_owned()),
            ("overriddenStatus", Word::Unknown.as_str().to_owned()),
            ("lastDirtyTimestamp", dirty.to_string()),
            ("lastUpdatedTimestamp", dirty.to_string()),
        ] {
            self.0.insert(field.to_owned(), value.into());
        }
        self.0
    }
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
