//! Configuration: files, environment, URIs and code become typed blocks, and every mistake in them a message with a place.
//!
//! A backend declares its block as a serde struct with `#[serde(default, deny_unknown_fields)]` and a
//! [`KnownBlock`]; the [`Loader`] merges the sources and reads the struct. In such a struct
//!
//! - durations take `#[serde(with = "discovery_core::config::duration")]` or one of its submodules,
//! - secrets take the fields `token`, `token_env` and `token_file`, joined by [`SecretSource::choose`],
//! - TLS takes a `tls: TlsConfig` field,
//! - `flatten` and untagged enums cost the exact place of a mistake, and are better left out.

mod blocks;
mod de;
pub mod duration;
mod env;
mod fill;
mod high_availability;
mod loader;
#[cfg(feature = "schema")]
mod schema;
mod secret;
mod text;
mod tls;
mod tree;
mod uri;
mod yaml;

#[cfg(test)]
mod tests;

pub use blocks::{
    AclPolicies, AclPolicy, Action, CheckLook, ConfigMapKeys, ConfigMaps, Connect, ConnectIntentions,
    ConsulKv, CrossDcService, Datacenter, DatacenterFederation, DeclaredCheck, DeclaredLook,
    DiscoveryMetrics, DynamicConfiguration, EtcdKv, HealthCheckSets, Intention, Metric, MetricType,
    NetworkSegment, Notifications, Polling, Proxy, ServiceCheck, ServiceChecks, ServiceDefinition,
    SidecarProxies, SidecarProxy, SidecarService, Upstream, UpstreamConfig, Upstreams, Variables,
};
pub use duration::{format_duration, parse_duration};
pub use env::{EnvVar, default_paths};
pub use high_availability::{
    CheckIntervals, CheckTimeouts, Discovery, HealthChecks, HighAvailability, ServiceRegistration,
};
pub use loader::{KnownBlock, Loader, Setting, UriForm};
#[cfg(feature = "schema")]
pub use schema::{DURATION, DurationOrSeconds, duration_schema};
pub use secret::{Secret, SecretSource};
pub use tls::TlsConfig;
pub use tree::{Origin, Position};
pub use uri::{Endpoint, ServiceUri, parse_uri};
