//! The JSON Schema in `docs/reference/` is that of the code, and takes what the loader takes.
//!
//! `BLESS=1 cargo test -p discovery --all-features --test schema` writes it anew.

#![cfg(all(
    feature = "schema",
    feature = "consul",
    feature = "dns",
    feature = "etcd",
    feature = "eureka",
    feature = "k8s",
    feature = "local"
))]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not know as such"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use discovery::{loader, schema};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn json(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}"))
}

fn faults(schema: &Value, yaml: &str) -> Vec<String> {
    let mut faults = Vec::new();
    Validator(schema).check(schema, &json(yaml), "", &mut faults);
    faults
}

/// Reads the part of JSON Schema that ours is made of; it panics at anything else.
struct Validator<'a>(&'a Value);

impl Validator<'_> {
    fn holds(&self, schema: &Value, value: &Value) -> bool {
        let mut faults = Vec::new();
        self.check(schema, value, "", &mut faults);
        faults.is_empty()
    }

    fn check(&self, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        let Value::Object(rules) = schema else {
            assert_eq!(*schema, Value::Bool(true), "a schema at {at}");
            return;
        };
        let none = serde_json::Map::new();
        let properties = rules
            .get("properties")
            .map_or(&none, |all| all.as_object().unwrap());
        for (keyword, rule) in rules {
            let holds = match keyword.as_str() {
                "$schema" | "title" | "description" | "default" | "definitions" | "format" => true,
                "$ref" => {
                    let name = rule.as_str().unwrap().strip_prefix("#/definitions/").unwrap();
                    self.check(&self.0["definitions"][name], value, at, faults);
                    true
                }
                "type" => match rule {
                    Value::Array(kinds) => kinds.iter().any(|kind| is_a(kind, value)),
                    kind => is_a(kind, value),
                },
                "enum" => rule.as_array().unwrap().contains(value),
                "const" => rule == value,
                "anyOf" => rule.as_array().unwrap().iter().any(|one| self.holds(one, value)),
                "oneOf" => {
                    let all = rule.as_array().unwrap().iter();
                    all.filter(|one| self.holds(one, value)).count() == 1
                }
                "allOf" => rule.as_array().unwrap().iter().all(|one| self.holds(one, value)),
                "minimum" => value.as_f64().is_none_or(|n| n >= rule.as_f64().unwrap()),
                "maximum" => value.as_f64().is_none_or(|n| n <= rule.as_f64().unwrap()),
                "minLength" => value
                    .as_str()
                    .is_none_or(|text| text.len() as u64 >= rule.as_u64().unwrap()),
                // The one pattern there is.
                "pattern" => {
                    assert_eq!(*rule, discovery::config::duration_schema().to_value()["pattern"]);
                    value
                        .as_str()
                        .is_none_or(|text| discovery::config::parse_duration(text).is_ok())
                }
                "required" => {
                    let mut keys = rule.as_array().unwrap().iter().map(|key| key.as_str().unwrap());
                    value
                        .as_object()
                        .is_none_or(|map| keys.all(|key| map.contains_key(key)))
                }
                "items" => {
                    for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(rule, item, &format!("{at}[{i}]"), faults);
                    }
                    true
                }
                "properties" => {
                    for (key, value) in value.as_object().into_iter().flatten() {
                        if let Some(rule) = properties.get(key) {
                            self.check(rule, value, &format!("{at}.{key}"), faults);
                        }
                    }
                    true
                }
                "additionalProperties" => {
                    let map = value.as_object().into_iter().flatten();
                    let others: Vec<_> = map.filter(|(key, _)| !properties.contains_key(*key)).collect();
                    if *rule == Value::Bool(false) {
                        others.is_empty()
                    } else {
                        for (key, value) in others {
                            self.check(rule, value, &format!("{at}.{key}"), faults);
                        }
                        true
                    }
                }
                other => panic!("a keyword that this test does not know: {other}"),
            };
            if !holds {
                faults.push(format!("{at}: not {keyword}: {rule}"));
            }
        }
    }
}

fn is_a(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type: {other}"),
    }
}

#[test]
fn the_schema_in_the_reference_is_that_of_the_code() {
    let path = root().join("docs/reference/discovery.schema.json");
    let made = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == made,
        "docs/reference/discovery.schema.json is not what the code says; write it anew with\n\
         BLESS=1 cargo test -p discovery --all-features --test schema"
    );
}

#[test]
fn it_has_every_block_that_the_loader_knows() {
    let schema = schema();
    let blocks = schema["properties"].as_object().unwrap();
    for block in blocks.keys() {
        assert!(loader().yaml("x", &format!("{block}:\n")).is_ok(), "{block}");
    }
    let error = loader().yaml("x", "zzzzzzzzzzzz: {}\n").unwrap_err();
    let known = error.hint().unwrap().split('`').skip(1).step_by(2);
    for block in known {
        assert!(blocks.contains_key(block), "{block}");
    }
}

#[test]
fn it_takes_what_the_specification_and_the_examples_write() {
    let schema = schema();
    let entries = fs::read_dir(root().join("discovery/tests/specification")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.push(root().join("examples/discovery.yaml"));
    assert_eq!(files.len(), 13);
    for path in files {
        let faults = faults(&schema, &fs::read_to_string(&path).unwrap());
        assert!(faults.is_empty(), "{}: {faults:#?}", path.display());
    }
    assert!(faults(&schema, "memory:\nclient: { timeout: 1h30m }\n").is_empty());
}

/// What the loader refuses, an editor marks.
#[test]
fn it_refuses_what_the_loader_refuses() {
    let schema = schema();
    for text in [
        "consull: {}",
        "consul: { server: { adress: x } }",
        "consul: { tls: { verify_ssl: maybe } }",
        "consul: { discovery: { consistency: often } }",
        "client: { timeout: 10 }",
        "client: { timeout: 10 parsecs }",
        "etcd: { service_registration: { ttl: soon } }",
        "etcd: { endpoints: 5 }",
        "eureka: { server: { urls: [{}] } }",
        "local: { lifetime: eternal }",
        "kubernetes_discovery: { endpoints: { enable: true } }",
        "dns_discovery: { zones: [{ name: a, type: b }] }",
        "service_definition: { port: 99999 }",
        "service_definition: { health_checks: [{ tcp: a }] }",
        "health_checks: { a: { checks: [{ name: a, type: ftp }] } }",
        "high_availability: { service_registration: { retry_attempts: 0 } }",
        "datacenter_federation: { datacentres: {} }",
        "connect_intentions: { a: b }",
        "sidecar_proxies: { api: { upstreams: [{ destination_name: a }] } }",
        "dynamic_configuration: { etcd_kv: { wach: true } }",
        "discovery_metrics: { discovery: [{ name: a, type: sum }] }",
        "acl_policies: { a: {} }",
    ] {
        assert!(!faults(&schema, text).is_empty(), "taken: {text}");
        let loaded = loader().yaml("x", text).and_then(|loaded| loaded.validate());
        assert!(loaded.is_err(), "the loader takes: {text}");
    }
}
