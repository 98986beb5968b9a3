//! Three members: the leader dies, the quorum is lost, the one in use hangs.

use std::time::Duration;

use discovery_core::{Change, ErrorKind, Source};
use discovery_testkit::{
    eventually,
    server::{Server, etcd::EtcdCluster},
};
use futures::StreamExt;
use tokio::time::{Instant, timeout};

use crate::support::{PATIENCE, Setup, TTL, api, at, client, lasting, ports, query, shows, view_shows};

/// The members but for the first.
fn others(cluster: &EtcdCluster) -> Vec<String> {
    cluster.urls().split_off(1)
}

pub(crate) async fn e_5_e_6_a_lost_quorum_ends_nothing(setup: Setup) {
    let cluster = setup.cluster().await;
    let client = client(at(cluster.urls()));
    client.register(api(1)).await.unwrap();
    view_shows(&client, 1).await;
    let [first, second, _] = cluster.members();
    first.stop().await.unwrap();
    second.stop().await.unwrap();
    let view = client.query(&query()).unwrap();
    let until = Instant::now() + 3 * TTL;
    let mut stale = false;
    while Instant::now() < until {
        let found = view.instances().await.unwrap();
        assert_eq!(found.instances.len(), 1, "an outage removes nothing");
        stale |= found.source == Source::Stale;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(stale, "nobody said so");
    cluster.start().await.unwrap();
    let direct = at(cluster.urls());
    shows(&direct, &[1]).await;
    eventually("a live view", PATIENCE, || async {
        let found = view.instances().await.map_err(|failed| failed.to_string())?;
        match (found.source, found.instances.len()) {
            (Source::Live, 1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    client.shutdown(PATIENCE).await.unwrap();
    shows(&direct, &[]).await;
}

pub(crate) async fn e_18_a_member_alone_says_so(setup: Setup) {
    let cluster = setup.cluster().await;
    let [first, second, third] = cluster.members();
    let lonely = at([third.url()]);
    let mut watch = lonely.watcher.watch(&query(), None);
    let listed = timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(listed.change, Change::Reset(_)));
    first.kill().await.unwrap();
    second.kill().await.unwrap();
    let failed = timeout(PATIENCE, async {
        loop {
            if let Err(failed) = watch.next().await.unwrap() {
                return failed;
            }
        }
    })
    .await
    .unwrap();
    assert_eq!(failed.kind(), ErrorKind::Unavailable, "{failed:?}");
    let failed = ports(&lonely).await.unwrap_err();
    assert!(failed.is_retryable(), "{failed:?}");
}

pub(crate) async fn e_19_a_stopped_member_is_left_for_another(setup: Setup) {
    let cluster = setup.cluster().await;
    let watched = client(at(cluster.urls()));
    watched.register(api(1)).await.unwrap();
    view_shows(&watched, 1).await;
    // The first is the one in use: it neither answers nor hangs up.
    let first = &cluster.members()[0];
    first.pause().await.unwrap();
    let other = at(others(&cluster));
    let lease = eventually("a leader among the others", PATIENCE, async || {
        other.registry.register(&lasting(2)).await
    })
    .await;
    // A probe after 6 s of silence at most, 3 s for its answer: nothing else would tell that it hangs.
    view_shows(&watched, 2).await;
    shows(&other, &[1, 2]).await;
    first.resume().unwrap();
    other.registry.deregister(&lease.key).await.unwrap();
    view_shows(&watched, 1).await;
    watched.shutdown(PATIENCE).await.unwrap();
    shows(&other, &[]).await;
}

pub(crate) async fn e_37_the_leader_may_die(setup: Setup) {
    let cluster = setup.cluster().await;
    let watched = client(at(cluster.urls()));
    watched.register(api(1)).await.unwrap();
    view_shows(&watched, 1).await;
    cluster.leader().await.unwrap().kill().await.unwrap();
    let alive = at(cluster.urls());
    let heir = eventually("a new leader", PATIENCE, async || {
        alive.registry.register(&lasting(2)).await
    })
    .await;
    view_shows(&watched, 2).await;
    shows(&alive, &[1, 2]).await;
    alive.registry.deregister(&heir.key).await.unwrap();
    watched.shutdown(PATIENCE).await.unwrap();
    shows(&alive, &[]).await;
}
