//! The JSON Schema of configuration files, for editors.

use discovery_core::{
    config::{
        AclPolicies, ConnectIntentions, DURATION, DatacenterFederation, DiscoveryMetrics,
        DynamicConfiguration, HealthCheckSets, HighAvailability, ServiceDefinition, SidecarProxies,
        duration_schema,
    },
    memory::MemoryConfig,
};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::{ClientConfig, FailoverConfig};

/// The JSON Schema (draft 7) of a configuration file, with the blocks of the backends built in.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft07().into_generator();
    let mut blocks = Map::new();
    macro_rules! blocks {
        ($($name:literal: $block:ty),* $(,)?) => {
            $(
                // A block's name alone asks for it.
                let block = json!({ "anyOf": [generator.subschema_for::<$block>(), { "type": "null" }] });
                blocks.insert($name.to_owned(), block);
            )*
        };
    }
    blocks! {
        "client": ClientConfig,
        "high_availability": HighAvailability,
        "failover": FailoverConfig,
        "service_definition": ServiceDefinition,
        "health_checks": HealthCheckSets,
        "datacenter_federation": DatacenterFederation,
        "connect_intentions": ConnectIntentions,
        "sidecar_proxies": SidecarProxies,
        "dynamic_configuration": DynamicConfiguration,
        "discovery_metrics": DiscoveryMetrics,
        "acl_policies": AclPolicies,
        "memory": MemoryConfig,
    }
    #[cfg(feature = "consul")]
    blocks! { "consul": discovery_consul::ConsulConfig }
    #[cfg(feature = "etcd")]
    blocks! { "etcd": discovery_etcd::EtcdConfig }
    #[cfg(feature = "k8s")]
    blocks! { "kubernetes_discovery": discovery_k8s::K8sConfig }
    #[cfg(feature = "eureka")]
    blocks! { "eureka": discovery_eureka::EurekaConfig }
    #[cfg(feature = "dns")]
    blocks! { "dns_discovery": discovery_dns::DnsConfig }
    #[cfg(feature = "local")]
    blocks! { "local": discovery_local::LocalConfig }

    let mut definitions = generator.take_definitions(true);
    definitions.insert(DURATION.to_owned(), duration_schema().to_value());
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Configuration of System Control Discovery",
        "type": "object",
        "additionalProperties": false,
        "properties": blocks,
        "definitions": definitions,
    })
}
