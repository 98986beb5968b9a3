//! Restarts, compaction and size.

use std::{sync::Arc, time::Duration};

use discovery_core::{
    Change, ErrorKind, Query,
    watch::{Recover, Recovered},
};
use discovery_testkit::{
    proxy::{Close, Flow, Proxy},
    server::{Server as _, kube::KubeBuilder},
};
use futures::{StreamExt as _, stream};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::{
    Shared,
    servers::Kube,
    support::{PATIENCE, SLICES, admin, ask, change, cluster, web},
};

pub(crate) async fn k_33_an_apiserver_killed_under_a_watch_takes_nothing_along(_: Shared) {
    let kube = Kube::start(|builder| builder).await.unwrap();
    let backend = admin(&kube);
    let lasting = |address| {
        web("kept", address)
            .ttl(Duration::from_secs(600))
            .build()
            .unwrap()
    };
    backend.registry.register(&lasting("192.0.2.1")).await.unwrap();
    let query = Query::service("kept").unwrap();
    let watcher = backend.watcher.clone();
    let mut watch = Recover::new(Duration::from_secs(10), move |since| watcher.watch(&query, since));
    let mut downs = 0;
    let mut next = async |downs: &mut u32| loop {
        match timeout(PATIENCE * 2, watch.next()).await.expect("news in time") {
            Recovered::Event(event) if event.change == Change::Confirmed => {}
            Recovered::Event(event) => return event.change,
            Recovered::Down { error, .. } => {
                assert!(error.is_retryable(), "{error:?}");
                *downs += 1;
            }
        }
    };
    assert!(matches!(next(&mut downs).await, Change::Reset(all) if all.len() == 1));
    kube.api.kill().await.unwrap();
    kube.api.start().await.unwrap();
    backend.registry.register(&lasting("192.0.2.2")).await.unwrap();
    loop {
        let change = next(&mut downs).await;
        match change {
            Change::Reset(all) | Change::Upsert(all) => {
                assert!(!all.is_empty(), "an outage is no emptiness");
                if all.iter().any(|instance| &*instance.host == "192.0.2.2") {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) async fn k_20_history_compacted_under_a_stale_watch(_: Shared) {
    let kube = Kube::start(KubeBuilder::without_watch_cache).await.unwrap();
    let backend = admin(&kube);
    let way = Proxy::start(kube.api_endpoint()).unwrap();
    let mut config = discovery_k8s::K8sConfig::at(way.addr().to_string())
        .token(kube.token())
        .ca_file(kube.ca_file());
    config.service_discovery.watch_timeout = Duration::from_secs(30);
    let through = discovery_k8s::backend(config).unwrap();
    let add = async |n: u8| {
        let registration = web("stale", &format!("192.0.2.{n}")).build().unwrap();
        backend.registry.register(&registration).await.unwrap();
    };
    add(1).await;
    let query = Query::service("stale").unwrap();
    let mut watch = through.watcher.watch(&query, None);
    change(&mut watch).await.unwrap();
    add(2).await;
    change(&mut watch).await.unwrap();
    // The watch hears nothing while history goes on and is cut off; then it comes back where it was.
    way.flow_both(Flow::Stall);
    add(3).await;
    kube.api.compact().await.unwrap();
    way.cut(Close::Reset).await;
    way.heal().unwrap();
    let error = loop {
        match change(&mut watch).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WatchExpired, "{error:?}");
    let mut again = through.watcher.watch(&query, None);
    assert!(matches!(change(&mut again).await.unwrap(), Change::Reset(all) if all.len() == 3));
}

pub(crate) async fn three_hundred_slices_of_a_hundred(shared: Shared) {
    let kube = cluster(&shared).await;
    let slice = |n: usize| {
        let pods: Vec<_> = (0..100)
            .map(|i| {
                json!({ "addresses": [format!("203.0.{}.{}", n % 250, i + 1)], "nodeName": "n1", "zone": "a",
                    "targetRef": { "kind": "Pod", "name": format!("big-{n}-{i}") } })
            })
            .collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": format!("big-{n}"), "labels": { "kubernetes.io/service-name": "big" } },
            "addressType": "IPv4", "ports": [{ "name": "http", "port": 80 }], "endpoints": pods,
        })
    };
    let kube = Arc::clone(&kube);
    stream::iter(0..300)
        .for_each_concurrent(8, |n| {
            let kube = kube.clone();
            async move { drop(ask(&kube, "POST", SLICES, Some(&slice(n))).await) }
        })
        .await;
    let backend = admin(&kube);
    let query = Query::service("big").unwrap();
    let started = Instant::now();
    let mut watch = backend.watcher.watch(&query, None);
    assert!(matches!(change(&mut watch).await.unwrap(), Change::Reset(all) if all.len() == 30_000));
    let first = started.elapsed();
    assert_eq!(
        backend.registry.instances(&query).await.unwrap().instances.len(),
        30_000
    );
    // One endpoint of one slice changes: that is all that is told.
    let mut changed = slice(7);
    changed["endpoints"][3]["conditions"] = json!({ "ready": false });
    let started = Instant::now();
    ask(
        &kube,
        "PATCH",
        &format!("{SLICES}/big-7"),
        Some(&json!({ "endpoints": changed["endpoints"] })),
    )
    .await;
    match change(&mut watch).await.unwrap() {
        Change::Upsert(some) => assert_eq!(some.len(), 1),
        other => panic!("{other:?}"),
    }
    #[expect(clippy::print_stdout, reason = "figures for whoever looks")]
    {
        println!(
            "30,000 endpoints in {first:?}, a change in {:?}",
            started.elapsed()
        );
    }
    ask(
        &kube,
        "DELETE",
        &format!("{SLICES}?labelSelector=kubernetes.io/service-name%3Dbig"),
        None,
    )
    .await;
    let mut gone = 0;
    while gone < 30_000 {
        if let Change::Remove(keys) = change(&mut watch).await.unwrap() {
            gone += keys.len();
        }
    }
}
