//! Failures: typed, in time, and never an empty answer.

use std::time::Duration;

use discovery_core::{ErrorKind, Query, Result};
use tokio::time::{sleep, timeout};

use crate::suite::{Case, Env, Fault, Flag, case::case, env::kind};

const G: &str = "errors";

/// What no backend's own deadline comes near to (Consul's writes may take 10 s), not even on a busy machine.
const BOUND: Duration = Duration::from_secs(45);

const DOWN: &[ErrorKind] = &[ErrorKind::Unavailable];
const SILENT: &[ErrorKind] = &[ErrorKind::Timeout, ErrorKind::Unavailable];
const GARBLED: &[ErrorKind] = &[ErrorKind::Protocol, ErrorKind::Unavailable];

pub(super) const CASES: &[Case] = &[
    case!(G, refused_is_unavailable)
        .needs(&[Flag::Register])
        .faults(&[Fault::Refuse]),
    case!(G, silence_is_a_timeout_within_bounds)
        .needs(&[Flag::Register])
        .faults(&[Fault::Stall]),
    case!(G, garbage_is_a_protocol_error)
        .needs(&[Flag::Register])
        .faults(&[Fault::Garbage]),
    case!(G, a_missing_right_is_told)
        .needs(&[Flag::Register])
        .faults(&[Fault::Error(ErrorKind::PermissionDenied)]),
    case!(G, unknown_credentials_are_told)
        .needs(&[Flag::Register])
        .faults(&[Fault::Error(ErrorKind::Unauthenticated)]),
    case!(G, being_too_fast_is_told)
        .needs(&[Flag::Register])
        .faults(&[Fault::Error(ErrorKind::RateLimited)]),
    case!(G, a_cut_watch_ends)
        .needs(&[Flag::Register, Flag::PushWatch])
        .faults(&[Fault::Cut]),
];

/// Every way to read fails with one of `kinds`, none answers "nothing"; after healing all is as before.
async fn fails(env: Env, fault: Fault, kinds: &[ErrorKind]) -> Result<()> {
    let api = env.name("api");
    let query = Query::service(&api)?;
    let lease = env.register(&api, 1).await?;
    env.sees_ports(&env.backend, &query, &[1]).await?;
    env.subject.break_way(fault).await?;
    let registry = &env.backend.registry;
    let again = env.registration(&api, 1).build()?;
    let mut watching = env.watch(&query);
    let (instances, instance, status, registered, watched) = tokio::join!(
        timeout(BOUND, registry.instances(&query)),
        timeout(BOUND, registry.instance(&lease.key)),
        timeout(BOUND, registry.status()),
        timeout(BOUND, registry.register(&again)),
        timeout(BOUND, watching.event()),
    );
    let outcomes = [
        ("instances", instances.map(|r| kind(&r))),
        ("instance", instance.map(|r| kind(&r))),
        ("status", status.map(|r| kind(&r))),
        ("register", registered.map(|r| kind(&r))),
        ("watch", watched.map(|r| kind(&r))),
    ];
    for (call, outcome) in outcomes {
        let Ok(outcome) = outcome else {
            panic!("`{call}` did not end within {BOUND:?}")
        };
        let kind = outcome.unwrap_or_else(|| panic!("`{call}` succeeded under {fault:?}"));
        assert!(
            kinds.contains(&kind),
            "`{call}` under {fault:?}: {kind}, not one of {kinds:?}"
        );
    }
    env.subject.heal().await?;
    env.sees_ports(&env.backend, &query, &[1]).await
}

async fn refused_is_unavailable(env: Env) -> Result<()> {
    fails(env, Fault::Refuse, DOWN).await
}

async fn silence_is_a_timeout_within_bounds(env: Env) -> Result<()> {
    fails(env, Fault::Stall, SILENT).await
}

async fn garbage_is_a_protocol_error(env: Env) -> Result<()> {
    fails(env, Fault::Garbage, GARBLED).await
}

async fn a_missing_right_is_told(env: Env) -> Result<()> {
    fails(
        env,
        Fault::Error(ErrorKind::PermissionDenied),
        &[ErrorKind::PermissionDenied],
    )
    .await
}

async fn unknown_credentials_are_told(env: Env) -> Result<()> {
    fails(
        env,
        Fault::Error(ErrorKind::Unauthenticated),
        &[ErrorKind::Unauthenticated],
    )
    .await
}

async fn being_too_fast_is_told(env: Env) -> Result<()> {
    fails(
        env,
        Fault::Error(ErrorKind::RateLimited),
        &[ErrorKind::RateLimited],
    )
    .await
}

/// One that polls has nothing to be cut but requests, and those are soon over.
async fn a_cut_watch_ends(env: Env) -> Result<()> {
    let api = env.name("api");
    env.register(&api, 1).await?;
    let query = Query::service(&api)?;
    env.sees_ports(&env.backend, &query, &[1]).await?;
    let mut watching = env.watch(&query);
    watching.until_ports(&[1]).await?;
    // A watch by long polls is open only while it is polled: cut until one is hit.
    loop {
        tokio::select! {
            event = watching.event() => match event {
                Ok(event) => assert_eq!(watching.instances.len(), 1, "a cut is no removal: {event:?}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                    return Ok(());
                }
            },
            () = sleep(Duration::from_millis(200)) => env.subject.break_way(Fault::Cut).await?,
        }
    }
}
