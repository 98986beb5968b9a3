//! Looking up.

use std::{collections::BTreeSet, sync::Arc};

use discovery_core::{Evidence, Query, Result, Scope, Source, Status};
use futures::future::try_join_all;

use crate::suite::{
    Case, Env, Flag,
    case::case,
    env::{found, only, ports},
};

const G: &str = "resolve";

pub(super) const CASES: &[Case] = &[
    case!(G, an_unknown_service_is_empty),
    case!(G, filters_by_health_and_tag).needs(&[Flag::Register]),
    case!(G, a_thousand_instances).needs(&[Flag::Register]),
    case!(G, many_readers_at_once).needs(&[Flag::Register]),
    case!(G, services_are_complete_and_sorted)
        .needs(&[Flag::Register, Flag::ListServices])
        .proves(&[Flag::ListServices]),
    case!(G, one_record_by_its_key).needs(&[Flag::Register]),
    case!(G, checks_come_when_asked_for).needs(&[Flag::Register]),
    case!(G, the_registry_tells_how_it_is),
    case!(G, every_service_at_once)
        .needs(&[Flag::Register, Flag::WatchAll])
        .proves(&[Flag::WatchAll]),
    case!(G, by_datacenter)
        .needs(&[Flag::Register, Flag::Datacenters])
        .proves(&[Flag::Datacenters]),
    case!(G, by_namespace)
        .needs(&[Flag::Register, Flag::Namespaces])
        .proves(&[Flag::Namespaces]),
];

async fn an_unknown_service_is_empty(env: Env) -> Result<()> {
    let query = Query::service(env.name("nobody"))?;
    let snapshot = env.backend.registry.instances(&query).await?;
    assert!(snapshot.instances.is_empty(), "{snapshot:?}");
    assert_eq!(snapshot.source, Source::Live);
    assert_eq!(
        snapshot.evidence,
        Evidence::Authoritative,
        "the registry knows that there is none"
    );
    assert_eq!(snapshot.target, query.target);
    Ok(())
}

async fn filters_by_health_and_tag(env: Env) -> Result<()> {
    let api = env.name("api");
    let tags: [(u16, &[&str], Status); 4] = [
        (1, &["blue", "eu"], Status::Passing),
        (2, &["blue"], Status::Warning),
        (3, &["blue", "eu"], Status::Critical),
        (4, &["green", "eu", "blueish"], Status::Passing),
    ];
    for (port, tags, status) in tags {
        let registration = env
            .registration(&api, port)
            .tags(tags.iter().copied())
            .status(status)
            .build()?;
        env.backend.registry.register(&registration).await?;
    }
    let query = || Query::service(&api);
    env.sees_ports(&env.backend, &query()?.include_unhealthy(), &[1, 2, 3, 4])
        .await?;
    env.sees_ports(&env.backend, &query()?, &[1, 2, 4]).await?;
    env.sees_ports(&env.backend, &query()?.tag("blue"), &[1, 2])
        .await?;
    env.sees_ports(&env.backend, &query()?.tag("blue").tag("eu"), &[1])
        .await?;
    env.sees_ports(
        &env.backend,
        &query()?.tag("blue").tag("eu").include_unhealthy(),
        &[1, 3],
    )
    .await?;
    env.sees_ports(&env.backend, &query()?.tag("red"), &[]).await
}

async fn a_thousand_instances(env: Env) -> Result<()> {
    let api = env.name("api");
    let all: Vec<u16> = (1..=1000).collect();
    for some in all.chunks(20) {
        try_join_all(some.iter().map(|port| env.register(&api, *port))).await?;
    }
    let query = Query::service(&api)?;
    env.sees_ports(&env.backend, &query, &all).await?;
    let mut watching = env.watch(&query);
    watching.until_ports(&all).await
}

async fn many_readers_at_once(env: Env) -> Result<()> {
    let api = env.name("api");
    env.register(&api, 1).await?;
    env.register(&api, 2).await?;
    let query = Query::service(&api)?;
    env.sees_ports(&env.backend, &query, &[1, 2]).await?;
    for found in try_join_all((0..64).map(|_| found(&env.backend, &query))).await? {
        assert_eq!(ports(&found), [1, 2]);
    }
    Ok(())
}

async fn services_are_complete_and_sorted(env: Env) -> Result<()> {
    let names: BTreeSet<_> = ["web", "api", "db"].map(|part| env.name(part)).into();
    for name in &names {
        for (port, tag) in [(1, "b"), (2, "a"), (3, "b")] {
            let registration = env.registration(name, port).tag(tag).build()?;
            env.backend.registry.register(&registration).await?;
        }
    }
    let services = crate::try_eventually("every service", env.patience(), || async {
        let services = env
            .backend
            .registry
            .services(&Scope::default())
            .await
            .map_err(|e| e.to_string())?;
        let ours: Vec<_> = services
            .iter()
            .filter(|s| names.contains(s.name.as_str()))
            .cloned()
            .collect();
        let complete = ours.len() == 3
            && ours
                .iter()
                .all(|s| s.tags == ["a", "b"] && s.instances.is_none_or(|n| n == 3));
        if complete {
            Ok(services)
        } else {
            Err(format!("{ours:?}"))
        }
    })
    .await?;
    assert!(
        services.is_sorted_by_key(|service| service.name.as_str().to_owned()),
        "{services:?}"
    );
    Ok(())
}

async fn one_record_by_its_key(env: Env) -> Result<()> {
    let api = env.name("api");
    let (one, two) = (env.register(&api, 1).await?, env.register(&api, 2).await?);
    let owned = env.backend.registry.instance(&one.key).await?;
    assert_eq!(
        owned.map(|own| (own.key, own.port)),
        Some((one.key.clone(), 1)),
        "at once, from its owner"
    );
    env.backend.registry.deregister(&one.key).await?;
    assert_eq!(env.backend.registry.instance(&one.key).await?, None);
    assert_eq!(
        env.backend.registry.instance(&two.key).await?.map(|own| own.port),
        Some(2)
    );
    Ok(())
}

async fn checks_come_when_asked_for(env: Env) -> Result<()> {
    let api = env.name("api");
    env.register(&api, 1).await?;
    let query = Query::service(&api)?;
    let without = env
        .sees(&env.backend, &query, "it", |found| found.len() == 1)
        .await?;
    let with = found(&env.backend, &query.with_checks()).await?;
    let worst = only(&with).checks.iter().map(|check| check.status).max();
    assert_eq!(
        worst.unwrap_or_default(),
        only(&with).status,
        "the status sums up the checks"
    );
    assert!(only(&without).checks.is_empty());
    Ok(())
}

async fn the_registry_tells_how_it_is(env: Env) -> Result<()> {
    let status = env.backend.registry.status().await?;
    assert!(status.latency < env.patience(), "{status:?}");
    assert!(status.version.is_none_or(|version| !version.is_empty()));
    Ok(())
}

async fn every_service_at_once(env: Env) -> Result<()> {
    let (api, web) = (env.name("api"), env.name("web"));
    env.register(&api, 1).await?;
    env.register(&web, 2).await?;
    let both = |found: &[Arc<discovery_core::Instance>]| {
        let ours = |name: &str| found.iter().filter(|i| i.key.service.as_str() == name).count();
        (ours(&api), ours(&web)) == (1, 1)
    };
    env.sees(&env.backend, &Query::all(), "both services", both)
        .await?;
    let mut watching = env.watch(&Query::all());
    watching
        .until("both services", |known| {
            both(&known.values().cloned().collect::<Vec<_>>())
        })
        .await
}

async fn by_datacenter(env: Env) -> Result<()> {
    let api = env.name("api");
    let lease = env.register(&api, 1).await?;
    let datacenter = lease.key.datacenter.expect("the key names the datacenter");
    env.sees_ports(&env.backend, &Query::service(&api)?.datacenter(datacenter), &[1])
        .await?;
    let elsewhere = Query::service(&api)?.datacenter(env.name("elsewhere"));
    if let Ok(snapshot) = env.backend.registry.instances(&elsewhere).await {
        assert!(snapshot.instances.is_empty(), "{snapshot:?}");
    }
    Ok(())
}

async fn by_namespace(env: Env) -> Result<()> {
    let api = env.name("api");
    let lease = env.register(&api, 1).await?;
    let namespace = lease.key.namespace.expect("the key names the namespace");
    env.sees_ports(&env.backend, &Query::service(&api)?.namespace(namespace), &[1])
        .await?;
    let elsewhere = Query::service(&api)?.namespace(env.name("elsewhere"));
    if let Ok(snapshot) = env.backend.registry.instances(&elsewhere).await {
        assert!(snapshot.instances.is_empty(), "{snapshot:?}");
    }
    Ok(())
}
