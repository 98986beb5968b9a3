use discovery_core::{ErrorKind, Result, config::Loader};

use super::*;

fn load(yaml: &str) -> Result<K8sConfig> {
    let loaded = Loader::new(&[K8sConfig::BLOCK]).yaml("test.yaml", yaml)?;
    let config: K8sConfig = loaded.block("kubernetes_discovery")?;
    config.validate().map(|()| config)
}

#[test]
fn the_block_of_the_specification_is_understood() {
    let config = load(
        r#"
kubernetes_discovery:
  cluster_config:
    kubeconfig: "~/.kube/config"
    context: "production"
  service_discovery:
    namespaces: ["production", "staging"]
    selectors:
      app.kubernetes.io/part-of: "system-control"
  endpoints:
    enabled: true
    ready_only: true
    include_not_ready: false
  annotations:
    service_port: "service.system-control.io/port"
    health_path: "service.system-control.io/health-path"
    metrics_path: "service.system-control.io/metrics-path"
  labels:
    service_name: "app.kubernetes.io/name"
    service_version: "app.kubernetes.io/version"
    environment: "app.kubernetes.io/environment"
"#,
    )
    .unwrap();
    assert_eq!(config.service_discovery.namespaces, ["production", "staging"]);
    assert_eq!(config.annotations, Annotations::default());
    assert_eq!(config.labels, Labels::default());
    assert_eq!(config.endpoints, Endpoints::default());
}

#[test]
fn both_schemes_set_the_same_fields() {
    let uri = "?namespaces=a,b&token_env=T&local_addresses=true";
    for scheme in ["k8s", "kubernetes"] {
        let uri = discovery_core::config::parse_uri(&format!("{scheme}://127.0.0.1:6443{uri}")).unwrap();
        let loaded = Loader::new(&[K8sConfig::BLOCK]).uri(&uri).unwrap();
        let config: K8sConfig = loaded.block("kubernetes_discovery").unwrap();
        assert_eq!(config.server_url().unwrap().unwrap(), "https://127.0.0.1:6443");
        assert_eq!(config.service_discovery.namespaces, ["a", "b"]);
        assert!(config.registration.local_addresses);
        assert_eq!(config.cluster_config.token_env.as_deref(), Some("T"));
        config.validate().unwrap();
    }
}

#[test]
fn what_makes_no_sense_is_refused_and_named() {
    for (yaml, field) in [
        (
            "{ cluster_config: { server: 'ftp://h' } }",
            "cluster_config.server",
        ),
        (
            "{ cluster_config: { server: 'a:1,b:1' } }",
            "cluster_config.server",
        ),
        (
            "{ cluster_config: { server: 'https://u:p@h' } }",
            "cluster_config.server",
        ),
        (
            "{ cluster_config: { server: 'http://h', tls: { enabled: true } } }",
            "cluster_config.server",
        ),
        ("{ cluster_config: { server: h, context: c } }", "cluster_config"),
        ("{ cluster_config: { token_env: T } }", "cluster_config"),
        ("{ service_discovery: { namespaces: ['*', a] } }", "namespaces"),
        ("{ service_discovery: { namespaces: ['A_B'] } }", "namespaces"),
        ("{ service_discovery: { watch_timeout: 10ms } }", "watch_timeout"),
        ("{ registration: { ttl: 10ms } }", "registration.ttl"),
        ("{ registration: { namespace: 'a/b' } }", "registration.namespace"),
        ("{ configmap: { configmaps: [] } }", "configmap.configmaps"),
        (
            "{ configmap: { configmaps: [{ name: A }] } }",
            "configmap.configmaps.name",
        ),
        (
            "{ configmap: { configmaps: [{ name: a }, { name: a }] } }",
            "configmap.configmaps.name",
        ),
    ] {
        let error = load(&format!("kubernetes_discovery: {yaml}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{yaml}");
        assert!(error.to_string().contains(field), "{yaml}: {error}");
        assert!(!error.to_string().contains("u:p"), "{error}");
    }
    load("kubernetes_discovery: { cluster_config: { server: '[::1]:6443' } }").unwrap();
    load("kubernetes_discovery: { service_discovery: { namespaces: ['*'] } }").unwrap();
}

#[test]
fn a_token_is_never_shown() {
    let config = K8sConfig::at("h").token("hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
}
