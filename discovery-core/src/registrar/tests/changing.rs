//! What is wanted changes first.

use std::collections::BTreeMap;

use tokio::time::sleep;

use super::*;
use crate::{
    model::{HealthReport, MetaChange},
    resilience::RetryPolicy,
    spi::LeaseMode,
};

fn warning() -> HealthReport {
    HealthReport::new(Status::Warning).with_output("disk 90 %")
}

fn version(version: &str) -> MetaChange {
    MetaChange::new().set("version", version)
}

#[tokio::test(start_paused = true)]
async fn changes_reach_the_registry_and_outlive_its_amnesia() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    registrar
        .report_health(&api(), &id("a"), warning())
        .await
        .unwrap();
    registrar
        .update_meta(&api(), &id("a"), version("2"))
        .await
        .unwrap();
    for _ in 0..2 {
        assert_eq!(fake.shown("a").health, warning());
        assert_eq!(fake.shown("a").meta["version"], "2");
        fake.amnesia();
        eventually(TTL, "registered again", || fake.has("a")).await;
    }
    assert_eq!(registrar.states()[0].health, warning());
}

/// Changed while the registry is away: the caller is told, and the registry is as soon as it returns.
#[tokio::test(start_paused = true)]
async fn what_changes_during_an_outage_is_what_is_registered_after_it() {
    for fake in [Fake::single(), Fake::shared(), Fake::new(LeaseMode::None, None)] {
        let registrar = registrar(&fake);
        registrar.register(registration("a")).await.unwrap();
        fake.outage(ErrorKind::Unavailable);
        let error = registrar
            .report_health(&api(), &id("a"), warning())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(
            registrar
                .update_meta(&api(), &id("a"), version("2"))
                .await
                .is_err()
        );
        fake.heal();
        eventually(TTL, "both changes shown", || {
            let shown = fake.shown("a");
            shown.health == warning() && shown.meta.contains_key("version")
        })
        .await;
        fake.outage(ErrorKind::Unavailable);
        fake.amnesia();
        sleep(TTL * 3).await;
        fake.heal();
        eventually(secs(60), "registered again", || fake.has("a")).await;
        assert_eq!(fake.shown("a").health, warning());
        assert_eq!(fake.shown("a").meta["version"], "2");
    }
}

/// Every heartbeat carries the health that is wanted.
#[tokio::test(start_paused = true)]
async fn heartbeats_carry_the_health() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    registrar
        .report_health(&api(), &id("a"), warning())
        .await
        .unwrap();
    fake.state().records.get_mut("a").unwrap().registration.health = HealthReport::default();
    eventually(TTL / 3 + secs(1), "health restored", || {
        fake.shown("a").health == warning()
    })
    .await;
}

/// A heartbeat under way with the old health does not arrive after the report.
#[tokio::test(start_paused = true)]
async fn a_report_waits_for_the_heartbeat_under_way() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    fake.state().slow.insert(Op::Renew, Duration::from_millis(500));
    for status in [Status::Critical, Status::Passing].into_iter().cycle().take(20) {
        let beats = fake.count(Op::Renew);
        eventually(TTL, "a heartbeat begins", || fake.count(Op::Renew) > beats).await;
        registrar
            .report_health(&api(), &id("a"), HealthReport::new(status))
            .await
            .unwrap();
        sleep(secs(1)).await;
        assert_eq!(fake.shown("a").health.status, status);
    }
}

/// C-25, U-12: a registry that keeps the old health of a record registered again is told the new one.
#[tokio::test(start_paused = true)]
async fn registering_again_repeats_the_health() {
    let fake = Fake::single();
    fake.state().keeps_health = true;
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    let mut replaced = registration("a");
    replaced.health = warning();
    replaced.port = 9090;
    registrar.register(replaced).await.unwrap();
    assert_eq!(fake.shown("a").health, warning());
    assert_eq!(fake.shown("a").port, 9090);
}

/// What the registry cannot do is not wanted either.
#[tokio::test(start_paused = true)]
async fn a_change_refused_for_good_is_taken_back() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    let mut first = registration("a");
    first.meta = BTreeMap::from([("version".into(), "1".into()), ("zone".into(), "b".into())]);
    registrar.register(first.clone()).await.unwrap();
    for kind in [ErrorKind::Unsupported, ErrorKind::InvalidInput] {
        for op in [Op::Meta, Op::Health, Op::Register] {
            fake.fault(op, 1, Fault::Refuse(kind));
        }
        let change = version("2").remove("zone").set("new", "x");
        let error = registrar.update_meta(&api(), &id("a"), change).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(
            registrar
                .report_health(&api(), &id("a"), warning())
                .await
                .is_err()
        );
        let mut replacement = registration("a");
        replacement.port = 9090;
        assert!(registrar.register(replacement).await.is_err());
        fake.heal();
        fake.amnesia();
        eventually(TTL, "registered again", || fake.has("a")).await;
        assert_eq!(fake.shown("a"), first);
        assert_eq!(phase(&registrar), RegistrationPhase::Registered);
    }
}

/// A replacement that fails for now is brought about in the background; heartbeats go on meanwhile.
#[tokio::test(start_paused = true)]
async fn a_replacement_that_fails_for_now_comes_later() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    fake.fault(Op::Register, usize::MAX, Fault::Refuse(ErrorKind::Unavailable));
    let mut replacement = registration("a");
    replacement.port = 9090;
    assert!(registrar.register(replacement).await.is_err());
    sleep(TTL * 3).await;
    assert_eq!(fake.shown("a").port, 8080, "kept alive as it was");
    fake.heal();
    eventually(TTL, "replaced", || fake.shown("a").port == 9090).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_a_forgotten_record_registers_it_again() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    fake.amnesia();
    registrar
        .report_health(&api(), &id("a"), warning())
        .await
        .unwrap();
    assert_eq!(fake.shown("a").health, warning());
}

#[tokio::test(start_paused = true)]
async fn what_this_client_did_not_register_is_not_found() {
    let fake = Fake::single();
    let registrar = registrar_with(&fake, RegistrarConfig::default().retry(RetryPolicy::never()));
    let kinds = [
        registrar
            .update_meta(&api(), &id("a"), version("2"))
            .await
            .unwrap_err()
            .kind(),
        registrar
            .report_health(&api(), &id("a"), warning())
            .await
            .unwrap_err()
            .kind(),
        registrar.deregister(&api(), &id("a")).await.unwrap_err().kind(),
        registrar.drain(&api(), &id("a"), TTL).await.unwrap_err().kind(),
        registrar.find(&id("a")).unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::NotFound; 5]);
    assert!(fake.state().log.is_empty(), "something went on the wire");
}

#[tokio::test(start_paused = true)]
async fn an_id_finds_its_service_where_there_is_one() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    assert_eq!(registrar.find(&id("a")).unwrap(), api());
    let other = Registration::builder("web", "127.0.0.1", 80)
        .id("a")
        .build()
        .unwrap();
    registrar.register(other).await.unwrap();
    let error = registrar.find(&id("a")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("api, web"), "{error}");
}
