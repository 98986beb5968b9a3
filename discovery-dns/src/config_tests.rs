use discovery_core::config::{Loader, parse_uri};

use super::*;

/// As the specification has it.
const SPECIFICATION: &str = r#"
dns_discovery:
  zones:
    - name: "company.local"
      type: "consul"

  resolution:
    - pattern: "*.service.consul"
      resolver: "consul"

    - pattern: "*.default.svc.cluster.local"
      resolver: "kubernetes"

  caching:
    enabled: true
    ttl: "30s"
    negative_ttl: "10s"

  health_awareness:
    enabled: true
    unhealthy_weight: 0
"#;

fn load(text: &str) -> Result<DnsConfig> {
    Loader::new(&[DnsConfig::BLOCK])
        .yaml("dns.yaml", text)?
        .block("dns_discovery")
}

#[test]
fn the_block_of_the_specification_is_read_and_works() {
    let config = load(SPECIFICATION).unwrap();
    assert_eq!(config.zones, [Zone::new("company.local", ZoneType::Consul)]);
    assert_eq!(config.resolution.len(), 2);
    assert_eq!(config.caching.negative_ttl, Duration::from_secs(10));
    assert_eq!(config.health_awareness.unhealthy_weight, 0);
    // All its zones are Consul's: this system's servers are for the names of Kubernetes only.
    let backend = crate::backend(config).unwrap();
    assert_eq!(backend.registry.info().address, "127.0.0.1:8600");
}

#[test]
fn a_uri_names_servers_and_a_zone() {
    let uri =
        "dns://127.0.0.1:5353,127.0.0.2/svc.test?transport=tcp&key_name=update&secret_env=DNS_KEY&min_ttl=1s";
    let loaded = Loader::new(&[DnsConfig::BLOCK])
        .uri(&parse_uri(uri).unwrap())
        .unwrap();
    let config: DnsConfig = loaded.block("dns_discovery").unwrap();
    assert_eq!(config.servers, ["127.0.0.1:5353", "127.0.0.2"]);
    assert_eq!(config.transport, Transport::Tcp);
    assert_eq!(config.all_zones(), [Zone::new("svc.test", ZoneType::DnsSd)]);
    let update = config.update.as_ref().unwrap();
    assert_eq!(update.key_name.as_deref(), Some("update"));
    assert_eq!(update.secret_env.as_deref(), Some("DNS_KEY"));
    config.validate().unwrap();
}

#[test]
fn what_could_not_work_is_refused_with_a_hint() {
    let rows = [
        ("servers: [\"dns.example\"]", "servers"),
        ("timeout: \"6s\"", "timeout"),
        ("zones: [{ name: \"a..b\", type: \"srv\" }]", "zones"),
        ("zones: [{ name: \"svc.test\", type: \"address\" }]", "zones.port"),
        (
            "zones: [{ name: \"cluster.local\", type: \"kubernetes\" }]",
            "zones.port_name",
        ),
        ("caching: { min_ttl: \"500ms\" }", "caching.min_ttl"),
        ("caching: { ttl: \"1s\" }", "caching.min_ttl"),
        ("caching: { negative_ttl: \"4h\" }", "caching.negative_ttl"),
        (
            "resolution: [{ pattern: \"a.*\", resolver: \"consul\" }]",
            "resolution.pattern",
        ),
        ("update: {}", "update"),
        (
            "zone: \"svc.test\"\n  update: { key_name: \"k\" }",
            "update.secret",
        ),
        (
            "zone: \"svc.test\"\n  update: { secret_env: \"K\" }",
            "update.key_name",
        ),
        ("zone: \"svc.test\"\n  update: { ttl: \"10ms\" }", "update.ttl"),
    ];
    for (text, field) in rows {
        let mut config = load(&format!("dns_discovery:\n  {text}\n")).unwrap();
        if config.servers.is_empty() {
            config.servers.push("127.0.0.1:1".to_owned());
        }
        let error = crate::backend(config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{text}: {error:?}");
        assert!(
            error.to_string().contains(&format!("dns_discovery.{field}")),
            "{text}: {error}"
        );
        assert!(error.hint().is_some(), "{text}: {error:?}");
    }
}

#[test]
fn a_6_the_key_never_shows() {
    let config = DnsConfig::at("127.0.0.1:1").update(Update::signed("update", "c2VudGluZWw="));
    assert!(!format!("{config:?}").contains("c2VudGluZWw"));
    assert!(!serde_json::to_string(&config).unwrap().contains("c2VudGluZWw"));
}
