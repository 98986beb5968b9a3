//! What we write: the slice of a registration, its changes, and the objects beside it. Pure.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use discovery_core::{
    Error, ErrorKind, HealthReport, InstanceId, InstanceKey, MetaChange, Registration, Result, ServiceName,
    Status,
};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    config::K8sConfig,
    error,
    names::{is_label, is_subdomain},
    record::{APP_MANAGED_BY, MANAGED_BY, MANAGER, RECORD, Record, SERVICE, health_in, record},
    wire::{Conditions, Endpoint, EndpointSlice, Meta, Owner, Port},
};

/// Why the owner set the health as it is.
const OUTPUT: usize = 1000;

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
#[path = "intent_tests.rs"]
mod tests;
