use serde_json::{Value, json};

use super::*;
use crate::record::SERVICE;

fn rules() -> Rules {
    Rules::of(&K8sConfig::at("h"), true)
}

fn three() -> [Option<bool>; 3] {
    [None, Some(false), Some(true)]
}

#[test]
fn k_1_all_27_combinations_of_conditions() {
    for ready in three() {
        for serving in three() {
            for terminating in three() {
                let health = Health::of(Conditions {
                    ready,
                    serving,
                    terminating,
                });
                assert_eq!(health.ready, ready != Some(false), "nothing said is ready");
                assert_eq!(health.serving, serving.unwrap_or(health.ready));
                assert_eq!(health.terminating, terminating == Some(true));
                let available = health.status(false).is_serving() && !health.draining();
                assert_eq!(
                    available, health.ready,
                    "{health:?}: routable is ready, and nothing else"
                );
                if !health.serving && !health.ready {
                    assert!(
                        !health.status(false).is_serving(),
                        "{health:?}: never to what does not serve"
                    );
                }
            }
        }
    }
}

fn wire(body: serde_json::Value) -> EndpointSlice {
    serde_json::from_value(body).unwrap()
}

#[expect(clippy::needless_pass_by_value, reason = "`json!` at the call")]
fn foreign_slice(kind: &str, ports: Value, endpoint: Value) -> Vec<Arc<Instance>> {
    let slice = wire(json!({
        "metadata": { "name": "web-x", "namespace": "ns", "labels": { SERVICE: "web" } },
        "addressType": kind, "ports": ports, "endpoints": [endpoint],
    }));
    super::slice(&slice, &rules()).unwrap().instances
}

#[test]
fn k_4_ports_may_lack_number_name_and_each_other() {
    let at = json!({ "addresses": ["192.0.2.1"] });
    let port = |ports| foreign_slice("IPv4", ports, at.clone())[0].port;
    assert_eq!(port(json!([])), 0);
    assert_eq!(port(json!(null)), 0);
    assert_eq!(port(json!([{ "port": null }])), 0);
    assert_eq!(port(json!([{ "name": null, "port": 80 }])), 80);
    assert_eq!(
        port(json!([{ "name": "dns", "port": 53, "protocol": "UDP" }, { "port": 80 }])),
        80
    );
    let named = foreign_slice(
        "IPv4",
        json!([{ "name": "web", "port": 80 }, { "name": "https", "port": 443 }, { "name": "g", "port": 1, "appProtocol": "https" }]),
        at,
    );
    let ports: Vec<_> = named[0]
        .ports
        .iter()
        .map(|p| (p.name.as_str(), p.number, p.secure))
        .collect();
    assert_eq!(ports, [("web", 80, false), ("https", 443, true), ("g", 1, true)]);
}

#[test]
fn k_5_only_the_first_address_counts_and_a_host_name_is_no_address() {
    let found = foreign_slice(
        "IPv4",
        json!([{ "port": 80 }]),
        json!({ "addresses": ["192.0.2.1", "192.0.2.2"] }),
    );
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].address(), "192.0.2.1:80");
    let found = foreign_slice(
        "FQDN",
        json!([{ "port": 80 }]),
        json!({ "addresses": ["db.example"] }),
    );
    assert_eq!(found[0].address(), "db.example:80");
    assert!(foreign_slice("IPv4", json!([]), json!({ "addresses": [] })).is_empty());
    assert!(foreign_slice("Later", json!([]), json!({ "addresses": ["x"] })).is_empty());
}

#[test]
fn zone_node_and_hints_are_shown() {
    let found = foreign_slice(
        "IPv4",
        json!([{ "port": 80 }]),
        json!({ "addresses": ["192.0.2.1"], "zone": "a", "nodeName": "n1",
            "hints": { "forZones": [{ "name": "a" }, { "name": "b" }], "forNodes": [{ "name": "n1" }] } }),
    );
    assert_eq!(found[0].locality.zone.as_deref(), Some("a"));
    assert_eq!(found[0].locality.node.as_deref(), Some("n1"));
    assert_eq!(found[0].meta["hints.zones"], "a,b");
    assert_eq!(found[0].meta["hints.nodes"], "n1");
}

#[test]
fn a_13_null_is_as_good_as_missing_and_a_12_what_is_unknown_is_ignored() {
    let slice = wire(json!({
        "metadata": { "name": "x", "namespace": "ns", "labels": { SERVICE: "web" }, "annotations": null, "new": 1 },
        "addressType": "IPv4", "ports": null, "endpoints": [{ "addresses": ["192.0.2.1"], "conditions": null,
            "nodeName": null, "zone": null, "targetRef": null, "hints": null, "other": {} }], "more": [],
    }));
    assert_eq!(super::slice(&slice, &rules()).unwrap().instances.len(), 1);
}
