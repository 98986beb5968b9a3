use discovery_core::Backend;
use discovery_testkit::eventually;
use serde_json::Value;

use super::*;
use crate::{
    backend,
    testing::{Part, Reply, Server},
};

fn web() -> Registration {
    Registration::builder("web", "192.0.2.1", 80)
        .id("one")
        .build()
        .unwrap()
}

fn lease_of(backend_holder: &str) -> Value {
    json!({
        "metadata": { "name": "web-x", "namespace": "default", "uid": "u", "resourceVersion": "3",
            "labels": { "app.kubernetes.io/managed-by": MANAGER } },
        "spec": { "holderIdentity": backend_holder, "leaseDurationSeconds": 30, "renewTime": "t" },
    })
}

fn slice_of_ours() -> Value {
    let slice = intent::registration(&web(), "default", &crate::K8sConfig::at("h")).unwrap();
    let mut slice = intent::intent(&slice, Some("7"));
    slice["metadata"]["uid"] = "u".into();
    slice
}

/// A server that accepts everything, but for what `but` answers.
async fn server(
    but: impl Fn(&crate::testing::Asked) -> Option<Reply> + Send + Sync + 'static,
) -> (Server, Backend) {
    let server = Server::start(move |asked| {
        but(asked).unwrap_or_else(|| {
            if asked.is("/leases") {
                Reply::json(200, &lease_of("somebody"))
            } else if asked.is("/endpointslices") {
                Reply::json(200, &slice_of_ours())
            } else {
                Reply::json(200, &json!({ "metadata": { "name": "web" } }))
            }
        })
    })
    .await;
    let backend = backend(server.config()).unwrap();
    (server, backend)
}

#[tokio::test]
async fn k_15_nothing_is_ever_put() {
    let (server, backend) = server(|_| None).await;
    let lease = backend.registry.register(&web()).await.unwrap();
    let renewal = Renewal::new([(lease.key.clone(), HealthReport::default().with_draining(true))]);
    backend.registry.renew(&lease.group, &renewal).await.unwrap();
    backend
        .registry
        .update_meta(&lease.key, &MetaChange::new().set("a", "b"))
        .await
        .unwrap();
    backend.registry.deregister(&lease.key).await.unwrap();
    assert!(server.asked("PUT ").is_empty());
    assert!(!server.asked("PATCH ").is_empty());
}

#[tokio::test]
async fn k_12_apply_names_its_manager_and_content_type() {
    let (server, backend) = server(|_| None).await;
    backend.registry.register(&web()).await.unwrap();
    let apply = &server.asked("PATCH /apis/discovery.k8s.io")[0];
    assert!(
        apply.is("fieldManager=discovery.system-control.io") && apply.is("force=false"),
        "{}",
        apply.line
    );
    assert!(
        apply
            .head
            .to_lowercase()
            .contains("content-type: application/apply-patch+yaml")
    );
}

#[tokio::test]
async fn k_16_a_create_whose_answer_was_lost_is_repeated_safely() {
    let (server, backend) = server(|asked| {
        let create = asked.is("POST /apis/coordination");
        // The Lease is made and the connection breaks; the second time it is there already.
        let first = create && asked.nth < 2;
        match (first, create) {
            (true, _) => Some(Reply::parts(vec![Part::Cut])),
            (_, true) => Some(Reply::refuse(409, "AlreadyExists", "")),
            _ => None,
        }
    })
    .await;
    let error = backend.registry.register(&web()).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    backend.registry.register(&web()).await.unwrap();
    assert!(server.asked("generateName").is_empty());
    let names: Vec<_> = server.asked("GET /apis/coordination");
    assert_eq!(names.len(), 1, "read by its name, and taken over");
}

#[tokio::test]
async fn k_14_what_others_change_for_ever_is_given_up() {
    let (server, backend) = server(|asked| {
        asked
            .is("PATCH /apis/discovery.k8s.io")
            .then(|| Reply::refuse(409, "Conflict", ""))
    })
    .await;
    let key = InstanceKey::new("k8s", web().service, web().id).with_namespace("default");
    let error = backend
        .registry
        .update_meta(&key, &MetaChange::new().set("a", "b"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.is_retryable());
    assert_eq!(server.asked("PATCH ").len(), write::TRIES as usize);
}

#[tokio::test]
async fn k_17_what_cannot_help_is_not_sent_twice() {
    for status in [400, 403, 415, 422] {
        let (server, backend) = server(move |_| Some(Reply::refuse(status, "No", ""))).await;
        let error = backend.registry.register(&web()).await.unwrap_err();
        assert!(!error.is_retryable(), "{status}");
        assert_eq!(server.asked("").len(), 1, "{status}");
    }
}

/// A reaper deletes what it saw expire, and nothing that changed since.
#[tokio::test]
async fn k_10_what_is_renewed_while_it_is_reaped_stays() {
    for renewed in [false, true] {
        let (server, backend) = server(move |asked| {
            let dead = || {
                let mut lease = lease_of("dead");
                lease["metadata"]["name"] = "web-dead".into();
                lease["metadata"]["uid"] = "lease-uid".into();
                lease["spec"]["leaseDurationSeconds"] = 1.into();
                lease
            };
            let its_slice = || {
                let mut slice = slice_of_ours();
                slice["metadata"]["name"] = "web-dead".into();
                slice["metadata"]["ownerReferences"] = json!([{ "kind": "Lease", "uid": "lease-uid" }]);
                slice
            };
            if asked.is("DELETE") && renewed {
                Some(Reply::refuse(409, "Conflict", ""))
            } else if asked.is("/leases?") && asked.is("GET ") {
                Some(Reply::json(200, &json!({ "metadata": {}, "items": [dead()] })))
            } else if asked.is("/endpointslices?") && asked.is("GET ") {
                Some(Reply::json(
                    200,
                    &json!({ "metadata": {}, "items": [its_slice()] }),
                ))
            } else {
                None
            }
        })
        .await;
        let mut registration = web();
        registration.ttl = Some(Duration::from_secs(1));
        let lease = backend.registry.register(&registration).await.unwrap();
        let renewal = Renewal::new([(lease.key.clone(), HealthReport::default())]);
        let patience = Duration::from_secs(20);
        let reaped = eventually("its removal", patience, async || {
            backend.registry.renew(&lease.group, &renewal).await.unwrap();
            server.asked("DELETE /apis/coordination.k8s.io").pop()
        })
        .await;
        assert!(reaped.is("/leases/web-dead"), "{}", reaped.line);
        let only: Value = serde_json::from_str(&reaped.body).unwrap();
        let as_seen = json!({ "uid": "lease-uid", "resourceVersion": "3" });
        assert_eq!(only["preconditions"], as_seen);
        let slices = server.asked("DELETE /apis/discovery.k8s.io");
        assert_eq!(slices.is_empty(), renewed, "a slice goes with its Lease only");
        for slice in slices {
            let only: Value = serde_json::from_str(&slice.body).unwrap();
            assert_eq!(
                only["preconditions"],
                json!({ "uid": "u", "resourceVersion": "7" })
            );
        }
    }
}
