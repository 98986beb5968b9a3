use discovery_core::config::{Loader, parse_uri};

use super::*;

/// The block of the specification, character for character.
const SPECIFICATION: &str = r#"etcd:
  endpoints:
    - "etcd-1.company.com:2379"
    - "etcd-2.company.com:2379"
    - "etcd-3.company.com:2379"

  authentication:
    username_env: "ETCD_USERNAME"
    password_env: "ETCD_PASSWORD"

  tls:
    enabled: true
    ca_file: "/etc/etcd/ca.pem"
    cert_file: "/etc/etcd/client.pem"
    key_file: "/etc/etcd/client-key.pem"

  service_registration:
    key_prefix: "/services/"
    ttl: 30
    refresh_interval: 10

  discovery:
    watch_prefix: "/services/"
    recursive: true
"#;

fn loader() -> Loader {
    Loader::new(&[EtcdConfig::BLOCK])
}

fn read(loader: &Loader) -> EtcdConfig {
    loader.block("etcd").unwrap()
}

#[test]
fn the_block_of_the_specification_is_read_whole() {
    let config = read(&loader().yaml("spec.yaml", SPECIFICATION).unwrap());
    let members = config.members().unwrap();
    assert_eq!(members.len(), 3);
    assert_eq!(members[0], (true, "etcd-1.company.com:2379".to_owned()));
    let registration = ServiceRegistration {
        refresh_interval: Some(Duration::from_secs(10)),
        ..ServiceRegistration::default()
    };
    assert_eq!(config.service_registration, registration);
    assert_eq!(config.discovery.watch_prefix.as_deref(), Some("/services/"));
    let credentials = config.authentication.credentials().unwrap().unwrap();
    assert_eq!(credentials.name, SecretSource::Env("ETCD_USERNAME".into()));
    assert_eq!(credentials.password, SecretSource::Env("ETCD_PASSWORD".into()));
}

#[test]
fn a_uri_says_the_same() {
    let uri = parse_uri("etcd://a:2379,b/apps/?namespace=/tenant&format=grpc&ttl=5").unwrap();
    let config = read(&loader().uri(&uri).unwrap());
    let members: Vec<_> = config.members().unwrap().into_iter().map(|(_, at)| at).collect();
    assert_eq!(members, ["a:2379", "b:2379"]);
    assert_eq!(config.service_registration.key_prefix, "/apps/");
    assert_eq!(config.namespace, "/tenant");
    assert_eq!(config.service_registration.format, Format::Grpc);
    assert_eq!(config.service_registration.ttl, Duration::from_secs(5));
}

#[test]
fn variables_of_etcdctl_are_read_and_yield() {
    let env = [
        ("ETCDCTL_ENDPOINTS", "https://a:1,https://b:2"),
        ("ETCDCTL_USER", "root:hunter2"),
        ("ETCDCTL_DIAL_TIMEOUT", "3s"),
    ];
    let config = read(&loader().env(env).unwrap());
    assert_eq!(
        config.members().unwrap(),
        [(true, "a:1".to_owned()), (true, "b:2".to_owned())]
    );
    let credentials = config.authentication.credentials().unwrap().unwrap();
    assert_eq!(credentials.password.read().unwrap().expose(), "hunter2");
    assert_eq!(config.dial_timeout, Duration::from_secs(3));
    assert!(!format!("{config:?}").contains("hunter2"));

    let both = [("ETCDCTL_USER", "root"), ("ETCDCTL_PASSWORD", "a:b")];
    let config = read(&loader().env(both).unwrap());
    let credentials = config.authentication.credentials().unwrap().unwrap();
    assert_eq!(credentials.password.read().unwrap().expose(), "a:b");

    let explicit = config
        .user("me", "mine")
        .authentication
        .credentials()
        .unwrap()
        .unwrap();
    assert_eq!(explicit.name.read().unwrap().expose(), "me");
    let uri = parse_uri("etcd://127.0.0.1:2379").unwrap();
    let config = read(&loader().env(env).unwrap().uri(&uri).unwrap());
    assert_eq!(
        config.endpoints,
        ["127.0.0.1:2379"],
        "what is given explicitly wins"
    );
}

type Mistake = (fn(&mut EtcdConfig), &'static str);

#[test]
fn mistakes_name_their_field() {
    let fault = |change: fn(&mut EtcdConfig)| {
        let mut config = EtcdConfig::default();
        change(&mut config);
        let failed = config.validate().unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::ConfigInvalid);
        failed.to_string()
    };
    let rows: [Mistake; 14] = [
        (|c| c.endpoints.clear(), "etcd.endpoints"),
        (|c| c.endpoints = vec!["ftp://a".into()], "etcd.endpoints"),
        (|c| c.endpoints = vec!["a:0".into()], "etcd.endpoints"),
        (|c| c.endpoints = vec!["a:99999".into()], "etcd.endpoints"),
        (|c| c.endpoints = vec!["a/b".into()], "etcd.endpoints"),
        (
            |c| c.authentication.username = Some("me".into()),
            "`username` without `password`",
        ),
        (
            |c| c.authentication.password_env = Some("X".into()),
            "`password` without `username`",
        ),
        (
            |c| c.service_registration.ttl = Duration::from_millis(900),
            "service_registration.ttl",
        ),
        (
            |c| c.service_registration.refresh_interval = Some(Duration::from_secs(16)),
            "refresh_interval",
        ),
        (
            |c| c.discovery.watch_prefix = Some("/apps/".into()),
            "watch_prefix",
        ),
        (|c| c.discovery.recursive = false, "recursive"),
        (
            |c| c.keep_alive_interval = Duration::from_secs(4),
            "keep_alive_interval",
        ),
        (
            |c| c.service_registration.key_prefix = "/services".into(),
            "key_prefix",
        ),
        (|c| c.config.prefix = "/services/config/".into(), "config.prefix"),
    ];
    for (change, part) in rows {
        let found = fault(change);
        assert!(found.contains(part), "{found}");
    }
    let secret = EtcdConfig::at(["me:hunter2@host:1"]).validate().unwrap_err();
    assert!(!format!("{secret:?}").contains("hunter2"), "{secret:?}");
}

#[test]
fn e_19_no_probe_is_faster_than_servers_allow() {
    assert!(EtcdConfig::default().keep_alive_interval >= Duration::from_secs(5));
}
