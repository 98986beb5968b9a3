//! Records: how long they live and what they show.

use super::*;
use crate::model::{HealthReport, MetaChange, Scope, Status};

#[tokio::test(start_paused = true)]
async fn a_record_lives_exactly_as_long_as_its_lease() {
    let backend = MemoryStore::new().backend();
    let lease = register(&backend, api(1)).await;
    assert_eq!(lease.ttl, Some(10 * SECOND));
    advance(Duration::from_millis(9_999)).await;
    assert_eq!(ports(&backend).await, [1]);
    backend.registry.renew(&lease.group, &beat()).await.unwrap();
    advance(Duration::from_millis(9_999)).await;
    assert_eq!(ports(&backend).await, [1]);
    advance(Duration::from_millis(1)).await;
    assert!(ports(&backend).await.is_empty());
    assert_eq!(
        kind(backend.registry.renew(&lease.group, &beat()).await),
        Some(ErrorKind::NotFound)
    );
    assert!(backend.registry.instance(&lease.key).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_default_lifetime_is_the_store_s() {
    let store = MemoryStore::with_config(MemoryConfig::default().ttl(3 * SECOND)).unwrap();
    let backend = store.backend();
    let lease = register(&backend, Registration::builder("api", "127.0.0.1", 1)).await;
    assert_eq!(lease.ttl, Some(3 * SECOND));
    advance(3 * SECOND).await;
    assert!(ports(&backend).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_longer_than_the_clock_is_no_panic() {
    let backend = MemoryStore::new().backend();
    register(&backend, api(1).ttl(Duration::MAX)).await;
    advance(Duration::from_secs(3600 * 24 * 365)).await;
    assert_eq!(ports(&backend).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_9_a_late_renewal_resurrects_nothing() {
    let backend = MemoryStore::new().backend();
    let old = register(&backend, api(1)).await;
    backend.registry.deregister(&old.key).await.unwrap();
    assert_eq!(
        kind(backend.registry.renew(&old.group, &beat()).await),
        Some(ErrorKind::NotFound)
    );
    assert!(ports(&backend).await.is_empty());

    // Nor does it keep alive what was registered anew under the same id.
    let new = register(&backend, api(1)).await;
    assert_ne!(new.group, old.group);
    assert_eq!(
        kind(backend.registry.renew(&old.group, &beat()).await),
        Some(ErrorKind::NotFound)
    );
}

#[tokio::test(start_paused = true)]
async fn a_renewal_shows_the_health_wanted_and_knows_its_members() {
    let backend = MemoryStore::new().backend();
    let lease = register(&backend, api(1)).await;
    let other = register(&backend, api(2)).await;
    let ill = HealthReport::new(Status::Critical)
        .with_output("disk full")
        .with_draining(true);
    let renewal = Renewal::new([(lease.key.clone(), ill.clone())]);
    backend.registry.renew(&lease.group, &renewal).await.unwrap();
    let shown = backend.registry.instance(&lease.key).await.unwrap().unwrap();
    assert_eq!((shown.status, shown.draining), (Status::Critical, true));
    assert_eq!(shown.checks[0].output, "disk full");

    advance(6 * SECOND).await;
    let wrong = Renewal::new([(other.key.clone(), ill)]);
    assert_eq!(
        kind(backend.registry.renew(&lease.group, &wrong).await),
        Some(ErrorKind::NotFound)
    );
    advance(4 * SECOND).await;
    assert!(
        ports(&backend).await.is_empty(),
        "a refused renewal must not extend the lease"
    );
}

#[tokio::test(start_paused = true)]
async fn registering_again_replaces_the_record_and_extends_its_lease() {
    let backend = MemoryStore::new().backend();
    let first = register(&backend, api(1).id("a").tag("old").meta("k", "v")).await;
    advance(6 * SECOND).await;
    let second = register(&backend, api(2).id("a").tag("new")).await;
    assert_eq!(first, second);
    advance(6 * SECOND).await;
    let shown = backend.registry.instance(&first.key).await.unwrap().unwrap();
    assert_eq!(
        (shown.port, shown.tags, shown.meta.len()),
        (2, vec!["new".to_owned()], 0)
    );
    assert_eq!(ports(&backend).await, [2]);
    advance(4 * SECOND).await;
    assert!(ports(&backend).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_8_registering_again_keeps_reported_health_until_another_is_asked_for() {
    let backend = MemoryStore::new().backend();
    let lease = register(&backend, api(1)).await;
    let status = async || {
        backend
            .registry
            .instance(&lease.key)
            .await
            .unwrap()
            .unwrap()
            .status
    };
    let ill = HealthReport::new(Status::Critical);
    backend.registry.report_health(&lease.key, &ill).await.unwrap();
    register(&backend, api(1)).await;
    assert_eq!(status().await, Status::Critical);
    register(&backend, api(1).status(Status::Warning)).await;
    assert_eq!(status().await, Status::Warning);
}

#[tokio::test(start_paused = true)]
async fn metadata_changes_key_by_key() {
    let backend = MemoryStore::new().backend();
    let lease = register(&backend, api(1).meta("keep", "1").meta("drop", "2")).await;
    let change = MetaChange::new().set("new", "3").remove("drop");
    backend.registry.update_meta(&lease.key, &change).await.unwrap();
    let shown = backend.registry.instance(&lease.key).await.unwrap().unwrap();
    let pairs: Vec<_> = shown.meta.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(pairs, [("keep", "1"), ("new", "3")]);
}

#[tokio::test(start_paused = true)]
async fn deregistering_touches_no_sibling_and_absence_is_success() {
    let backend = MemoryStore::new().backend();
    let gone = register(&backend, api(1)).await;
    register(&backend, api(2)).await;
    for _ in 0..2 {
        backend.registry.deregister(&gone.key).await.unwrap();
        assert_eq!(ports(&backend).await, [2]);
    }
    let change = MetaChange::new().set("k", "v");
    assert_eq!(
        kind(backend.registry.update_meta(&gone.key, &change).await),
        Some(ErrorKind::NotFound)
    );
    let report = HealthReport::default();
    assert_eq!(
        kind(backend.registry.report_health(&gone.key, &report).await),
        Some(ErrorKind::NotFound)
    );
}

#[tokio::test(start_paused = true)]
async fn answers_are_sorted_and_keep_services_apart() {
    let backend = MemoryStore::new().backend();
    for (name, port) in [("api", 2), ("api2", 9), ("api", 1), ("a", 8), ("ap", 7)] {
        let tag = format!("t{port}");
        register(&backend, Registration::builder(name, "127.0.0.1", port).tag(tag)).await;
    }
    assert_eq!(ports(&backend).await, [1, 2]);
    let all = backend.registry.instances(&Query::all()).await.unwrap();
    let all: Vec<_> = all.instances.iter().map(|instance| instance.port).collect();
    assert_eq!(all, [8, 7, 1, 2, 9]);
    let services = backend.registry.services(&Scope::default()).await.unwrap();
    let services: Vec<_> = services
        .iter()
        .map(|s| (s.name.as_str(), s.tags.join(" "), s.instances))
        .collect();
    assert_eq!(services.len(), 4);
    assert_eq!(services[2], ("api", "t1 t2".to_owned(), Some(2)));
    let unknown = Query::service("nobody").unwrap();
    assert!(
        backend
            .registry
            .instances(&unknown)
            .await
            .unwrap()
            .instances
            .is_empty()
    );
    let status = backend.registry.status().await.unwrap();
    assert!(status.details.contains(&("instances".to_owned(), "5".to_owned())));
}

/// kratos#3883: after the registry lost a lease, the heartbeat went on for ever as if nothing had happened. Here the very
/// next renewal says so, and registering again brings the record back.
#[tokio::test(start_paused = true)]
async fn issue_kratos_3883_a_lost_lease_shows_in_the_next_renewal() {
    let store = MemoryStore::new();
    let backend = store.backend();
    let lease = register(&backend, api(1)).await;
    assert!(store.forget(&lease.key));
    assert!(!store.forget(&lease.key));
    assert_eq!(
        kind(backend.registry.renew(&lease.group, &beat()).await),
        Some(ErrorKind::NotFound)
    );
    let again = register(&backend, api(1)).await;
    backend.registry.renew(&again.group, &beat()).await.unwrap();
    assert_eq!(ports(&backend).await, [1]);

    store.forget_all();
    assert!(ports(&backend).await.is_empty());
    assert_eq!(
        kind(backend.registry.renew(&again.group, &beat()).await),
        Some(ErrorKind::NotFound)
    );
    // A group of before must not name a record of after.
    let after = register(&backend, api(2)).await;
    assert!(after.group != again.group && after.group != lease.group);
}
