//! Between what an apiserver stores and the model. Pure.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use discovery_core::{
    CheckResult, Error, ErrorKind, HealthReport, Instance, InstanceId, InstanceKey, Locality, MetaChange,
    NamedPort, Registration, Result, ServiceName, Status, Weight,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    config::{IpFamily, K8sConfig, is_label, is_subdomain},
    error,
    slices::{Fold, Id, Lives},
    wire::{Conditions, Endpoint, EndpointSlice, Meta, Owner, Port, Service},
};

/// Who writes, for the server's record of who owns which field (K-12), and for `managed-by` (K-6).
pub(crate) const MANAGER: &str = "discovery.system-control.io";
/// The label that names the service of a slice.
pub(crate) const SERVICE: &str = "kubernetes.io/service-name";
/// The label that names who writes a slice.
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The same for everything else.
pub(crate) const APP_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The annotation that holds what a slice has no field for.
const RECORD: &str = "discovery.system-control.io/instance";
/// Why the owner set the health as it is.
const OUTPUT: usize = 1000;

/// What a slice of ours keeps beside its endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    id: String,
    /// Where the endpoint itself cannot hold it.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    port: u16,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<NamedPort>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    meta: BTreeMap<String, String>,
    weight: Weight,
    status: Status,
    draining: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    output: String,
    /// The seconds it outlives its last heartbeat.
    ttl: u32,
}

/// What of the configuration matters when slices are read.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) family: IpFamily,
    pub(crate) not_ready_too: bool,
    /// Whether instances carry what their owner reported.
    pub(crate) checks: bool,
    labels: Vec<(String, &'static str)>,
    annotations: Vec<(String, &'static str)>,
    port: String,
}

impl Rules {
    pub(crate) fn of(config: &K8sConfig, checks: bool) -> Self {
        let (labels, annotations) = (&config.labels, &config.annotations);
        Self {
            checks,
            family: config.endpoints.ip_family,
            not_ready_too: config.endpoints.include_not_ready || !config.endpoints.ready_only,
            labels: vec![
                (labels.service_name.clone(), "service_name"),
                (labels.service_version.clone(), "service_version"),
                (labels.environment.clone(), "environment"),
            ],
            annotations: vec![
                (annotations.health_path.clone(), "health_path"),
                (annotations.metrics_path.clone(), "metrics_path"),
            ],
            port: annotations.service_port.clone(),
        }
    }

    /// What labels and annotations of an object add to its instances.
    pub(crate) fn dress(&self, meta: &Meta) -> Dress {
        let named = |from: &BTreeMap<String, String>, wanted: &[(String, &'static str)]| {
            let known = wanted
                .iter()
                .filter_map(|(key, name)| Some((*name, from.get(key)?.clone())));
            known.collect::<Vec<_>>()
        };
        let mut shown = named(&meta.labels, &self.labels);
        shown.extend(named(&meta.annotations, &self.annotations));
        Dress {
            meta: shown,
            port: meta.annotations.get(&self.port).cloned(),
        }
    }
}

/// What a Service, or the labels of a slice, add to instances.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dress {
    meta: Vec<(&'static str, String)>,
    port: Option<String>,
}

impl Dress {
    pub(crate) fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what the instance does not say itself.
    pub(crate) fn put_on(&self, instance: &mut Instance) {
        for (key, value) in &self.meta {
            instance
                .meta
                .entry((*key).to_owned())
                .or_insert_with(|| value.clone());
        }
        if let Some(port) = &self.port {
            let named = instance.ports.iter().find(|known| known.name == *port);
            match (port.parse(), named) {
                (Ok(number), _) => instance.port = number,
                (_, Some(named)) => instance.port = named.number,
                _ => {}
            }
        }
    }
}

/// The service a slice belongs to.
pub(crate) fn service_of(meta: &Meta) -> Option<ServiceName> {
    meta.labels
        .get(SERVICE)
        .filter(|name| !name.is_empty())
        .map(|name| ServiceName::observed(name.as_str()))
}

/// Whether a slice is ours to write (K-6).
pub(crate) fn is_ours(meta: &Meta) -> bool {
    meta.labels.get(MANAGED_BY).is_some_and(|by| by == MANAGER)
}

fn key(namespace: &str, service: &ServiceName, id: &str) -> InstanceKey {
    InstanceKey::new(error::SCHEME, service.clone(), InstanceId::observed(id)).with_namespace(namespace)
}

/// What a slice says of the instances it holds.
pub(crate) fn slice(slice: &EndpointSlice, rules: &Rules) -> Option<Fold> {
    let service = service_of(&slice.metadata)?;
    let meta = &slice.metadata;
    let (rank, shown) = family(&slice.address_type, rules.family);
    let mut fold = Fold {
        service: Id::new(&meta.namespace, service.as_str()),
        lives: None,
        rank,
        instances: Vec::new(),
    };
    if is_ours(meta) {
        // Whoever registered it chose its address.
        let record: Record = serde_json::from_str(meta.annotations.get(RECORD)?).ok()?;
        fold.lives = Some(Lives {
            lease: Id::new(&meta.namespace, &meta.name),
            ttl: Duration::from_secs(record.ttl.max(1).into()),
        });
        fold.rank = 0;
        fold.instances
            .push(Arc::new(ours(slice, record, &service, rules.checks)));
        return Some(fold);
    }
    if !shown {
        return Some(fold);
    }
    let dress = rules.dress(meta);
    for endpoint in &slice.endpoints {
        if let Some(mut instance) = foreign(slice, endpoint, &service, rules) {
            dress.put_on(&mut instance);
            fold.instances.push(Arc::new(instance));
        }
    }
    Some(fold)
}

/// How far a family is preferred (less is better), and whether it counts at all.
fn family(address_type: &str, wanted: IpFamily) -> (u8, bool) {
    match (address_type, wanted) {
        ("IPv4", IpFamily::PreferIpv4 | IpFamily::Ipv4) | ("IPv6", IpFamily::PreferIpv6 | IpFamily::Ipv6) => {
            (0, true)
        }
        ("IPv4", IpFamily::PreferIpv6) | ("IPv6", IpFamily::PreferIpv4) => (1, true),
        ("IPv4" | "IPv6", _) => (1, false),
        // K-5: a host name, never an address.
        ("FQDN", _) => (2, true),
        _ => (3, false),
    }
}

/// An endpoint of a slice that others write.
fn foreign(
    slice: &EndpointSlice,
    endpoint: &Endpoint,
    service: &ServiceName,
    rules: &Rules,
) -> Option<Instance> {
    // K-5: only the first has a meaning.
    let host = endpoint.addresses.first().filter(|address| !address.is_empty())?;
    let ports = named_ports(&slice.ports);
    let port = main_port(&slice.ports);
    // K-3: the same pod in two slices is one instance; without a pod, the address and port are.
    let id = match &endpoint.target_ref {
        Some(target) if !target.name.is_empty() => target.name.clone(),
        _ => format!("{service}-{host}-{port}"),
    };
    let health = Health::of(endpoint.conditions);
    let mut locality = Locality::default();
    locality.zone = endpoint.zone.as_deref().map(Into::into);
    locality.node = endpoint.node_name.as_deref().map(Into::into);
    let mut instance = Instance::builder(key(&slice.metadata.namespace, service, &id), host.as_str(), port)
        .status(health.status(rules.not_ready_too))
        .draining(health.draining())
        .locality(locality)
        .build();
    instance.ports = ports;
    let hints = endpoint.hints.as_ref();
    for (name, hinted) in [
        ("hints.zones", hints.map(|hints| &hints.for_zones)),
        ("hints.nodes", hints.map(|hints| &hints.for_nodes)),
    ] {
        let all: Vec<_> = hinted
            .into_iter()
            .flatten()
            .map(|named| named.name.as_str())
            .collect();
        if !all.is_empty() {
            instance.meta.insert(name.to_owned(), all.join(","));
        }
    }
    Some(instance)
}

fn named_ports(ports: &[Port]) -> Vec<NamedPort> {
    let named = ports.iter().filter(|port| !port.name.is_empty());
    named
        .filter_map(|port| {
            let app = port.app_protocol.as_deref().unwrap_or_default();
            Some(NamedPort {
                secure: app == "https"
                    || app == "kubernetes.io/wss"
                    || (app.is_empty() && port.name == "https"),
                name: port.name.clone(),
                number: port.number?,
            })
        })
        .collect()
}

/// The first TCP port, else the first; zero where there is none (K-4).
fn main_port(ports: &[Port]) -> u16 {
    let tcp = |port: &&Port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
    ports
        .iter()
        .filter(tcp)
        .chain(ports)
        .find_map(|port| port.number)
        .unwrap_or(0)
}

/// The three conditions with their defaults (K-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Health {
    ready: bool,
    serving: bool,
    terminating: bool,
}

impl Health {
    fn of(conditions: Conditions) -> Self {
        let ready = conditions.ready.unwrap_or(true);
        Self {
            ready,
            // As the first version had it: whoever does not say is as ready as it says.
            serving: conditions.serving.unwrap_or(ready),
            terminating: conditions.terminating.unwrap_or(false),
        }
    }

    /// K-2
    fn status(self, not_ready_too: bool) -> Status {
        if self.ready || (self.terminating && self.serving) {
            Status::Passing
        } else if not_ready_too {
            Status::Warning
        } else if self.serving {
            Status::Starting
        } else {
            Status::Critical
        }
    }

    fn draining(self) -> bool {
        self.terminating && !self.ready
    }
}

/// The endpoint of a slice that we write.
fn ours(slice: &EndpointSlice, record: Record, service: &ServiceName, checks: bool) -> Instance {
    let endpoint = slice.endpoints.first();
    let host = endpoint
        .and_then(|endpoint| endpoint.addresses.first())
        .or(record.address.as_ref());
    let mut locality = Locality::default();
    locality.zone = endpoint.and_then(|e| e.zone.as_deref()).map(Into::into);
    locality.node = endpoint.and_then(|e| e.node_name.as_deref()).map(Into::into);
    let mut instance = Instance::builder(
        key(&slice.metadata.namespace, service, &record.id),
        host.map(String::as_str).unwrap_or_default(),
        record.port,
    )
    .tags(record.tags)
    .meta(record.meta)
    .status(record.status)
    .draining(record.draining)
    .weight(record.weight.0)
    .locality(locality)
    .build();
    instance.ports = record.ports;
    if checks {
        instance
            .checks
            .push(CheckResult::new("reported", record.status, record.output));
    }
    instance
}

/// A Service that stands for itself: another name, or its cluster IP where endpoints are not looked up.
pub(crate) fn service(service: &Service, endpoints: bool, rules: &Rules) -> Option<Arc<Instance>> {
    let (meta, spec) = (&service.metadata, &service.spec);
    let host = match spec.kind.as_str() {
        "ExternalName" => spec.external_name.as_str(),
        _ if !endpoints && spec.cluster_ip != "None" => spec.cluster_ip.as_str(),
        _ => return None,
    };
    let host = host.trim_end_matches('.');
    if host.is_empty() {
        return None;
    }
    let name = ServiceName::observed(meta.name.as_str());
    let id = format!("{}-{host}-{}", meta.name, main_port(&spec.ports));
    let mut instance =
        Instance::builder(key(&meta.namespace, &name, &id), host, main_port(&spec.ports)).build();
    instance.ports = named_ports(&spec.ports);
    rules.dress(meta).put_on(&mut instance);
    Some(Arc::new(instance))
}

// === what we write ===

/// The name of the slice and of the Lease of an instance: deterministic (K-16), whatever the id looks like (K-7).
pub(crate) fn object_name(service: &ServiceName, id: &InstanceId) -> String {
    let hash = xxh3_64(id.as_str().as_bytes());
    format!("{service}-{hash:016x}")
}

/// Refuses names that Kubernetes has no Service for.
pub(crate) fn check_service(service: &ServiceName) -> Result<()> {
    let name = service.as_str();
    if is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Ok(());
    }
    Err(
        error::error(ErrorKind::InvalidInput, "no name for a Kubernetes Service")
            .with_context("service", format!("{name:?}"))
            .with_hint("use at most 63 lower-case letters, digits and `-`, a letter first"),
    )
}

/// Whether a slice can hold an address, and as what (K-7).
fn address_type(address: &str) -> Option<&'static str> {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            let refused = ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || ip.is_multicast();
            (!refused).then_some("IPv4")
        }
        Ok(IpAddr::V6(ip)) => {
            let link_local = (ip.segments()[0] & 0xffc0) == 0xfe80;
            let mapped = ip.to_ipv4_mapped().is_some();
            let refused =
                ip.is_loopback() || link_local || ip.is_unspecified() || ip.is_multicast() || mapped;
            (!refused).then_some("IPv6")
        }
        Err(_) => (address.contains('.') && is_subdomain(address)).then_some("FQDN"),
    }
}

fn conditions(health: &HealthReport) -> Conditions {
    let serving = health.status.is_serving();
    Conditions {
        ready: Some(serving && !health.draining),
        serving: Some(serving),
        terminating: Some(health.draining),
    }
}

/// The labels of everything we write for a service.
pub(crate) fn labels(service: &ServiceName, config: &K8sConfig) -> BTreeMap<String, String> {
    let mut labels = config.service_discovery.selectors.clone();
    labels.insert(SERVICE.to_owned(), service.as_str().to_owned());
    labels.insert(APP_MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

/// The time to live in the whole seconds a Lease counts.
pub(crate) fn seconds(ttl: Duration) -> u32 {
    u32::try_from(ttl.as_millis().div_ceil(1000))
        .unwrap_or(u32::MAX)
        .clamp(1, i32::MAX.cast_unsigned())
}

/// The slice of a registration, but for what binds it to its Lease.
pub(crate) fn registration(
    registration: &Registration,
    namespace: &str,
    config: &K8sConfig,
) -> Result<EndpointSlice> {
    check_service(&registration.service)?;
    let kind = address_type(&registration.address);
    if kind.is_none() && !config.registration.local_addresses {
        return Err(error::error(
            ErrorKind::InvalidInput,
            "an EndpointSlice cannot hold this address",
        )
        .with_context("address", registration.address.to_string())
        .with_hint(
            "give an address that other machines can reach, or set `registration.local_addresses` for tests",
        ));
    }
    let ttl = registration.ttl.unwrap_or(config.registration.ttl);
    let record = Record {
        id: registration.id.as_str().to_owned(),
        address: kind.is_none().then(|| registration.address.to_string()),
        port: registration.port,
        ports: registration.ports.clone(),
        tags: registration.tags.clone(),
        meta: registration.meta.clone(),
        weight: registration.weight,
        status: Status::default(),
        draining: false,
        output: String::new(),
        ttl: seconds(ttl),
    };
    let mut labels = labels(&registration.service, config);
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut slice = EndpointSlice {
        metadata: Meta {
            name: object_name(&registration.service, &registration.id),
            namespace: namespace.to_owned(),
            labels,
            ..Meta::default()
        },
        address_type: kind.unwrap_or("IPv4").to_owned(),
        ports: slice_ports(registration),
        endpoints: Vec::new(),
    };
    if kind.is_some() {
        slice.endpoints.push(Endpoint {
            addresses: vec![registration.address.to_string()],
            ..Endpoint::default()
        });
    }
    write(&mut slice, record, &registration.health)?;
    Ok(slice)
}

/// The ports for others to use; names that Kubernetes would refuse are in the annotation only.
fn slice_ports(registration: &Registration) -> Vec<Port> {
    let tcp = |name: &str, port, secure: bool| Port {
        name: name.to_owned(),
        number: Some(port),
        protocol: Some("TCP".to_owned()),
        app_protocol: secure.then(|| "https".to_owned()),
    };
    let valid = |name: &str| is_label(name);
    let main = registration
        .ports
        .iter()
        .find(|port| port.number == registration.port && valid(&port.name));
    let mut ports = vec![match main {
        Some(port) => tcp(&port.name, port.number, port.secure),
        None => tcp("", registration.port, false),
    }];
    for port in &registration.ports {
        if valid(&port.name) && ports.iter().all(|known| known.name != port.name) && ports.len() < 100 {
            ports.push(tcp(&port.name, port.number, port.secure));
        }
    }
    ports
}

/// Writes a record and its health into a slice.
fn write(slice: &mut EndpointSlice, mut record: Record, health: &HealthReport) -> Result<()> {
    record.status = health.status;
    record.draining = health.draining;
    record.output = health.output.chars().take(OUTPUT).collect();
    for endpoint in &mut slice.endpoints {
        endpoint.conditions = conditions(health);
    }
    let text = serde_json::to_string(&record).map_err(|failed| {
        error::error(ErrorKind::InvalidInput, "the registration cannot be written").with_source(failed)
    })?;
    // The server's limit for all annotations of an object is 256 KiB.
    if text.len() > 200 << 10 {
        return Err(error::error(ErrorKind::InvalidInput, "too much metadata")
            .with_context("bytes", text.len().to_string())
            .with_hint("an object's annotations may have 256 KiB in all"));
    }
    slice.metadata.annotations.insert(RECORD.to_owned(), text);
    Ok(())
}

fn record(slice: &EndpointSlice) -> Result<Record> {
    let text = slice.metadata.annotations.get(RECORD).map(String::as_str);
    serde_json::from_str(text.unwrap_or_default())
        .map_err(|failed| error::of_body(failed, "a record of ours"))
}

/// The id of a slice of ours.
pub(crate) fn id_of(slice: &EndpointSlice) -> Result<String> {
    Ok(record(slice)?.id)
}

/// Changes the metadata in a slice of ours.
pub(crate) fn change_meta(slice: &mut EndpointSlice, change: &MetaChange) -> Result<()> {
    let mut record = record(slice)?;
    change.apply(&mut record.meta);
    let health = health_in(&record);
    write(slice, record, &health)
}

/// Changes the health in a slice of ours.
pub(crate) fn change_health(slice: &mut EndpointSlice, health: &HealthReport) -> Result<()> {
    let record = record(slice)?;
    write(slice, record, health)
}

fn health_in(record: &Record) -> HealthReport {
    HealthReport::new(record.status)
        .with_draining(record.draining)
        .with_output(record.output.as_str())
}

/// The whole intent of a slice for server-side apply; with `version`, only while it has that version (K-13).
pub(crate) fn intent(slice: &EndpointSlice, version: Option<&str>) -> Value {
    let mut intent = json!(slice);
    intent["apiVersion"] = "discovery.k8s.io/v1".into();
    intent["kind"] = "EndpointSlice".into();
    let meta = &mut intent["metadata"];
    if let Some(meta) = meta.as_object_mut() {
        meta.remove("uid");
        meta.remove("resourceVersion");
        if let Some(version) = version {
            meta.insert("resourceVersion".to_owned(), version.into());
        }
    }
    intent
}

/// What binds a slice to its Lease: it goes with it, and a new Lease makes it another slice.
pub(crate) fn owner(lease: &Meta) -> Owner {
    Owner {
        api_version: "coordination.k8s.io/v1".to_owned(),
        kind: "Lease".to_owned(),
        name: lease.name.clone(),
        uid: lease.uid.clone(),
    }
}

/// The Service of instances that are no pods: without selector, so that no controller writes slices for it.
pub(crate) fn headless_service(service: &ServiceName, config: &K8sConfig, port: u16) -> Value {
    let mut labels = labels(service, config);
    labels.remove(SERVICE);
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": service.as_str(), "labels": labels },
        "spec": { "clusterIP": "None", "ports": [{ "port": port, "protocol": "TCP" }] },
    })
}

/// A named problem with a record that is not ours to write.
pub(crate) fn not_ours(key: &InstanceKey, by: Option<&String>) -> Error {
    error::error(ErrorKind::InvalidInput, "the record is not one of ours to change")
        .with_context("key", key.to_string())
        .with_context("managed_by", by.map_or("nobody", String::as_str))
        .with_hint("change what writes it, such as the pod or its Deployment")
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
