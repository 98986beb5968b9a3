//! Once registered, always registered.

use tokio::time::{Instant, sleep};

use super::*;
use crate::spi::LeaseMode;

/// A-4, C-29: a heartbeat every third of the TTL, with jitter, the first anywhere within that.
#[tokio::test(start_paused = true)]
async fn beats_every_third_of_the_ttl() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    let registered = Instant::now();
    sleep(secs(3600)).await;
    let beats = fake.times(Op::Renew);
    assert!(beats[0] - registered <= TTL / 3);
    let gaps: Vec<_> = beats.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        gaps.iter()
            .all(|gap| (secs(8)..=secs(10) + Duration::from_millis(5)).contains(gap))
    );
    let distinct: std::collections::BTreeSet<_> = gaps.iter().collect();
    assert!(distinct.len() > gaps.len() / 2, "no jitter");
    assert_eq!(fake.count(Op::Register), 1);
    assert_eq!(phase(&registrar), RegistrationPhase::Registered);
}

/// A backend may want them more often, never less.
#[tokio::test(start_paused = true)]
async fn beats_as_often_as_the_lease_says() {
    for (asked, most) in [(secs(3), secs(3)), (secs(60), TTL / 3)] {
        let fake = Fake::single();
        fake.state().renew_every = Some(asked);
        let registrar = registrar(&fake);
        registrar.register(registration("a")).await.unwrap();
        sleep(secs(3600)).await;
        let beats = fake.times(Op::Renew);
        let mut gaps = beats.windows(2).map(|pair| pair[1] - pair[0]);
        let expected = most * 4 / 5..=most + Duration::from_millis(5);
        assert!(gaps.all(|gap| expected.contains(&gap)), "asked for {asked:?}");
    }
}

/// A fleet that starts at one moment does not beat at one moment.
#[tokio::test(start_paused = true)]
async fn first_beats_are_spread() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    let started = Instant::now();
    for i in 0..100 {
        registrar.register(registration(&format!("i-{i}"))).await.unwrap();
    }
    sleep(TTL / 3).await;
    let early = fake
        .times(Op::Renew)
        .iter()
        .filter(|at| **at - started < TTL / 6)
        .count();
    assert!((25..=75).contains(&early), "{early} of 100 in the first half");
}

/// A short outage: the heartbeat follows the recovery at once and the TTL never lapses.
#[tokio::test(start_paused = true)]
async fn an_outage_shorter_than_the_ttl_costs_nothing() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    for round in 0..50 {
        let beats = fake.count(Op::Renew);
        eventually(TTL, "a heartbeat", || fake.count(Op::Renew) > beats).await;
        fake.outage(ErrorKind::Unavailable);
        sleep(secs(20)).await;
        assert_eq!(phase(&registrar), RegistrationPhase::Renewing);
        fake.heal();
        let took = eventually(TTL, "renewed", || {
            phase(&registrar) == RegistrationPhase::Registered
        })
        .await;
        assert!(took <= TTL / 8 + POLL * 2, "{round}: {took:?}");
        assert!(fake.has("a"));
    }
    assert_eq!(fake.count(Op::Register), 1);
}

/// C-29: one blocked heartbeat of three, or two, never lets the TTL lapse.
#[tokio::test(start_paused = true)]
async fn blocked_heartbeats_never_let_the_ttl_lapse() {
    for blocked in [1, 2] {
        let fake = Fake::single();
        let registrar = registrar(&fake);
        registrar.register(registration("a")).await.unwrap();
        for _ in 0..100 {
            let beats = fake.count(Op::Renew);
            fake.fault(Op::Renew, blocked, Fault::Hang);
            eventually(TTL, "a heartbeat through", || {
                fake.count(Op::Renew) > beats + blocked
            })
            .await;
            assert!(fake.has("a"));
        }
        assert_eq!(fake.count(Op::Register), 1, "the TTL lapsed");
    }
}

/// As wanted, and a third of the TTL where that would leave no other chance within it.
#[tokio::test(start_paused = true)]
async fn heartbeats_come_as_often_as_wanted() {
    for (wanted, beats) in [(3, 100..=126), (15, 20..=26), (16, 30..=39)] {
        let fake = Fake::single();
        let config = RegistrarConfig::default().renew_every(Some(secs(wanted)));
        let registrar = registrar_with(&fake, config);
        registrar.register(registration("a")).await.unwrap();
        sleep(TTL * 10).await;
        let counted = fake.count(Op::Renew);
        assert!(
            beats.contains(&counted),
            "{counted} heartbeats in {:?}, every {wanted} s",
            TTL * 10
        );
        assert!(fake.has("a"));
    }
}

/// A-8, C-23, U-10: a registry that forgot it has it back within one heartbeat.
#[tokio::test(start_paused = true)]
async fn issue_eureka_914_not_found_on_renewal_registers_again() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    for _ in 0..20 {
        fake.amnesia();
        let took = eventually(TTL, "registered again", || fake.has("a")).await;
        assert!(took <= TTL / 3 + POLL * 2, "{took:?}");
    }
}

/// However long the outage, the lease is granted again when it ends; meanwhile the registry is not hammered.
#[tokio::test(start_paused = true)]
async fn issue_kratos_3883_lease_lost_is_regranted_for_ever() {
    for fake in [Fake::single(), Fake::shared()] {
        let registrar = registrar(&fake);
        registrar.register(registration("a")).await.unwrap();
        fake.outage(ErrorKind::Unavailable);
        fake.amnesia();
        fake.clear_log();
        sleep(secs(24 * 3600)).await;
        assert_eq!(phase(&registrar), RegistrationPhase::Lost);
        let requests = fake.state().log.len();
        assert!(requests < 24 * 60 * 20, "{requests} requests in a day");
        assert!(requests > 24 * 60 * 2, "{requests} requests in a day");
        fake.heal();
        let took = eventually(secs(60), "registered again", || fake.has("a")).await;
        assert!(took <= TTL / 3 + POLL * 2, "{took:?}");
        sleep(secs(300)).await;
        assert!(fake.has("a"));
        assert_eq!(phase(&registrar), RegistrationPhase::Registered);
    }
}

/// The registry forgets while registering again fails too: that is tried for ever as well.
#[tokio::test(start_paused = true)]
async fn registering_again_is_tried_for_ever() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    fake.amnesia();
    fake.fault(Op::Register, usize::MAX, Fault::Hang);
    sleep(secs(3600)).await;
    assert_eq!(phase(&registrar), RegistrationPhase::Lost);
    fake.heal();
    eventually(secs(30), "registered again", || fake.has("a")).await;
}

/// A token without rights is tried slowly for ever, says so, and recovers when the rights return.
#[tokio::test(start_paused = true)]
async fn permission_denied_is_tried_slowly_and_recovers() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    fake.outage(ErrorKind::PermissionDenied);
    sleep(TTL * 2).await;
    assert_eq!(phase(&registrar), RegistrationPhase::Denied);
    let error = registrar.states()[0].last_error.clone().unwrap();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    fake.clear_log();
    sleep(secs(3600)).await;
    let beats = fake.times(Op::Renew);
    assert!(
        beats
            .windows(2)
            .all(|pair| (secs(30)..=secs(46)).contains(&(pair[1] - pair[0])))
    );
    assert!(beats.len() >= 78, "{}", beats.len());
    fake.heal();
    eventually(secs(46), "registered again", || fake.has("a")).await;
    assert_eq!(phase(&registrar), RegistrationPhase::Registered);
}

/// Rights that come back within the TTL (token rotation) do not cost the lease.
#[tokio::test(start_paused = true)]
async fn a_denial_shorter_than_the_ttl_costs_nothing() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    for _ in 0..20 {
        let beats = fake.count(Op::Renew);
        fake.fault(Op::Renew, 1, Fault::Refuse(ErrorKind::Unauthenticated));
        eventually(TTL, "two heartbeats", || fake.count(Op::Renew) > beats + 1).await;
    }
    assert_eq!(fake.count(Op::Register), 1);
    assert!(fake.has("a"));
}

/// E-12: renewals that are answered although the record is gone do not fool it; the read-back finds out.
#[tokio::test(start_paused = true)]
async fn the_read_back_finds_a_record_that_went_unnoticed() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    fake.state().renewals_lie = true;
    fake.state().records.clear();
    eventually(TTL * 2, "registered again", || fake.has("a")).await;
}

/// A read-back that fails says nothing.
#[tokio::test(start_paused = true)]
async fn a_failing_read_back_changes_nothing() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    fake.fault(
        Op::Instance,
        usize::MAX,
        Fault::Refuse(ErrorKind::PermissionDenied),
    );
    sleep(secs(600)).await;
    assert!(fake.count(Op::Instance) >= 15);
    assert_eq!(fake.count(Op::Register), 1);
    assert_eq!(phase(&registrar), RegistrationPhase::Registered);
}

/// Two programs that share an id by mistake write in turns, at most once per TTL: no hot loop.
#[tokio::test(start_paused = true)]
async fn a_record_overwritten_by_others_is_written_again_once_per_ttl() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    for _ in 0..600 {
        sleep(secs(1)).await;
        fake.state().records.get_mut("a").unwrap().registration.port = 9;
    }
    let writes = fake.times(Op::Register);
    assert!((15..=21).contains(&writes.len()), "{}", writes.len());
    assert!(writes.windows(2).all(|pair| pair[1] - pair[0] >= TTL));
}

/// Without a TTL there is nothing to renew; the read-back alone keeps it.
#[tokio::test(start_paused = true)]
async fn a_registration_without_ttl_is_read_back() {
    let fake = Fake::new(LeaseMode::None, None);
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    fake.amnesia();
    eventually(secs(37), "registered again", || fake.has("a")).await;
    sleep(secs(600)).await;
    assert_eq!(fake.count(Op::Renew), 0);
    assert!((16..=21).contains(&fake.count(Op::Instance)));
    assert!(registrar.states()[0].confirmed.unwrap() <= secs(37));
}

/// One renewal per period, however many live by the lease; all of them return when it is lost.
#[tokio::test(start_paused = true)]
async fn a_shared_lease_is_renewed_once_for_all() {
    let fake = Fake::shared();
    let registrar = registrar(&fake);
    for i in 0..5000 {
        registrar.register(registration(&format!("i-{i}"))).await.unwrap();
    }
    fake.clear_log();
    sleep(secs(60)).await;
    let beats = fake.count(Op::Renew);
    assert!((5..=8).contains(&beats), "{beats} renewals in a minute");
    assert_eq!(fake.state().records.len(), 5000);

    fake.state().latency = Duration::from_millis(5);
    fake.amnesia();
    let took = eventually(TTL, "all registered again", || fake.state().records.len() == 5000).await;
    assert!(took <= TTL / 3 + secs(2), "{took:?}");
    fake.clear_log();
    sleep(secs(60)).await;
    let beats = fake.count(Op::Renew);
    assert!(
        (5..=8).contains(&beats),
        "{beats} renewals in a minute of the new lease"
    );
    assert!(
        fake.state()
            .records
            .values()
            .all(|r| r.group.as_str() == "lease-1")
    );
    assert_eq!(fake.state().records.len(), 5000);
}
