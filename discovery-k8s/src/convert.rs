//! From what an apiserver stores to the model. Pure; the way back is `intent.rs`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use discovery_core::{
    CheckResult, Instance, InstanceId, InstanceKey, Locality, NamedPort, ServiceName, Status,
};

use crate::{
    config::{IpFamily, K8sConfig},
    error,
    record::{RECORD, Record, is_ours, service_of},
    slices::{Fold, Id, Lives},
    wire::{Conditions, Endpoint, EndpointSlice, Meta, Port, Service},
};

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
#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
