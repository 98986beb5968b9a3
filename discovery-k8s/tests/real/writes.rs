//! What is written, and what is left alone.

use discovery_core::{
    ConfigChange, ConfigKey, ConfigStream, ErrorKind, HealthReport, MetaChange, PutMode, Status,
};
use discovery_k8s::ConfigMapKeys;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    Shared,
    servers::ADMIN,
    support::{self, PATIENCE, SLICES, admin, ask, cluster, shown, try_ask, web},
};

fn slice(name: &str, service: &str, by: &str, endpoints: &[Value]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": name, "labels": {
            "kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": by } },
        "addressType": "IPv4", "ports": [{ "name": "http", "port": 80 }], "endpoints": endpoints,
    })
}

/// The only slice of ours of a service.
async fn ours(kube: &crate::servers::Kube, service: &str) -> Value {
    let path = format!("{SLICES}?labelSelector=kubernetes.io/service-name%3D{service}");
    let list = ask(kube, "GET", &path, None).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
    list["items"][0].clone()
}

pub(crate) async fn k_6_what_others_wrote_is_never_touched(shared: Shared) {
    let kube = cluster(&shared).await;
    let backend = admin(&kube);
    let by = "endpointslice-controller.k8s.io";
    let foreign = slice(
        "pods-x1",
        "pods",
        by,
        &[json!({
        "addresses": ["192.0.2.7"], "targetRef": { "kind": "Pod", "name": "pod-1" } })],
    );
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "pods" },
        "spec": { "selector": { "app": "pods" }, "ports": [{ "port": 80 }] } });
    let service = ask(
        &kube,
        "POST",
        "/api/v1/namespaces/default/services",
        Some(&service),
    )
    .await;
    let foreign = ask(&kube, "POST", SLICES, Some(&foreign)).await;
    let lease = backend
        .registry
        .register(&web("pods", "192.0.2.8").build().unwrap())
        .await
        .unwrap();
    assert_eq!(
        shown(&backend, "pods").await,
        ["192.0.2.7", "192.0.2.8"].map(String::from)
    );
    let mut key = lease.key.clone();
    key.id = discovery_core::InstanceId::new("pod-1").unwrap();
    assert!(backend.registry.instance(&key).await.unwrap().is_some());
    for refused in [
        backend.registry.deregister(&key).await,
        backend
            .registry
            .update_meta(&key, &MetaChange::new().set("a", "b"))
            .await,
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    backend.registry.deregister(&lease.key).await.unwrap();
    assert_eq!(
        ask(&kube, "GET", &format!("{SLICES}/pods-x1"), None).await,
        foreign
    );
    let after = ask(&kube, "GET", "/api/v1/namespaces/default/services/pods", None).await;
    assert_eq!(after, service);
    ask(&kube, "DELETE", &format!("{SLICES}/pods-x1"), None).await;
}

pub(crate) async fn k_7_k_8_what_a_slice_cannot_hold_is_refused_before_or_by_the_server(shared: Shared) {
    let kube = cluster(&shared).await;
    let backend = admin(&kube);
    for bad in ["127.0.0.1", "::1", "169.254.1.1", "localhost"] {
        let error = backend
            .registry
            .register(&web("loop", bad).build().unwrap())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
    }
    // The server itself says the same, so nothing is refused without need.
    let end = json!({ "addresses": ["127.0.0.1"] });
    let refused = try_ask(
        &kube,
        "POST",
        SLICES,
        "application/json",
        Some(&slice("l", "loop", "t", &[end])),
    )
    .await;
    assert!(refused.unwrap_err().to_string().contains("loopback"));
    // An id may look like anything, a name may not.
    let odd = web("odd", "192.0.2.3").id("größe ☃ A_b?#%").build().unwrap();
    let lease = backend.registry.register(&odd).await.unwrap();
    assert_eq!(
        backend
            .registry
            .instance(&lease.key)
            .await
            .unwrap()
            .unwrap()
            .key
            .id,
        odd.id
    );
    backend.registry.deregister(&lease.key).await.unwrap();
}

pub(crate) async fn k_8_another_family_replaces_the_slice(shared: Shared) {
    let kube = cluster(&shared).await;
    let backend = admin(&kube);
    for address in ["192.0.2.1", "2001:db8::1", "db.example.com", "192.0.2.2"] {
        let registration = web("family", address).id("one").build().unwrap();
        backend.registry.register(&registration).await.unwrap();
        assert_eq!(shown(&backend, "family").await, [address]);
    }
}

pub(crate) async fn k_9_a_missing_namespace_is_told_at_once(shared: Shared) {
    let kube = cluster(&shared).await;
    let mut config = kube.config(crate::servers::ADMIN);
    config.registration.namespace = Some("no-such-namespace".to_owned());
    let backend = discovery_k8s::backend(config).unwrap();
    let error = backend
        .registry
        .register(&web("web", "192.0.2.1").build().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    assert!(error.hint().unwrap().contains("namespace") && !error.is_retryable());
}

pub(crate) async fn k_12_registering_the_same_again_changes_nothing(shared: Shared) {
    let kube = cluster(&shared).await;
    let backend = admin(&kube);
    let registration = web("again", "192.0.2.1").meta("a", "b").build().unwrap();
    backend.registry.register(&registration).await.unwrap();
    let before = ours(&kube, "again").await;
    backend.registry.register(&registration).await.unwrap();
    let after = ours(&kube, "again").await;
    assert_eq!(
        before["metadata"]["resourceVersion"],
        after["metadata"]["resourceVersion"]
    );
    assert_eq!(
        before["metadata"]["managedFields"][0]["manager"],
        "discovery.system-control.io"
    );
}

pub(crate) async fn k_13_force_is_for_what_is_ours(shared: Shared) {
    let kube = cluster(&shared).await;
    let backend = admin(&kube);
    let registration = web("fields", "192.0.2.1").build().unwrap();
    let lease = backend.registry.register(&registration).await.unwrap();
    let name = ours(&kube, "fields").await["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    // Another manager writes a field of our slice: it is ours, and ours again.
    let path = format!("{SLICES}/{name}?fieldManager=kubectl");
    let ports = json!({ "ports": [{ "name": "", "port": 1, "protocol": "TCP" }] });
    ask(&kube, "PATCH", &path, Some(&ports)).await;
    backend.registry.register(&registration).await.unwrap();
    assert_eq!(ours(&kube, "fields").await["ports"][0]["port"], 8080);
    // A slice of another program under our name is not.
    backend.registry.deregister(&lease.key).await.unwrap();
    let theirs = slice(
        &name,
        "fields",
        "another.program",
        &[json!({ "addresses": ["192.0.2.9"] })],
    );
    ask(&kube, "POST", SLICES, Some(&theirs)).await;
    let error = backend.registry.register(&registration).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert_eq!(
        ours(&kube, "fields").await["endpoints"][0]["addresses"][0],
        "192.0.2.9"
    );
    ask(&kube, "DELETE", &format!("{SLICES}/{name}"), None).await;
}

pub(crate) async fn k_14_changes_of_two_writers_both_stay(shared: Shared) {
    let kube = cluster(&shared).await;
    let (one, two) = (admin(&kube), admin(&kube));
    let lease = one
        .registry
        .register(&web("both", "192.0.2.1").build().unwrap())
        .await
        .unwrap();
    for round in 0..5 {
        let (a, b) = (
            MetaChange::new().set(format!("a{round}"), "1"),
            MetaChange::new().set(format!("b{round}"), "1"),
        );
        let (first, second) = tokio::join!(
            one.registry.update_meta(&lease.key, &a),
            two.registry.update_meta(&lease.key, &b)
        );
        first.and(second).unwrap();
    }
    let found = one.registry.instance(&lease.key).await.unwrap().unwrap();
    assert_eq!(found.meta.len(), 10, "{:?}", found.meta);
}

pub(crate) async fn values_outlive_other_writers_of_the_map(shared: Shared) {
    let kube = cluster(&shared).await;
    let values = admin(&kube).config.unwrap();
    let key = |text: &str| ConfigKey::new(text).unwrap();
    let version = values.put(&key("mine"), b"one", PutMode::Upsert).await.unwrap();
    let map = "/api/v1/namespaces/default/configmaps/system-control-config";
    ask(
        &kube,
        "PATCH",
        map,
        Some(&json!({ "data": { "theirs_key": "x" } })),
    )
    .await;
    values
        .put(&key("mine"), b"two", PutMode::IfVersion(version))
        .await
        .unwrap();
    let theirs = values.get(&key("theirs_key")).await.unwrap().unwrap();
    assert_eq!(&*theirs.value, b"x");
}

/// What Kubernetes itself and others see of a registration, and of what becomes of it.
pub(crate) async fn a_registration_as_others_see_it(shared: Shared) {
    let kube = cluster(&shared).await;
    let backend = admin(&kube);
    let path = "/api/v1/namespaces/default/services/plain";
    assert!(
        try_ask(&kube, "GET", path, "application/json", None)
            .await
            .is_err()
    );
    let registration = web("plain", "192.0.2.1")
        .port("admin", 8081, false)
        .build()
        .unwrap();
    let lease = backend.registry.register(&registration).await.unwrap();
    let service = ask(&kube, "GET", path, None).await;
    let by = "discovery.system-control.io";
    assert_eq!(service["metadata"]["labels"]["app.kubernetes.io/managed-by"], by);
    assert_eq!(service["spec"]["selector"], Value::Null, "no controller fills it");
    assert_eq!(service["spec"]["clusterIP"], "None");
    let slice = ours(&kube, "plain").await;
    assert_eq!(
        slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"],
        by
    );
    assert_eq!(slice["metadata"]["ownerReferences"][0]["kind"], "Lease");
    assert_eq!(slice["ports"][1]["name"], "admin");
    let conditions = async || ours(&kube, "plain").await["endpoints"][0]["conditions"].clone();
    let said = |ready: bool, serving: bool, terminating: bool| json!({ "ready": ready, "serving": serving, "terminating": terminating });
    assert_eq!(conditions().await, said(true, true, false));
    for (status, draining, expected) in [
        (Status::Critical, false, said(false, false, false)),
        (Status::Passing, true, said(false, true, true)),
        (Status::Warning, false, said(true, true, false)),
    ] {
        let report = HealthReport::new(status).with_draining(draining);
        backend.registry.report_health(&lease.key, &report).await.unwrap();
        assert_eq!(conditions().await, expected, "{status} {draining}");
    }
    let change = MetaChange::new().set("version", "2");
    backend.registry.update_meta(&lease.key, &change).await.unwrap();
    let annotation = "discovery.system-control.io/instance";
    let slice = ours(&kube, "plain").await;
    let record = slice["metadata"]["annotations"][annotation].as_str().unwrap();
    let record: Value = serde_json::from_str(record).unwrap();
    assert_eq!(
        (&record["meta"]["version"], &record["status"]),
        (&json!("2"), &json!("warning"))
    );
    backend.registry.deregister(&lease.key).await.unwrap();
}

/// The maps of the specification's block: some keys of one, all of another.
pub(crate) async fn values_of_several_maps_and_of_some_keys(shared: Shared) {
    async fn next(watch: &mut ConfigStream) -> ConfigChange {
        loop {
            let event = timeout(PATIENCE, watch.next()).await.expect("an event in time");
            let change = event.expect("an open watch").unwrap().change;
            if !matches!(change, ConfigChange::Confirmed) {
                return change;
            }
        }
    }
    let kube = cluster(&shared).await;
    support::namespace(&kube, "settings").await;
    let mut config = kube.config(ADMIN);
    config.configmap.namespace = Some("settings".to_owned());
    let mut some = ConfigMapKeys::whole("api-config");
    some.keys = vec!["database_url".to_owned(), "redis_url".to_owned()];
    config.configmap.configmaps = vec![some, ConfigMapKeys::whole("feature-flags")];
    let values = discovery_k8s::backend(config).unwrap().config.unwrap();
    let key = |text: &str| ConfigKey::new(text).unwrap();
    let maps = "/api/v1/namespaces/settings/configmaps";
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "api-config" },
        "data": { "database_url": "postgres://db", "unshown": "x" } });
    ask(&kube, "POST", maps, Some(&map)).await;
    let mut watch = values.watch("", None);
    let ConfigChange::Reset(first) = next(&mut watch).await else {
        panic!("no reset")
    };
    let names: Vec<_> = first.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(names, ["api-config/database_url"]);
    // One map is made by the first value in it; what was created is not created again.
    let flag = key("feature-flags/dark/mode");
    let version = values.put(&flag, b"on", PutMode::Create).await.unwrap();
    assert!(matches!(next(&mut watch).await, ConfigChange::Put(entry) if entry.key == flag));
    let again = values.put(&flag, b"off", PutMode::Create).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict);
    // Others change a key that counts and one that does not.
    let theirs = json!({ "data": { "redis_url": "redis://r", "unshown": "y" } });
    ask(&kube, "PATCH", &format!("{maps}/api-config"), Some(&theirs)).await;
    let redis = key("api-config/redis_url");
    assert!(matches!(next(&mut watch).await, ConfigChange::Put(entry) if entry.key == redis));
    // Compare and set, and compare and delete.
    let newer = values
        .put(&flag, b"off", PutMode::IfVersion(version.clone()))
        .await
        .unwrap();
    assert!(matches!(next(&mut watch).await, ConfigChange::Put(entry) if &*entry.value == b"off"));
    let late = values.delete(&flag, Some(version)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict);
    assert!(values.delete(&flag, Some(newer)).await.unwrap());
    assert!(matches!(next(&mut watch).await, ConfigChange::Delete(gone) if gone == flag));
    // A map that is deleted takes its keys along.
    ask(&kube, "DELETE", &format!("{maps}/api-config"), None).await;
    let mut gone = Vec::new();
    while gone.len() < 2 {
        let ConfigChange::Delete(key) = next(&mut watch).await else {
            panic!("not a deletion")
        };
        gone.push(key.to_string());
    }
    gone.sort();
    assert_eq!(gone, ["api-config/database_url", "api-config/redis_url"]);
    assert!(values.list("").await.unwrap().entries.is_empty());
}
