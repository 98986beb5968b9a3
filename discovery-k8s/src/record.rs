//! What marks an object as ours, and what a slice of ours keeps beside its endpoint.

use std::collections::BTreeMap;

use discovery_core::{HealthReport, NamedPort, Result, ServiceName, Status, Weight};
use serde::{Deserialize, Serialize};

use crate::{
    error,
    wire::{EndpointSlice, Meta},
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
pub(crate) const RECORD: &str = "discovery.system-control.io/instance";

/// What a slice of ours keeps beside its endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    pub(crate) id: String,
    /// Where the endpoint itself cannot hold it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    pub(crate) port: u16,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) ports: Vec<NamedPort>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) meta: BTreeMap<String, String>,
    pub(crate) weight: Weight,
    pub(crate) status: Status,
    pub(crate) draining: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) output: String,
    /// The seconds it outlives its last heartbeat.
    pub(crate) ttl: u32,
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

pub(crate) fn record(slice: &EndpointSlice) -> Result<Record> {
    let text = slice.metadata.annotations.get(RECORD).map(String::as_str);
    serde_json::from_str(text.unwrap_or_default())
        .map_err(|failed| error::of_body(failed, "a record of ours"))
}

/// The id of a slice of ours.
pub(crate) fn id_of(slice: &EndpointSlice) -> Result<String> {
    Ok(record(slice)?.id)
}

pub(crate) fn health_in(record: &Record) -> HealthReport {
    HealthReport::new(record.status)
        .with_draining(record.draining)
        .with_output(record.output.as_str())
}
