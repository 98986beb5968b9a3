//! What Consul sends and takes, as it is on the wire; unknown fields are ignored, `null` is as good as missing.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// `null` for "nothing", as Go writes empty lists and maps.
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// One element of `/v1/health/service/{name}`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ServiceEntry {
    #[serde(deserialize_with = "nullable")]
    pub(crate) node: Node,
    #[serde(deserialize_with = "nullable")]
    pub(crate) service: Service,
    #[serde(deserialize_with = "nullable")]
    pub(crate) checks: Vec<Check>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Node {
    #[serde(rename = "Node", deserialize_with = "nullable")]
    pub(crate) name: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) address: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) datacenter: String,
}

/// A service, as the catalogue and as an agent show it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Service {
    #[serde(rename = "ID", deserialize_with = "nullable")]
    pub(crate) id: String,
    #[serde(rename = "Service", deserialize_with = "nullable")]
    pub(crate) name: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) tags: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) address: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) port: i64,
    #[serde(deserialize_with = "nullable")]
    pub(crate) ports: Vec<ServicePort>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) meta: BTreeMap<String, String>,
    pub(crate) weights: Option<Weights>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) namespace: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) datacenter: String,
    pub(crate) locality: Option<Locality>,
}

/// A named port, from 1.22 on.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ServicePort {
    #[serde(deserialize_with = "nullable")]
    pub(crate) name: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) port: i64,
    #[serde(deserialize_with = "nullable")]
    pub(crate) default: bool,
}

#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Weights {
    #[serde(default)]
    pub(crate) passing: i64,
    #[serde(default)]
    pub(crate) warning: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Locality {
    #[serde(deserialize_with = "nullable")]
    pub(crate) zone: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Check {
    #[serde(deserialize_with = "nullable")]
    pub(crate) node: String,
    #[serde(rename = "CheckID", deserialize_with = "nullable")]
    pub(crate) id: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) name: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) status: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) output: String,
}

/// `/v1/agent/health/service/id/{id}`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct LocalHealth {
    /// There even when all else is null; by it the answer is told from an error's text.
    #[serde(rename = "AggregatedStatus")]
    pub(crate) _status: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) service: Service,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) checks: Vec<Check>,
}

/// The part of `/v1/agent/self` that is of use.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct AgentSelf {
    #[serde(deserialize_with = "nullable")]
    pub(crate) config: AgentConfig,
    #[serde(deserialize_with = "nullable")]
    pub(crate) member: Member,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct AgentConfig {
    #[serde(deserialize_with = "nullable")]
    pub(crate) node_name: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) datacenter: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) version: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) server: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Member {
    #[serde(deserialize_with = "nullable")]
    pub(crate) addr: String,
}

/// The body of `/v1/agent/service/register`: only fields that 1.8 knows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Register<'a> {
    #[serde(rename = "ID")]
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) address: &'a str,
    pub(crate) port: u16,
    pub(crate) tags: Vec<String>,
    pub(crate) meta: BTreeMap<String, String>,
    pub(crate) weights: Weights,
    pub(crate) enable_tag_override: bool,
    pub(crate) checks: Vec<RegisterCheck>,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RegisterCheck {
    #[serde(rename = "CheckID")]
    pub(crate) check_id: String,
    pub(crate) name: String,
    #[serde(rename = "TTL", skip_serializing_if = "Option::is_none")]
    pub(crate) ttl: Option<String>,
    #[serde(rename = "HTTP", skip_serializing_if = "Option::is_none")]
    pub(crate) http: Option<String>,
    #[serde(rename = "TCP", skip_serializing_if = "Option::is_none")]
    pub(crate) tcp: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) args: Vec<String>,
    #[serde(rename = "GRPC", skip_serializing_if = "Option::is_none")]
    pub(crate) grpc: Option<String>,
    #[serde(rename = "GRPCUseTLS", skip_serializing_if = "std::ops::Not::not")]
    pub(crate) grpc_use_tls: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interval: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) notes: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deregister_critical_service_after: Option<String>,
}

/// The body of `/v1/agent/check/update/{id}`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CheckUpdate<'a> {
    pub(crate) status: &'static str,
    pub(crate) output: &'a str,
}

/// A key of `/v1/kv` and of a transaction's results.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Pair {
    #[serde(deserialize_with = "nullable")]
    pub(crate) key: String,
    /// Base64, or `null` for an empty value.
    #[serde(deserialize_with = "nullable")]
    pub(crate) value: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) modify_index: u64,
}

/// An operation of a transaction.
#[derive(Debug, Serialize)]
pub(crate) struct TxnOp {
    #[serde(rename = "KV")]
    pub(crate) kv: TxnKv,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TxnKv {
    pub(crate) verb: &'static str,
    pub(crate) key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<u64>,
}

/// What became of a transaction, carried out (200) or refused (409).
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct TxnAnswer {
    #[serde(deserialize_with = "nullable")]
    pub(crate) results: Vec<TxnResult>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) errors: Vec<TxnError>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TxnResult {
    #[serde(rename = "KV", deserialize_with = "nullable")]
    pub(crate) kv: Pair,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct TxnError {
    #[serde(deserialize_with = "nullable")]
    pub(crate) op_index: u64,
    #[serde(deserialize_with = "nullable")]
    pub(crate) what: String,
}
