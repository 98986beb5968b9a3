use discovery_core::{InstanceId, ServiceName, Status};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn key() -> InstanceKey {
    InstanceKey::new(
        "etcd",
        ServiceName::observed("api"),
        InstanceId::observed("api-1"),
    )
}

fn full() -> Registration {
    Registration::builder("api", "192.0.2.1", 8080)
        .tag("v2")
        .meta("team", "platform")
        .port("metrics", 9090, false)
        .weight(7)
        .status(Status::Warning)
        .build()
        .unwrap()
}

#[test]
fn the_native_form_is_stable() {
    let written = Record::of(&full(), Format::Native).write().unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&written).unwrap(),
        json!({
            "address": "192.0.2.1", "port": 8080, "tags": ["v2"], "meta": {"team": "platform"},
            "ports": [{"name": "metrics", "number": 9090, "secure": false}], "status": "warning", "weight": 7,
        })
    );
}

#[test]
fn both_forms_come_back_whole() {
    let native = Record::of(&full(), Format::Native);
    let grpc = Record::of(&full(), Format::Grpc);
    let read = |record: &Record| Record::read(&record.write().unwrap()).unwrap();
    assert_eq!(read(&native), native);
    assert_eq!(read(&grpc), grpc);
    assert_eq!(native.instance(key()), grpc.instance(key()));
}

#[test]
fn what_go_services_write_is_read() {
    let rows = [
        (
            r#"{"Op":0,"Addr":"10.0.0.5:8080","Metadata":null}"#,
            "10.0.0.5",
            json!({}),
        ),
        (r#"{"Addr":"10.0.0.5:8080"}"#, "10.0.0.5", json!({})),
        (r#"{"Op":0,"Addr":"[::1]:8080","Metadata":{}}"#, "::1", json!({})),
        (
            r#"{"Op":0,"Addr":"host:8080","Metadata":{"zone":"a","weight":3}}"#,
            "host",
            json!({"zone": "a", "weight": "3"}),
        ),
        (
            r#"{"Op":0,"Addr":"host:8080","Metadata":"blue"}"#,
            "host",
            json!({"metadata": "blue"}),
        ),
    ];
    for (value, host, meta) in rows {
        let instance = Record::read(value.as_bytes()).unwrap().instance(key());
        assert_eq!((&*instance.host, instance.port), (host, 8080), "{value}");
        assert_eq!(json!(instance.meta), meta, "{value}");
        assert_eq!(instance.status, Status::Passing);
    }
}

#[test]
fn what_is_no_instance_is_nothing() {
    for value in [
        "",
        "null",
        "{}",
        "[]",
        "10.0.0.5:8080",
        r#"{"Op":1,"Addr":"a:1"}"#,
        r#"{"Addr":"no port"}"#,
        r#"{"Addr":"::1:80"}"#,
        r#"{"Addr":":80"}"#,
        r#"{"Addr":"a:99999"}"#,
        r#"{"address":"a","port":-1}"#,
        "\u{0}\u{1}",
    ] {
        assert_eq!(Record::read(value.as_bytes()), None, "{value:?}");
    }
}

#[test]
fn a_12_a_13_unknown_fields_and_nulls_are_nothing() {
    let value = r#"{"address":"a","port":1,"tags":null,"meta":null,"ports":null,"colour":"blue"}"#;
    let instance = Record::read(value.as_bytes()).unwrap().instance(key());
    assert!(instance.tags.is_empty() && instance.meta.is_empty() && instance.ports.is_empty());
    assert_eq!(instance.weight, Weight(1));
}

#[test]
fn changes_touch_nothing_else() {
    let mut record = Record::of(&full(), Format::Grpc);
    record.set_health(
        &HealthReport::new(Status::Critical)
            .with_draining(true)
            .with_output("x"),
    );
    record.change_meta(&MetaChange::new().set("a", "b").remove("team"));
    let instance = record.clone().instance(key());
    assert_eq!((instance.status, instance.draining), (Status::Critical, true));
    assert_eq!(json!(instance.meta), json!({"a": "b"}));
    assert_eq!(
        (instance.tags, instance.weight),
        (vec!["v2".to_owned()], Weight(7))
    );
    assert_eq!(record.health().output, "x");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80), text in "\\{[\"a-zA-Z:,0-9{}\\[\\] ]{0,60}\\}") {
        let _ = Record::read(&bytes);
        let _ = Record::read(text.as_bytes());
    }
}
