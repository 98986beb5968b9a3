//! Writes: whose record it is, what is unknown, what does not fit, and Go's form.

use std::time::Duration;

use discovery_core::{
    ConfigKey, ErrorKind, HealthReport, MetaChange, PutMode, Registration, Renewal, Scope, Status,
};
use discovery_etcd::{Format, backend};
use discovery_testkit::{
    eventually,
    proxy::{Direction, Flow, Proxy},
    server::Server,
};
use etcd_client::PutOptions;

use crate::support::{KEY, PATIENCE, Setup, config, lasting, of, plain, ports, shows, started};

pub(crate) async fn e_28_no_late_write_takes_from_another_owner(setup: Setup) {
    let etcd = setup.started().await;
    let (one, two) = (of(&etcd), of(&etcd));
    let first = one.registry.register(&lasting(1)).await.unwrap();
    // Who starts again under the same id takes it over.
    let second = two.registry.register(&lasting(1)).await.unwrap();
    assert_ne!(first.group, second.group);
    // The one before withdraws what is no longer its own.
    one.registry.deregister(&first.key).await.unwrap();
    assert_eq!(ports(&two).await.unwrap(), [1]);
    // A change of what is gone brings nothing back.
    two.registry.deregister(&second.key).await.unwrap();
    let change = MetaChange::new().set("a", "b");
    let failed = two.registry.update_meta(&second.key, &change).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::NotFound);
    assert_eq!(ports(&two).await.unwrap(), [0_u16; 0]);
}

pub(crate) async fn e_28_a_write_whose_answer_is_lost_is_neither_success_nor_repeated(setup: Setup) {
    let etcd = setup.started().await;
    let way = Proxy::start(etcd.endpoint()).unwrap();
    let mut config = config([way.addr()]);
    config.request_timeout = Duration::from_secs(1);
    let backend = backend(config).unwrap();
    let store = backend.config.clone().unwrap();
    let key = ConfigKey::new("a").unwrap();
    let version = store.put(&key, b"1", PutMode::Create).await.unwrap();
    way.flow(Direction::Down, Flow::Stall);
    let unknown = store
        .put(&key, b"2", PutMode::IfVersion(version))
        .await
        .unwrap_err();
    assert_eq!(
        unknown.kind(),
        ErrorKind::Timeout,
        "no conflict with itself: {unknown:?}"
    );
    // It happened, once.
    let written = of(&etcd).config.unwrap();
    eventually("the write", PATIENCE, || async {
        let found = written.get(&key).await.map_err(|failed| failed.to_string())?;
        match found {
            Some(entry) if &entry.value[..] == b"2" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let said = etcd.ctl_json(&["get", "/config/a"]).await.unwrap();
    assert_eq!(said["kvs"][0]["version"], 2, "{said}");

    // A registration in doubt is no second one, and none after its withdrawal.
    let failed = backend.registry.register(&lasting(1)).await.unwrap_err();
    assert!(failed.is_retryable(), "{failed:?}");
    way.heal().unwrap();
    let lease = eventually("a way", PATIENCE, async || {
        backend.registry.register(&lasting(1)).await
    })
    .await;
    shows(&of(&etcd), &[1]).await;
    backend.registry.deregister(&lease.key).await.unwrap();
    shows(&of(&etcd), &[]).await;
}

/// So that no limit of a server's is met, whatever it is set to.
pub(crate) async fn e_29_no_transaction_has_more_than_one_operation(setup: Setup) {
    let etcd = started(setup.etcd().flag("--max-txn-ops=1")).await;
    let backend = of(&etcd);
    let mut renewals = Vec::new();
    for port in 1..=20 {
        let lease = backend.registry.register(&lasting(port)).await.unwrap();
        renewals.push((lease.key.clone(), HealthReport::new(Status::Warning)));
        if port == 20 {
            let renewal = Renewal::new(renewals.clone());
            backend.registry.renew(&lease.group, &renewal).await.unwrap();
            let change = MetaChange::new().set("a", "b");
            backend.registry.update_meta(&lease.key, &change).await.unwrap();
            backend.registry.deregister(&lease.key).await.unwrap();
        }
    }
    assert_eq!(ports(&backend).await.unwrap().len(), 19);
    let store = backend.config.clone().unwrap();
    let key = ConfigKey::new("a").unwrap();
    let version = store.put(&key, b"1", PutMode::Create).await.unwrap();
    assert!(store.delete(&key, Some(version)).await.unwrap());

    // What does not fit into a request is refused, with the reason.
    let large = Registration::builder("api", "192.0.2.1", 99).meta("blob", "x".repeat(2_000_000));
    let failed = match large.build() {
        Ok(large) => backend.registry.register(&large).await.unwrap_err(),
        Err(failed) => failed,
    };
    assert_eq!(failed.kind(), ErrorKind::InvalidInput, "{failed:?}");
    let failed = store
        .put(&key, &vec![b'x'; 2_000_000], PutMode::Upsert)
        .await
        .unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::InvalidInput, "{failed:?}");
}

pub(crate) async fn e_36_a_full_database_refuses_writes_and_keeps_leases(setup: Setup) {
    let etcd = started(setup.etcd().flag("--quota-backend-bytes=1048576")).await;
    let backend = of(&etcd);
    let lease = backend.registry.register(&lasting(1)).await.unwrap();
    let client = plain(&etcd).await;
    // A little may still fit when much no longer does: only the alarm ends all writes.
    eventually("an alarm", PATIENCE, || async {
        let _ = client.clone().put("fill", vec![b'x'; 100_000], None).await;
        let alarms = etcd.ctl(&["alarm", "list"]).await.unwrap();
        if alarms.contains("NOSPACE") {
            Ok(())
        } else {
            Err(alarms)
        }
    })
    .await;
    let failed = backend.registry.register(&lasting(2)).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::RateLimited, "{failed:?}");
    assert!(failed.hint().is_some(), "{failed:?}");
    let renewal = Renewal::new([(lease.key, HealthReport::default())]);
    backend.registry.renew(&lease.group, &renewal).await.unwrap();
    assert_eq!(ports(&backend).await.unwrap(), [1]);
}

pub(crate) async fn go_services_see_us_and_we_see_them(setup: Setup) {
    let etcd = setup.started().await;
    let mut config = config([etcd.url()]);
    config.service_registration.key_prefix = String::new();
    config.service_registration.format = Format::Grpc;
    let backend = backend(config).unwrap();
    let mut client = plain(&etcd).await;
    // As `endpoints.Manager.AddEndpoint` writes it, under a lease of its own.
    let lease = client.lease_grant(60, None).await.unwrap().id();
    let value = r#"{"Op":0,"Addr":"192.0.2.9:9","Metadata":{"zone":"a"}}"#;
    let options = PutOptions::new().with_lease(lease);
    client.put("api/192.0.2.9:9", value, Some(options)).await.unwrap();
    client.put("api2/192.0.2.8:8", value, None).await.unwrap();
    client.put("api/nonsense", "?", None).await.unwrap();
    backend.registry.register(&lasting(1)).await.unwrap();
    assert_eq!(ports(&backend).await.unwrap(), [1, 9]);

    let ours = client
        .get(KEY.trim_start_matches("/services/"), None)
        .await
        .unwrap();
    let ours: serde_json::Value = serde_json::from_slice(ours.kvs()[0].value()).unwrap();
    assert_eq!((&ours["Op"], &ours["Addr"]), (&0.into(), &"192.0.2.1:1".into()));
    assert!(ours["Metadata"].is_object());

    let failed = backend.registry.services(&Scope::default()).await.unwrap_err();
    assert_eq!(
        failed.kind(),
        ErrorKind::Unsupported,
        "without a prefix there is no list"
    );
}
