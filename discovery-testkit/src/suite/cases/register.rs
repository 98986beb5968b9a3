//! Registering, changing and withdrawing.

use std::collections::BTreeMap;

use discovery_core::{Check, ErrorKind, HealthReport, InstanceId, MetaChange, Query, Result, Status, Weight};
use tokio::net::TcpListener;

use crate::suite::{
    Case, Env, Flag,
    case::case,
    env::{kind, only},
};

const G: &str = "register";

pub(super) const CASES: &[Case] = &[
    case!(G, visible_to_another_client)
        .needs(&[Flag::Register])
        .proves(&[Flag::Register]),
    case!(G, upsert_changes_metadata).needs(&[Flag::Register]),
    case!(G, same_id_twice_is_one_instance).needs(&[Flag::Register]),
    case!(G, identical_registration_makes_no_event).needs(&[Flag::Register]),
    case!(G, deregister_hides).needs(&[Flag::Register]),
    case!(G, deregister_of_the_absent_is_success).needs(&[Flag::Register]),
    case!(G, deregister_leaves_siblings).needs(&[Flag::Register]),
    case!(G, unicode_and_maximal_metadata_round_trip).needs(&[Flag::Register]),
    case!(G, hostile_names_round_trip_or_are_refused).needs(&[Flag::Register]),
    case!(G, weights_tags_and_ports_survive).needs(&[Flag::Register]),
    case!(G, update_meta_merges)
        .needs(&[Flag::Register, Flag::UpdateMeta])
        .proves(&[Flag::UpdateMeta]),
    case!(G, update_meta_of_the_absent_is_not_found).needs(&[Flag::Register, Flag::UpdateMeta]),
    case!(G, report_health_shows)
        .needs(&[Flag::Register, Flag::ReportHealth])
        .proves(&[Flag::ReportHealth]),
    case!(G, draining_shows).needs(&[Flag::Register, Flag::ReportHealth]),
    case!(G, report_health_of_the_absent_is_not_found).needs(&[Flag::Register, Flag::ReportHealth]),
    case!(G, checks_are_run)
        .needs(&[Flag::Register, Flag::RunsChecks])
        .proves(&[Flag::RunsChecks]),
];

async fn visible_to_another_client(env: Env) -> Result<()> {
    let api = env.name("api");
    let lease = env.register(&api, 8080).await?;
    let other = env.subject.connect().await?;
    let query = Query::service(&api)?;
    let found = env
        .sees(&other, &query, "the instance", |found| found.len() == 1)
        .await?;
    let instance = only(&found);
    assert_eq!(instance.key, lease.key, "the lease names the record");
    assert_eq!(instance.address(), "127.0.0.1:8080");
    assert_eq!(instance.status, Status::Passing);
    Ok(())
}

async fn upsert_changes_metadata(env: Env) -> Result<()> {
    let api = env.name("api");
    let build = |version: &str| env.registration(&api, 8080).meta("version", version).build();
    env.backend.registry.register(&build("1")?).await?;
    env.backend.registry.register(&build("2")?).await?;
    let query = Query::service(&api)?;
    let changed =
        |found: &[_]| only_meta(found).is_some_and(|meta| meta.get("version").is_some_and(|v| v == "2"));
    env.sees(&env.backend, &query, "one instance of version 2", changed)
        .await?;
    Ok(())
}

fn only_meta(found: &[std::sync::Arc<discovery_core::Instance>]) -> Option<&BTreeMap<String, String>> {
    match found {
        [instance] => Some(&instance.meta),
        _ => None,
    }
}

async fn same_id_twice_is_one_instance(env: Env) -> Result<()> {
    let api = env.name("api");
    for port in [8080, 8081] {
        let registration = env.registration(&api, port).id(format!("{api}-1")).build()?;
        env.backend.registry.register(&registration).await?;
    }
    env.sees_ports(&env.backend, &Query::service(&api)?, &[8081])
        .await
}

/// A-8: what watchers see is content, not that somebody registered again.
async fn identical_registration_makes_no_event(env: Env) -> Result<()> {
    let api = env.name("api");
    let query = Query::service(&api)?;
    env.register(&api, 1).await?;
    env.sees_ports(&env.backend, &query, &[1]).await?;
    let mut watching = env.watch(&query);
    watching.until_ports(&[1]).await?;
    let before = watching.instances.clone();
    env.register(&api, 1).await?;
    env.register(&api, 2).await?;
    watching.change().await?;
    assert_eq!(
        watching.instances.len(),
        2,
        "the first change is the new instance: {:?}",
        watching.instances
    );
    for (key, instance) in before {
        assert_eq!(watching.instances.get(&key), Some(&instance));
    }
    Ok(())
}

async fn deregister_hides(env: Env) -> Result<()> {
    let api = env.name("api");
    let lease = env.register(&api, 1).await?;
    let query = Query::service(&api)?.include_unhealthy();
    env.sees_ports(&env.backend, &query, &[1]).await?;
    env.backend.registry.deregister(&lease.key).await?;
    env.sees_ports(&env.backend, &query, &[]).await?;
    assert_eq!(env.backend.registry.instance(&lease.key).await?, None);
    Ok(())
}

async fn deregister_of_the_absent_is_success(env: Env) -> Result<()> {
    let api = env.name("api");
    let lease = env.register(&api, 1).await?;
    let mut absent = lease.key.clone();
    absent.id = InstanceId::new(env.name("never"))?;
    env.backend.registry.deregister(&absent).await?;
    env.backend.registry.deregister(&lease.key).await?;
    env.backend.registry.deregister(&lease.key).await
}

async fn deregister_leaves_siblings(env: Env) -> Result<()> {
    let (api, longer) = (env.name("api"), env.name("api") + "-2");
    let first = env.register(&api, 1).await?;
    env.register(&api, 2).await?;
    // Ids and names that begin alike are not alike.
    let near = env
        .registration(&api, 11)
        .id(format!("{}1", first.key.id))
        .build()?;
    env.backend.registry.register(&near).await?;
    env.register(&longer, 3).await?;
    env.backend.registry.deregister(&first.key).await?;
    env.sees_ports(&env.backend, &Query::service(&api)?, &[2, 11])
        .await?;
    env.sees_ports(&env.backend, &Query::service(&longer)?, &[3])
        .await
}

/// As much as the strictest registry takes: 64 pairs of 128 and 512 bytes.
async fn unicode_and_maximal_metadata_round_trip(env: Env) -> Result<()> {
    let api = env.name("api");
    let mut registration = env
        .registration(&api, 8080)
        .meta("unicode", "größe 服务 🚀 \u{202e}rtl")
        .meta("quotes", r#"" ' \ , = ; { } [ ] % & + ? #"#)
        .meta("empty", "");
    for n in 0..50 {
        registration = registration.meta(format!("{:k<128}", format!("k{n}")), "v".repeat(512));
    }
    let registration = registration.build()?;
    let lease = env.backend.registry.register(&registration).await?;
    let query = Query::service(&api)?;
    let found = env
        .sees(&env.backend, &query, "the instance", |found| found.len() == 1)
        .await?;
    for (key, value) in &registration.meta {
        assert_eq!(only(&found).meta.get(key), Some(value), "{key}");
    }
    let own = env.backend.registry.instance(&lease.key).await?;
    assert_eq!(own.map(|own| own.meta), Some(only(&found).meta.clone()));
    Ok(())
}

/// A-7: whatever a name holds, it comes back whole or is refused; never cut, split or taken for another.
async fn hostile_names_round_trip_or_are_refused(env: Env) -> Result<()> {
    let hostile = [
        "a?b", "a#b", "a%2Fb", "a%62", "a b", "a+b", "a&b=c", "größe", "服务", "a:b", "a,b", "a\\b", "A\"b'",
    ];
    let plain = env.name("plain");
    env.register(&plain, 1).await?;
    for name in hostile {
        let service = env.name(name);
        let registration = env
            .registration(&service, 8080)
            .id(format!("{name} id"))
            .tag(format!("{name} tag"))
            .build()?;
        let lease = match env.backend.registry.register(&registration).await {
            Ok(lease) => lease,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}: {error:?}");
                assert!(error.hint().is_some(), "{name:?}: refused without a hint");
                continue;
            }
        };
        let query = Query::service(&service)?;
        let found = env
            .sees(&env.backend, &query, format!("{name:?}"), |found| {
                found.len() == 1
            })
            .await?;
        let instance = only(&found);
        assert_eq!(
            (&instance.key.service, &instance.key.id),
            (&registration.service, &registration.id)
        );
        assert_eq!(instance.tags, registration.tags);
        let own = env.backend.registry.instance(&lease.key).await?;
        assert_eq!(
            own.map(|own| own.key),
            Some(instance.key.clone()),
            "{name:?} by its key"
        );
        env.backend.registry.deregister(&lease.key).await?;
        env.sees_ports(&env.backend, &query, &[]).await?;
    }
    env.sees_ports(&env.backend, &Query::service(&plain)?, &[1]).await
}

async fn weights_tags_and_ports_survive(env: Env) -> Result<()> {
    let api = env.name("api");
    let registration = env
        .registration(&api, 8080)
        .tags(["v2", "eu-west", "primary"])
        .weight(7)
        .port("metrics", 9090, false)
        .port("admin", 9443, true)
        .build()?;
    env.backend.registry.register(&registration).await?;
    let query = Query::service(&api)?;
    let found = env
        .sees(&env.backend, &query, "the instance", |found| found.len() == 1)
        .await?;
    let (instance, mut ports) = (only(&found), registration.ports.clone());
    assert_eq!(instance.weight, Weight(7));
    let sorted = |tags: &[String]| {
        let mut tags = tags.to_vec();
        tags.sort();
        tags
    };
    assert_eq!(sorted(&instance.tags), sorted(&registration.tags));
    let mut shown = instance.ports.clone();
    shown.sort_by(|a, b| a.name.cmp(&b.name));
    ports.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(shown, ports);
    Ok(())
}

async fn update_meta_merges(env: Env) -> Result<()> {
    let api = env.name("api");
    let registration = env
        .registration(&api, 8080)
        .tag("v2")
        .weight(7)
        .meta("keep", "1")
        .meta("change", "1")
        .meta("remove", "1")
        .build()?;
    let lease = env.backend.registry.register(&registration).await?;
    let query = Query::service(&api)?;
    let found = env
        .sees(&env.backend, &query, "the instance", |found| found.len() == 1)
        .await?;
    let before = only(&found).clone();
    let change = MetaChange::new()
        .set("change", "2")
        .set("add", "1")
        .remove("remove")
        .remove("absent");
    env.backend.registry.update_meta(&lease.key, &change).await?;
    let changed = |found: &[_]| only_meta(found).is_some_and(|meta| meta.contains_key("add"));
    let found = env.sees(&env.backend, &query, "the change", changed).await?;
    let mut expected = before;
    change.apply(&mut expected.meta);
    assert_eq!(*only(&found), expected, "all else stays");
    Ok(())
}

async fn update_meta_of_the_absent_is_not_found(env: Env) -> Result<()> {
    let lease = env.register(&env.name("api"), 1).await?;
    env.backend.registry.deregister(&lease.key).await?;
    let changed = env
        .backend
        .registry
        .update_meta(&lease.key, &MetaChange::new().set("k", "v"))
        .await;
    assert_eq!(kind(&changed), Some(ErrorKind::NotFound), "{changed:?}");
    assert_eq!(
        env.backend.registry.instance(&lease.key).await?,
        None,
        "nothing came of it"
    );
    Ok(())
}

async fn report_health_shows(env: Env) -> Result<()> {
    let api = env.name("api");
    let lease = env.register(&api, 1).await?;
    let (healthy, any) = (Query::service(&api)?, Query::service(&api)?.include_unhealthy());
    for (status, ports) in [
        (Status::Critical, &[][..]),
        (Status::Warning, &[1]),
        (Status::Passing, &[1]),
    ] {
        let report = HealthReport::new(status).with_output("as reported");
        env.backend.registry.report_health(&lease.key, &report).await?;
        let shows = |found: &[std::sync::Arc<discovery_core::Instance>]| {
            found.len() == 1 && found[0].status == status
        };
        env.sees(&env.backend, &any, format!("{status}"), shows).await?;
        env.sees_ports(&env.backend, &healthy, ports).await?;
    }
    Ok(())
}

async fn draining_shows(env: Env) -> Result<()> {
    let api = env.name("api");
    let lease = env.register(&api, 1).await?;
    let (healthy, any) = (Query::service(&api)?, Query::service(&api)?.include_unhealthy());
    for (draining, ports) in [(true, &[][..]), (false, &[1])] {
        let report = HealthReport::new(Status::Passing).with_draining(draining);
        env.backend.registry.report_health(&lease.key, &report).await?;
        env.sees_ports(&env.backend, &healthy, ports).await?;
        env.sees(&env.backend, &any, "it, still registered", |found| {
            found.len() == 1 && found[0].draining == draining
        })
        .await?;
    }
    Ok(())
}

async fn report_health_of_the_absent_is_not_found(env: Env) -> Result<()> {
    let lease = env.register(&env.name("api"), 1).await?;
    env.backend.registry.deregister(&lease.key).await?;
    let reported = env
        .backend
        .registry
        .report_health(&lease.key, &HealthReport::default())
        .await;
    assert_eq!(kind(&reported), Some(ErrorKind::NotFound), "{reported:?}");
    Ok(())
}

async fn checks_are_run(env: Env) -> Result<()> {
    let bind = || TcpListener::bind("127.0.0.1:0");
    let listener = bind().await.expect("a free port on loopback");
    let port = listener.local_addr().expect("an address").port();
    let api = env.name("api");
    let check = Check::tcp(format!("127.0.0.1:{port}")).every(std::time::Duration::from_secs(1));
    let registration = env
        .registration(&api, port)
        .status(Status::Critical)
        .check(check)
        .build()?;
    env.backend.registry.register(&registration).await?;
    let query = Query::service(&api)?;
    env.sees_ports(&env.backend, &query, &[port]).await?;
    drop(listener);
    env.sees_ports(&env.backend, &query, &[]).await
}
