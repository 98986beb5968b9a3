use super::*;
use crate::{config::Loader, error::ErrorKind, model::CheckKind};

const KNOWN: &[crate::config::KnownBlock] = &[
    ServiceDefinition::BLOCK,
    HealthCheckSets::BLOCK,
    DatacenterFederation::BLOCK,
    ConnectIntentions::BLOCK,
    SidecarProxies::BLOCK,
    DynamicConfiguration::BLOCK,
    DiscoveryMetrics::BLOCK,
    AclPolicies::BLOCK,
];

/// Loads a block of the specification, which is kept character for character.
fn specified<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> T {
    Loader::new(KNOWN)
        .yaml(name, text)
        .and_then(|loaded| loaded.block(name))
        .unwrap_or_else(|error| panic!("{error:#}"))
}

macro_rules! specification {
    ($file:literal) => {
        include_str!(concat!("../../../../discovery/tests/specification/", $file))
    };
}

#[test]
fn a_service_definition_becomes_a_registration() {
    let file = specification!("services-api-service.yaml");
    let loaded = Loader::new(KNOWN).yaml("api-service.yaml", file).unwrap();
    let variables = Variables::new([
        ("instance_id", "node-1"),
        ("host_ip", "127.0.0.1"),
        ("version", "2.1.0"),
        ("environment", "production"),
    ]);
    let filled = loaded.clone().fill("service_definition", |name| {
        variables.get(name).map(str::to_owned)
    });
    let definition: ServiceDefinition = filled.unwrap().block("service_definition").unwrap();
    let registration = definition.registration().unwrap();
    assert_eq!(registration.id.as_str(), "api-node-1");
    assert_eq!(registration.tags, ["api", "2.1.0", "production", "http"]);
    assert_eq!(registration.meta["repository"], "github.com/company/api");
    let kinds: Vec<_> = registration.checks.iter().map(|check| &check.kind).collect();
    let url = "http://127.0.0.1:8080/health".to_owned();
    let address = "127.0.0.1:8080".to_owned();
    assert_eq!(kinds, [&CheckKind::Http { url }, &CheckKind::Tcp { address }]);
    assert_eq!(registration.checks[1].timeout.as_secs(), 3);
    assert_eq!(
        definition.connect.unwrap().sidecar_service.proxy.upstreams.len(),
        2
    );
    let error = loaded.fill("service_definition", |_| None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
}

#[test]
fn sets_of_checks() {
    let sets: HealthCheckSets = specified(
        "health_checks",
        specification!("health-checks-comprehensive.yaml"),
    );
    let api = &sets.0["api_service"];
    assert_eq!(
        (
            api.checks.len(),
            api.failure_threshold.get(),
            api.success_threshold.get()
        ),
        (4, 3, 2)
    );
    assert_eq!(api.deregister_critical_service_after.unwrap().as_secs(), 90);
    let health_checks::Look::Http {
        expected_status,
        expected_body,
        ..
    } = &api.checks[0].look
    else {
        panic!("{:?}", api.checks[0]);
    };
    assert_eq!(
        (*expected_status, expected_body.as_deref()),
        (Some(200), Some("healthy"))
    );
    assert_eq!(sets.0["database_service"].checks.len(), 2);
}

#[test]
fn the_rest_of_the_specification() {
    let federation: DatacenterFederation = specified(
        "datacenter_federation",
        specification!("multi-dc-federation.yaml"),
    );
    assert!(federation.datacenters["dc1"].primary && federation.cross_dc_services.len() == 2);
    let intentions: ConnectIntentions =
        specified("connect_intentions", specification!("connect-intentions.yaml"));
    assert_eq!((intentions.0.len(), intentions.0[3].action), (4, Action::Deny));
    let proxies: SidecarProxies = specified("sidecar_proxies", specification!("connect-intentions.yaml"));
    assert_eq!(
        proxies.0["api"].upstreams[0].config.connect_timeout_ms,
        Some(5000)
    );
    let dynamic: DynamicConfiguration = specified(
        "dynamic_configuration",
        specification!("config-dynamic-config.yaml"),
    );
    assert_eq!(dynamic.consul_kv.mappings.len(), 4);
    assert_eq!(dynamic.kubernetes_configmap.configmaps[1].keys, ["*"]);
    let metrics: DiscoveryMetrics = specified(
        "discovery_metrics",
        specification!("metrics-discovery-metrics.yaml"),
    );
    assert_eq!(metrics.service_registry[2].r#type, MetricType::Histogram);
    let policies: AclPolicies = specified("acl_policies", specification!("security-acl-policies.yaml"));
    assert!(policies.0["operator"].rules.starts_with("operator = \"write\""));
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    for (text, expected) in [
        (
            "service_definition: { name: a, adress: b }",
            "did you mean `address`",
        ),
        (
            "service_definition: { health_checks: [{ name: a }] }",
            "exactly one of",
        ),
        (
            "service_definition: { health_checks: [{ name: a, tcp: b, http: c }] }",
            "exactly one of",
        ),
        (
            "health_checks: { api: { checks: [{ name: a, type: http, address: b }] } }",
            "another type",
        ),
        (
            "health_checks: { api: { checks: [{ name: a, type: tcp }] } }",
            "has an `address`",
        ),
        (
            "health_checks: { api: { checks: [{ name: a, type: ftp }] } }",
            "`ftp`",
        ),
        (
            "health_checks: { api: { checks: [{ name: a, type: tcp, address: '{{ .ip }}' }] } }",
            "unknown variable `ip`",
        ),
        (
            "health_checks: { api: { checks: [], failure_threshold: 0 } }",
            "failure_threshold",
        ),
        (
            "datacenter_federation: { cross_dc_services: [{ name: a, failover: [dc9] }] }",
            "dc9",
        ),
        (
            "datacenter_federation: { datacenters: { a: {} } }",
            "consul_address",
        ),
        (
            "connect_intentions: [{ source_name: a, destination_name: b, action: maybe }]",
            "maybe",
        ),
        ("connect_intentions: { a: b }", "connect_intentions"),
        (
            "dynamic_configuration: { consul_kv: { polling: { interval: 0s } } }",
            "interval",
        ),
        (
            "discovery_metrics: { discovery: [{ name: a, type: sum }] }",
            "sum",
        ),
        ("acl_policies: { a: { rule: b } }", "did you mean `rules`"),
    ] {
        let loaded = Loader::new(KNOWN).yaml("a.yaml", text).unwrap();
        let name = text.split(':').next().unwrap();
        let error = match name {
            "service_definition" => loaded.block::<ServiceDefinition>(name).map(drop),
            "health_checks" => loaded.block::<HealthCheckSets>(name).map(drop),
            "datacenter_federation" => loaded.block::<DatacenterFederation>(name).map(drop),
            "connect_intentions" => loaded.block::<ConnectIntentions>(name).map(drop),
            "dynamic_configuration" => loaded.block::<DynamicConfiguration>(name).map(drop),
            "discovery_metrics" => loaded.block::<DiscoveryMetrics>(name).map(drop),
            _ => loaded.block::<AclPolicies>(name).map(drop),
        };
        let error = error.unwrap_err();
        let error = format!("{error:#} {}", error.hint().unwrap_or_default());
        assert!(
            error.contains(expected) && error.contains("a.yaml:1:"),
            "{text}\n{error}"
        );
    }
}
