use discovery_core::config::{Loader, parse_uri};

use super::*;
use crate::address::servers;

fn loader() -> Loader {
    Loader::new(const { &[EurekaConfig::BLOCK] })
}

fn bases(config: &EurekaConfig) -> Vec<String> {
    let all = servers(config).unwrap();
    all.iter().map(|server| server.base.to_string()).collect()
}

#[test]
fn a_uri_the_environment_and_a_file_say_the_same() {
    let uri = parse_uri("eureka://a:8761,b:8762?zone=z1&refresh_interval=5s").unwrap();
    let loaded = loader().uri(&uri).unwrap();
    let by_uri: EurekaConfig = loaded.block("eureka").unwrap();
    assert_eq!(bases(&by_uri), ["http://a:8761/eureka/", "http://b:8762/eureka/"]);
    assert_eq!(by_uri.server.zone.as_deref(), Some("z1"));
    assert_eq!(by_uri.discovery.refresh_interval, Duration::from_secs(5));

    let vars = [(
        "EUREKA_SERVICE_URL",
        "http://a:8761/eureka/,http://b:8762/eureka/",
    )];
    let by_env: EurekaConfig = loader().env(vars).unwrap().block("eureka").unwrap();
    assert_eq!(bases(&by_env), bases(&by_uri));
}

#[test]
fn mistakes_are_named() {
    let bad = |change: fn(&mut EurekaConfig), field: &str| {
        let mut config = EurekaConfig::at(["a:8761"]);
        change(&mut config);
        let error = config.validate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        assert!(error.to_string().contains(field), "{error}");
        assert!(error.hint().is_some(), "{error}");
    };
    bad(|c| c.server.urls = vec!["ftp://a".into()], "server.urls");
    bad(|c| c.server.urls = vec!["http://a?x=1".into()], "server.urls");
    bad(
        |c| c.server.urls = vec!["http://user:secret@".into()],
        "server.urls",
    );
    bad(
        |c| {
            c.server.urls = vec!["http://a:8761".into()];
            c.tls.enabled = Some(true);
        },
        "server.urls",
    );
    bad(
        |c| c.authentication.password = Some(Secret::from("p".to_owned())),
        "authentication",
    );
    bad(|c| c.service_registration.ttl = Duration::from_millis(10), "ttl");
    for interval in [Duration::from_millis(10), Duration::from_secs(31)] {
        let mut config = EurekaConfig::at(["a:8761"]);
        config.service_registration.heartbeat_interval = Some(interval);
        let error = config.validate().unwrap_err();
        assert!(error.to_string().contains("heartbeat_interval"), "{error}");
    }
    bad(
        |c| c.service_registration.data_center = "x".to_owned(),
        "data_center",
    );
    bad(
        |c| c.service_registration.home_page_path = Some("x".to_owned()),
        "home_page_path",
    );
    bad(
        |c| c.discovery.refresh_interval = Duration::from_millis(1),
        "refresh_interval",
    );
    bad(
        |c| c.discovery.full_refresh = Duration::from_secs(1),
        "full_refresh",
    );
}

#[test]
fn u_33_user_and_password_in_a_url_are_never_shown() {
    let config = EurekaConfig::at(["http://user:hunter%402@a:8761/eureka"]);
    let all = servers(&config).unwrap();
    let (user, password) = all[0].basic.clone().unwrap();
    assert_eq!((user.as_str(), password.expose()), ("user", "hunter@2"));
    let json = serde_json::to_string(&config).unwrap();
    let shown = format!("{config:?} {all:?} {json} {}", all[0].display());
    assert!(!shown.contains("hunter"), "{shown}");
    assert!(shown.contains("a:8761"), "{shown}");

    let vars = [("EUREKA_SERVICE_URL", "http://user:hunter2@a:8761/eureka")];
    let explained = format!("{:?}", loader().env(vars).unwrap().explain());
    let yaml = "eureka:\n  server:\n    url: [\"http://user:hunter2@a:8761\"]\n";
    let refused = loader()
        .yaml("test.yaml", yaml)
        .and_then(|loaded| loaded.block::<EurekaConfig>("eureka"));
    let shown = format!("{explained} {:?}", refused.unwrap_err());
    assert!(!shown.contains("hunter"), "{shown}");
}

#[test]
fn u_34_paths_are_joined_once() {
    for (written, meant) in [
        ("a:1", "http://a:1/eureka/"),
        ("http://a:1", "http://a:1/eureka/"),
        ("http://a:1/", "http://a:1/eureka/"),
        ("http://a:1/eureka", "http://a:1/eureka/"),
        ("http://a:1/eureka/", "http://a:1/eureka/"),
        ("http://a:1/eureka/v2/", "http://a:1/eureka/v2/"),
        ("https://a/eureka", "https://a/eureka/"),
        ("http://[::1]:1", "http://[::1]:1/eureka/"),
    ] {
        assert_eq!(bases(&EurekaConfig::at([written])), [meant], "{written}");
    }
    let mut config = EurekaConfig::at(["a:1"]);
    config.server.path = "registry".to_owned();
    assert_eq!(bases(&config), ["http://a:1/registry/"]);
}

#[test]
fn zones_name_servers_too() {
    let mut config = EurekaConfig::at(["c:1"]);
    config.server.zone = Some("z1".to_owned());
    config.server.zones = [
        ("z1".to_owned(), vec!["a:1".into()]),
        ("z2".to_owned(), vec!["b:1".into()]),
    ]
    .into();
    let all = servers(&config).unwrap();
    let near: Vec<_> = all.iter().map(|server| server.near).collect();
    assert_eq!(near, [true, false, false]);
}
