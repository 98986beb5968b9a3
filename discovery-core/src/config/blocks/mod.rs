//! The blocks of a configuration file that say more than one client needs: what to register, what to look at, and what is
//! laid down for parts of the system that come later.

mod acl_policies;
mod datacenter_federation;
mod discovery_metrics;
mod dynamic_configuration;
mod health_checks;
mod mesh;
mod service_definition;
mod template;

#[cfg(test)]
mod tests;

pub use acl_policies::{AclPolicies, AclPolicy};
pub use datacenter_federation::{CrossDcService, Datacenter, DatacenterFederation, NetworkSegment};
pub use discovery_metrics::{DiscoveryMetrics, Metric, MetricType};
pub use dynamic_configuration::{
    ConfigMapKeys, ConfigMaps, ConsulKv, DynamicConfiguration, EtcdKv, Notifications, Polling,
};
pub use health_checks::{HealthCheckSets, Look as CheckLook, ServiceCheck, ServiceChecks};
pub use mesh::{
    Action, Connect, ConnectIntentions, Intention, Proxy, SidecarProxies, SidecarProxy, SidecarService,
    Upstream, UpstreamConfig, Upstreams,
};
pub use service_definition::{DeclaredCheck, Look as DeclaredLook, ServiceDefinition};
pub use template::Variables;
pub(super) use template::parts;
