//! Balancing, counting, and many of everything.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use discovery_core::{
    InstanceKey, Query, Result,
    pick::{Random, Service, Strategy, Subscription},
};
use futures::future::try_join_all;
use tokio::time::interval;

use crate::{
    suite::{
        Case, Env, Flag, Tool,
        case::case,
        env::{found, ports},
    },
    try_eventually,
};

const G: &str = "load";
const NEEDS: &[Flag] = &[Flag::Register];
/// How long something may take that is done at once: never an assertion about speed.
const DEADLINE: Duration = Duration::from_secs(30);

pub(super) const CASES: &[Case] = &[
    case!(G, round_robin_spreads_evenly).needs(NEEDS),
    case!(G, random_spreads_within_tolerance).needs(NEEDS),
    case!(G, calls_under_way_are_counted_across_changes).needs(NEEDS),
    case!(G, churn_ends_at_the_truth).needs(NEEDS),
    case!(G, many_subscribers_share_one_watch)
        .needs(NEEDS)
        .tools(&[Tool::OpenWatches])
        .exclusive(),
];

/// A handle that shows instances at these ports, registered over the way that faults leave alone.
async fn showing(env: &Env, service: Service, name: &str, wanted: &[u16]) -> Result<Service> {
    let truth = env.subject.direct().await?;
    for port in wanted {
        truth
            .registry
            .register(&env.registration(name, *port).build()?)
            .await?;
    }
    shows(env, &service, wanted).await?;
    Ok(service)
}

async fn shows(env: &Env, service: &Service, wanted: &[u16]) -> Result<()> {
    try_eventually(format!("the ports {wanted:?}"), 2 * env.patience(), || async {
        let view = service.instances().await.map_err(|error| error.to_string())?;
        let shown = ports(&view.instances);
        if shown == wanted {
            Ok(())
        } else {
            Err(format!("{shown:?}"))
        }
    })
    .await
}

fn count(picks: usize, mut pick: impl FnMut() -> u16) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..picks {
        *counts.entry(pick()).or_default() += 1;
    }
    counts
}

async fn round_robin_spreads_evenly(env: Env) -> Result<()> {
    let (api, client) = (env.name("api"), env.client().await?);
    let service = showing(&env, client.service(&api)?, &api, &[1, 2, 3, 4, 5]).await?;
    let mut reader = service.reader();
    let by_reader = count(1003, || reader.pick().expect("an instance").port);
    let by_handle = count(1003, || service.acquire().expect("an instance").port);
    for counts in [by_reader, by_handle] {
        assert_eq!(counts.len(), 5, "{counts:?}");
        assert!(counts.values().all(|n| (200..=201).contains(n)), "{counts:?}");
    }
    client.shutdown(DEADLINE).await
}

async fn random_spreads_within_tolerance(env: Env) -> Result<()> {
    let (api, client) = (env.name("api"), env.client().await?);
    let random: Arc<dyn Strategy> = Arc::new(Random);
    let service = client.balanced(&Query::service(&api)?, &random)?;
    let service = showing(&env, service, &api, &[1, 2, 3, 4]).await?;
    let mut reader = service.reader();
    let counts = count(10_000, || reader.pick().expect("an instance").port);
    // Six standard deviations around 2500.
    assert!(
        counts.len() == 4 && counts.values().all(|n| n.abs_diff(2500) < 260),
        "{counts:?}"
    );
    client.shutdown(DEADLINE).await
}

async fn calls_under_way_are_counted_across_changes(env: Env) -> Result<()> {
    let (api, client) = (env.name("api"), env.client().await?);
    let service = showing(&env, client.service(&api)?, &api, &[1, 2]).await?;
    let under_way: Vec<_> = (0..6).map(|_| service.acquire()).collect::<Result<_>>()?;
    let loads = || {
        let mut loads: BTreeMap<InstanceKey, u32> = BTreeMap::new();
        for _ in 0..3 {
            let picked = service.acquire()?;
            loads.insert(picked.key.clone(), picked.load().in_flight() - 1);
        }
        Ok::<_, discovery_core::Error>(loads)
    };
    assert_eq!(loads()?.into_values().collect::<Vec<_>>(), [3, 3]);
    // One changes, one is new: what is under way is remembered by key.
    let truth = env.subject.direct().await?;
    truth
        .registry
        .register(&env.registration(&api, 1).meta("version", "2").build()?)
        .await?;
    truth
        .registry
        .register(&env.registration(&api, 3).build()?)
        .await?;
    try_eventually("three instances", env.patience(), || async {
        let view = service.instances().await.map_err(|error| error.to_string())?;
        let changed = view.instances.iter().any(|i| i.meta.contains_key("version"));
        if changed && view.instances.len() == 3 {
            Ok(())
        } else {
            Err(format!("{view:?}"))
        }
    })
    .await?;
    let mut counts: Vec<_> = loads()?.into_values().collect();
    counts.sort_unstable();
    assert_eq!(counts, [0, 3, 3]);
    drop(under_way);
    assert_eq!(loads()?.into_values().collect::<Vec<_>>(), [0, 0, 0]);
    client.shutdown(DEADLINE).await
}

/// A hundred changes a second for three seconds, while picks go on.
async fn churn_ends_at_the_truth(env: Env) -> Result<()> {
    let (api, truth, client) = (env.name("api"), env.subject.direct().await?, env.client().await?);
    let service = showing(&env, client.service(&api)?, &api, &[1000]).await?;
    let mut reader = service.reader();
    let mut keys: BTreeMap<u16, InstanceKey> = BTreeMap::new();
    let mut ticks = interval(Duration::from_millis(10));
    for step in 0..300_u32 {
        ticks.tick().await;
        let port = fastrand::u16(1..=50);
        if let Some(key) = keys.remove(&port) {
            truth.registry.deregister(&key).await?;
        } else {
            let registration = env
                .registration(&api, port)
                .meta("step", step.to_string())
                .build()?;
            keys.insert(port, truth.registry.register(&registration).await?.key);
        }
        assert!(reader.pick().is_some(), "one instance is always there");
    }
    let query = Query::service(&api)?;
    let wanted: Vec<_> = keys.keys().copied().chain([1000]).collect();
    env.sees_ports(&truth, &query, &wanted).await?;
    shows(&env, &service, &wanted).await?;
    let mut view: Vec<_> = service.instances().await?.instances.iter().cloned().collect();
    view.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(view, found(&truth, &query).await?);
    client.shutdown(DEADLINE).await
}

/// five hundred subscribers are one watch; one that never looks holds up nobody and sees the latest in the end.
async fn many_subscribers_share_one_watch(env: Env) -> Result<()> {
    let (api, client) = (env.name("api"), env.client().await?);
    let service = showing(&env, client.service(&api)?, &api, &[1]).await?;
    let mut slow = service.subscribe();
    let services = (0..500)
        .map(|_| client.service(&api))
        .collect::<Result<Vec<_>>>()?;
    let mut subscriptions: Vec<_> = services.iter().map(Service::subscribe).collect();
    try_join_all(subscriptions.iter_mut().map(Subscription::next)).await?;
    assert_eq!(env.subject.open_watches(), Some(1));
    let truth = env.subject.direct().await?;
    for port in 2..=20 {
        truth
            .registry
            .register(&env.registration(&api, port).build()?)
            .await?;
    }
    let wanted: Vec<_> = (1..=20).collect();
    let wanted = &wanted;
    let all = subscriptions.iter_mut().map(|changes| async move {
        while ports(&changes.next().await?.instances) != *wanted {}
        Ok::<_, discovery_core::Error>(())
    });
    tokio::time::timeout(2 * env.patience(), try_join_all(all))
        .await
        .expect("all of them to see it")?;
    assert_eq!(ports(&slow.next().await?.instances), *wanted);
    assert_eq!(client.status().await.watches, 1);
    assert!(env.subject.open_watches().is_some_and(|open| open <= 1));
    client.shutdown(DEADLINE).await
}
