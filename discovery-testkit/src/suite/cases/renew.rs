//! What keeps a registration alive, and what ends it.

use std::time::Duration;

use discovery_core::{ErrorKind, HealthReport, Lease, Query, Renewal, Result, Status};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::suite::{
    Case, Env, Flag,
    case::case,
    env::{found, kind, ports},
};

const G: &str = "renew";

pub(super) const CASES: &[Case] = &[
    case!(G, expiry_takes_it_out_of_service).needs(&[Flag::Register, Flag::Lease]),
    case!(G, renewal_keeps_it)
        .needs(&[Flag::Register, Flag::Lease])
        .proves(&[Flag::Lease]),
    case!(G, one_missed_heartbeat_of_three_is_forgiven).needs(&[Flag::Register, Flag::Lease]),
    case!(G, renewal_after_expiry_revives_or_says_so).needs(&[Flag::Register, Flag::Lease]),
    case!(G, late_renewal_does_not_resurrect).needs(&[Flag::Register, Flag::Lease]),
    case!(G, renewal_shows_health).needs(&[Flag::Register, Flag::Lease, Flag::ReportHealth]),
    case!(G, registering_again_is_a_heartbeat).needs(&[Flag::Register, Flag::Lease]),
    case!(G, release_ends_the_group)
        .needs(&[Flag::Register, Flag::Lease, Flag::SharedLease])
        .proves(&[Flag::SharedLease]),
];

async fn short_lived(env: &Env, service: &str, port: u16) -> Result<Lease> {
    let registration = env.registration(service, port).ttl(env.ttl()).build()?;
    env.backend.registry.register(&registration).await
}

async fn renew(env: &Env, lease: &Lease, health: HealthReport) -> Result<()> {
    let renewal = Renewal::new([(lease.key.clone(), health)]);
    env.backend.registry.renew(&lease.group, &renewal).await
}

async fn gone(env: &Env, query: &Query) -> Result<()> {
    let deadline = env.subject.gone_within(env.ttl()) + Duration::from_secs(20);
    crate::try_eventually("its end", deadline, || async {
        let left = found(&env.backend, query)
            .await
            .map_err(|error| error.to_string())?;
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    })
    .await
}

async fn expiry_takes_it_out_of_service(env: Env) -> Result<()> {
    let api = env.name("api");
    let started = Instant::now();
    short_lived(&env, &api, 1).await?;
    let query = Query::service(&api)?;
    env.sees_ports(&env.backend, &query, &[1]).await?;
    gone(&env, &query).await?;
    // Clocks of server and test may differ by a little, never by much.
    assert!(
        started.elapsed() > env.ttl() * 9 / 10,
        "it went after {:?}",
        started.elapsed()
    );
    Ok(())
}

/// Beats every `every` for `beats` beats and checks that it is in service at each.
async fn beat(env: &Env, lease: &Lease, query: &Query, every: Duration, beats: u32) -> Result<()> {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..beats {
        ticks.tick().await;
        renew(env, lease, HealthReport::default()).await?;
        assert_eq!(ports(&found(&env.backend, query).await?), [1]);
    }
    Ok(())
}

async fn renewal_keeps_it(env: Env) -> Result<()> {
    let api = env.name("api");
    let lease = short_lived(&env, &api, 1).await?;
    let query = Query::service(&api)?;
    env.sees_ports(&env.backend, &query, &[1]).await?;
    beat(&env, &lease, &query, env.ttl() / 3, 8).await?;
    gone(&env, &query).await
}

async fn one_missed_heartbeat_of_three_is_forgiven(env: Env) -> Result<()> {
    let api = env.name("api");
    let lease = short_lived(&env, &api, 1).await?;
    let query = Query::service(&api)?;
    env.sees_ports(&env.backend, &query, &[1]).await?;
    // Every second heartbeat of a third of the TTL.
    beat(&env, &lease, &query, env.ttl() * 2 / 3, 4).await
}

/// Some registries take it back into service, others forgot it; none may say "renewed" and not show it.
async fn renewal_after_expiry_revives_or_says_so(env: Env) -> Result<()> {
    let api = env.name("api");
    let lease = short_lived(&env, &api, 1).await?;
    let query = Query::service(&api)?;
    env.sees_ports(&env.backend, &query, &[1]).await?;
    gone(&env, &query).await?;
    match renew(&env, &lease, HealthReport::default()).await {
        Ok(()) => env.sees_ports(&env.backend, &query, &[1]).await,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
            assert!(found(&env.backend, &query).await?.is_empty());
            Ok(())
        }
    }
}

/// a heartbeat on its way while the instance is withdrawn must not bring it back.
async fn late_renewal_does_not_resurrect(env: Env) -> Result<()> {
    let (api, marker) = (env.name("api"), env.name("marker"));
    let lease = short_lived(&env, &api, 1).await?;
    let query = Query::service(&api)?.include_unhealthy();
    env.sees_ports(&env.backend, &query, &[1]).await?;
    env.backend.registry.deregister(&lease.key).await?;
    let renewed = renew(&env, &lease, HealthReport::default()).await;
    assert_eq!(kind(&renewed), Some(ErrorKind::NotFound), "{renewed:?}");
    // What came of the renewal is visible once something later is.
    env.register(&marker, 2).await?;
    env.sees_ports(&env.backend, &Query::service(&marker)?, &[2])
        .await?;
    env.sees_ports(&env.backend, &query, &[]).await?;
    assert_eq!(env.backend.registry.instance(&lease.key).await?, None);
    Ok(())
}

async fn renewal_shows_health(env: Env) -> Result<()> {
    let api = env.name("api");
    let lease = env.register(&api, 1).await?;
    let query = Query::service(&api)?.include_unhealthy();
    for status in [Status::Critical, Status::Passing] {
        renew(&env, &lease, HealthReport::new(status)).await?;
        env.sees(&env.backend, &query, status, |found| {
            found.len() == 1 && found[0].status == status
        })
        .await?;
    }
    Ok(())
}

async fn registering_again_is_a_heartbeat(env: Env) -> Result<()> {
    let api = env.name("api");
    let query = Query::service(&api)?;
    let mut ticks = interval(env.ttl() / 2);
    for _ in 0..5 {
        ticks.tick().await;
        short_lived(&env, &api, 1).await?;
    }
    env.sees_ports(&env.backend, &query, &[1]).await
}

async fn release_ends_the_group(env: Env) -> Result<()> {
    let api = env.name("api");
    let (one, two) = (env.register(&api, 1).await?, env.register(&api, 2).await?);
    assert_eq!(one.group, two.group, "one lease for all of a process");
    let query = Query::service(&api)?;
    env.sees_ports(&env.backend, &query, &[1, 2]).await?;
    env.backend.registry.release(&one.group).await?;
    env.sees_ports(&env.backend, &query, &[]).await?;
    env.backend.registry.release(&one.group).await
}
