//! The loader from end to end: every kind of bad input with its exact message.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::*;
use crate::error::{Error, ErrorKind};

/// A block such as a backend has.
#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Consul {
    server: Server,
    authentication: Authentication,
    tls: TlsConfig,
    tags: Vec<String>,
    meta: BTreeMap<String, String>,
    #[serde(with = "duration::option")]
    timeout: Option<Duration>,
    #[serde(with = "duration::or_seconds")]
    ttl: Duration,
    mode: Mode,
    checks: Vec<NamedCheck>,
}

#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Server {
    address: String,
    datacenter: Option<String>,
    port: u16,
}

#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Authentication {
    token: Option<Secret>,
    token_env: Option<String>,
}

#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Push,
    Poll,
}

#[derive(Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct NamedCheck {
    name: String,
    #[serde(default)]
    port: u16,
}

const CONSUL: KnownBlock = KnownBlock::of::<Consul>("consul")
    .env(&[
        EnvVar::new("CONSUL_HTTP_ADDR", "server.address"),
        EnvVar::new("DISCOVERY_CONSUL_ADDRESS", "server.address"),
        EnvVar::new("DISCOVERY_CONSUL_PORT", "server.port"),
        EnvVar::new("DISCOVERY_CONSUL_TAGS", "tags"),
        EnvVar::new("DISCOVERY_CONSUL_TTL", "ttl"),
        EnvVar::new("DISCOVERY_CONSUL_TLS", "tls.enabled"),
    ])
    .uri(UriForm {
        schemes: &["consul"],
        endpoints: Some("server.address"),
        path: None,
        params: &[("dc", "server.datacenter")],
    });

const KNOWN: &[KnownBlock] = &[
    HighAvailability::BLOCK,
    CONSUL,
    KnownBlock::missing_feature("etcd", "etcd"),
    KnownBlock::missing_feature("kubernetes_discovery", "k8s"),
];

fn loader() -> Loader {
    Loader::new(KNOWN)
}

fn read(text: &str) -> Result<Consul, Error> {
    loader().yaml("discovery.yaml", text)?.block("consul")
}

/// Message and hint of what is wrong with `text`.
fn fault(text: &str) -> String {
    let error = read(text).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error}");
    told(&error)
}

fn told(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error}\nhint: {hint}"),
        None => error.to_string(),
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_place() {
    assert_eq!(
        fault("consul:\n  server:\n    adress: \"localhost:8500\"\n"),
        r#"discovery.yaml:3:5: consul.server.adress: unknown key
3 |     adress: "localhost:8500"
  |     ^^^^^^
hint: did you mean `address`?"#
    );
    assert_eq!(
        fault("consul:\n  checks:\n    - name: a\n    - name: b\n      zebra: 1\n"),
        r"discovery.yaml:5:7: consul.checks[1].zebra: unknown key
5 |       zebra: 1
  |       ^^^^^
hint: the keys here are `name`, `port`"
    );
    // A key without a value counts as not written, but not an unknown one.
    assert!(fault("consul:\n  zebra:\n").contains("consul.zebra: unknown key"));
}

#[test]
fn a_bad_duration_is_refused_with_its_place() {
    assert_eq!(
        fault("consul:\n  timeout: 10 parsecs\n"),
        r#"discovery.yaml:2:12: consul.timeout: bad duration "10 parsecs": write whole numbers with units, largest first, as in "500ms", "10s", "1h30m" or "2d"
2 |   timeout: 10 parsecs
  |            ^^^^^^^^^^"#
    );
    assert_eq!(
        fault("consul:\n  timeout: 10\n"),
        r#"discovery.yaml:2:12: consul.timeout: a duration needs its unit: write "10s" for seconds
2 |   timeout: 10
  |            ^^"#
    );
    assert_eq!(
        fault("consul:\n  ttl: [1]\n"),
        r#"discovery.yaml:2:8: consul.ttl: expected a duration such as "10s", or a number of seconds, found a list
2 |   ttl: [1]
  |        ^"#
    );
    assert!(fault("consul: { ttl: -3 }").contains("found a number"));
    assert_eq!(read("consul: { ttl: 30 }").unwrap().ttl, Duration::from_secs(30));
    assert_eq!(read("consul: { ttl: 1m }").unwrap().ttl, Duration::from_secs(60));
}

#[test]
fn a_zero_interval_is_refused() {
    let text = "high_availability: { health_checks: { check_intervals: { critical_services: 0s } } }";
    let error = loader()
        .yaml("ha.yaml", text)
        .unwrap()
        .block::<HighAvailability>("high_availability")
        .unwrap_err();
    assert!(
        error.message().contains("this duration must be longer than zero"),
        "{error}"
    );
}

#[test]
fn a_wrong_type_is_refused_with_its_place() {
    assert_eq!(
        fault("consul:\n  server:\n    port: many\n"),
        r"discovery.yaml:3:11: consul.server.port: expected a whole number from 0 to 65535, found text
3 |     port: many
  |           ^^^^"
    );
    assert_eq!(
        fault("consul:\n  server:\n    port: 70000\n"),
        r"discovery.yaml:3:11: consul.server.port: expected a whole number from 0 to 65535, found 70000
3 |     port: 70000
  |           ^^^^^"
    );
    assert_eq!(
        fault("consul:\n  server: localhost\n"),
        r"discovery.yaml:2:11: consul.server: expected a mapping, found text
2 |   server: localhost
  |           ^^^^^^^^^"
    );
    assert_eq!(
        fault("consul:\n  tags: v1\n"),
        r"discovery.yaml:2:9: consul.tags: expected a list, found text
2 |   tags: v1
  |         ^^"
    );
    // `yes` is text, not true.
    assert_eq!(
        fault("consul:\n  tls: { enabled: yes }\n"),
        r"discovery.yaml:2:19: consul.tls.enabled: expected true or false, found text
2 |   tls: { enabled: yes }
  |                   ^^^"
    );
    assert_eq!(
        fault("consul:\n  mode: pull\n"),
        r"discovery.yaml:2:9: consul.mode: unknown choice `pull`
2 |   mode: pull
  |         ^^^^
hint: did you mean `poll`?"
    );
    assert_eq!(
        fault("consul:\n  checks:\n    - port: 1\n"),
        r"discovery.yaml:3:7: consul.checks[0]: key `name` is missing
3 |     - port: 1
  |       ^"
    );
    assert!(fault("- a\n").starts_with("discovery.yaml:1:1: expected a mapping of blocks at the top level"));
}

#[test]
fn a_duplicate_key_is_refused_with_its_place() {
    assert_eq!(
        fault("consul:\n  server:\n    port: 1\n    port: 2\n"),
        r"discovery.yaml:4:5: duplicate key `port`
4 |     port: 2
  |     ^^^^
hint: keep one of the two"
    );
}

#[test]
fn broken_yaml_is_refused_with_its_place() {
    let message = fault("consul:\n  server: [a\n");
    assert!(message.starts_with("discovery.yaml:"), "{message}");
    assert!(fault("consul: {}\n---\nconsul: {}\n").contains("more than one YAML document"));
    assert!(fault("consul: \"\u{0}\"").starts_with("discovery.yaml:1:"));
}

#[test]
fn hostile_yaml_is_refused() {
    let laughs = (1..30).fold("consul:\n  a0: &a0 [x, x]\n".to_owned(), |text, i| {
        format!("{text}  a{i}: &a{i} [*a{0}, *a{0}, *a{0}]\n", i - 1)
    });
    assert!(loader().yaml("laughs.yaml", &laughs).is_err());
    for deep in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        "? ".repeat(1000),
    ] {
        assert!(loader().yaml("deep.yaml", &format!("consul: {deep}")).is_err());
        assert!(loader().yaml("deep.yaml", &deep).is_err());
    }
    let many = "  - 1\n".repeat(20_000);
    assert!(fault(&format!("consul:\n{many}")).contains("expected a mapping, found a list"));
}

#[test]
fn a_block_nobody_knows_or_has_built_is_refused() {
    assert_eq!(
        fault("consul: {}\nconsull: {}\n"),
        r"discovery.yaml:2:1: consull: unknown block
2 | consull: {}
  | ^^^^^^^
hint: did you mean `consul`?"
    );
    let error = read("etcd:\n  ttl: 30\n").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(
        told(&error),
        r"discovery.yaml:1:1: etcd: built without feature `etcd`
1 | etcd:
  | ^^^^
hint: rebuild with `--features etcd`, or remove it"
    );
    let error = loader()
        .env([("DISCOVERY_KUBERNETES_DISCOVERY_CONTEXT", "x")])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(
        error.to_string(),
        "environment variable DISCOVERY_KUBERNETES_DISCOVERY_CONTEXT: built without feature `k8s`"
    );
    let error = loader().uri(&parse_uri("k8s://").unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.to_string(), "scheme `k8s`: built without feature `k8s`");
    let error = loader().uri(&parse_uri("consl://h").unwrap()).unwrap_err();
    assert_eq!(
        told(&error),
        "unknown scheme `consl`\nhint: did you mean `consul`?"
    );
    let error = loader().set("zebra.x", 1).unwrap_err();
    assert_eq!(
        told(&error),
        "code: zebra: unknown block\nhint: the blocks are `high_availability`, `consul`, `etcd`, `kubernetes_discovery`"
    );
    assert_eq!(
        loader().block::<Value>("etcd").unwrap_err().kind(),
        ErrorKind::Unsupported
    );
}

#[test]
fn a_missing_file_is_named() {
    let error = loader().file("/no/such/discovery.yaml").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    let message = error.to_string();
    assert!(
        message.starts_with("configuration file /no/such/discovery.yaml cannot be read: "),
        "{message}"
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![b'#'; 2 << 20]).unwrap();
    assert!(
        loader()
            .file(file.path())
            .unwrap_err()
            .message()
            .ends_with("larger than 1 MiB")
    );
    std::fs::write(file.path(), b"consul: {}\n").unwrap();
    assert_eq!(loader().file(file.path()).unwrap().blocks(), ["consul"]);
}

#[test]
fn nothing_is_as_good_as_defaults() {
    for text in [
        "",
        "\n\n",
        "# only a comment\n",
        "---\n",
        "consul:\n",
        "consul:\n  # all of it\n  tls:\n  server:\n",
    ] {
        assert_eq!(read(text).unwrap(), Consul::default(), "{text:?}");
    }
    assert_eq!(loader().yaml("a", "").unwrap().blocks(), [""; 0]);
}

#[test]
fn text_fields_take_what_is_written() {
    let consul =
        read("consul:\n  meta: { version: 2.10, old: true, build: 007, hex: 0x1F, no: no }\n").unwrap();
    let meta = [
        ("build", "007"),
        ("hex", "0x1F"),
        ("no", "no"),
        ("old", "true"),
        ("version", "2.10"),
    ];
    assert_eq!(
        consul.meta,
        meta.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    );
    let anchored = read("consul:\n  meta: { a: &v 1.10, b: *v }\n").unwrap();
    assert_eq!(anchored.meta["b"], "1.10");
}

#[test]
fn sources_override_each_other_in_order() {
    let loaded = loader()
        .set("consul.server.port", 4)
        .unwrap()
        .env([
            ("DISCOVERY_CONSUL_PORT", "3"),
            ("DISCOVERY_CONSUL_ADDRESS", "env:1"),
            ("HOME", "/"),
        ])
        .unwrap()
        .yaml(
            "one.yaml",
            "consul: { server: { port: 1, address: one, datacenter: dc1 }, tags: [a, b] }",
        )
        .unwrap()
        .yaml(
            "two.yaml",
            "consul: { server: { port: 2, address: two }, tags: [c] }",
        )
        .unwrap();
    let consul: Consul = loaded.block("consul").unwrap();
    let server = Server {
        address: "env:1".into(),
        datacenter: Some("dc1".into()),
        port: 4,
    };
    assert_eq!((consul.server, consul.tags), (server, vec!["c".to_owned()]));

    let lines: Vec<_> = loaded.explain().iter().map(ToString::to_string).collect();
    for line in [
        r#"consul.server.address = "env:1"  (environment variable DISCOVERY_CONSUL_ADDRESS)"#,
        r#"consul.server.datacenter = "dc1"  (one.yaml:1:56)"#,
        "consul.server.port = 4  (code)",
        r#"consul.tags[0] = "c"  (two.yaml:1:53)"#,
        "consul.tls.verify_ssl = true  (default)",
    ] {
        assert!(
            lines.iter().any(|other| other == line),
            "{line} is not in {lines:#?}"
        );
    }
    // What nothing mentions is not in force.
    assert!(
        !lines.iter().any(|line| line.starts_with("high_availability")),
        "{lines:#?}"
    );
}

#[test]
fn what_a_variable_stands_for_is_filled_in_with_its_place() {
    let text = "consul:\n  server: { address: \"{{ .host }}:1\" }\n  tags: [a, \"{{ .tag }}\"]\n";
    let read = loader().yaml("f", text).unwrap();
    let value_of = |name: &str| (name == "host").then(|| "{{ .tag }}".to_owned());
    let error = read.clone().fill("consul", value_of).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert_eq!(
        error.to_string(),
        "f:3:13: consul.tags[1]: nothing says what `{{ .tag }}` stands for\n3 |   tags: [a, \"{{ .tag }}\"]\n  |             ^^^^^^^^^^^^"
    );
    assert_eq!(
        error.hint(),
        Some("set the environment variable TAG, or give the variable `tag` a value")
    );
    // What is filled in is not looked at again.
    let filled = read
        .fill("consul", |name| Some(format!("{{{{ .{name} }}}}")))
        .unwrap();
    let consul: Consul = filled.block("consul").unwrap();
    assert_eq!(
        (&*consul.server.address, &*consul.tags[1]),
        ("{{ .host }}:1", "{{ .tag }}")
    );

    let broken = loader().yaml("f", "consul: { tags: [\"{{ tag }}\"] }").unwrap();
    let error = broken.fill("consul", |_| None).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("f:1:18: consul.tags[0]: braces without"),
        "{error}"
    );
    assert!(loader().fill("consull", |_| None).is_err());
}

#[test]
fn every_block_that_is_mentioned_is_validated() {
    let sound = loader().yaml("f", "consul: { tags: [a] }").unwrap();
    sound.validate().unwrap();
    let error = sound.set("consul.tgas", "a").unwrap().validate().unwrap_err();
    assert_eq!(error.hint(), Some("did you mean `tags`?"), "{error}");
    // A variable may be there for another program, which nobody asked this one to read.
    let foreign = loader().env([("DISCOVERY_CONSUL_PORT", "many")]).unwrap();
    foreign.validate().unwrap();
    assert!(foreign.block::<Consul>("consul").is_err());
    // It is shown all the same, for whoever looks for the mistake.
    let misspelt = loader().yaml("f", "consul: { tgas: [a] }").unwrap();
    let lines: Vec<_> = misspelt.explain().iter().map(ToString::to_string).collect();
    assert!(
        lines
            .iter()
            .any(|line| line == "consul.tgas[0] = \"a\"  (f:1:18)"),
        "{lines:#?}"
    );
}

#[test]
fn a_uri_overrides_a_file() {
    let uri = parse_uri("consul://a:1,b:2?dc=dc2&timeout=5s&tls.enabled=true").unwrap();
    let loaded = loader()
        .yaml("f", "consul: { timeout: 1s, tls: { enabled: false } }")
        .unwrap();
    let consul: Consul = loaded.uri(&uri).unwrap().block("consul").unwrap();
    assert_eq!(consul.server.address, "a:1,b:2");
    assert_eq!(consul.server.datacenter.as_deref(), Some("dc2"));
    assert_eq!(consul.timeout, Some(Duration::from_secs(5)));
    assert!(consul.tls.is_enabled());

    let uri = parse_uri("consul://a?timout=5s").unwrap();
    let error = loader().uri(&uri).unwrap().block::<Consul>("consul").unwrap_err();
    assert_eq!(
        told(&error),
        "uri: consul.timout: unknown key\nhint: did you mean `timeout`?"
    );
    let error = loader().uri(&parse_uri("consul://a/path").unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "consul: a URI of this scheme takes no path");
    assert_eq!(
        loader().uri(&parse_uri("consul://").unwrap()).unwrap().blocks(),
        ["consul"]
    );
    // Deeper than any configuration: an error, and no stack is used up.
    let deep = parse_uri(&format!("consul://a?{}=1", "a.".repeat(100_000) + "a")).unwrap();
    assert_eq!(loader().uri(&deep).unwrap_err().kind(), ErrorKind::ConfigInvalid);
}

#[test]
fn variables_become_what_their_field_is() {
    let vars = [
        ("DISCOVERY_CONSUL_PORT", "8501"),
        ("DISCOVERY_CONSUL_TAGS", "a, b,,c"),
        ("DISCOVERY_CONSUL_TTL", "30"),
        ("DISCOVERY_CONSUL_TLS", "True"),
        ("DISCOVERY_CONSUL_ADDRESS", "8500"),
        // The vendor's own name yields to ours, declared after it, whatever the order of the environment.
        ("CONSUL_HTTP_ADDR", "vendor"),
        ("DISCOVERY_LOG", "debug"),
        ("DISCOVERY_URI", "memory://"),
        ("MINE", "passed over"),
    ];
    let consul: Consul = loader().env(vars).unwrap().block("consul").unwrap();
    assert_eq!(
        (consul.server.port, consul.server.address.as_str()),
        (8501, "8500")
    );
    assert_eq!(consul.tags, ["a", "b", "c"]);
    assert_eq!(
        (consul.ttl, consul.tls.is_enabled()),
        (Duration::from_secs(30), true)
    );
    let empty = loader().env([("DISCOVERY_CONSUL_PORT", "")]).unwrap();
    assert!(empty.blocks().is_empty());

    let error = |vars: &[(&'static str, &'static str)]| {
        let loaded = loader().env(vars.iter().copied()).unwrap();
        loaded.block::<Consul>("consul").unwrap_err().to_string()
    };
    assert_eq!(
        error(&[("DISCOVERY_CONSUL_PORT", "many")]),
        "environment variable DISCOVERY_CONSUL_PORT: consul.server.port: expected a whole number from 0 to 65535, found \
         \"many\""
    );
    assert_eq!(
        error(&[("DISCOVERY_CONSUL_TLS", "maybe")]),
        "environment variable DISCOVERY_CONSUL_TLS: consul.tls.enabled: expected true or false, found \"maybe\""
    );
}

#[test]
fn an_undeclared_variable_is_refused() {
    let error = loader().env([("DISCOVERY_CONSUL_ADRESS", "x")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert_eq!(
        told(&error),
        "unknown environment variable DISCOVERY_CONSUL_ADRESS\nhint: did you mean DISCOVERY_CONSUL_ADDRESS?"
    );
    let reserved = loader().reserve(&["DISCOVERY_TEST"]);
    assert!(reserved.env([("DISCOVERY_TEST", "memory")]).is_ok());
}

#[test]
#[cfg(unix)]
fn a_variable_that_is_not_utf8_is_refused() {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};
    let garbage = || OsString::from_vec(vec![0xFF]);
    let error = loader()
        .env([("DISCOVERY_CONSUL_ADDRESS", garbage())])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "environment variable DISCOVERY_CONSUL_ADDRESS is not UTF-8"
    );
    assert!(loader().env([(garbage(), garbage())]).is_ok());
}

#[test]
fn secrets_stay_out_of_every_text() {
    let loaded = loader()
        .yaml("f", "consul: { authentication: { token: hunter2 } }")
        .unwrap()
        .set("consul.meta.db_password", "hunter2")
        .unwrap();
    let consul: Consul = loaded.block("consul").unwrap();
    assert_eq!(consul.authentication.token.as_ref().unwrap().expose(), "hunter2");
    let shown = format!("{loaded:?} {:?} {:?}", loaded.explain(), consul.authentication);
    assert!(
        shown.contains(r#"consul.authentication.token = \"***\""#),
        "{shown}"
    );
    assert!(!shown.contains("hunter2"), "{shown}");

    for text in [
        "consul:\n  authentication:\n    tokn: hunter2\n",
        "consul:\n  authentication: { passwrd: hunter2 }\n",
        "consul:\n  authentication: hunter2\n",
        "consul:\n  authentication:\n    token: [hunter2]\n",
        "consul:\n  authentication:\n    token:\n      hunter2: 1\n",
        "consul:\n  authentication:\n    token:\n    - hunter2\n",
        "consul:\n  authentication:\n    token: hunter2\n    token: hunter2\n",
        "consul:\n  authentication:\n    token: hunter2: hunter2\n",
        "consul:\n  authentication:\n    \"token\": \"hunter2\n",
        "consul:\n  authentication:\n    token: |\n      hunter2\n   hunter2\n",
        "consul: { zebra: 1, authentication: { token: hunter2 } }\n",
    ] {
        let error = read(text).unwrap_err();
        let shown = format!("{error:#} {error:?}");
        assert!(!shown.contains("hunter2"), "{text}\ngave\n{shown}");
    }
}

#[test]
fn long_lines_are_cut_around_the_caret() {
    let text = format!(
        "consul: {{ meta: {{ a: {} }}, zebra: 1, tags: [{}] }}",
        "x".repeat(500),
        "y".repeat(500)
    );
    let message = fault(&text);
    let lines: Vec<_> = message.lines().collect();
    assert!(lines[1].len() < 120 && lines[1].contains("zebra: 1"), "{message}");
    assert_eq!(lines[2].find('^'), lines[1].find("zebra"));
}

#[test]
fn values_of_code_may_be_whole_parts() {
    let loaded = loader()
        .set("consul", json!({ "server": { "port": "80" }, "mode": "poll" }))
        .unwrap();
    let consul: Consul = loaded.block("consul").unwrap();
    assert_eq!((consul.server.port, consul.mode), (80, Mode::Poll));
}

fn yaml_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("consul:".to_owned()),
        Just("  server: ".to_owned()),
        Just("    port: ".to_owned()),
        Just("  tls:\n".to_owned()),
        Just("*a ".to_owned()),
        Just("&a ".to_owned()),
        Just("<<: ".to_owned()),
        "[-\\[\\]{}:,|>\"'!#%@\n \t&*?]{0,4}",
        "[a-z0-9ä\u{0}\u{85}\u{2028}]{0,6}",
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_yaml_is_read_or_refused(text in prop_oneof![yaml_like(), ".{0,60}"]) {
        if let Ok(loaded) = loader().yaml("any.yaml", &text) {
            let _ = loaded.block::<Consul>("consul");
            let _ = loaded.explain();
        }
        let _ = read(&format!("consul:\n{text}"));
    }

    #[test]
    fn any_setting_is_taken_or_refused(path in ".{0,20}", text in ".{0,20}") {
        if let Ok(loaded) = loader().set(&format!("consul.{path}"), text) {
            let _ = loaded.block::<Consul>("consul");
        }
    }
}
