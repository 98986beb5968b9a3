//! What a server says of its history: indexes that go backwards or are missing, and a removal that is one.

use std::time::Duration;

use discovery_consul::backend;
use discovery_core::{Change, Evidence, Query, Source, Suspicion};
use discovery_testkit::{eventually, proxy::http::Rule, server::consul::Consul};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::support::{PATIENCE, Setup, Views, Way, brisk, client, deregister, direct, ports, register};

/// The least time for which removals are held that come with an index that went backwards.
const HELD: Duration = Duration::from_secs(1);

/// Moves the indexes on.
async fn writes(consul: &Consul) {
    for n in 0..50 {
        consul.put("/v1/kv/some/key", &json!(n)).await.unwrap();
    }
}

/// Registers instance `n` of `db` on a node without agent, which nobody puts back.
async fn outside(consul: &Consul, n: u16) {
    let node: Value = json!({
        "Node": format!("outside-{n}"),
        "Address": "192.0.2.9",
        "Service": { "ID": format!("db-{n}"), "Service": "db", "Port": n },
    });
    consul.register_node(&node).await.unwrap();
}

/// Waits until `db` shows `wanted`, having held back what is gone for a while.
async fn removed_after_a_doubt(db: &mut Views, all: &[u16], wanted: &[u16]) {
    let held = db
        .while_all(all, "removals held back", PATIENCE, |view| {
            view.held
                .as_ref()
                .is_some_and(|held| held.reason == Suspicion::IndexRegressed)
        })
        .await;
    assert_eq!(ports(&held), all);
    let since = Instant::now();
    let good = |view: &discovery_core::Snapshot| ports(view) == wanted;
    let view = db.while_all(all, "what is left", PATIENCE, good).await;
    assert!(
        since.elapsed() > HELD * 9 / 10,
        "believed after {:?}",
        since.elapsed()
    );
    assert_eq!(view.held.map(|held| held.instances), None);
}

pub(crate) async fn c_10_a_snapshot_restored(setup: Setup) {
    let consul = setup.started().await;
    for n in [1, 2, 3] {
        outside(&consul, n).await;
    }
    let before = consul.snapshot().await.unwrap();
    writes(&consul).await;
    outside(&consul, 4).await;
    let client = client(brisk(discovery_testkit::server::Server::endpoint(&consul)));
    let mut db = Views::of(&client, &Query::service("db").unwrap(), &[1, 2, 3, 4]).await;
    consul.restore(before).await.unwrap();
    removed_after_a_doubt(&mut db, &[1, 2, 3, 4], &[1, 2, 3]).await;
    // And the watch is as good as before.
    outside(&consul, 5).await;
    db.live(&[1, 2, 3, 5], PATIENCE).await;
    client.shutdown(PATIENCE).await.unwrap();
}

pub(crate) async fn c_10_a_history_lost_in_a_restart(setup: Setup) {
    let consul = setup.started().await;
    writes(&consul).await;
    register(&direct(&consul), "db", &[1, 2]).await;
    let config = brisk(discovery_testkit::server::Server::endpoint(&consul));
    let query = Query::service("db").unwrap();
    let raw = backend(config.clone()).unwrap();
    let mut watch = raw.watcher.watch(&query, None);
    let cursor = watch.next().await.unwrap().unwrap().cursor;
    drop(watch);
    let client = client(config);
    let mut db = Views::of(&client, &query, &[1, 2]).await;
    consul.restart_empty().await.unwrap();
    removed_after_a_doubt(&mut db, &[1, 2], &[]).await;
    let event = raw.watcher.watch(&query, cursor).next().await.unwrap().unwrap();
    assert_eq!(event.change, Change::Reset([].into()));
    assert_eq!(event.evidence, Evidence::Suspect(Suspicion::IndexRegressed));
    register(&direct(&consul), "db", &[3]).await;
    db.live(&[3], PATIENCE).await;
    client.shutdown(PATIENCE).await.unwrap();
}

/// Without an index nothing tells of changes: the view is still right, by looking every 2.5 s.
pub(crate) async fn c_2_answers_without_an_index(setup: Setup) {
    let consul = setup.started().await;
    let (truth, way) = (direct(&consul), Way::to(&consul));
    register(&truth, "db", &[1, 2]).await;
    let client = client(brisk(way.tcp.addr()));
    let mut db = Views::of(&client, &Query::service("db").unwrap(), &[1, 2]).await;
    let stripped = way.http.rule(Rule::get("*").strip_header("x-consul-index"));
    let since = Instant::now();
    eventually("an answer without an index", PATIENCE, || async {
        stripped.uses() > 0
    })
    .await;
    register(&truth, "db", &[1, 2, 3]).await;
    db.live(&[1, 2, 3], PATIENCE).await;
    deregister(&consul, "db", 1).await;
    db.live(&[2, 3], PATIENCE).await;
    eventually("ten seconds", PATIENCE, || async {
        since.elapsed() > Duration::from_secs(10)
    })
    .await;
    let (asked, looked) = (stripped.uses(), since.elapsed());
    let most = looked.as_millis() / 2500 + 2;
    assert!(u128::from(asked) <= most, "{asked} questions in {looked:?}");
    way.heal();
    register(&truth, "db", &[2, 3, 4]).await;
    db.live(&[2, 3, 4], PATIENCE).await;
    client.shutdown(PATIENCE).await.unwrap();
}

pub(crate) async fn the_last_instance_deregistered(setup: Setup) {
    let consul = setup.started().await;
    register(&direct(&consul), "db", &[1]).await;
    let client = client(brisk(discovery_testkit::server::Server::endpoint(&consul)));
    let mut db = Views::of(&client, &Query::service("db").unwrap(), &[1]).await;
    deregister(&consul, "db", 1).await;
    db.until("nothing", PATIENCE, |view| {
        assert_eq!(view.held, None, "it is believed at once");
        assert_eq!(view.source, Source::Live);
        ports(view).is_empty()
    })
    .await;
    // Confirmations come every second, and tell nobody.
    let since = Instant::now();
    let more = timeout(Duration::from_millis(3500), db.changes.next()).await;
    assert!(more.is_err(), "one empty snapshot, then: {more:?}");
    eventually("a confirmation since", PATIENCE, || async {
        let age = db.service.instances().await.unwrap().age();
        if age < since.elapsed() {
            Ok(())
        } else {
            Err(format!("{age:?}"))
        }
    })
    .await;
    client.shutdown(PATIENCE).await.unwrap();
}
