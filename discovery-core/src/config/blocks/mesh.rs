//! The `connect_intentions:` and `sidecar_proxies:` blocks, and `connect:` of a service definition. Loaded and validated;
//! not acted on in this release.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::KnownBlock;

/// The `connect_intentions:` block: which service may call which.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct ConnectIntentions(pub Vec<Intention>);

impl ConnectIntentions {
    /// The block, for [`Loader::new`](crate::config::Loader::new).
    pub const BLOCK: KnownBlock = KnownBlock::of::<Self>("connect_intentions");
}

/// Whether one service may call another; `*` is every service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Intention {
    /// Who calls.
    pub source_name: String,
    /// Who is called.
    pub destination_name: String,
    /// Whether it may.
    pub action: Action,
    /// Why.
    #[serde(default)]
    pub description: String,
}

/// Whether a call is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is.
    Allow,
    /// It is not.
    Deny,
}

/// The `sidecar_proxies:` block: the proxies beside services, by service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct SidecarProxies(pub BTreeMap<String, SidecarProxy>);

impl SidecarProxies {
    /// The block, for [`Loader::new`](crate::config::Loader::new).
    pub const BLOCK: KnownBlock = KnownBlock::of::<Self>("sidecar_proxies");
}

/// The proxy beside a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SidecarProxy {
    /// What it lets its service call.
    pub upstreams: Vec<Upstream>,
    /// How it treats calls to its service.
    pub config: Proxy,
}

/// A service that is called through the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Upstream {
    /// The service.
    pub destination_name: String,
    /// The port on loopback that leads to it.
    pub local_bind_port: u16,
    /// How it is called.
    #[serde(default)]
    pub config: UpstreamConfig,
}

/// How an upstream is called.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct UpstreamConfig {
    /// How long a connection may take to come about, in milliseconds.
    pub connect_timeout_ms: Option<u64>,
}

/// How a proxy treats calls to its service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Proxy {
    /// What the service speaks, such as `http`.
    pub protocol: Option<String>,
    /// How long a request may take, in milliseconds.
    pub local_request_timeout_ms: Option<u64>,
    /// How long a connection may be idle, in milliseconds.
    pub local_idle_timeout_ms: Option<u64>,
}

/// `connect:` of a service definition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Connect {
    /// The proxy beside the service.
    pub sidecar_service: SidecarService,
}

/// A proxy as a service definition has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SidecarService {
    /// What it lets its service call.
    pub proxy: Upstreams,
}

/// Services that are called through a proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Upstreams {
    /// They.
    pub upstreams: Vec<Upstream>,
}
