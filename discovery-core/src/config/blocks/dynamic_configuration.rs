//! The `dynamic_configuration:` block: where values come from while a program runs.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::config::{KnownBlock, duration};

/// The `dynamic_configuration:` block: where values come from while a program runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DynamicConfiguration {
    /// Consul's key/value store.
    pub consul_kv: ConsulKv,
    /// `ConfigMap`s of Kubernetes.
    pub kubernetes_configmap: ConfigMaps,
    /// etcd.
    pub etcd_kv: EtcdKv,
}

impl DynamicConfiguration {
    /// The block, for [`Loader::new`](crate::config::Loader::new).
    pub const BLOCK: KnownBlock = KnownBlock::of::<Self>("dynamic_configuration");
}

/// Values in Consul's key/value store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ConsulKv {
    /// Whether it is used.
    pub enabled: bool,
    /// What every key starts with.
    pub prefix: String,
    /// Names and what they stand for below the prefix: keys, or folders where they end with `/`. Other names are keys.
    pub mappings: BTreeMap<String, String>,
    /// Whether and how often watches ask for what changed, instead of being told.
    pub polling: Polling,
    /// Who is told of changes; not acted on in this release.
    pub notifications: Notifications,
}

/// Whether and how often a store is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Polling {
    /// Whether it is.
    pub enabled: bool,
    /// The time between two questions; 30 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub interval: Duration,
}

impl Default for Polling {
    fn default() -> Self {
        Self {
            enabled: false,
            interval: Duration::from_secs(30),
        }
    }
}

/// Who is told of changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Notifications {
    /// Whether anybody is.
    pub enabled: bool,
    /// The URL that changes are sent to.
    pub webhook: Option<String>,
}

/// Values in `ConfigMap`s.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ConfigMaps {
    /// Whether they are used.
    pub enabled: bool,
    /// The namespace they are in; the one of the context or pod where there is none.
    pub namespace: Option<String>,
    /// Which, and which keys of them.
    pub configmaps: Vec<ConfigMapKeys>,
}

/// Keys of a `ConfigMap`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ConfigMapKeys {
    /// Its name.
    pub name: String,
    /// Its keys; `*` is every key.
    pub keys: Vec<String>,
}

/// Values in etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct EtcdKv {
    /// Whether it is used.
    pub enabled: bool,
    /// What every key starts with, in the place of `etcd.config.prefix`; that where left out.
    pub prefix: String,
    /// Whether the server tells what changes; else it is asked every 30 s.
    pub watch: bool,
}

impl Default for EtcdKv {
    fn default() -> Self {
        Self {
            enabled: false,
            prefix: String::new(),
            watch: true,
        }
    }
}
