use discovery_core::Instance;
use proptest::prelude::*;

use super::*;
use crate::{
    convert::{self, Rules},
    record::is_ours,
};

fn rules() -> Rules {
    Rules::of(&K8sConfig::at("h"), true)
}

#[test]
fn k_6_only_what_carries_our_name_is_ours() {
    let by = |who: &str| {
        let slice: EndpointSlice =
            serde_json::from_value(json!({ "metadata": { "labels": { MANAGED_BY: who } } })).unwrap();
        is_ours(&slice.metadata)
    };
    assert!(by(MANAGER));
    assert!(!by("endpointslice-controller.k8s.io"));
    assert!(!by("endpointslicemirroring-controller.k8s.io"));
    assert!(!is_ours(&Meta::default()));
}

fn made(address: &str) -> Result<EndpointSlice> {
    let built = Registration::builder("web", address, 80).build()?;
    registration(&built, "ns", &K8sConfig::at("h"))
}

#[test]
fn k_7_addresses_that_a_slice_refuses_are_refused_before() {
    for bad in [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "169.254.1.1",
        "fe80::1",
        "::ffff:192.0.2.1",
        "localhost",
        "my_host",
    ] {
        let error = made(bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
        assert!(
            error.hint().is_some_and(|hint| hint.contains("local_addresses")),
            "{bad}"
        );
    }
    for (good, kind) in [
        ("192.0.2.1", "IPv4"),
        ("2001:db8::1", "IPv6"),
        ("db.example", "FQDN"),
    ] {
        assert_eq!(made(good).unwrap().address_type, kind, "{good}");
    }
    let mut config = K8sConfig::at("h");
    config.registration.local_addresses = true;
    let local = Registration::builder("web", "127.0.0.1", 80).build().unwrap();
    let slice = registration(&local, "ns", &config).unwrap();
    assert!(slice.endpoints.is_empty(), "others must not dial it");
    let fold = convert::slice(&slice, &rules()).unwrap();
    assert_eq!(fold.instances[0].address(), "127.0.0.1:80");
}

#[test]
fn k_7_names_that_kubernetes_refuses_are_refused_before() {
    for bad in ["Web", "web_1", "größe", "1web", "a.b", &"x".repeat(64), "-a"] {
        let error = check_service(&ServiceName::observed(bad)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
    }
    check_service(&ServiceName::observed("web-1")).unwrap();
}

proptest! {
    #[test]
    fn k_7_k_16_any_id_has_a_name_of_its_own_that_kubernetes_takes(one in "\\PC{1,80}", two in "\\PC{1,80}") {
        let name = |id: &str| object_name(&ServiceName::observed("web"), &InstanceId::observed(id));
        prop_assert!(is_subdomain(&name(&one)) && name(&one).len() < 90);
        prop_assert_eq!(name(&one) == name(&two), one == two);
        prop_assert_eq!(name(&one), name(&one));
    }
}

#[test]
fn k_8_more_ports_than_a_slice_takes_are_kept_for_our_readers_only() {
    let mut builder = Registration::builder("web", "192.0.2.1", 80);
    for n in 0..150 {
        builder = builder.port(format!("p{n}"), 1000 + n, n % 2 == 0);
    }
    let built = builder.port("Not A Name", 1, false).build().unwrap();
    let slice = registration(&built, "ns", &K8sConfig::at("h")).unwrap();
    assert_eq!(slice.ports.len(), 100);
    let back = &convert::slice(&slice, &rules()).unwrap().instances[0];
    assert_eq!(back.ports, built.ports);
}

#[test]
fn k_13_an_intent_carries_no_version_unless_it_is_meant() {
    let mut slice = made("192.0.2.1").unwrap();
    slice.metadata.uid = "u".to_owned();
    slice.metadata.resource_version = "7".to_owned();
    let plain = intent(&slice, None);
    assert!(plain["metadata"].get("resourceVersion").is_none());
    assert!(plain["metadata"].get("uid").is_none());
    assert!(plain["metadata"].get("managedFields").is_none());
    assert_eq!(intent(&slice, Some("7"))["metadata"]["resourceVersion"], "7");
    assert_eq!(plain["metadata"]["labels"][MANAGED_BY], MANAGER);
}

#[test]
fn everything_registered_comes_back() {
    let built = Registration::builder("web", "192.0.2.1", 8080)
        .id("größe ☃")
        .tags(["a", "b"])
        .meta("team", "x\ny")
        .port("grpc", 9090, true)
        .weight(0)
        .status(Status::Starting)
        .build()
        .unwrap();
    let mut slice = registration(&built, "ns", &K8sConfig::at("h")).unwrap();
    let read =
        |slice: &EndpointSlice| Instance::clone(&convert::slice(slice, &rules()).unwrap().instances[0]);
    let back = read(&slice);
    assert_eq!(back.key.id, built.id);
    assert_eq!(back.key.namespace.as_deref(), Some("ns"));
    assert_eq!(
        (back.port, back.weight.0, back.status),
        (8080, 0, Status::Starting)
    );
    assert_eq!(
        (&back.tags, &back.meta, &back.ports),
        (&built.tags, &built.meta, &built.ports)
    );
    assert_eq!(
        slice.endpoints[0].conditions.ready,
        Some(false),
        "others see it as well"
    );
    let health = HealthReport::new(Status::Warning)
        .with_draining(true)
        .with_output("soon");
    change_health(&mut slice, &health).unwrap();
    change_meta(&mut slice, &MetaChange::new().set("k", "v").remove("team")).unwrap();
    let back = read(&slice);
    assert!(back.draining && back.status == Status::Warning);
    assert_eq!(back.checks[0].output, "soon");
    assert_eq!(
        back.meta.into_iter().collect::<Vec<_>>(),
        [("k".to_owned(), "v".to_owned())]
    );
    assert_eq!(
        slice.endpoints[0].conditions,
        Conditions {
            ready: Some(false),
            serving: Some(true),
            terminating: Some(true)
        }
    );
    // It is written and read by the server in between.
    let again: EndpointSlice = serde_json::from_value(intent(&slice, None)).unwrap();
    assert_eq!(read(&again), read(&slice));
}

#[test]
fn ttls_are_whole_seconds_and_never_none() {
    for (ttl, wanted) in [(1000, 1), (1001, 2), (999, 1), (0, 1), (30_000, 30)] {
        assert_eq!(seconds(Duration::from_millis(ttl)), wanted);
    }
    assert_eq!(seconds(Duration::MAX), 2_147_483_647);
}
