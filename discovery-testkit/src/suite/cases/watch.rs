//! Changes as they happen.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use discovery_core::{Change, Cursor, Error, ErrorKind, Instance, InstanceKey, MetaChange, Query, Result};
use futures::FutureExt;
use tokio::time::{Instant, timeout};

use crate::{
    suite::{
        Case, Env, Flag, Tool, Watching,
        case::case,
        env::{found, ports},
    },
    try_eventually,
};

const G: &str = "watch";

pub(super) const CASES: &[Case] = &[
    case!(G, the_first_change_is_a_reset).needs(&[Flag::Register]),
    case!(G, an_unknown_service_starts_with_an_empty_reset).needs(&[Flag::Register]),
    case!(G, additions_updates_and_removals_come_in_order).needs(&[Flag::Register]),
    case!(G, a_change_is_pushed)
        .needs(&[Flag::Register, Flag::PushWatch])
        .proves(&[Flag::PushWatch]),
    case!(G, a_change_of_metadata_alone_is_told).needs(&[Flag::Register]),
    case!(G, other_services_are_not_told).needs(&[Flag::Register]),
    case!(G, a_resumed_watch_loses_and_repeats_nothing)
        .needs(&[Flag::Register, Flag::Resume])
        .proves(&[Flag::Resume]),
    case!(G, an_expired_cursor_says_so_and_a_fresh_watch_starts_over)
        .needs(&[Flag::Register, Flag::Resume])
        .tools(&[Tool::Compact]),
    case!(G, a_cursor_of_a_lost_history_is_not_resumed)
        .needs(&[Flag::Register, Flag::Resume])
        .tools(&[Tool::Forget])
        .exclusive(),
    case!(G, nothing_happens_before_it_is_polled).tools(&[Tool::OpenWatches]),
    case!(G, dropping_it_ends_it_on_the_server).tools(&[Tool::OpenWatches]),
    case!(G, two_watchers_agree).needs(&[Flag::Register]),
    case!(G, a_quiet_watch_confirms),
    case!(G, events_fold_to_the_truth).needs(&[Flag::Register]),
];

/// A poll may be answered from another cache than a look-up was, with what was there a moment before.
async fn the_first_change_is_a_reset(env: Env) -> Result<()> {
    let api = env.name("api");
    env.register(&api, 1).await?;
    env.register(&api, 2).await?;
    let query = Query::service(&api)?;
    env.sees_ports(&env.backend, &query, &[1, 2]).await?;
    let mut watching = env.watch(&query);
    let first = watching.event().await?;
    assert!(matches!(first.change, Change::Reset(_)), "{first:?}");
    assert_eq!(first.evidence.suspicion(), None);
    if Flag::PushWatch.of(&env.backend) {
        assert_eq!(ports(watching.instances.values()), [1, 2]);
    }
    watching.until_ports(&[1, 2]).await
}

/// An empty service is authoritative knowledge, and a watch on it sees it come to life.
async fn an_unknown_service_starts_with_an_empty_reset(env: Env) -> Result<()> {
    let api = env.name("api");
    let mut watching = env.watch(&Query::service(&api)?);
    let first = watching.event().await?;
    assert_eq!(first.change, Change::Reset(Vec::new()));
    assert_eq!(first.evidence.suspicion(), None);
    env.register(&api, 1).await?;
    watching.until_ports(&[1]).await
}

async fn additions_updates_and_removals_come_in_order(env: Env) -> Result<()> {
    let api = env.name("api");
    let mut watching = env.watch(&Query::service(&api)?);
    watching.event().await?;
    env.register(&api, 1).await?;
    watching.until_ports(&[1]).await?;
    let second = env.register(&api, 2).await?;
    watching.until_ports(&[1, 2]).await?;
    let first = env.registration(&api, 1).meta("version", "2").build()?;
    let first = env.backend.registry.register(&first).await?;
    watching
        .until("version 2", |known| {
            known
                .get(&first.key)
                .is_some_and(|i| i.meta.contains_key("version"))
        })
        .await?;
    env.backend.registry.deregister(&second.key).await?;
    watching.until_ports(&[1]).await?;
    env.backend.registry.deregister(&first.key).await?;
    watching.until_ports(&[]).await
}

/// It does not wait for anybody to ask: who asks now and then is told each change, made right after the one before, late.
async fn a_change_is_pushed(env: Env) -> Result<()> {
    let api = env.name("api");
    let mut watching = env.watch(&Query::service(&api)?);
    watching.event().await?;
    let mut fastest = Duration::MAX;
    for port in 1..=5 {
        let registered = Instant::now();
        env.register(&api, port).await?;
        watching
            .until("it", |known| known.len() == usize::from(port))
            .await?;
        fastest = fastest.min(registered.elapsed());
    }
    // On a busy machine not all of them are.
    assert!(fastest <= env.subject.visible_within(), "told after {fastest:?}");
    Ok(())
}

async fn a_change_of_metadata_alone_is_told(env: Env) -> Result<()> {
    let api = env.name("api");
    let lease = env.register(&api, 1).await?;
    let query = Query::service(&api)?;
    env.sees_ports(&env.backend, &query, &[1]).await?;
    let mut watching = env.watch(&query);
    watching.until_ports(&[1]).await?;
    if Flag::UpdateMeta.of(&env.backend) {
        env.backend
            .registry
            .update_meta(&lease.key, &MetaChange::new().set("k", "v"))
            .await?;
    } else {
        let registration = env.registration(&api, 1).meta("k", "v").build()?;
        env.backend.registry.register(&registration).await?;
    }
    watching
        .until("the metadata", |known| known[&lease.key].meta.contains_key("k"))
        .await
}

async fn other_services_are_not_told(env: Env) -> Result<()> {
    let (api, longer) = (env.name("api"), env.name("api") + "-2");
    let mut watching = env.watch(&Query::service(&api)?);
    watching.event().await?;
    env.register(&longer, 1).await?;
    env.sees_ports(&env.backend, &Query::service(&longer)?, &[1])
        .await?;
    env.register(&api, 2).await?;
    let change = watching.change().await?;
    assert_eq!(watching.instances.len(), 1, "{change:?}");
    watching.until_ports(&[2]).await
}

async fn a_resumed_watch_loses_and_repeats_nothing(env: Env) -> Result<()> {
    let api = env.name("api");
    let query = Query::service(&api)?;
    let leases = [env.register(&api, 1).await?, env.register(&api, 2).await?];
    env.register(&api, 3).await?;
    let mut watching = env.watch(&query);
    watching.until_ports(&[1, 2, 3]).await?;
    let away = watching.cursor.clone();
    assert!(away.is_some(), "a watch that can resume tells from where");

    // The old watch is dropped, then things happen while nobody looks.
    let changed = env.registration(&api, 1).meta("version", "2").build()?;
    let mut watching = watching.resume(&env.backend, &query);
    env.backend.registry.register(&changed).await?;
    env.backend.registry.deregister(&leases[1].key).await?;
    env.register(&api, 4).await?;
    while !(ports(watching.instances.values()) == [1, 3, 4]
        && watching.instances[&leases[0].key].meta.contains_key("version"))
    {
        // Folding refuses what is told twice.
        let change = watching.change().await?;
        assert!(
            !matches!(change, Change::Reset(_)),
            "started over instead of resuming: {change:?}"
        );
    }

    // The very next change is the next thing that happens.
    env.register(&api, 5).await?;
    let change = watching.change().await?;
    assert!(
        matches!(&change, Change::Upsert(some) if some.len() == 1 && some[0].port == 5),
        "{change:?}"
    );
    Ok(())
}

async fn an_expired_cursor_says_so_and_a_fresh_watch_starts_over(env: Env) -> Result<()> {
    let api = env.name("api");
    let query = Query::service(&api)?;
    let lease = env.register(&api, 1).await?;
    let mut watching = env.watch(&query);
    watching.until_ports(&[1]).await?;
    let cursor = watching.cursor.clone();
    drop(watching);
    env.backend.registry.deregister(&lease.key).await?;
    env.register(&api, 2).await?;
    env.sees_ports(&env.backend, &query, &[2]).await?;
    env.subject.compact().await?;
    let mut watching = Watching::new(&env.backend, &query, cursor, env.patience());
    let error = watching
        .change()
        .await
        .expect_err("changes after a cursor that has expired");
    assert_eq!(error.kind(), ErrorKind::WatchExpired, "{error:?}");
    let mut fresh = env.watch(&query);
    let first = fresh.event().await?;
    assert!(matches!(first.change, Change::Reset(_)), "{first:?}");
    fresh.until_ports(&[2]).await
}

/// Numbers of a history that is gone must not be taken for those of the new one.
async fn a_cursor_of_a_lost_history_is_not_resumed(env: Env) -> Result<()> {
    let api = env.name("api");
    let query = Query::service(&api)?;
    for port in 1..=5 {
        env.register(&api, port).await?;
    }
    let mut watching = env.watch(&query);
    watching.until_ports(&[1, 2, 3, 4, 5]).await?;
    env.subject.forget().await?;
    env.sees_ports(&env.backend, &query, &[]).await?;
    env.register(&api, 6).await?;
    let mut resumed = watching.resume(&env.backend, &query);
    match resumed.change().await {
        Ok(change) => assert!(matches!(change, Change::Reset(_)), "{change:?}"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WatchExpired, "{error:?}");
            resumed = env.watch(&query);
        }
    }
    resumed.until_ports(&[6]).await
}

fn open(env: &Env) -> usize {
    env.subject
        .open_watches()
        .expect("the provider said that it counts watches")
}

async fn nothing_happens_before_it_is_polled(env: Env) -> Result<()> {
    let query = Query::service(env.name("api"))?;
    let before = (open(&env), env.subject.requests());
    let stream = env.backend.watcher.watch(&query, None);
    // Whatever a constructor had started would show by the time another request has been answered.
    env.backend.registry.instances(&query).await?;
    let after = (open(&env), env.subject.requests().map(|n| n - 1));
    assert_eq!(after, before, "watches and requests");
    drop(stream);
    Ok(())
}

async fn dropping_it_ends_it_on_the_server(env: Env) -> Result<()> {
    let query = Query::service(env.name("api"))?;
    let before = open(&env);
    let mut watching = env.watch(&query);
    watching.event().await?;
    assert!(
        watching.event().now_or_never().is_none(),
        "it waits for the next event"
    );
    let opened = try_eventually("an open watch", env.patience(), || async { open(&env) > before });
    opened.await?;
    drop(watching);
    try_eventually("its end", env.patience(), || async {
        let now = open(&env);
        if now == before {
            Ok(())
        } else {
            Err(format!("{now} open watches"))
        }
    })
    .await
}

async fn two_watchers_agree(env: Env) -> Result<()> {
    let api = env.name("api");
    let query = Query::service(&api)?;
    let (mut one, mut two) = (env.watch(&query), env.watch(&query));
    one.event().await?;
    let leases = [env.register(&api, 1).await?, env.register(&api, 2).await?];
    env.backend.registry.deregister(&leases[0].key).await?;
    env.register(&api, 3).await?;
    one.until_ports(&[2, 3]).await?;
    two.until_ports(&[2, 3]).await?;
    assert_eq!(one.instances, two.instances);
    Ok(())
}

async fn a_quiet_watch_confirms(env: Env) -> Result<()> {
    let mut watching = env.watch(&Query::service(env.name("api"))?);
    watching.event().await?;
    let every = env.backend.registry.capabilities().confirm_every;
    for _ in 0..3 {
        let event = timeout(every + env.patience(), watching.event())
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, "no confirmation"))??;
        assert_eq!(event.change, Change::Confirmed);
    }
    Ok(())
}

/// after anything that may happen, what the events add up to is what the registry says.
async fn events_fold_to_the_truth(env: Env) -> Result<()> {
    let api = env.name("api");
    let query = Query::service(&api)?.include_unhealthy();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut watching = env.watch(&query);
    watching.event().await?;
    let mut keys: BTreeMap<u16, InstanceKey> = BTreeMap::new();
    for step in 0..200 {
        let port = random.u16(1..=12);
        match (random.u8(..4), keys.get(&port)) {
            (0, Some(key)) => {
                env.backend.registry.deregister(key).await?;
                keys.remove(&port);
            }
            (1, _) => {
                let registration = env
                    .registration(&api, port)
                    .meta("step", step.to_string())
                    .build()?;
                keys.insert(port, env.backend.registry.register(&registration).await?.key);
            }
            (2, _) => {
                keys.insert(port, env.register(&api, port).await?.key);
            }
            (3, _) if random.bool() => {
                // A watch that was cut goes on where it was, or starts over.
                let cursor: Option<Cursor> = watching.cursor.clone();
                if Flag::Resume.of(&env.backend) && cursor.is_some() {
                    watching = watching.resume(&env.backend, &query);
                }
            }
            // A raw watch may fail and end, as where a poll meets a machine too busy to answer in time: it is opened again.
            _ => match watching.event().now_or_never() {
                Some(Err(error)) if error.is_retryable() => watching = env.watch(&query),
                Some(Err(error)) => return Err(error),
                Some(Ok(_)) | None => {}
            },
        }
    }
    // What is true in the end was not true before.
    keys.insert(99, env.register(&api, 99).await?.key);
    let truth: BTreeMap<InstanceKey, Arc<Instance>> = try_eventually("the truth", env.patience(), || async {
        let found = found(&env.backend, &query)
            .await
            .map_err(|error| error.to_string())?;
        let truth: BTreeMap<_, _> = found.into_iter().map(|i| (i.key.clone(), i)).collect();
        if truth.len() == keys.len() {
            Ok(truth)
        } else {
            Err(format!("{truth:?}"))
        }
    })
    .await?;
    watching
        .until(format!("the truth (seed {seed}): {truth:?}"), |known| {
            *known == truth
        })
        .await?;
    let last = watching.event().await?;
    assert_eq!(
        last.change,
        Change::Confirmed,
        "nothing is told after the truth (seed {seed})"
    );
    let mut fresh = env.watch(&query);
    let first = fresh.event().await?;
    assert!(matches!(first.change, Change::Reset(_)), "{first:?}");
    if Flag::PushWatch.of(&env.backend) {
        assert_eq!(fresh.instances, truth);
    }
    fresh
        .until(format!("the same truth (seed {seed})"), |known| *known == truth)
        .await
}
