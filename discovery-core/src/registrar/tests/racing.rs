//! Races: what is under way never undoes what comes later.

use futures::future::join_all;
use tokio::time::{sleep, timeout};

use super::*;
use crate::spi::LeaseMode;

fn millis(range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(fastrand::u64(range))
}

/// A-9, U-19: a heartbeat or a re-registration under way never brings back what was deregistered.
#[tokio::test(start_paused = true)]
async fn a_late_heartbeat_never_resurrects() {
    let fake = Fake::new(LeaseMode::Single, Some(secs(3)));
    fake.reorder();
    let registrar = registrar(&fake);
    for round in 0..1000 {
        registrar.register(registration("a")).await.unwrap();
        sleep(millis(700..1100)).await;
        if round % 3 == 0 {
            fake.amnesia();
            sleep(millis(0..1100)).await;
        }
        registrar.deregister(&api(), &id("a")).await.unwrap();
        assert!(!fake.has("a"), "{round}: still there");
        sleep(Duration::from_millis(700)).await;
        assert!(!fake.has("a"), "{round}: brought back");
    }
    assert!(fake.count(Op::Renew) > 500, "{}", fake.count(Op::Renew));
}

/// the same through start and stop.
#[tokio::test(start_paused = true)]
async fn a_late_heartbeat_never_survives_shutdown() {
    for mode in [LeaseMode::Single, LeaseMode::Shared] {
        let fake = Fake::new(mode, Some(secs(3)));
        fake.reorder();
        for round in 0..1000 {
            let registrar = registrar(&fake);
            let (a, b) = tokio::join!(
                registrar.register(registration("a")),
                registrar.register(registration("b"))
            );
            a.and(b).unwrap();
            sleep(millis(0..1100)).await;
            if round % 3 == 0 {
                fake.amnesia();
                sleep(millis(0..1100)).await;
            }
            if round % 3 == 1 {
                let stop = async {
                    sleep(millis(0..350)).await;
                    registrar.shutdown(secs(10)).await
                };
                let (_, stopped) = tokio::join!(registrar.register(registration("a")), stop);
                stopped.unwrap();
            } else {
                registrar.shutdown(secs(10)).await.unwrap();
            }
            assert!(fake.state().records.is_empty(), "{round}: still there");
            sleep(Duration::from_millis(700)).await;
            assert!(fake.state().records.is_empty(), "{round}: brought back");
        }
    }
}

/// a `register` dropped at any moment is withdrawn; nothing is left half done.
#[tokio::test(start_paused = true)]
async fn a_dropped_register_is_withdrawn() {
    let fake = Fake::new(LeaseMode::None, None);
    fake.state().latency = Duration::from_millis(50);
    let registrar = registrar(&fake);
    for at in 0..60 {
        let dropped = timeout(Duration::from_millis(at), registrar.register(registration("a"))).await;
        if dropped.is_ok() {
            assert!(at >= 50);
            registrar.deregister(&api(), &id("a")).await.unwrap();
        }
        eventually(secs(1), "nothing left", || registrar.states().is_empty()).await;
        assert!(!fake.has("a"), "dropped after {at} ms");
    }
}

/// dropping a `register` of what is kept already never loses it.
#[tokio::test(start_paused = true)]
async fn a_dropped_replacement_is_kept() {
    let fake = Fake::single();
    fake.state().latency = Duration::from_millis(50);
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    for at in (0..60).step_by(7) {
        let _ = timeout(Duration::from_millis(at), registrar.register(registration("a"))).await;
        sleep(secs(40)).await;
        assert!(fake.has("a"), "dropped after {at} ms");
    }
}

/// Concurrent calls for one id have one keeper: never two requests about it under way.
#[tokio::test(start_paused = true)]
async fn calls_for_one_id_are_serialised() {
    let fake = Fake::single();
    fake.state().latency = Duration::from_millis(20);
    let registrar = registrar(&fake);
    let calls = (0..200).map(|i| {
        let registrar = registrar.clone();
        async move {
            sleep(millis(0..300)).await;
            if i % 4 == 0 {
                let _ = registrar.deregister(&api(), &id("a")).await;
            } else {
                registrar.register(registration("a")).await.unwrap();
            }
        }
    });
    join_all(calls).await;
    registrar.register(registration("a")).await.unwrap();
    assert_eq!(fake.state().most_under_way, 1);
    assert_eq!(registrar.states().len(), 1);
    sleep(secs(60)).await;
    assert!(fake.has("a"));
    registrar.deregister(&api(), &id("a")).await.unwrap();
    assert!(registrar.states().is_empty());
    assert!(!fake.has("a"));
}

/// Of two concurrent calls for one id, one failing for good does not withdraw what the other registered.
#[tokio::test(start_paused = true)]
async fn the_last_caller_out_withdraws_only_what_nobody_has() {
    for _ in 0..50 {
        let fake = Fake::single();
        fake.state().latency = Duration::from_millis(20);
        let registrar = registrar(&fake);
        fake.fault(Op::Register, 1, Fault::Refuse(ErrorKind::PermissionDenied));
        let (one, two) = tokio::join!(
            registrar.register(registration("a")),
            registrar.register(registration("a"))
        );
        assert!(one.is_ok() != two.is_ok());
        sleep(secs(60)).await;
        assert!(fake.has("a"));
    }
}
