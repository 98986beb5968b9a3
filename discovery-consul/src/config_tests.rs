use discovery_core::config::{Loader, parse_uri};

use super::*;
use crate::address::Address;

/// The block of the specification, character for character.
const SPECIFICATION: &str = r#"consul:
  server:
    address: "consul.company.com:8500"
    datacenter: "dc1"

  authentication:
    token_env: "CONSUL_TOKEN"
    # Alternative: ACL token file
    # token_file: "/etc/consul/token"

  tls:
    enabled: true
    ca_file: "/etc/consul/ca.pem"
    cert_file: "/etc/consul/client.pem"
    key_file: "/etc/consul/client-key.pem"
    verify_ssl: true

  service_registration:
    auto_register: true
    deregister_on_exit: true
    tags: ["system-control", "v2.1.0"]
    meta:
      version: "2.1.0"
      environment: "production"
      team: "platform"

  health_checks:
    enabled: true
    interval: "10s"
    timeout: "5s"
    deregister_after: "30s"

  discovery:
    refresh_interval: "30s"
    cache_ttl: "60s"
    watch_services: true

  connect:
    enabled: true
    sidecar_proxy: true
    intentions: []
"#;

fn loader() -> Loader {
    Loader::new(&[ConsulConfig::BLOCK])
}

fn read(loader: &Loader) -> ConsulConfig {
    loader.block("consul").unwrap()
}

#[test]
fn the_block_of_the_specification_is_read_whole() {
    let config = read(&loader().yaml("spec.yaml", SPECIFICATION).unwrap());
    assert_eq!(config.server.datacenter.as_deref(), Some("dc1"));
    assert_eq!(
        config.authentication.source().unwrap(),
        Some(SecretSource::Env("CONSUL_TOKEN".into()))
    );
    assert_eq!(
        config.address().unwrap(),
        Address::Tcp {
            tls: true,
            authority: "consul.company.com:8500".into()
        }
    );
    assert_eq!(config.service_registration.meta.len(), 3);
    assert_eq!(config.health_checks.deregister_after, Duration::from_secs(30));
    assert_eq!(config.discovery.cache_ttl, Some(Duration::from_secs(60)));
    assert_eq!(config.service_registration.auto_register, Some(true));
    assert_eq!(config.idle_settings(), ["consul.connect"]);
}

#[test]
fn unknown_keys_are_refused_with_a_suggestion() {
    let loaded = loader()
        .yaml("x.yaml", "consul: { server: { adress: h } }")
        .unwrap();
    let error = loaded.block::<ConsulConfig>("consul").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert!(
        error.hint().is_some_and(|hint| hint.contains("address")),
        "{error:?}"
    );
}

/// C-43
#[test]
fn c_43_the_vendors_environment_is_understood_and_yields_to_arguments() {
    let loaded = loader()
        .env([
            ("CONSUL_HTTP_ADDR", "https://agent:8501"),
            ("CONSUL_HTTP_TOKEN", "s3ntinel"),
            ("CONSUL_HTTP_TOKEN_FILE", "/token"),
            ("CONSUL_HTTP_SSL_VERIFY", "false"),
            ("CONSUL_CACERT", "/ca.pem"),
            ("CONSUL_TLS_SERVER_NAME", "server.dc1.consul"),
            ("CONSUL_NAMESPACE", "team"),
        ])
        .unwrap();
    let config = read(&loaded);
    assert_eq!(
        config.address().unwrap(),
        Address::Tcp {
            tls: true,
            authority: "agent:8501".into()
        }
    );
    assert_eq!(
        config.authentication.source().unwrap(),
        Some(SecretSource::File("/token".into()))
    );
    assert!(!config.tls.verify_ssl);
    assert_eq!(config.server.namespace.as_deref(), Some("team"));
    assert!(!format!("{config:?} {loaded:?}").contains("s3ntinel"));

    let uri = parse_uri("consul://host:8500?dc=dc2&tls=true&token_env=X").unwrap();
    let config = read(&loaded.uri(&uri).unwrap());
    assert_eq!(config.server.address, "host:8500");
    assert_eq!(config.server.datacenter.as_deref(), Some("dc2"));
    assert_eq!(
        config.authentication.source().unwrap(),
        Some(SecretSource::Env("X".into()))
    );
}

/// C-43
#[test]
fn c_43_every_form_of_address() {
    let of = |text: &str| ConsulConfig::at(text).address();
    let tcp = |tls, authority: &str| Address::Tcp {
        tls,
        authority: authority.into(),
    };
    for (text, address) in [
        ("127.0.0.1:8500", tcp(false, "127.0.0.1:8500")),
        ("agent", tcp(false, "agent:8500")),
        ("agent:80", tcp(false, "agent:80")),
        ("http://agent:1/", tcp(false, "agent:1")),
        ("https://agent", tcp(true, "agent:8501")),
        ("[::1]:8500", tcp(false, "[::1]:8500")),
        (
            "unix:///run/consul.sock",
            Address::Unix("/run/consul.sock".into()),
        ),
        ("/run/consul.sock", Address::Unix("/run/consul.sock".into())),
    ] {
        assert_eq!(of(text).unwrap(), address, "{text}");
    }
    for bad in [
        "",
        "ftp://x",
        "a:1,b:2",
        "user:pw@host",
        "host/path",
        "a b",
        "host:notaport",
    ] {
        let error = of(bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{bad}");
        assert!(!error.to_string().contains("pw"), "{error}");
    }
    let mut config = ConsulConfig::at("http://agent:8500");
    config.tls.enabled = Some(true);
    assert!(config.address().is_err());
}

#[test]
fn uris_take_sockets() {
    let uri = parse_uri("consul:///run/consul.sock?dc=dc1").unwrap();
    let config = read(&loader().uri(&uri).unwrap());
    assert_eq!(
        config.address().unwrap(),
        Address::Unix("/run/consul.sock".into())
    );
}

/// C-6, C-16, C-18
#[test]
fn c_6_waits_and_pools_out_of_range_are_refused() {
    let mut config = ConsulConfig::default();
    config.validate().unwrap();
    for wait in [
        Duration::ZERO,
        Duration::from_millis(500),
        Duration::from_secs(61),
    ] {
        config.discovery.wait = wait;
        assert!(config.validate().is_err());
    }
    config.discovery.wait = Duration::from_secs(55);
    for watches in [0, 151] {
        config.discovery.max_watches = watches;
        assert!(config.validate().is_err());
    }
}

#[test]
fn c_20_packed_answers_are_asked_for_from_agents_elsewhere() {
    let local = |address: &str| {
        let mut config = ConsulConfig::default();
        config.server.address = address.into();
        config.address().unwrap().is_local()
    };
    for address in [
        "127.0.0.1:8500",
        "http://127.1.2.3",
        "https://localhost:8501",
        "[::1]:8500",
        "unix:///run/consul",
    ] {
        assert!(local(address), "{address}");
    }
    for address in ["10.0.1.100:8500", "consul.company.com:8500", "[fd00::1]:8500"] {
        assert!(!local(address), "{address}");
    }
}
