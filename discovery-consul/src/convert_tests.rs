use reqwest::header::HeaderValue;
use serde_json::json;

use super::*;
use crate::decode::Decoder;

/// Recorded from the oldest and the newest server: one instance in maintenance with a named port, one plain.
const HEALTH: [(&str, &str); 2] = [
    ("1.8", include_str!("../tests/fixtures/health-service-1.8.json")),
    ("1.22", include_str!("../tests/fixtures/health-service-1.22.json")),
];
const LOCAL: [&str; 2] = [
    include_str!("../tests/fixtures/agent-health-1.8.json"),
    include_str!("../tests/fixtures/agent-health-1.22.json"),
];
const NAMES: [&str; 2] = [
    include_str!("../tests/fixtures/catalog-services-1.8.json"),
    include_str!("../tests/fixtures/catalog-services-1.22.json"),
];
const VALUES: [&str; 2] = [
    include_str!("../tests/fixtures/kv-1.8.json"),
    include_str!("../tests/fixtures/kv-1.22.json"),
];

fn entry_of(service: &serde_json::Value, checks: &serde_json::Value) -> wire::ServiceEntry {
    serde_json::from_value(json!({
        "Node": { "Node": "n1", "Address": "192.0.2.9", "Datacenter": "dc1" },
        "Service": service,
        "Checks": checks,
    }))
    .unwrap()
}

fn of_checks(checks: &serde_json::Value) -> Instance {
    instance(
        entry_of(&json!({ "ID": "web-1", "Service": "web", "Port": 80 }), checks),
        true,
    )
}

#[test]
fn recorded_answers_of_both_servers_become_instances() {
    for (version, text) in HEALTH {
        let all = Decoder::new(true).read(&text.into(), false).unwrap();
        let [first, second] = &all[..] else {
            panic!("{version}: {all:?}");
        };
        let node = if version == "1.8" { "n8" } else { "n22" };
        assert_eq!(first.key.to_string(), format!("consul/dc1/{node}/web/web-1"));
        assert_eq!(first.address(), "10.0.0.5:8080");
        assert_eq!(
            (first.weight.0, first.status, first.draining),
            (7, Status::Passing, true)
        );
        assert_eq!(first.meta, BTreeMap::from([("zone".to_owned(), "a".to_owned())]));
        assert_eq!(
            first.ports,
            [NamedPort {
                name: "admin".into(),
                number: 9443,
                secure: true
            }]
        );
        assert_eq!(first.checks.len(), 2, "maintenance is no check of its health");
        assert!(second.is_available());
        assert_eq!(second.address(), "127.0.0.1:8081", "the node's address stands in");
    }
    for text in LOCAL {
        let health: wire::LocalHealth = serde_json::from_str(text).unwrap();
        assert_eq!((health.service.id.as_str(), health.checks.len()), ("web-1", 2));
    }
    for text in NAMES {
        let names = services(serde_json::from_str(text).unwrap());
        let names: Vec<_> = names
            .iter()
            .map(|s| (s.name.as_str(), s.tags.join(",")))
            .collect();
        assert_eq!(names, [("consul", String::new()), ("web", "v1".to_owned())]);
    }
    for text in VALUES {
        let pairs: Vec<wire::Pair> = serde_json::from_str(text).unwrap();
        let entries: Vec<_> = pairs.iter().map(|pair| entry(pair).unwrap()).collect();
        assert_eq!(
            (entries[0].key.as_str(), &*entries[0].value),
            ("a/b", &b"value"[..])
        );
        assert_eq!((entries[1].key.as_str(), entries[1].value.len()), ("a/empty", 0));
    }
}

/// A-12, A-13
#[test]
fn null_missing_and_unknown_fields_are_harmless() {
    for text in [
        r#"[{"Node":null,"Service":{"ID":"a","Service":"web","Tags":null,"Meta":null,"Port":null,"Weights":null},"Checks":null}]"#,
        r#"[{"Service":{"ID":"a","Service":"web","Surprise":[1,{"x":2}]},"New":true}]"#,
    ] {
        let all = Decoder::new(false).read(&text.into(), false).unwrap();
        assert_eq!((all.len(), all[0].port, all[0].status), (1, 0, Status::Passing));
    }
    assert_eq!(
        services(serde_json::from_str(r#"{"web":null}"#).unwrap()).len(),
        1
    );
}

#[test]
fn c_13_header_names_come_in_any_case() {
    let mut headers = HeaderMap::new();
    headers.insert(
        "X-Consul-Index".parse::<reqwest::header::HeaderName>().unwrap(),
        HeaderValue::from_static("7"),
    );
    headers.insert(
        "x-CONSUL-knownLEADER"
            .parse::<reqwest::header::HeaderName>()
            .unwrap(),
        HeaderValue::from_static("true"),
    );
    assert_eq!(
        (Meta::of(&headers).index, Meta::of(&headers).known_leader),
        (Some(7), Some(true))
    );
}

fn meta(pairs: &[(&'static str, &'static str)]) -> Meta {
    Meta::of(
        &pairs
            .iter()
            .map(|(k, v)| (k.parse().unwrap(), HeaderValue::from_static(v)))
            .collect(),
    )
}

#[test]
fn c_2_an_index_of_zero_or_nonsense_is_none() {
    for index in ["0", "-1", "x", "", "18446744073709551616"] {
        assert_eq!(meta(&[("x-consul-index", index)]).index, None, "{index}");
    }
    assert_eq!(
        meta(&[("x-consul-index", "18446744073709551615")]).index,
        Some(u64::MAX)
    );
}

#[test]
fn c_11_an_unknown_leader_is_evidence_but_for_the_streaming_backend() {
    let config = ConsulConfig::default();
    let of = |pairs| meta(pairs).evidence(&config);
    assert_eq!(of(&[("x-consul-knownleader", "true")]), Evidence::Authoritative);
    assert_eq!(of(&[]), Evidence::Authoritative);
    assert_eq!(
        of(&[("x-consul-knownleader", "false")]),
        Evidence::Suspect(Suspicion::NoLeader)
    );
    assert_eq!(
        of(&[
            ("x-consul-knownleader", "false"),
            ("x-consul-query-backend", "streaming")
        ]),
        Evidence::Authoritative
    );
}

#[test]
fn c_12_stale_answers_are_good_up_to_a_bound() {
    let mut config = ConsulConfig::default();
    let old = meta(&[("x-consul-lastcontact", "11074")]);
    assert_eq!(
        old.evidence(&config),
        Evidence::Authoritative,
        "only stale reads can be"
    );
    config.discovery.consistency = Consistency::Stale;
    assert_eq!(old.evidence(&config), Evidence::Suspect(Suspicion::NoLeader));
    config.discovery.max_staleness = Duration::from_secs(12);
    assert_eq!(old.evidence(&config), Evidence::Authoritative);
}

/// H-7 is the node's `serfHealth`.
#[test]
fn c_37_h_7_any_critical_check_of_service_or_node_counts() {
    let passing = json!({ "CheckID": "web-1:ttl", "Status": "passing", "Name": "heartbeat" });
    for (check, status) in [
        (
            json!({ "CheckID": "serfHealth", "Status": "critical" }),
            Status::Critical,
        ),
        (
            json!({ "CheckID": "other", "Status": "warning" }),
            Status::Warning,
        ),
        (json!({ "CheckID": "other", "Status": "novel" }), Status::Unknown),
    ] {
        assert_eq!(of_checks(&json!([passing, check])).status, status);
    }
    for maintenance in ["_node_maintenance", "_service_maintenance:web-1"] {
        let check = json!({ "CheckID": maintenance, "Status": "critical" });
        let instance = of_checks(&json!([passing, check]));
        assert!(instance.draining && !instance.is_available());
        assert_eq!(instance.status, Status::Passing);
    }
}

#[test]
fn ports_of_1_22_are_read() {
    let service = json!({ "ID": "a", "Service": "web", "Port": 0, "Ports": [
        { "Name": "http", "Port": 8080, "Default": true }, { "Name": "admin", "Port": 9090 } ] });
    let instance = instance(entry_of(&service, &json!([])), false);
    assert_eq!((instance.port, instance.ports.len()), (8080, 2));
}

#[test]
fn a_warning_instance_has_its_warning_weight() {
    let service = json!({ "ID": "a", "Service": "web", "Weights": { "Passing": 10, "Warning": 1 } });
    let of = |status: &str| {
        instance(
            entry_of(&service, &json!([{ "CheckID": "x", "Status": status }])),
            false,
        )
        .weight
        .0
    };
    assert_eq!((of("passing"), of("warning")), (10, 1));
}

// === registrations ===

fn base() -> discovery_core::RegistrationBuilder {
    Registration::builder("web", "10.0.0.5", 8080).id("web-1")
}

fn wire_of(registration: &Registration) -> serde_json::Value {
    let config = ConsulConfig::default();
    let body = super::registration(registration, Some(Duration::from_secs(30)), &config).unwrap();
    serde_json::to_value(body).unwrap()
}

/// What 1.8 does not know is never sent.
#[test]
fn c_32_only_fields_of_1_8_are_sent() {
    const KNOWN: [&str; 9] = [
        "ID",
        "Name",
        "Address",
        "Port",
        "Tags",
        "Meta",
        "Weights",
        "EnableTagOverride",
        "Checks",
    ];
    let body = wire_of(&base().port("admin", 9443, true).build().unwrap());
    for field in body.as_object().unwrap().keys() {
        assert!(KNOWN.contains(&field.as_str()), "{field}");
    }
    assert_eq!(body["Meta"]["discovery-port-admin"], "9443/tls");
}

#[test]
fn c_33_identical_registrations_are_identical_bytes() {
    let build = || {
        base()
            .meta("b", "1")
            .meta("a", "2")
            .tag("x")
            .port("p", 1, false)
            .build()
            .unwrap()
    };
    assert_eq!(wire_of(&build()).to_string(), wire_of(&build()).to_string());
}

#[test]
fn c_35_what_consul_would_refuse_is_refused_at_once() {
    let config = ConsulConfig::default();
    let crowded = (0..65).fold(base(), |builder, n| builder.meta(format!("k{n}"), "v"));
    for builder in [
        base().weight(0),
        base().meta("a b", "x"),
        base().meta("größe", "x"),
        base().meta("consul-x", "x"),
        base().meta("", "x"),
        base().meta("k".repeat(129), "x"),
        base().meta("k", "v".repeat(513)),
        base().port("a b", 1, false),
        crowded,
    ] {
        let registration = builder.build().unwrap();
        let error = super::registration(&registration, None, &config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.hint().is_some());
    }
}

#[test]
fn configured_tags_and_metadata_yield_to_the_registrations_own() {
    let mut config = ConsulConfig::default();
    config.service_registration.tags = vec!["v2".into(), "system-control".into()];
    config.service_registration.meta = [("team", "platform"), ("version", "1")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    let registration = base().tag("v2").meta("version", "2").build().unwrap();
    let body = super::registration(&registration, None, &config).unwrap();
    assert_eq!(body.tags, ["v2", "system-control"]);
    assert_eq!(
        (body.meta["team"].as_str(), body.meta["version"].as_str()),
        ("platform", "2")
    );
}
