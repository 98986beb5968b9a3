//! What instances that are no pods live by.

use std::time::Duration;

use discovery_core::{Change, ErrorKind, HealthReport, Lease, Query, Renewal};
use discovery_testkit::eventually;

use crate::{
    Shared,
    support::{LEASES, PATIENCE, SLICES, admin, ask, change, cluster, shown, web},
};

const TTL: Duration = Duration::from_secs(3);

fn renewal(lease: &Lease) -> Renewal {
    Renewal::new([(lease.key.clone(), HealthReport::default())])
}

pub(crate) async fn k_10_a_crashed_registrant_is_hidden_and_removed(shared: Shared) {
    let kube = cluster(&shared).await;
    let (crashed, alive, reader) = (admin(&kube), admin(&kube), admin(&kube));
    let crash = web("crash", "192.0.2.1").ttl(TTL).build().unwrap();
    crashed.registry.register(&crash).await.unwrap();
    let mut watch = reader.watcher.watch(&Query::service("crash").unwrap(), None);
    assert!(matches!(change(&mut watch).await.unwrap(), Change::Reset(all) if all.len() == 1));
    let since = tokio::time::Instant::now();
    assert!(matches!(change(&mut watch).await.unwrap(), Change::Remove(gone) if gone.len() == 1));
    let hidden = since.elapsed();
    assert!(hidden > TTL / 2, "hidden after {hidden:?}");

    let lease = alive
        .registry
        .register(&web("crash", "192.0.2.2").ttl(TTL).build().unwrap())
        .await
        .unwrap();
    let left = |path: &'static str| {
        let kube = kube.clone();
        async move {
            let path = format!("{path}?labelSelector=kubernetes.io/service-name%3Dcrash");
            ask(&kube, "GET", &path, None).await["items"]
                .as_array()
                .unwrap()
                .len()
        }
    };
    eventually("the removal of the crashed one", PATIENCE, || async {
        alive
            .registry
            .renew(&lease.group, &renewal(&lease))
            .await
            .unwrap();
        match (left(SLICES).await, left(LEASES).await) {
            (1, 1) => Ok(()),
            other => Err(format!("{other:?} slices and Leases")),
        }
    })
    .await;
    assert_eq!(shown(&reader, "crash").await, ["192.0.2.2"]);
    alive.registry.deregister(&lease.key).await.unwrap();
    assert_eq!((left(SLICES).await, left(LEASES).await), (0, 0));
}

pub(crate) async fn k_11_the_lease_is_accepted_and_renewed(shared: Shared) {
    let kube = cluster(&shared).await;
    let backend = admin(&kube);
    let lease = backend
        .registry
        .register(&web("beats", "192.0.2.1").build().unwrap())
        .await
        .unwrap();
    let path = format!("{LEASES}/{}", lease.group.as_str().split_once('/').unwrap().1);
    let time = async || ask(&kube, "GET", &path, None).await["spec"]["renewTime"].clone();
    let before = time().await;
    backend
        .registry
        .renew(&lease.group, &renewal(&lease))
        .await
        .unwrap();
    let after = time().await;
    assert_ne!(before, after);
    assert_eq!(
        after.as_str().unwrap().split_once('.').unwrap().1.len(),
        7,
        "{after}"
    );
    backend.registry.deregister(&lease.key).await.unwrap();
    let late = backend
        .registry
        .renew(&lease.group, &renewal(&lease))
        .await
        .unwrap_err();
    assert_eq!(late.kind(), ErrorKind::NotFound);
}

pub(crate) async fn two_registrants_of_one_id_do_not_fight(shared: Shared) {
    let kube = cluster(&shared).await;
    let (old, new) = (admin(&kube), admin(&kube));
    let at = |address| web("fight", address).id("one").ttl(TTL).build().unwrap();
    let first = old.registry.register(&at("192.0.2.1")).await.unwrap();
    let second = new.registry.register(&at("192.0.2.2")).await.unwrap();
    assert_eq!(shown(&new, "fight").await, ["192.0.2.2"], "the newest wins");
    // The old one is told, however often it tries, and its end takes nothing of the new one along.
    for _ in 0..3 {
        new.registry
            .renew(&second.group, &renewal(&second))
            .await
            .unwrap();
        let told = old
            .registry
            .renew(&first.group, &renewal(&first))
            .await
            .unwrap_err();
        assert_eq!(told.kind(), ErrorKind::Conflict, "{told:?}");
        let told = old.registry.register(&at("192.0.2.1")).await.unwrap_err();
        assert_eq!(told.kind(), ErrorKind::Conflict, "{told:?}");
    }
    assert_eq!(shown(&new, "fight").await, ["192.0.2.2"]);
    // Once the new one is gone without a word, the old one is free to come back.
    eventually("the old one's return", PATIENCE, || async {
        match old.registry.renew(&first.group, &renewal(&first)).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    old.registry.register(&at("192.0.2.1")).await.unwrap();
    assert_eq!(shown(&old, "fight").await, ["192.0.2.1"]);
    new.registry.deregister(&second.key).await.unwrap();
    assert_eq!(shown(&old, "fight").await, ["192.0.2.1"]);
}
