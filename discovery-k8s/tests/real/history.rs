//! Restarts, compaction and size.

use std::{sync::Arc, time::Duration};

use discovery_core::{
    Change, ErrorKind, Query,
    watch::{Recover, Recovered},
};
use discovery_testkit::{
    eventually,
    proxy::{
        Close, Direction, Flow, Proxy,
        http::{HttpProxy, Rule},
    },
    server::{Server as _, kube::KubeBuilder},
};
use futures::{StreamExt as _, stream};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::{
    Shared,
    servers::{Bridge, Kube},
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
                // A new apiserver may not know our version any more, where others wrote meanwhile: then all is listed again.
                let expired = error.kind() == ErrorKind::WatchExpired;
                assert!(error.is_retryable() || expired, "{error:?}");
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

/// Etcd is empty again, as after an old copy was put back: a watch from before would be silent for ever.
pub(crate) async fn k_26_a_server_that_came_back_with_less_history_is_noticed(_: Shared) {
    let kube = Kube::start(|builder| builder).await.unwrap();
    let backend = admin(&kube);
    // History ahead of what an empty server has.
    let values = backend.config.clone().unwrap();
    let key = discovery_core::ConfigKey::new("history").unwrap();
    for n in 0..300 {
        let text = n.to_string();
        values
            .put(&key, text.as_bytes(), discovery_core::PutMode::Upsert)
            .await
            .unwrap();
    }
    let lasting = web("restored", "192.0.2.1")
        .ttl(Duration::from_secs(600))
        .build()
        .unwrap();
    backend.registry.register(&lasting).await.unwrap();
    let query = Query::service("restored").unwrap();
    let watcher = backend.watcher.clone();
    let mut watch = Recover::new(Duration::from_secs(10), move |since| watcher.watch(&query, since));
    let mut next = async || loop {
        match timeout(PATIENCE * 2, watch.next()).await.expect("news in time") {
            Recovered::Event(event) if event.change != Change::Confirmed => return event.change,
            _ => {}
        }
    };
    assert!(matches!(next().await, Change::Reset(all) if all.len() == 1));
    kube.forget().await.unwrap();
    let change = next().await;
    assert!(
        matches!(&change, Change::Reset(all) if all.is_empty())
            || matches!(&change, Change::Remove(gone) if gone.len() == 1),
        "{change:?}"
    );
}

/// The server answers 410 to the second page: what is told is of one moment all the same.
pub(crate) async fn k_30_history_compacted_between_two_pages(_: Shared) {
    let kube = Kube::start(KubeBuilder::without_watch_cache).await.unwrap();
    let slice = |n: usize| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": format!("pages-{n:04}"), "labels": { "kubernetes.io/service-name": "pages" } },
            "addressType": "IPv4", "ports": [{ "port": 80 }],
            "endpoints": [{ "addresses": [format!("198.51.{}.{}", n / 250, n % 250 + 1)] }],
        })
    };
    stream::iter(0..510)
        .for_each_concurrent(8, |n| {
            let kube = kube.clone();
            async move { drop(ask(&kube, "POST", SLICES, Some(&slice(n))).await) }
        })
        .await;
    let bridge = Bridge::start(&kube).await.unwrap();
    let http = HttpProxy::start(bridge.addr).unwrap();
    // The second page waits, so that history can be cut off before it.
    let wait = Rule::get("/apis/discovery.k8s.io/*")
        .when(|request| request.query("continue").is_some())
        .times(1)
        .delay(Duration::from_secs(3));
    http.rule(wait);
    let config = discovery_k8s::K8sConfig::at(format!("http://{}", http.addr())).token(kube.token());
    let backend = discovery_k8s::backend(config).unwrap();
    let query = Query::service("pages").unwrap();
    let (found, ()) = tokio::join!(backend.registry.instances(&query), async {
        eventually("the second page is asked for", PATIENCE, || async {
            let all = http.requests_matching("/apis/discovery.k8s.io/*");
            let second = all.iter().any(|request| request.query("continue").is_some());
            second.then_some(()).ok_or(all.len())
        })
        .await;
        ask(&kube, "DELETE", &format!("{SLICES}/pages-0000"), None).await;
        kube.api.compact().await.unwrap();
    });
    assert_eq!(found.unwrap().instances.len(), 509);
    let lists = http.requests_matching("/apis/discovery.k8s.io/*");
    let pages: Vec<_> = lists
        .iter()
        .map(|request| request.query("continue").is_some())
        .collect();
    assert_eq!(pages, [false, true, false, true], "one started over");
}

pub(crate) async fn k_31_a_watch_that_trickles_in_says_the_same(shared: Shared) {
    let kube = cluster(&shared).await;
    let bridge = Bridge::start(&kube).await.unwrap();
    let way = Proxy::start(bridge.addr).unwrap();
    let mut config = discovery_k8s::K8sConfig::at(format!("http://{}", way.addr())).token(kube.token());
    config.service_discovery.watch_timeout = Duration::from_secs(30);
    let through = discovery_k8s::backend(config).unwrap();
    let mut watch = through.watcher.watch(&Query::service("trickle").unwrap(), None);
    assert!(matches!(change(&mut watch).await.unwrap(), Change::Reset(all) if all.is_empty()));
    let bytes = Flow::Trickle {
        bytes: 7,
        every: Duration::from_millis(1),
    };
    way.flow(Direction::Down, bytes);
    let backend = admin(&kube);
    let here = web("trickle", "192.0.2.1")
        .meta("long", "x".repeat(2000))
        .build()
        .unwrap();
    let lease = backend.registry.register(&here).await.unwrap();
    assert!(matches!(change(&mut watch).await.unwrap(), Change::Upsert(new) if new[0].meta == here.meta));
    backend.registry.deregister(&lease.key).await.unwrap();
    assert!(matches!(change(&mut watch).await.unwrap(), Change::Remove(gone) if gone.len() == 1));
    // Cut in the middle of a line, it goes on where it was.
    way.flow(
        Direction::Down,
        Flow::Trickle {
            bytes: 7,
            every: Duration::from_millis(20),
        },
    );
    let lease = backend.registry.register(&here).await.unwrap();
    way.cut(Close::Reset).await;
    way.heal().unwrap();
    let mut again = loop {
        match change(&mut watch).await {
            Ok(Change::Upsert(new)) => break new,
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                assert!(error.is_retryable(), "{error:?}");
                watch = through.watcher.watch(&Query::service("trickle").unwrap(), None);
                if let Ok(Change::Reset(all)) = change(&mut watch).await {
                    break all;
                }
            }
        }
    };
    assert_eq!(again.pop().unwrap().meta, here.meta);
    backend.registry.deregister(&lease.key).await.unwrap();
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
