//! What a client registers stays registered until it is withdrawn.

use std::time::Duration;

use discovery::Client;
use discovery_core::{Error, ErrorKind, HealthReport, MetaChange, Query, Result, Status};
use futures::future::try_join_all;
use tokio::time::interval;

use crate::{
    suite::{
        Case, Env, Fault, Flag, Tool,
        case::case,
        env::{found, kind},
    },
    try_eventually,
};

const G: &str = "registrar";
const NEEDS: &[Flag] = &[Flag::Register, Flag::Lease];
/// How long something may take that is done at once: never an assertion about speed.
const DEADLINE: Duration = Duration::from_secs(30);

pub(super) const CASES: &[Case] = &[
    case!(G, keeps_it_although_the_handle_is_dropped).needs(NEEDS),
    case!(G, registers_again_what_the_registry_forgot)
        .needs(NEEDS)
        .tools(&[Tool::Forget])
        .exclusive(),
    case!(G, registers_again_with_what_changed_since)
        .needs(&[Flag::Register, Flag::Lease, Flag::UpdateMeta, Flag::ReportHealth])
        .tools(&[Tool::Forget])
        .exclusive(),
    case!(G, outlives_an_outage_longer_than_the_ttl)
        .needs(NEEDS)
        .faults(&[Fault::Refuse]),
    case!(G, a_first_registration_that_fails_is_no_intent)
        .needs(NEEDS)
        .faults(&[Fault::Refuse]),
    case!(G, shutdown_withdraws_before_it_returns).needs(NEEDS),
    case!(G, no_heartbeat_brings_back_what_was_withdrawn)
        .needs(NEEDS)
        .faults(&[Fault::Delay(LATE)]),
    case!(G, a_thousand_starts_and_stops_leave_nothing)
        .needs(NEEDS)
        .faults(&[Fault::Delay(LATE)])
        .slow(),
];

const LATE: Duration = Duration::from_millis(50);

async fn register(env: &Env, client: &Client, service: &str, port: u16) -> Result<()> {
    let registration = env.registration(service, port).ttl(env.ttl()).build()?;
    let registered = client.register(registration).await?;
    assert_eq!(registered.key().service.as_str(), service);
    Ok(())
}

async fn keeps_it_although_the_handle_is_dropped(env: Env) -> Result<()> {
    let (api, truth, client) = (env.name("api"), env.subject.direct().await?, env.client().await?);
    let query = Query::service(&api)?;
    register(&env, &client, &api, 1).await?;
    env.sees_ports(&truth, &query, &[1]).await?;
    env.stays(&truth, &query, &[1], 3 * env.ttl()).await?;
    client.shutdown(DEADLINE).await?;
    env.sees_ports(&truth, &query, &[]).await
}

/// That it takes no more than a heartbeat, core shows with the clock in its hands.
async fn registers_again_what_the_registry_forgot(env: Env) -> Result<()> {
    let (api, truth, client) = (env.name("api"), env.subject.direct().await?, env.client().await?);
    let query = Query::service(&api)?;
    for port in 1..=5 {
        register(&env, &client, &api, port).await?;
    }
    env.sees_ports(&truth, &query, &[1, 2, 3, 4, 5]).await?;
    for _ in 0..3 {
        env.subject.forget().await?;
        env.sees_ports(&truth, &query, &[1, 2, 3, 4, 5]).await?;
    }
    client.shutdown(DEADLINE).await
}

async fn registers_again_with_what_changed_since(env: Env) -> Result<()> {
    let (api, truth, client) = (env.name("api"), env.subject.direct().await?, env.client().await?);
    let registration = env
        .registration(&api, 1)
        .ttl(env.ttl())
        .meta("version", "1")
        .build()?;
    let registered = client.register(registration).await?;
    registered
        .update_meta(MetaChange::new().set("version", "2"))
        .await?;
    registered
        .report_health(HealthReport::new(Status::Warning))
        .await?;
    let query = Query::service(&api)?;
    let as_wanted = |found: &[std::sync::Arc<discovery_core::Instance>]| {
        found.len() == 1 && found[0].meta["version"] == "2" && found[0].status == Status::Warning
    };
    env.sees(&truth, &query, "the changes", as_wanted).await?;
    env.subject.forget().await?;
    try_eventually("it again, changes and all", env.patience(), || async {
        let found = found(&truth, &query).await.map_err(|error| error.to_string())?;
        // Not even for a moment as it was.
        assert!(found.is_empty() || as_wanted(&found), "{found:?}");
        if found.is_empty() {
            Err("nothing".to_owned())
        } else {
            Ok(())
        }
    })
    .await?;
    client.shutdown(DEADLINE).await
}

async fn outlives_an_outage_longer_than_the_ttl(env: Env) -> Result<()> {
    let (api, truth, client) = (env.name("api"), env.subject.direct().await?, env.client().await?);
    let query = Query::service(&api)?;
    register(&env, &client, &api, 1).await?;
    env.sees_ports(&truth, &query, &[1]).await?;
    env.subject.break_way(Fault::Refuse).await?;
    env.sees_ports(&truth, &query, &[]).await?;
    env.subject.heal().await?;
    env.sees_ports(&truth, &query, &[1]).await?;
    env.stays(&truth, &query, &[1], 2 * env.ttl()).await?;
    client.shutdown(DEADLINE).await
}

async fn a_first_registration_that_fails_is_no_intent(env: Env) -> Result<()> {
    let (api, truth, client) = (env.name("api"), env.subject.direct().await?, env.client().await?);
    env.subject.break_way(Fault::Refuse).await?;
    let registered = client
        .register(env.registration(&api, 1).ttl(env.ttl()).build()?)
        .await;
    assert!(
        matches!(
            kind(&registered),
            Some(ErrorKind::Unavailable | ErrorKind::Timeout)
        ),
        "{registered:?}"
    );
    env.subject.heal().await?;
    env.stays(&truth, &Query::service(&api)?, &[], env.ttl()).await?;
    client.shutdown(DEADLINE).await
}

async fn shutdown_withdraws_before_it_returns(env: Env) -> Result<()> {
    let (api, truth, client) = (env.name("api"), env.subject.direct().await?, env.client().await?);
    let query = Query::service(&api)?;
    let ports: Vec<_> = (1..=50).collect();
    for some in ports.chunks(10) {
        try_join_all(some.iter().map(|port| register(&env, &client, &api, *port))).await?;
    }
    env.sees_ports(&truth, &query, &ports).await?;
    client.shutdown(DEADLINE).await?;
    for instance in found(&truth, &query).await? {
        let left = truth.registry.instance(&instance.key).await?;
        assert_eq!(left, None, "shut down, and still registered");
    }
    env.sees_ports(&truth, &query, &[]).await
}

/// with answers that come late, heartbeats are always on their way while instances are withdrawn.
async fn no_heartbeat_brings_back_what_was_withdrawn(env: Env) -> Result<()> {
    let (api, truth, client) = (env.name("api"), env.subject.direct().await?, env.client().await?);
    let query = Query::service(&api)?;
    env.subject.break_way(Fault::Delay(LATE)).await?;
    let ports: Vec<_> = (1..=30).collect();
    let mut registered = Vec::new();
    for some in ports.chunks(10) {
        let registrations = some
            .iter()
            .map(|port| env.registration(&api, *port).ttl(env.ttl()).build());
        let registrations = registrations.collect::<Result<Vec<_>>>()?;
        registered.extend(try_join_all(registrations.into_iter().map(|one| client.register(one))).await?);
    }
    env.sees_ports(&truth, &query, &ports).await?;
    // One after the other over two heartbeats, so that each meets another moment of its lease.
    let mut ticks = interval(env.ttl() * 2 / 3 / 30);
    for one in &registered {
        ticks.tick().await;
        one.deregister().await?;
    }
    env.sees_ports(&truth, &query, &[]).await?;
    env.stays(&truth, &query, &[], env.ttl()).await?;
    assert_eq!(client.status().await.registrations.len(), 0);
    client.shutdown(DEADLINE).await
}

async fn a_thousand_starts_and_stops_leave_nothing(env: Env) -> Result<()> {
    let (api, truth) = (env.name("api"), env.subject.direct().await?);
    let query = Query::service(&api)?;
    env.subject.break_way(Fault::Delay(LATE)).await?;
    let (env, truth, api, query) = (&env, &truth, &api, &query);
    for round in 0..20_u16 {
        try_join_all((1..=50).map(|n| async move {
            let client = env.client().await?;
            register(env, &client, api, round * 50 + n).await?;
            client.shutdown(DEADLINE).await?;
            Ok::<_, Error>(())
        }))
        .await?;
        env.sees_ports(truth, query, &[]).await?;
    }
    env.stays(truth, query, &[], env.ttl()).await
}
