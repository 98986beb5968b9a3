use std::time::Duration;

use discovery_core::{Registration, Weight};
use serde_json::{Value, json};

use super::*;
use crate::{
    K8sConfig,
    config::{Endpoints, IpFamily},
    convert::Rules,
};

const TTL: Duration = Duration::from_secs(10);

fn merge_of(endpoints: Endpoints) -> Merge {
    let mut config = K8sConfig::at("127.0.0.1:1");
    let enabled = endpoints.enabled;
    config.endpoints = endpoints;
    Merge::new(Rules::of(&config, false), enabled, Beats::default())
}

fn merge() -> Merge {
    merge_of(Endpoints::default())
}

fn slice_of(name: &str, kind: &str, endpoints: &Value) -> wire::EndpointSlice {
    serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "default", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": kind, "ports": [{ "name": "http", "port": 80 }], "endpoints": endpoints,
    }))
    .unwrap()
}

fn pod(name: &str, address: &str, conditions: &Value) -> Value {
    json!({ "addresses": [address], "conditions": conditions, "targetRef": { "kind": "Pod", "name": name } })
}

fn id(name: &str) -> Id {
    Id::new("default", name)
}

fn hosts(merge: &mut Merge) -> Vec<String> {
    let shown = merge.shown();
    let available = shown.iter().filter(|instance| instance.is_available());
    available.map(|instance| instance.host.to_string()).collect()
}

#[test]
fn k_3_an_endpoint_that_moves_is_never_gone() {
    let both = |n: &str| slice_of(n, "IPv4", &json!([pod("p1", "192.0.2.1", &json!({}))]));
    // Into the new slice first.
    let mut first = merge();
    first.put_slice(&both("a"));
    assert_eq!(first.changes().upserts.len(), 1);
    first.put_slice(&both("b"));
    assert_eq!(first.changes(), Changes::default(), "one instance in two slices");
    first.remove_slice(&id("a"));
    assert_eq!(first.changes(), Changes::default());
    first.remove_slice(&id("b"));
    assert_eq!(first.changes().removals.len(), 1);
    // Out of the old slice first: gone, and back.
    let mut second = merge();
    second.put_slice(&both("a"));
    second.changes();
    second.put_slice(&slice_of("a", "IPv4", &json!([])));
    second.put_slice(&both("b"));
    assert_eq!(
        second.changes(),
        Changes::default(),
        "within one step nothing happened"
    );
    assert_eq!(second.entries.len(), 1);
}

#[test]
fn k_3_the_same_address_with_other_ports_is_another_instance() {
    let mut merge = merge();
    let bare = json!([{ "addresses": ["192.0.2.1"] }]);
    merge.put_slice(&slice_of("a", "IPv4", &bare));
    let mut other = slice_of("b", "IPv4", &bare);
    other.ports[0].number = Some(81);
    merge.put_slice(&other);
    let ports: Vec<_> = merge.shown().iter().map(|i| i.port).collect();
    assert_eq!(ports, [80, 81]);
}

#[test]
fn k_2_what_serves_while_it_terminates_has_to_do_when_nothing_is_ready() {
    let leaving = json!({ "ready": false, "serving": true, "terminating": true });
    let dead = json!({ "ready": false, "serving": false, "terminating": true });
    let with = |first: &Value| {
        slice_of(
            "a",
            "IPv4",
            &json!([
                pod("p1", "192.0.2.1", first),
                pod("p2", "192.0.2.2", &leaving),
                pod("p3", "192.0.2.3", &dead)
            ]),
        )
    };
    let mut merge = merge();
    merge.put_slice(&with(&json!({})));
    assert_eq!(hosts(&mut merge), ["192.0.2.1"]);
    merge.put_slice(&with(&leaving));
    assert_eq!(
        hosts(&mut merge),
        ["192.0.2.1", "192.0.2.2"],
        "never what does not serve"
    );
    merge.put_slice(&with(&json!({ "ready": true })));
    let changes = merge.changes();
    assert_eq!(
        changes.upserts.len(),
        2,
        "one is ready, the other drains again: {changes:?}"
    );
    assert_eq!(hosts(&mut merge), ["192.0.2.1"]);
}

#[test]
fn k_1_the_newest_word_on_readiness_counts_in_whichever_slice() {
    let at = |n: &str, ready: bool| {
        slice_of(
            n,
            "IPv4",
            &json!([pod("p1", "192.0.2.1", &json!({ "ready": ready }))]),
        )
    };
    let mut merge = merge();
    merge.put_slice(&at("a", false));
    merge.put_slice(&at("b", true));
    assert_eq!(hosts(&mut merge), ["192.0.2.1"]);
    merge.put_slice(&at("b", false));
    assert!(hosts(&mut merge).is_empty());
}

#[test]
fn a_pod_of_two_families_is_one_instance_at_the_address_wanted() {
    for (family, wanted) in [
        (IpFamily::PreferIpv4, "192.0.2.1"),
        (IpFamily::PreferIpv6, "2001:db8::1"),
        (IpFamily::Ipv4, "192.0.2.1"),
        (IpFamily::Ipv6, "2001:db8::1"),
    ] {
        let endpoints = Endpoints {
            ip_family: family,
            ..Endpoints::default()
        };
        let mut merge = merge_of(endpoints);
        merge.put_slice(&slice_of(
            "a",
            "IPv4",
            &json!([pod("p1", "192.0.2.1", &json!({}))]),
        ));
        merge.put_slice(&slice_of(
            "b",
            "IPv6",
            &json!([pod("p1", "2001:db8::1", &json!({}))]),
        ));
        assert_eq!(hosts(&mut merge), [wanted], "{family:?}");
    }
}

fn service(spec: &Value, annotations: &Value) -> wire::Service {
    serde_json::from_value(json!({
        "metadata": { "name": "web", "namespace": "default", "annotations": annotations,
            "labels": { "app.kubernetes.io/version": "1.2" } },
        "spec": spec,
    }))
    .unwrap()
}

#[test]
fn a_service_dresses_its_endpoints_whenever_it_comes() {
    let notes =
        json!({ "service.system-control.io/port": "9000", "service.system-control.io/health-path": "/live" });
    let slice = slice_of("a", "IPv4", &json!([pod("p1", "192.0.2.1", &json!({}))]));
    let mut merge = merge();
    merge.put_slice(&slice);
    assert_eq!(merge.changes().upserts[0].port, 80);
    merge.put_service(&service(&json!({ "clusterIP": "None" }), &notes));
    let changes = merge.changes();
    let dressed = &changes.upserts[0];
    assert_eq!(dressed.port, 9000);
    assert_eq!(dressed.meta["health_path"], "/live");
    assert_eq!(dressed.meta["service_version"], "1.2");
    merge.put_service(&service(&json!({ "clusterIP": "None" }), &notes));
    assert_eq!(merge.changes(), Changes::default());
    merge.remove_service(&id("web"));
    assert_eq!(merge.changes().upserts[0].port, 80);
}

#[test]
fn a_service_that_is_another_name_stands_for_itself() {
    let named = |name: &str| {
        service(
            &json!({ "type": "ExternalName", "externalName": name, "ports": [{ "port": 5432 }] }),
            &json!({}),
        )
    };
    let mut merge = merge();
    merge.put_service(&named("db.example."));
    assert_eq!(merge.shown()[0].address(), "db.example:5432");
    merge.put_service(&named("db2.example"));
    let changes = merge.changes();
    assert_eq!(
        (changes.upserts.len(), changes.removals.len()),
        (1, 1),
        "{changes:?}"
    );
    merge.remove_service(&id("web"));
    assert!(merge.shown().is_empty());
}

#[test]
fn without_endpoints_a_service_is_its_cluster_ip() {
    let endpoints = Endpoints {
        enabled: false,
        ..Endpoints::default()
    };
    let mut merge = merge_of(endpoints);
    merge.put_service(&service(
        &json!({ "clusterIP": "192.0.2.9", "ports": [{ "port": 80 }] }),
        &json!({}),
    ));
    assert_eq!(merge.shown()[0].address(), "192.0.2.9:80");
}

fn ours(meta: &str) -> wire::EndpointSlice {
    let registration = Registration::builder("web", "192.0.2.1", 80)
        .id("one")
        .ttl(TTL)
        .weight(7)
        .meta("k", meta)
        .build()
        .unwrap();
    crate::intent::registration(&registration, "default", &K8sConfig::at("h")).unwrap()
}

fn lease(renewed: &str) -> wire::Lease {
    serde_json::from_value(json!({
        "metadata": { "name": ours("v").metadata.name, "namespace": "default", "uid": "u1" },
        "spec": { "renewTime": renewed, "leaseDurationSeconds": 10 },
    }))
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn k_10_an_expired_lease_hides_its_instance_and_a_renewal_brings_it_back() {
    let mut merge = merge();
    merge.put_slice(&ours("v"));
    assert!(merge.has_leased());
    merge.all_leases(&[lease("1970-01-01T00:00:00.000000Z")]);
    assert_eq!(
        merge.shown()[0].weight,
        Weight(7),
        "an hour, or 50 years, of skew change nothing"
    );
    tokio::time::advance(TTL / 2).await;
    merge.put_lease(&lease("1970-01-01T00:00:05.000000Z"));
    tokio::time::advance(TTL * 3 / 4).await;
    merge.expire();
    assert_eq!(merge.changes(), Changes::default());
    assert!(merge.deadline().is_some());
    tokio::time::advance(TTL / 4).await;
    merge.expire();
    assert_eq!(merge.changes().removals.len(), 1);
    assert_eq!(merge.deadline(), None, "nothing is left to expire");
    merge.put_lease(&lease("1970-01-01T00:00:20.000000Z"));
    assert_eq!(merge.changes().upserts.len(), 1);
    merge.remove_lease(&Id::of(&lease("").metadata));
    assert_eq!(
        merge.changes().removals.len(),
        1,
        "a Lease that is deleted is over at once"
    );
}

#[tokio::test(start_paused = true)]
async fn k_10_without_a_lease_it_has_its_ttl_and_no_more() {
    let mut merge = merge();
    merge.put_slice(&ours("v"));
    merge.all_leases(&[]);
    assert_eq!(merge.shown().len(), 1);
    tokio::time::advance(TTL).await;
    merge.expire();
    assert!(merge.shown().is_empty());
    // Content alone is no sign of life.
    merge.put_slice(&ours("w"));
    assert!(merge.shown().is_empty());
}

#[test]
fn k_2_what_its_owner_drains_is_no_spare() {
    let mut slice = ours("v");
    let draining = discovery_core::HealthReport::default().with_draining(true);
    crate::intent::change_health(&mut slice, &draining).unwrap();
    let mut merge = merge();
    merge.put_slice(&slice);
    assert!(merge.shown()[0].draining);
}
