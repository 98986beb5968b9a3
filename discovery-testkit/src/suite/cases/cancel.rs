//! Dropped futures and shutdown: nothing leaks, nothing hangs, nothing is half done.

use std::{pin::pin, time::Duration};

use discovery::Client;
use discovery_core::{ErrorKind, HealthReport, InstanceId, MetaChange, PutMode, Query, Result, Status};
use futures::{StreamExt, future::BoxFuture};
use tokio::{task::yield_now, time::timeout};

use crate::{
    suite::{
        Case, Env, Fault, Flag,
        case::case,
        env::{found, kind, ports},
    },
    try_eventually,
};

const G: &str = "cancel";
const NEEDS: &[Flag] = &[Flag::Register];
const LATE: Duration = Duration::from_millis(3);
const DEADLINE: Duration = Duration::from_secs(5);

pub(super) const CASES: &[Case] = &[
    case!(G, any_read_can_be_dropped_anywhere).needs(NEEDS),
    case!(G, any_read_can_be_dropped_while_answers_are_late)
        .needs(NEEDS)
        .faults(&[Fault::Delay(LATE)]),
    case!(G, any_write_can_be_dropped_anywhere).needs(NEEDS),
    case!(G, any_write_can_be_dropped_while_answers_are_late)
        .needs(NEEDS)
        .faults(&[Fault::Delay(LATE)]),
    case!(G, shutdown_can_be_dropped_and_called_again).needs(NEEDS),
    case!(G, shutdown_keeps_its_deadline_while_idle_or_busy).needs(NEEDS),
    case!(G, shutdown_keeps_its_deadline_while_refused)
        .needs(NEEDS)
        .faults(&[Fault::Refuse]),
    case!(G, shutdown_keeps_its_deadline_while_stalled)
        .needs(NEEDS)
        .faults(&[Fault::Stall]),
    case!(G, after_shutdown_everything_is_closed).needs(NEEDS),
];

/// Polls `future` so many times, then drops it.
async fn polled(future: BoxFuture<'_, ()>, times: usize) {
    let mut future = pin!(future);
    for _ in 0..times {
        if futures::poll!(future.as_mut()).is_ready() {
            return;
        }
        // Whatever it waits for on this runtime gets its turn.
        yield_now().await;
    }
}

/// Runs what `make` makes, dropped at each of its first polls and each of its first milliseconds.
async fn dropped<'a>(make: impl Fn() -> BoxFuture<'a, ()>) {
    for times in 0..12 {
        polled(make(), times).await;
    }
    for millis in 1..12 {
        let _ = timeout(Duration::from_millis(millis), make()).await;
    }
}

/// A client that still does all it is for.
async fn works(env: &Env, client: &Client) -> Result<()> {
    let web = env.name("web");
    let registration = env.registration(&web, 9).build()?;
    try_eventually("a registration", DEADLINE, || {
        client.register(registration.clone())
    })
    .await?;
    let service = client.service(&web)?;
    try_eventually("it", env.patience(), || async {
        let view = service.instances().await.map_err(|error| error.to_string())?;
        if ports(&view.instances) == [9] {
            Ok(())
        } else {
            Err(format!("{view:?}"))
        }
    })
    .await
}

async fn any_read_can_be_dropped_anywhere(env: Env) -> Result<()> {
    reads(env).await
}

async fn any_read_can_be_dropped_while_answers_are_late(env: Env) -> Result<()> {
    env.subject.break_way(Fault::Delay(LATE)).await?;
    reads(env).await
}

async fn reads(env: Env) -> Result<()> {
    let (api, client) = (env.name("api"), env.client().await?);
    env.subject
        .direct()
        .await?
        .registry
        .register(&env.registration(&api, 1).build()?)
        .await?;
    let (client, api) = (&client, &api);
    let query = Query::service(api)?;
    let query = &query;
    let fresh = || client.service(env.name(&format!("fresh-{:x}", fastrand::u32(..))));
    dropped(|| {
        Box::pin(async {
            drop(
                client
                    .service(api)
                    .unwrap_or_else(|e| panic!("{e:?}"))
                    .ready()
                    .await,
            );
        })
    })
    .await;
    dropped(|| {
        let service = fresh();
        Box::pin(async move { drop(service.expect("a handle").instances().await) })
    })
    .await;
    dropped(|| {
        let service = fresh();
        Box::pin(async move { drop(service.expect("a handle").subscribe().next().await) })
    })
    .await;
    dropped(|| Box::pin(async { drop(client.lookup(query).await) })).await;
    dropped(|| Box::pin(async { drop(client.services().await) })).await;
    dropped(|| Box::pin(async { drop(client.health(api).await) })).await;
    dropped(|| Box::pin(async { drop(client.status().await) })).await;
    if let Ok(values) = client.config() {
        let (values, key) = (&values, env.name("key"));
        let key = &key;
        dropped(|| Box::pin(async { drop(values.get(key).await) })).await;
        dropped(|| Box::pin(async { drop(values.put(key, b"value", PutMode::Upsert).await) })).await;
        dropped(|| Box::pin(async { drop(values.list(key).await) })).await;
        dropped(|| Box::pin(async { drop(pin!(values.watch(key)).next().await) })).await;
        dropped(|| Box::pin(async { drop(values.delete(key, None).await) })).await;
    }
    works(&env, client).await?;
    client.shutdown(DEADLINE).await
}

async fn any_write_can_be_dropped_anywhere(env: Env) -> Result<()> {
    writes(env).await
}

async fn any_write_can_be_dropped_while_answers_are_late(env: Env) -> Result<()> {
    env.subject.break_way(Fault::Delay(LATE)).await?;
    writes(env).await
}

/// a dropped write leaves an instance either registered and kept, or withdrawn.
async fn writes(env: Env) -> Result<()> {
    let (api, truth, client) = (env.name("api"), env.subject.direct().await?, env.client().await?);
    let next = std::cell::Cell::new(0_u16);
    let next = || {
        next.set(next.get() + 1);
        next.get()
    };
    let (client, env, api) = (&client, &env, &api);
    let id = |port: u16| InstanceId::new(format!("{api}-127.0.0.1-{port}"));
    for times in 0..24_u16 {
        let registration = env.registration(api, next()).build()?;
        let register: BoxFuture<'_, ()> = Box::pin(async { drop(client.register(registration).await) });
        if times < 12 {
            polled(register, times.into()).await;
        } else {
            let _ = timeout(Duration::from_millis(times.into()), register).await;
        }
    }
    let port = next();
    let kept = env.registration(api, port).build()?;
    try_eventually("a registration", DEADLINE, || client.register(kept.clone())).await?;
    let kept = id(port)?;
    let kept = &kept;
    dropped(|| Box::pin(async { drop(client.update_meta(kept, MetaChange::new().set("k", "v")).await) }))
        .await;
    dropped(|| {
        Box::pin(async {
            drop(
                client
                    .report_health(kept, HealthReport::new(Status::Warning))
                    .await,
            );
        })
    })
    .await;
    for times in 0..12 {
        let port = next();
        let registration = env.registration(api, port).build()?;
        try_eventually("a registration", DEADLINE, || {
            client.register(registration.clone())
        })
        .await?;
        let id = id(port)?;
        polled(Box::pin(async { drop(client.deregister(&id).await) }), times).await;
    }
    let query = Query::service(api)?;
    try_eventually("the registry and the client to agree", DEADLINE, || async {
        let shown: Vec<_> = found(&truth, &query).await.map_err(|e| e.to_string())?;
        let shown: Vec<_> = shown.into_iter().map(|i| i.key.id.clone()).collect();
        let mut kept: Vec<_> = client
            .status()
            .await
            .registrations
            .into_iter()
            .map(|r| r.key.id)
            .collect();
        kept.sort();
        if shown == kept {
            Ok(())
        } else {
            Err(format!("registry: {shown:?}; client: {kept:?}"))
        }
    })
    .await?;
    works(env, client).await?;
    client.shutdown(DEADLINE).await?;
    env.sees_ports(&truth, &query, &[]).await
}

async fn shutdown_can_be_dropped_and_called_again(env: Env) -> Result<()> {
    let (api, truth) = (env.name("api"), env.subject.direct().await?);
    for times in 0..12 {
        let client = env.client().await?;
        let registration = env.registration(&api, 1).build()?;
        try_eventually("a registration", DEADLINE, || {
            client.register(registration.clone())
        })
        .await?;
        client.service(&api)?.ready().await?;
        polled(Box::pin(async { drop(client.shutdown(DEADLINE).await) }), times).await;
        client.shutdown(DEADLINE).await?;
        client.shutdown(DEADLINE).await?;
        env.sees_ports(&truth, &Query::service(&api)?, &[]).await?;
    }
    Ok(())
}

async fn shutdown_keeps_its_deadline_while_idle_or_busy(env: Env) -> Result<()> {
    ends_in_time(&env, &env.client().await?, true).await?;
    let (client, api) = (env.client().await?, env.name("api"));
    let service = client.service(&api)?;
    client
        .register(env.registration(&api, 1).build()?)
        .await
        .map(drop)?;
    let mut changes = service.subscribe();
    changes.next().await?;
    // Somebody waits while the client ends.
    let waiting = async { while changes.next().await.is_ok() {} };
    let (ended, ()) = tokio::join!(ends_in_time(&env, &client, true), waiting);
    ended
}

async fn shutdown_keeps_its_deadline_while_refused(env: Env) -> Result<()> {
    broken(env, Fault::Refuse).await
}

async fn shutdown_keeps_its_deadline_while_stalled(env: Env) -> Result<()> {
    broken(env, Fault::Stall).await
}

async fn broken(env: Env, fault: Fault) -> Result<()> {
    let (client, api) = (env.client().await?, env.name("api"));
    let service = client.service(&api)?;
    client
        .register(env.registration(&api, 1).build()?)
        .await
        .map(drop)?;
    service.ready().await?;
    env.subject.break_way(fault).await?;
    let late = env.registration(&api, 2).build()?;
    let (ended, registered) = tokio::join!(ends_in_time(&env, &client, false), client.register(late));
    assert!(registered.is_err(), "registered at a client that ended");
    env.subject.heal().await?;
    ended
}

async fn ends_in_time(env: &Env, client: &Client, healthy: bool) -> Result<()> {
    const SHORT: Duration = Duration::from_secs(1);
    let deadline = if healthy { DEADLINE } else { SHORT };
    // A busy machine may be late, not stuck.
    let ended = timeout(deadline + DEADLINE, client.shutdown(deadline))
        .await
        .expect("an end");
    match ended {
        Ok(()) => {}
        Err(error) => assert!(!healthy && error.is_retryable(), "{error:?}"),
    }
    let closed = client.service(env.name("late"));
    assert_eq!(kind(&closed), Some(ErrorKind::Closed), "{closed:?}");
    Ok(())
}

async fn after_shutdown_everything_is_closed(env: Env) -> Result<()> {
    let (client, api) = (env.client().await?, env.name("api"));
    let registered = client.register(env.registration(&api, 1).build()?).await?;
    let service = client.service(&api)?;
    let mut changes = service.subscribe();
    changes.next().await?;
    client.shutdown(DEADLINE).await?;
    let closed = Some(ErrorKind::Closed);
    let last = async {
        loop {
            if let Err(error) = changes.next().await {
                return error.kind();
            }
        }
    };
    assert_eq!(timeout(DEADLINE, last).await.ok(), closed, "a subscription ends");
    assert_eq!(kind(&service.acquire()), closed);
    assert_eq!(kind(&service.instances().await), closed);
    assert_eq!(service.reader().pick(), None);
    assert_eq!(kind(&client.service(&api)), closed);
    assert_eq!(kind(&client.lookup(&Query::service(&api)?).await), closed);
    assert_eq!(kind(&client.services().await), closed);
    assert_eq!(
        kind(&client.register(env.registration(&api, 2).build()?).await),
        closed
    );
    assert!(matches!(
        kind(&registered.deregister().await),
        Some(ErrorKind::Closed | ErrorKind::NotFound)
    ));
    Ok(())
}
