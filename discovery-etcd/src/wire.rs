//! Messages of the two streams, and what keys hold.
//!
//! Field numbers are those of etcd's `rpc.proto` and `kv.proto`; what is not read is left out, and ignored when it comes.
//! Unary calls are `etcd-client`'s.

use std::collections::BTreeMap;

use discovery_core::{NamedPort, Status};
use serde::{Deserialize, Serialize};

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Header {
    #[prost(uint64, tag = "1")]
    pub(crate) cluster_id: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) member_id: u64,
    #[prost(int64, tag = "3")]
    pub(crate) revision: i64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct KeepAliveRequest {
    #[prost(int64, tag = "1")]
    pub(crate) id: i64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct KeepAliveResponse {
    #[prost(int64, tag = "2")]
    pub(crate) id: i64,
    /// What is left; zero when there is no such lease.
    #[prost(int64, tag = "3")]
    pub(crate) ttl: i64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct WatchRequest {
    #[prost(oneof = "WatchAsk", tags = "1, 3")]
    pub(crate) ask: Option<WatchAsk>,
}

#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub(crate) enum WatchAsk {
    #[prost(message, tag = "1")]
    Create(WatchCreate),
    #[prost(message, tag = "3")]
    Progress(WatchProgress),
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct WatchCreate {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) range_end: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub(crate) start_revision: i64,
    #[prost(bool, tag = "4")]
    pub(crate) progress_notify: bool,
    #[prost(bool, tag = "6")]
    pub(crate) prev_kv: bool,
    #[prost(bool, tag = "8")]
    pub(crate) fragment: bool,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct WatchProgress {}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct WatchResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<Header>,
    #[prost(int64, tag = "2")]
    pub(crate) watch_id: i64,
    #[prost(bool, tag = "3")]
    pub(crate) created: bool,
    #[prost(bool, tag = "4")]
    pub(crate) canceled: bool,
    #[prost(int64, tag = "5")]
    pub(crate) compact_revision: i64,
    #[prost(string, tag = "6")]
    pub(crate) cancel_reason: String,
    #[prost(bool, tag = "7")]
    pub(crate) fragment: bool,
    #[prost(message, repeated, tag = "11")]
    pub(crate) events: Vec<Event>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Event {
    /// 0 for a put, 1 for a deletion.
    #[prost(int32, tag = "1")]
    pub(crate) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) kv: Option<KeyValue>,
    /// What was there before; nothing where nothing was, or its history is compacted.
    #[prost(message, optional, tag = "3")]
    pub(crate) before: Option<KeyValue>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub(crate) mod_revision: i64,
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) value: Vec<u8>,
    #[prost(int64, tag = "6")]
    pub(crate) lease: i64,
}

impl From<&etcd_client::KeyValue> for KeyValue {
    fn from(kv: &etcd_client::KeyValue) -> Self {
        Self {
            key: kv.key().to_vec(),
            mod_revision: kv.mod_revision(),
            value: kv.value().to_vec(),
            lease: kv.lease(),
        }
    }
}

// === values ===

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The native form of a registration, to write; `docs/reference/etcd-keys.md` describes it.
#[derive(Debug, Serialize)]
pub(crate) struct Native<'a> {
    pub(crate) address: &'a str,
    pub(crate) port: u16,
    #[serde(flatten)]
    pub(crate) rest: &'a Rest,
}

/// All of a registration but its address, which is read with it where it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Rest {
    #[serde(skip_serializing)]
    pub(crate) address: Option<String>,
    #[serde(skip_serializing)]
    pub(crate) port: Option<u16>,
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<String>,
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) meta: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "Vec::is_empty")]
    pub(crate) ports: Vec<NamedPort>,
    pub(crate) status: Status,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) draining: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) output: String,
    pub(crate) weight: u16,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) priority: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zone: Option<String>,
}

impl Default for Rest {
    fn default() -> Self {
        Self {
            address: None,
            port: None,
            tags: Vec::new(),
            meta: BTreeMap::new(),
            ports: Vec::new(),
            status: Status::default(),
            draining: false,
            output: String::new(),
            weight: 1,
            priority: 0,
            zone: None,
        }
    }
}

/// `null` is the same as nothing.
fn or_empty<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// The form of etcd's gRPC naming (`naming/endpoints`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grpc {
    #[serde(rename = "Op", default)]
    pub(crate) op: u8,
    #[serde(rename = "Addr")]
    pub(crate) addr: String,
    #[serde(rename = "Metadata", default)]
    pub(crate) metadata: Option<serde_json::Value>,
}
