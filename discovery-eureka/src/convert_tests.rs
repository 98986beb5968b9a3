use discovery_core::Weight;
use proptest::prelude::*;

use super::*;
use crate::{client::parse, xml};

fn read(json: &Value) -> (Instance, Word) {
    read_with(json, &EurekaConfig::default())
}

fn read_with(json: &Value, config: &EurekaConfig) -> (Instance, Word) {
    let text = json.to_string();
    let found: wire::Instance<'_> = parse(text.as_bytes(), "an instance").unwrap();
    instance(&found, "WEB", config)
}

/// As a server sends it.
fn web() -> Value {
    json!({
        "instanceId": "h1:web:8080", "hostName": "h1", "app": "WEB", "ipAddr": "192.0.2.1", "status": "UP",
        "overriddenStatus": "UNKNOWN",
        "port": { "$": 8080, "@enabled": "true" }, "securePort": { "$": 443, "@enabled": "false" },
        "countryId": 1,
        "dataCenterInfo": { "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn" },
        "leaseInfo": { "renewalIntervalInSecs": 30, "durationInSecs": 90, "evictionTimestamp": 0 },
        "metadata": { "zone": "z1", "weight": "10", "team": "platform" },
        "vipAddress": "web", "secureVipAddress": "web", "isCoordinatingDiscoveryServer": "false",
        "lastUpdatedTimestamp": "1700000000000", "lastDirtyTimestamp": "1700000000000", "actionType": "ADDED",
        "somethingNew": { "nested": [1, 2] },
    })
}

fn with(field: &str, value: Value) -> Value {
    let mut json = web();
    json[field] = value;
    json
}

#[test]
fn an_instance_is_what_its_record_says() {
    let (found, word) = read(&web());
    assert_eq!(word, Word::Up);
    assert_eq!(found.key.to_string(), "eureka/web/h1:web:8080");
    assert_eq!(found.address(), "h1:8080");
    assert_eq!(found.weight, Weight(10));
    assert_eq!(found.locality.zone.as_deref(), Some("z1"));
    assert_eq!(found.meta["team"], "platform");
    let mut config = EurekaConfig::default();
    config.discovery.prefer_ip = true;
    assert_eq!(read_with(&web(), &config).0.address(), "192.0.2.1:8080");
}

#[test]
fn u_1_ports_are_objects_with_texts_or_not() {
    for (port, number) in [
        (json!({ "$": 80, "@enabled": "true" }), 80),
        (json!({ "$": "80", "@enabled": true }), 80),
        (json!({ "$": 80 }), 80),
        (json!(80), 80),
        (json!("80"), 80),
        (json!(null), 0),
        (json!({ "$": 99999, "@enabled": "true" }), 0),
    ] {
        assert_eq!(read(&with("port", port.clone())).0.port, number, "{port}");
    }
    let body = written(|_| {}, |builder| builder);
    assert_eq!(body["port"], json!({ "$": 8080, "@enabled": "true" }));
}

fn written(
    change: impl Fn(&mut EurekaConfig),
    build: impl Fn(discovery_core::RegistrationBuilder) -> discovery_core::RegistrationBuilder,
) -> Map<String, Value> {
    let mut config = EurekaConfig::default();
    change(&mut config);
    let wanted = build(Registration::builder("Web", "192.0.2.1", 8080).id("web-1"))
        .build()
        .unwrap();
    registration(&wanted, &config, 1_700_000_000_000).unwrap()
}

#[test]
fn u_2_the_data_centre_names_its_class() {
    let body = written(|_| {}, |builder| builder);
    assert_eq!(
        body["dataCenterInfo"],
        json!({ "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn" })
    );
    let body = written(
        |config| config.service_registration.data_center = "Amazon".to_owned(),
        |b| b,
    );
    assert_eq!(
        body["dataCenterInfo"],
        json!({ "@class": "com.netflix.appinfo.AmazonInfo", "name": "Amazon", "metadata": { "instance-id": "web-1" } })
    );
    let text = wire::registration(&body);
    assert!(
        text.contains(r#""name":"Amazon","metadata":{"instance-id":"web-1"}}"#),
        "a server reads nothing of it after that: {text}"
    );
    let same: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(same["instance"], Value::Object(body));
}

#[test]
fn heartbeats_come_every_third_of_the_ttl_or_more_often() {
    let lease = |asked: Option<u64>, ttl: Option<u64>| {
        let build = |builder: discovery_core::RegistrationBuilder| match ttl {
            Some(ttl) => builder.ttl(Duration::from_secs(ttl)),
            None => builder,
        };
        let set = |config: &mut EurekaConfig| {
            config.service_registration.heartbeat_interval = asked.map(Duration::from_secs);
        };
        let lease = written(set, build)["leaseInfo"].clone();
        (
            lease["renewalIntervalInSecs"].as_u64(),
            lease["durationInSecs"].as_u64(),
        )
    };
    assert_eq!(lease(None, None), (Some(30), Some(90)));
    assert_eq!(lease(Some(10), None), (Some(10), Some(90)));
    assert_eq!(lease(Some(10), Some(15)), (Some(5), Some(15)));
}

#[test]
fn u_3_numbers_and_truths_are_texts_or_not() {
    let text = web().to_string();
    let found: wire::Instance<'_> = parse(text.as_bytes(), "x").unwrap();
    assert_eq!(found.last_dirty_timestamp.number(), Some(1_700_000_000_000));
    let text = with("lastDirtyTimestamp", json!(5)).to_string();
    let found: wire::Instance<'_> = parse(text.as_bytes(), "x").unwrap();
    assert_eq!(found.last_dirty_timestamp.number(), Some(5));
    for dirty in [json!("7"), json!(7)] {
        let Value::Object(record) = with("lastDirtyTimestamp", dirty) else {
            panic!()
        };
        assert_eq!(Record(record).dirty(), 7);
    }
    assert_eq!(written(|_| {}, |b| b)["lastDirtyTimestamp"], "1700000000000");
}

#[test]
fn u_4_metadata_is_texts_only() {
    for empty in [
        json!({ "@class": "java.util.Collections$EmptyMap" }),
        json!({}),
        json!(null),
        json!(""),
    ] {
        assert!(read(&with("metadata", empty)).0.meta.is_empty());
    }
    let (found, _) = read(&with(
        "metadata",
        json!({ "n": 1, "b": true, "deep": { "a": 1 }, "none": null }),
    ));
    assert_eq!(
        (&*found.meta["n"], &*found.meta["b"], &*found.meta["deep"]),
        ("1", "true", "")
    );
    let body = written(
        |_| {},
        |b| {
            b.tag("v2")
                .weight(7)
                .port("admin", 9443, true)
                .status(Status::Warning)
        },
    );
    let metadata = body["metadata"].as_object().unwrap();
    assert!(metadata.values().all(Value::is_string), "{metadata:?}");
}

#[test]
fn u_5_one_stands_for_a_list_of_one() {
    for (json, count) in [
        (json!({ "application": { "name": "WEB", "instance": web() } }), 1),
        (
            json!({ "application": [{ "name": "WEB", "instance": [web()] }] }),
            1,
        ),
        (json!({ "application": [{ "name": "WEB", "instance": null }] }), 0),
        (json!({ "application": [{ "name": "WEB" }] }), 0),
        (json!({ "application": null }), 0),
        (json!({}), 0),
    ] {
        let text = json!({ "applications": json }).to_string();
        let root: wire::Root<'_> = parse(text.as_bytes(), "x").unwrap();
        let found: usize = root
            .applications
            .application
            .0
            .iter()
            .map(|app| app.instance.0.len())
            .sum();
        assert_eq!(found, count, "{text}");
    }
}

#[test]
fn u_6_one_underscore_or_two() {
    for [version, hashcode] in [
        ["versions__delta", "apps__hashcode"],
        ["versions_delta", "apps_hashcode"],
    ] {
        let text = json!({ "applications": { version: 1, hashcode: "UP_2_" } }).to_string();
        let root: wire::Root<'_> = parse(text.as_bytes(), "x").unwrap();
        assert_eq!(root.applications.version.number(), Some(1));
        assert_eq!(root.applications.hashcode.unwrap().0, "UP_2_");
    }
}

#[test]
fn u_7_unknown_statuses_are_unknown() {
    for (text, word, status) in [
        ("UP", Word::Up, Status::Passing),
        ("DOWN", Word::Down, Status::Critical),
        ("STARTING", Word::Starting, Status::Starting),
        ("OUT_OF_SERVICE", Word::OutOfService, Status::Passing),
        ("up", Word::Up, Status::Passing),
        ("SLEEPING", Word::Unknown, Status::Unknown),
        ("", Word::Unknown, Status::Unknown),
    ] {
        let (found, read) = read(&with("status", json!(text)));
        assert_eq!((read, found.status), (word, status), "{text}");
        assert_eq!(found.draining, word == Word::OutOfService);
    }
    for field in ["overriddenStatus", "overriddenstatus"] {
        let mut record = Map::new();
        record.insert(field.to_owned(), json!("OUT_OF_SERVICE"));
        assert!(Record(record).is_held());
    }
}

#[test]
fn u_8_what_has_no_id_has_one_all_the_same() {
    let mut json = web();
    json.as_object_mut().unwrap().remove("instanceId");
    assert_eq!(read(&json).0.key.id.as_str(), "h1");
    json["dataCenterInfo"] = json!({ "name": "Amazon", "metadata": { "instance-id": "i-1" } });
    assert_eq!(read(&json).0.key.id.as_str(), "i-1");
    let odd = InstanceKey::new(
        "eureka",
        ServiceName::observed("web"),
        InstanceId::observed("h/1:web"),
    );
    assert_eq!(crate::registry::path(&odd), "apps/WEB/h%2F1%3Aweb");
}

#[test]
fn u_9_the_secure_port_is_used_where_it_is_the_only_one_or_wanted() {
    let both = json!({ "$": 8443, "@enabled": "true" });
    let (found, _) = read(&with("securePort", both.clone()));
    assert_eq!(found.port, 8080);
    assert!(
        found
            .ports
            .iter()
            .any(|port| port.name == "https" && port.number == 8443 && port.secure)
    );
    let mut config = EurekaConfig::default();
    config.discovery.prefer_secure = true;
    assert_eq!(read_with(&with("securePort", both.clone()), &config).0.port, 8443);
    let mut only = with("securePort", both);
    only["port"]["@enabled"] = json!("false");
    assert_eq!(read(&only).0.port, 8443);

    let body = written(|config| config.service_registration.secure = true, |b| b);
    assert_eq!(
        (&body["port"]["@enabled"], &body["securePort"]["$"]),
        (&json!("false"), &json!(8080))
    );
    let body = written(|_| {}, |b| b.port("https", 8443, true));
    assert_eq!(body["securePort"], json!({ "$": 8443, "@enabled": "true" }));
}

#[test]
fn xml_says_the_same_as_json() {
    let text = r#"<applications><versions__delta>1</versions__delta><apps__hashcode>UP_1_</apps__hashcode>
        <application><name>WEB</name><instance><instanceId>web-1</instanceId><hostName>h1</hostName><app>WEB</app>
        <ipAddr>192.0.2.1</ipAddr><status>UP</status><overriddenstatus>UNKNOWN</overriddenstatus>
        <port enabled="true">8080</port><securePort enabled="false">443</securePort>
        <dataCenterInfo class="com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo"><name>MyOwn</name></dataCenterInfo>
        <leaseInfo><durationInSecs>90</durationInSecs></leaseInfo><metadata><team>platform</team></metadata>
        <vipAddress>web</vipAddress><actionType>ADDED</actionType></instance></application></applications>"#;
    let json = xml::to_json(text, "x").unwrap().to_string();
    let root: wire::Root<'_> = parse(json.as_bytes(), "x").unwrap();
    let application = &root.applications.application.0[0];
    let (found, word) = instance(&application.instance.0[0], "WEB", &EurekaConfig::default());
    assert_eq!((found.address().as_str(), word), ("h1:8080", Word::Up));
    assert_eq!(found.meta["team"], "platform");
    let bare = r#"<instance><metadata class="java.util.Collections$EmptyMap"/></instance>"#;
    let json = xml::to_json(bare, "x").unwrap()["instance"].take();
    assert_eq!(
        json,
        json!({ "metadata": { "@class": "java.util.Collections$EmptyMap" } })
    );
    assert!(read(&json).0.meta.is_empty());
    let empty =
        "<applications><versions__delta>1</versions__delta><apps__hashcode></apps__hashcode></applications>";
    let json = xml::to_json(empty, "x").unwrap().to_string();
    assert!(parse::<wire::Root<'_>>(json.as_bytes(), "x").is_ok());
    for page in ["<!DOCTYPE html><html></html>", "<html><br></html>", "<"] {
        assert_eq!(xml::to_json(page, "x").unwrap_err().kind(), ErrorKind::Protocol);
    }
}

#[test]
fn names_are_written_as_their_vip_has_them() {
    assert_eq!(
        read(&with("vipAddress", json!("Web"))).0.key.service.as_str(),
        "Web"
    );
    for other in ["greeter", "web,www", ""] {
        assert_eq!(
            read(&with("vipAddress", json!(other))).0.key.service.as_str(),
            "web",
            "{other}"
        );
    }
}

#[test]
fn what_would_be_lost_is_refused() {
    let base = || Registration::builder("web", "192.0.2.1", 80);
    for bad in [
        base().meta("discovery-tags", "x"),
        base().meta("@class", "x"),
        base().meta("", "x"),
        Registration::builder("a\\b", "192.0.2.1", 80),
        base().id("a\\b"),
    ] {
        let error = registration(&bad.build().unwrap(), &EurekaConfig::default(), 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.hint().is_some());
    }
}

#[test]
fn a_status_without_a_word_of_its_own_is_marked() {
    for (status, draining, word, marked) in [
        (Status::Passing, false, "UP", None),
        (Status::Warning, false, "UP", Some("warning")),
        (Status::Critical, false, "DOWN", None),
        (Status::Unknown, false, "DOWN", Some("unknown")),
        (Status::Passing, true, "OUT_OF_SERVICE", None),
        (Status::Critical, true, "OUT_OF_SERVICE", Some("critical")),
    ] {
        let health = HealthReport::new(status).with_draining(draining);
        assert_eq!((Word::of(&health).as_str(), mark(&health)), (word, marked));
        let metadata = marked.map_or(json!({}), |marked| json!({ "discovery-status": marked }));
        let mut json = with("metadata", metadata);
        json["status"] = json!(word);
        let (found, _) = read(&json);
        assert_eq!((found.status, found.draining), (status, draining));
    }
    // Somebody changed the word meanwhile.
    let mut json = with("metadata", json!({ "discovery-status": "warning" }));
    json["status"] = json!("DOWN");
    assert_eq!(read(&json).0.status, Status::Critical);
}

proptest! {
    #[test]
    fn any_body_is_read_or_refused(text in "\\PC{0,80}", xml in "<[a-z<>/ =\"]{0,60}") {
        let _ = parse::<wire::Root<'_>>(text.as_bytes(), "x");
        let _ = xml::to_json(&xml, "x");
    }

    #[test]
    fn what_is_registered_is_what_is_read(
        name in "[a-zA-Z][a-zA-Z0-9.-]{0,20}", port in 1..u16::MAX, weight in 0..1000_u16,
        tags in proptest::collection::vec("\\PC{1,10}", 0..4), value in "\\PC{0,20}",
    ) {
        let wanted = Registration::builder(&name, "192.0.2.1", port).tags(tags.clone()).weight(weight)
            .meta("k", &value).port("metrics", 9090, false).build().unwrap();
        let mut body = registration(&wanted, &EurekaConfig::default(), 1).unwrap();
        body.insert("status".to_owned(), "UP".into());
        let (found, _) = read(&Value::Object(body));
        prop_assert_eq!(found.key.service.as_str(), name.as_str());
        prop_assert_eq!(found.key.id, wanted.id);
        prop_assert_eq!((found.port, found.weight, found.tags), (port, Weight(weight), tags));
        prop_assert_eq!(found.meta.get("k"), Some(&value));
        prop_assert_eq!(found.ports, wanted.ports);
    }
}
