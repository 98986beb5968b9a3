//! Many of everything.

use std::time::Duration;

use discovery::Client;
use discovery_core::{Change, Query, Registration, Scope};
use discovery_testkit::eventually;
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use tokio::time::{Instant, timeout};

use crate::{
    Setup, slow,
    support::{PATIENCE, on, shows, web},
};

const APPS: u16 = 500;
const INSTANCES: u16 = 20;

pub(crate) async fn five_hundred_applications_of_twenty(setup: Setup) {
    let eureka = setup
        .started_with(|builder| builder.property("eureka.server.eviction-interval-timer-in-ms", "60000"))
        .await;
    let backend = on(&eureka);
    let all = (0..APPS).flat_map(|app| (1..=INSTANCES).map(move |port| (app, port)));
    let registered: Vec<_> = all
        .map(|(app, port)| {
            Registration::builder(format!("app-{app}"), "127.0.0.1", port)
                .build()
                .unwrap()
        })
        .collect();
    stream::iter(&registered)
        .map(|registration| backend.registry.register(registration))
        .buffer_unordered(64)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    let services = backend.registry.services(&Scope::default()).await.unwrap();
    assert_eq!(services.len(), usize::from(APPS));
    assert!(
        services
            .iter()
            .all(|service| service.instances == Some(usize::from(INSTANCES)))
    );

    // Everybody who watches one of them shares one poll, and sees a change within a few of them.
    let mut watches: Vec<_> = (0..APPS)
        .map(|app| {
            let query = Query::service(format!("app-{app}")).unwrap();
            backend.watcher.watch(&query, None)
        })
        .collect();
    let firsts = try_join_all(
        watches
            .iter_mut()
            .map(|watch| async { watch.next().await.unwrap() }),
    );
    let firsts = timeout(PATIENCE, firsts).await.expect("first answers").unwrap();
    assert!(
        firsts
            .iter()
            .all(|first| matches!(&first.change, Change::Reset(all) if all.len() == usize::from(INSTANCES)))
    );
    let watch = &mut watches[7];
    let changed = Registration::builder("app-7", "127.0.0.1", 99).build().unwrap();
    backend.registry.register(&changed).await.unwrap();
    let seen = async {
        loop {
            if let Change::Upsert(some) = watch.next().await.unwrap().unwrap().change {
                break some.len();
            }
        }
    };
    assert_eq!(timeout(PATIENCE, seen).await.unwrap(), 1);
}

/// A hundred times, or a thousand: withdrawn while heartbeats are under way, it stays away.
pub(crate) async fn a_9_u_19_heartbeats_race_with_withdrawals(setup: Setup) {
    let rounds: u16 = if slow() { 20 } else { 2 };
    let eureka = setup.started().await;
    let client = Client::builder(on(&eureka)).build().unwrap();
    let truth = on(&eureka);
    for _ in 0..rounds {
        let all = (1..=50_u16).map(|port| web(port).ttl(Duration::from_secs(1)).build().unwrap());
        let registered = try_join_all(all.map(|one| client.register(one))).await.unwrap();
        // Heartbeats are a third of a second apart: each is withdrawn at another moment between two.
        let withdrawn = stream::iter(registered.iter().enumerate()).map(|(n, one)| async move {
            tokio::time::sleep(Duration::from_millis(n as u64 * 13)).await;
            one.deregister().await
        });
        withdrawn
            .buffer_unordered(50)
            .try_collect::<Vec<_>>()
            .await
            .unwrap();
        for one in &registered {
            assert_eq!(truth.registry.instance(one.key()).await.unwrap(), None);
        }
    }
    // Nor do they come back with a heartbeat that was late.
    shows(&truth, "web", &[]).await;
    let until = Instant::now() + Duration::from_secs(2);
    eventually("two seconds", PATIENCE, async || {
        let query = Query::service("web").unwrap();
        assert!(
            truth
                .registry
                .instances(&query)
                .await
                .unwrap()
                .instances
                .is_empty()
        );
        Instant::now() > until
    })
    .await;
    client.shutdown(PATIENCE).await.unwrap();
}
