//! Withdrawn means withdrawn: deregister, drain, shutdown.

use tokio::time::{Instant, sleep};

use super::*;
use crate::{resilience::RetryPolicy, spi::LeaseMode};

#[tokio::test(start_paused = true)]
async fn deregistered_is_gone_and_stays_gone() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    registrar.register(registration("b")).await.unwrap();
    registrar.deregister(&api(), &id("a")).await.unwrap();
    assert!(!fake.has("a"));
    assert_eq!(registrar.states().len(), 1);
    let again = registrar.deregister(&api(), &id("a")).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::NotFound);
    fake.clear_log();
    sleep(secs(600)).await;
    assert!(!fake.has("a") && fake.has("b"));
    assert!(
        !fake
            .state()
            .log
            .iter()
            .any(|(_, _, about)| about == "a" || about == "api/a")
    );
}

/// A withdrawal that fails says what becomes of the record, and goes on.
#[tokio::test(start_paused = true)]
async fn a_failed_withdrawal_goes_on_in_the_background() {
    for (fake, fate) in [
        (Fake::single(), "expires after its TTL of 30s"),
        (Fake::new(LeaseMode::None, None), "does not expire by itself"),
    ] {
        let registrar = registrar(&fake);
        registrar.register(registration("a")).await.unwrap();
        fake.fault(Op::Deregister, usize::MAX, Fault::Refuse(ErrorKind::Unavailable));
        let error = registrar.deregister(&api(), &id("a")).await.unwrap_err();
        assert!(error.hint().unwrap().contains(fate), "{error:?}");
        assert_eq!(phase(&registrar), RegistrationPhase::Withdrawing);
        let beats = fake.count(Op::Renew);
        sleep(secs(20)).await;
        assert_eq!(fake.count(Op::Renew), beats, "no heartbeat after deregister");
        fake.heal();
        eventually(secs(30), "withdrawn", || registrar.states().is_empty()).await;
        assert!(!fake.has("a"));
    }
}

#[tokio::test(start_paused = true)]
async fn registering_while_a_withdrawal_fails_keeps_it() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    fake.fault(Op::Deregister, usize::MAX, Fault::Refuse(ErrorKind::Unavailable));
    assert!(registrar.deregister(&api(), &id("a")).await.is_err());
    registrar.register(registration("a")).await.unwrap();
    fake.heal();
    sleep(secs(600)).await;
    assert!(fake.has("a"));
    assert_eq!(phase(&registrar), RegistrationPhase::Registered);
}

/// Draining shows first, then it goes; where it cannot be shown, it goes first.
#[tokio::test(start_paused = true)]
async fn drain_shows_waits_and_withdraws() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    let started = Instant::now();
    let (draining, api, a) = (registrar.clone(), api(), id("a"));
    let watch = async {
        sleep(secs(59)).await;
        assert!(fake.shown("a").health.draining);
    };
    let (result, ()) = tokio::join!(draining.drain(&api, &a, secs(60)), watch);
    result.unwrap();
    assert!(!fake.has("a"));
    assert!(started.elapsed() >= secs(60));

    registrar.register(registration("a")).await.unwrap();
    fake.fault(Op::Health, 1, Fault::Refuse(ErrorKind::Unsupported));
    let watch = async {
        sleep(secs(1)).await;
        assert!(!fake.has("a"));
    };
    let started = Instant::now();
    let (result, ()) = tokio::join!(draining.drain(&api, &a, secs(60)), watch);
    result.unwrap();
    assert!(started.elapsed() >= secs(60));
}

/// All at once, and for exactly the wait: a registry that hangs makes it no longer.
#[tokio::test(start_paused = true)]
async fn draining_all_takes_the_wait_and_no_longer() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    let started = Instant::now();
    registrar.drain_all(secs(60)).await;
    assert_eq!(started.elapsed(), secs(0), "nothing is registered");
    for name in ["a", "b"] {
        registrar.register(registration(name)).await.unwrap();
    }
    let started = Instant::now();
    let watch = async {
        sleep(secs(1)).await;
        assert!(fake.shown("a").health.draining && fake.shown("b").health.draining);
    };
    tokio::join!(registrar.drain_all(secs(20)), watch);
    assert_eq!(started.elapsed(), secs(20));
    assert!(fake.has("a") && fake.has("b"), "heartbeats go on until shutdown");
    fake.fault(Op::Health, 2, Fault::Hang);
    let started = Instant::now();
    registrar.drain_all(secs(5)).await;
    assert_eq!(started.elapsed(), secs(5));
    registrar.shutdown(secs(300)).await.unwrap();
    assert!(!fake.has("a") && !fake.has("b"));
}

/// Deregistering members one by one, even the last, never releases what the others live by.
#[tokio::test(start_paused = true)]
async fn deregistering_a_member_never_releases_the_lease() {
    let fake = Fake::shared();
    let registrar = registrar(&fake);
    for name in ["a", "b", "c"] {
        registrar.register(registration(name)).await.unwrap();
    }
    registrar.deregister(&api(), &id("b")).await.unwrap();
    sleep(secs(120)).await;
    assert!(fake.has("a") && !fake.has("b") && fake.has("c"));
    for name in ["a", "c"] {
        registrar.deregister(&api(), &id(name)).await.unwrap();
    }
    assert_eq!(fake.count(Op::Release), 0);
    fake.clear_log();
    sleep(secs(60)).await;
    assert!(
        fake.count(Op::Renew) >= 5,
        "the next registration will live by this lease"
    );
}

/// heartbeats stop, then everything goes, before shutdown returns.
#[tokio::test(start_paused = true)]
async fn shutdown_withdraws_everything() {
    for (fake, op, requests) in [
        (Fake::single(), Op::Deregister, 1000),
        (Fake::shared(), Op::Release, 1),
        (Fake::new(LeaseMode::None, None), Op::Deregister, 1000),
    ] {
        let registrar = registrar(&fake);
        for i in 0..1000 {
            registrar.register(registration(&format!("i-{i}"))).await.unwrap();
        }
        fake.state().latency = Duration::from_millis(50);
        sleep(secs(17)).await;
        let started = Instant::now();
        registrar.shutdown(secs(10)).await.unwrap();
        assert!(fake.state().records.is_empty());
        assert!(started.elapsed() < secs(3), "{:?}", started.elapsed());
        assert_eq!(fake.count(op), requests);
        assert!(registrar.states().is_empty());
        fake.clear_log();
        registrar.shutdown(secs(10)).await.unwrap();
        sleep(secs(600)).await;
        assert!(fake.state().log.is_empty(), "silence after shutdown");
    }
}

#[tokio::test(start_paused = true)]
async fn after_shutdown_everything_is_closed() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    registrar.shutdown(secs(1)).await.unwrap();
    let (api, a) = (api(), id("a"));
    let kinds = [
        registrar.register(registration("b")).await.unwrap_err().kind(),
        registrar.deregister(&api, &a).await.unwrap_err().kind(),
        registrar
            .report_health(&api, &a, crate::HealthReport::default())
            .await
            .unwrap_err()
            .kind(),
        registrar
            .update_meta(&api, &a, crate::MetaChange::new())
            .await
            .unwrap_err()
            .kind(),
        registrar.drain(&api, &a, secs(1)).await.unwrap_err().kind(),
        registrar.find(&a).unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::Closed; 6]);
}

/// What could not be withdrawn by the deadline is named, and can be withdrawn later.
#[tokio::test(start_paused = true)]
async fn shutdown_names_what_is_left() {
    for (fake, op, fault) in [
        (Fake::single(), Op::Deregister, Fault::Hang),
        (
            Fake::single(),
            Op::Deregister,
            Fault::Refuse(ErrorKind::Unavailable),
        ),
        (
            Fake::single(),
            Op::Deregister,
            Fault::Refuse(ErrorKind::PermissionDenied),
        ),
        (Fake::shared(), Op::Release, Fault::Hang),
    ] {
        let registrar = registrar(&fake);
        registrar.register(registration("a")).await.unwrap();
        registrar.register(registration("b")).await.unwrap();
        fake.fault(op, usize::MAX, fault);
        if op == Op::Release {
            fake.fault(Op::Deregister, usize::MAX, fault);
        }
        let started = Instant::now();
        let error = registrar.shutdown(secs(5)).await.unwrap_err();
        assert!(started.elapsed() <= secs(5) + Duration::from_millis(50));
        assert!(error.to_string().contains("left: api/a, api/b"), "{error}");
        assert_eq!(
            error.operation(),
            Some(if matches!(fault, Fault::Hang) {
                "shutdown"
            } else {
                "deregister"
            })
        );
        fake.heal();
        registrar.shutdown(secs(5)).await.unwrap();
        assert!(fake.state().records.is_empty());
    }
}

/// One request that hangs does not keep shutdown from withdrawing the others.
#[tokio::test(start_paused = true)]
async fn a_hanging_request_does_not_stop_shutdown() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    for i in 0..100 {
        registrar.register(registration(&format!("i-{i}"))).await.unwrap();
    }
    fake.fault(Op::Health, 1, Fault::Hang);
    let (api, hung) = (api(), id("i-7"));
    let report = registrar.report_health(&api, &hung, crate::HealthReport::default());
    let shutdown = async {
        sleep(Duration::from_millis(1)).await;
        registrar.shutdown(secs(5)).await
    };
    let (_, result) = tokio::join!(report, shutdown);
    let error = result.unwrap_err();
    assert!(error.to_string().contains("left: api/i-7)"), "{error}");
    assert_eq!(fake.state().records.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_may_leave_registrations_to_expire() {
    let fake = Fake::single();
    let config = RegistrarConfig::default().deregister_on_shutdown(false);
    let registrar = registrar_with(&fake, config);
    registrar.register(registration("a")).await.unwrap();
    sleep(secs(100)).await;
    registrar.shutdown(secs(5)).await.unwrap();
    assert!(fake.has("a"));
    fake.clear_log();
    sleep(TTL * 2).await;
    assert!(!fake.has("a"), "no heartbeat any more");
    assert!(fake.state().log.is_empty());
}

/// A first registration that fails leaves nothing behind, even where the registry had taken it.
#[tokio::test(start_paused = true)]
async fn a_failed_first_registration_is_withdrawn() {
    let fake = Fake::new(LeaseMode::None, None);
    let registrar = registrar(&fake);
    fake.fault(Op::Register, 3, Fault::LoseAnswer(ErrorKind::Timeout));
    let error = registrar.register(registration("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(fake.count(Op::Register), 3);
    eventually(secs(1), "withdrawn", || registrar.states().is_empty()).await;
    assert!(!fake.has("a"));
    sleep(secs(600)).await;
    assert_eq!(fake.count(Op::Register), 3);
}

/// A refusal leaves nothing to withdraw, and nothing is sent to withdraw it.
#[tokio::test(start_paused = true)]
async fn a_refused_first_registration_sends_no_more() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    fake.fault(Op::Register, 3, Fault::Refuse(ErrorKind::PermissionDenied));
    assert!(registrar.register(registration("a")).await.is_err());
    eventually(secs(1), "forgotten", || registrar.states().is_empty()).await;
    assert_eq!(fake.state().log.len(), 1, "one attempt: repeating it cannot help");
}

/// A registration that failed because the registry is away does not make shutdown slow, nor fail.
#[tokio::test(start_paused = true)]
async fn shutdown_after_a_failed_registration_is_quick() {
    let fake = Fake::single();
    let registrar = registrar_with(&fake, RegistrarConfig::default().retry(RetryPolicy::never()));
    fake.outage(ErrorKind::Unavailable);
    assert!(registrar.register(registration("a")).await.is_err());
    let started = Instant::now();
    registrar.shutdown(secs(5)).await.unwrap();
    assert!(started.elapsed() < secs(1));
}

/// the task group's end ends every task of the registrar, whatever it is doing, and closes it.
#[tokio::test(start_paused = true)]
async fn no_task_outlives_its_group() {
    let fake = Fake::single();
    let tasks = crate::TaskGroup::current().unwrap();
    let registrar = Registrar::new(fake.clone(), tasks.clone(), RegistrarConfig::default());
    for i in 0..100 {
        registrar.register(registration(&format!("i-{i}"))).await.unwrap();
    }
    fake.amnesia();
    fake.fault(Op::Register, usize::MAX, Fault::Hang);
    sleep(secs(12)).await;
    tasks.join(Duration::from_millis(1)).await.unwrap();
    let error = registrar.register(registration("b")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}
