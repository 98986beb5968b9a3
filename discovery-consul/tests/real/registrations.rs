//! What a registration is to an agent.

use discovery_core::{Check, ErrorKind, HealthReport, InstanceKey, MetaChange, Renewal, Status};
use serde_json::json;

use crate::support::{Setup, direct, sees, web};

pub(crate) async fn c_23_a_renewal_tells_that_it_is_forgotten(setup: Setup) {
    let consul = setup.started().await;
    let backend = direct(&consul);
    let lease = backend.registry.register(&web("web-1")).await.unwrap();
    consul.restart_empty().await.unwrap();
    let renewal = Renewal::new([(lease.key.clone(), HealthReport::default())]);
    let error = backend.registry.renew(&lease.group, &renewal).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert_eq!(backend.registry.register(&web("web-1")).await.unwrap(), lease);
    sees(&backend, "web", &[8080]).await;
}

pub(crate) async fn c_25_c_33_registering_again_changes_nothing(setup: Setup) {
    let consul = setup.started().await;
    let backend = direct(&consul);
    let lease = backend.registry.register(&web("web-1")).await.unwrap();
    sees(&backend, "web", &[8080]).await;
    let index = || async { consul.health("web").await.unwrap()[0]["Service"]["ModifyIndex"].clone() };
    let before = index().await;
    let critical = HealthReport::new(Status::Critical);
    backend
        .registry
        .report_health(&lease.key, &critical)
        .await
        .unwrap();
    for _ in 0..20 {
        let mut registration = web("web-1");
        registration.health = critical.clone();
        backend.registry.register(&registration).await.unwrap();
        let own = backend.registry.instance(&lease.key).await.unwrap().unwrap();
        assert_eq!(own.status, Status::Critical, "it never looks healthy in between");
    }
    assert_eq!(index().await, before);
    backend.registry.register(&web("web-1")).await.unwrap();
    let own = backend.registry.instance(&lease.key).await.unwrap().unwrap();
    assert_eq!(
        own.status,
        Status::Passing,
        "the wanted status is shown, not the kept one"
    );
}

pub(crate) async fn c_26_a_check_that_is_gone_leaves_no_orphan(setup: Setup) {
    let consul = setup.started().await;
    let backend = direct(&consul);
    let mut registration = web("web-1");
    registration.checks.push(Check::tcp("127.0.0.1:1"));
    backend.registry.register(&registration).await.unwrap();
    backend.registry.register(&web("web-1")).await.unwrap();
    let checks = consul.get("/v1/agent/checks").await.unwrap();
    let names: Vec<_> = checks.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["web-1:ttl"]);
}

/// What another program registered is edited as it stands: nothing else of it changes, and its checks stay its own.
pub(crate) async fn a_record_of_another_program_is_edited(setup: Setup) {
    let consul = setup.started().await;
    let service = json!({ "ID": "web-7", "Name": "web", "Address": "10.0.0.5", "Port": 8080, "Tags": ["v1"],
        "Meta": { "kept": "yes", "old": "gone" }, "Weights": { "Passing": 3, "Warning": 1 },
        "Check": { "CheckID": "theirs", "TTL": "600s", "Status": "passing" } });
    consul.register(&service).await.unwrap();
    let backend = direct(&consul);
    let key = InstanceKey::new("consul", "web".parse().unwrap(), "web-7".parse().unwrap());
    let mut change = MetaChange::new();
    change.set.insert("new".to_owned(), "here".to_owned());
    change.remove.push("old".to_owned());
    backend.registry.update_meta(&key, &change).await.unwrap();
    let drain = HealthReport::default().with_draining(true).with_output("upgrade");
    backend.registry.report_health(&key, &drain).await.unwrap();

    let record = &consul.health("web").await.unwrap()[0];
    let (service, checks) = (&record["Service"], &record["Checks"]);
    assert_eq!(service["Meta"], json!({ "kept": "yes", "new": "here" }));
    assert_eq!(service["Tags"], json!(["v1"]));
    assert_eq!(service["Weights"], json!({ "Passing": 3, "Warning": 1 }));
    assert!(
        checks
            .as_array()
            .unwrap()
            .iter()
            .any(|check| check["CheckID"] == "theirs" && check["Status"] == "passing"),
        "{checks}"
    );
    let own = backend.registry.instance(&key).await.unwrap().unwrap();
    assert!(own.draining, "{own:?}");
    let failing = HealthReport::new(Status::Critical);
    let error = backend.registry.report_health(&key, &failing).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Unsupported,
        "their check decides: {error:?}"
    );
}

pub(crate) async fn made_draining_it_is_never_in_service(setup: Setup) {
    let consul = setup.started().await;
    let backend = direct(&consul);
    let mut registration = web("web-1");
    registration.health = HealthReport::default().with_draining(true).with_output("upgrade");
    let lease = backend.registry.register(&registration).await.unwrap();
    for _ in 0..10 {
        let own = backend.registry.instance(&lease.key).await.unwrap().unwrap();
        assert!(own.draining && own.status == Status::Passing, "{own:?}");
        backend.registry.register(&registration).await.unwrap();
    }
    let ready = HealthReport::default();
    backend.registry.report_health(&lease.key, &ready).await.unwrap();
    let own = backend.registry.instance(&lease.key).await.unwrap().unwrap();
    assert!(own.is_available(), "{own:?}");
    backend
        .registry
        .report_health(&lease.key, &ready.clone().with_draining(true))
        .await
        .unwrap();
    backend.registry.register(&web("web-1")).await.unwrap();
    let own = backend.registry.instance(&lease.key).await.unwrap().unwrap();
    assert!(
        own.is_available(),
        "a registration that is not draining ends it: {own:?}"
    );
}
