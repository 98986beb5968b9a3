//! What Consul sends and takes, as it is on the wire; unknown fields are ignored, `null` is as good as missing.

use std::{borrow::Cow, collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor},
};

/// `null` for "nothing", as Go writes empty lists and maps.
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A text of an answer that is kept for a moment: its own bytes, where no character in it is escaped.
#[derive(Debug, Clone, Default)]
pub(crate) struct Text<'a>(Cow<'a, str>);

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<Text<'_>> for String {
    fn from(text: Text<'_>) -> Self {
        text.0.into_owned()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrow)
    }
}

/// The pairs of a map, in the server's order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pairs<T>(pub(crate) Vec<(T, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for All<T> {
            type Value = Pairs<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    all.push(pair);
                }
                Ok(Pairs(all))
            }
        }
        deserializer.deserialize_map(All(PhantomData))
    }
}

/// One element of `/v1/health/service/{name}`; its texts are owned, or [`Text`]s of the answer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase", bound = "T: Default + Deserialize<'de>")]
pub(crate) struct ServiceEntry<T = String> {
    #[serde(deserialize_with = "nullable")]
    pub(crate) node: Node<T>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) service: Service<T>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) checks: Vec<Check<T>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase", bound = "T: Default + Deserialize<'de>")]
pub(crate) struct Node<T = String> {
    #[serde(rename = "Node", deserialize_with = "nullable")]
    pub(crate) name: T,
    #[serde(deserialize_with = "nullable")]
    pub(crate) address: T,
    #[serde(deserialize_with = "nullable")]
    pub(crate) datacenter: T,
}

/// A service, as the catalogue and as an agent show it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase", bound = "T: Default + Deserialize<'de>")]
pub(crate) struct Service<T = String> {
    #[serde(rename = "ID", deserialize_with = "nullable")]
    pub(crate) id: T,
    #[serde(rename = "Service", deserialize_with = "nullable")]
    pub(crate) name: T,
    #[serde(deserialize_with = "nullable")]
    pub(crate) tags: Vec<T>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) address: T,
    #[serde(deserialize_with = "nullable")]
    pub(crate) port: i64,
    #[serde(deserialize_with = "nullable")]
    pub(crate) ports: Vec<ServicePort<T>>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) meta: Pairs<T>,
    pub(crate) weights: Option<Weights>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) namespace: T,
    #[serde(deserialize_with = "nullable")]
    pub(crate) datacenter: T,
    pub(crate) locality: Option<Locality<T>>,
}

/// A named port, from 1.22 on.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase", bound = "T: Default + Deserialize<'de>")]
pub(crate) struct ServicePort<T = String> {
    #[serde(deserialize_with = "nullable")]
    pub(crate) name: T,
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
#[serde(default, rename_all = "PascalCase", bound = "T: Default + Deserialize<'de>")]
pub(crate) struct Locality<T = String> {
    #[serde(deserialize_with = "nullable")]
    pub(crate) zone: T,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase", bound = "T: Default + Deserialize<'de>")]
pub(crate) struct Check<T = String> {
    #[serde(deserialize_with = "nullable")]
    pub(crate) node: T,
    #[serde(rename = "CheckID", deserialize_with = "nullable")]
    pub(crate) id: T,
    #[serde(deserialize_with = "nullable")]
    pub(crate) name: T,
    #[serde(deserialize_with = "nullable")]
    pub(crate) status: T,
    #[serde(deserialize_with = "nullable")]
    pub(crate) output: T,
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
    #[serde(deserialize_with = "nullable")]
    pub(crate) debug_config: DebugConfig,
}

/// Settings that are no promise of Consul's: only ever shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DebugConfig {
    #[serde(rename = "DNSAddrs", deserialize_with = "nullable")]
    pub(crate) dns: Vec<String>,
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

/// The body of `/v1/agent/check/register`, for a check beside those of a registration.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ReportedCheck {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    pub(crate) name: &'static str,
    #[serde(rename = "ServiceID")]
    pub(crate) service_id: String,
    #[serde(rename = "TTL")]
    pub(crate) ttl: String,
    pub(crate) status: &'static str,
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
