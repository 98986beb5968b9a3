//! What an apiserver reads and writes: only the fields that are used, so that unknown ones are ignored, a null list is an
//! empty one, and the skeletal objects of bookmarks can be read (K-22).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

/// null is as good as missing.
fn nullable<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The metadata of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Meta {
    #[serde(deserialize_with = "nullable")]
    pub(crate) name: String,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) namespace: String,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) uid: String,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) resource_version: String,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) owner_references: Vec<Owner>,
}

/// What an object goes away with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Owner {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// An object that a feed can follow.
pub(crate) trait Object: DeserializeOwned + Send + 'static {
    fn meta(&self) -> &Meta;
}

macro_rules! objects {
    ($($name:ident),*) => { $(
        impl Object for $name {
            fn meta(&self) -> &Meta {
                &self.metadata
            }
        }
    )* };
}
objects!(EndpointSlice, Service, Lease, ConfigMap);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct EndpointSlice {
    pub(crate) metadata: Meta,
    #[serde(deserialize_with = "nullable")]
    pub(crate) address_type: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) ports: Vec<Port>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Port {
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) name: String,
    #[serde(skip_serializing_if = "is_default")]
    #[serde(rename = "port")]
    pub(crate) number: Option<u16>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) protocol: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) app_protocol: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Endpoint {
    #[serde(deserialize_with = "nullable")]
    pub(crate) addresses: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) conditions: Conditions,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) node_name: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) zone: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) target_ref: Option<TargetRef>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) hints: Option<Hints>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Conditions {
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) ready: Option<bool>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) serving: Option<bool>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) terminating: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TargetRef {
    #[serde(deserialize_with = "nullable")]
    pub(crate) kind: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) name: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Hints {
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) for_zones: Vec<Named>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) for_nodes: Vec<Named>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Named {
    pub(crate) name: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Service {
    pub(crate) metadata: Meta,
    #[serde(deserialize_with = "nullable")]
    pub(crate) spec: ServiceSpec,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ServiceSpec {
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub(crate) kind: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) external_name: String,
    #[serde(rename = "clusterIP", deserialize_with = "nullable")]
    pub(crate) cluster_ip: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) ports: Vec<Port>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Lease {
    pub(crate) metadata: Meta,
    #[serde(deserialize_with = "nullable")]
    pub(crate) spec: LeaseSpec,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct LeaseSpec {
    #[serde(deserialize_with = "nullable")]
    pub(crate) holder_identity: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) lease_duration_seconds: u32,
    #[serde(deserialize_with = "nullable")]
    pub(crate) renew_time: String,
}

#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ConfigMap {
    pub(crate) metadata: Meta,
    #[serde(deserialize_with = "nullable")]
    pub(crate) data: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) binary_data: BTreeMap<String, String>,
}

/// A page of a list.
#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
pub(crate) struct List<T> {
    #[serde(default)]
    pub(crate) metadata: ListMeta,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) items: Vec<T>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ListMeta {
    #[serde(deserialize_with = "nullable")]
    pub(crate) resource_version: String,
    #[serde(rename = "continue", deserialize_with = "nullable")]
    pub(crate) more: String,
}

/// One line of a watch; the object is read once the type is known.
#[derive(Deserialize)]
pub(crate) struct Event<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(borrow)]
    pub(crate) object: &'a RawValue,
}

/// All that is read of a bookmark.
#[derive(Deserialize)]
pub(crate) struct Bookmark {
    #[serde(default)]
    pub(crate) metadata: Meta,
}

/// What the server says when something fails.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    #[serde(deserialize_with = "nullable")]
    pub(crate) message: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) reason: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) code: u16,
    #[serde(deserialize_with = "nullable")]
    pub(crate) details: Details,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Details {
    #[serde(deserialize_with = "nullable")]
    pub(crate) kind: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) causes: Vec<Cause>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) retry_after_seconds: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Cause {
    #[serde(deserialize_with = "nullable")]
    pub(crate) reason: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) field: String,
}

/// What `/version` says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Version {
    pub(crate) git_version: String,
}
