use proptest::prelude::*;

use super::*;
use crate::model::{InstanceId, ServiceName};

fn keys(ids: impl IntoIterator<Item = usize>) -> BTreeSet<InstanceKey> {
    let key = |id: usize| {
        InstanceKey::new(
            "test",
            ServiceName::observed("api"),
            InstanceId::observed(format!("api-{id}")),
        )
    };
    ids.into_iter().map(key).collect()
}

const SURE: Evidence = Evidence::Authoritative;

const fn suspect(reason: Suspicion) -> Evidence {
    Evidence::Suspect(reason)
}

fn at(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

/// the authoritative end of the last instance is told once and promptly.
#[test]
fn a_2_an_authoritative_empty_answer_passes_at_once() {
    let now = Instant::now();
    assert_eq!(Guard::default().answer(now, 1, keys([0]), SURE), Verdict::Believe);
    assert_eq!(
        Guard::default().answer(now, 4, keys(0..4), SURE),
        Verdict::Believe
    );
    assert_eq!(
        Guard::default().answer(now, 10, keys(0..5), SURE),
        Verdict::Believe
    );
}

#[test]
fn a_mass_removal_waits_for_a_second_agreeing_read() {
    let start = Instant::now();
    let mut guard = Guard::default();
    assert_eq!(guard.answer(start, 10, keys(0..6), SURE), Verdict::Hold);
    assert_eq!(guard.held(), Some(Held::new(Suspicion::MassRemoval, 6)));
    let soon = start + Duration::from_millis(999);
    assert_eq!(guard.answer(soon, 10, keys(0..6), SURE), Verdict::Hold);
    assert_eq!(guard.answer(at(start, 1), 10, keys(0..6), SURE), Verdict::Believe);
    assert_eq!(guard.held(), None);
}

#[test]
fn a_mass_removal_that_changes_its_mind_starts_over() {
    let start = Instant::now();
    let mut guard = Guard::default();
    assert_eq!(guard.answer(start, 10, keys(0..10), SURE), Verdict::Hold);
    assert_eq!(guard.answer(at(start, 2), 10, keys(0..6), SURE), Verdict::Hold);
    assert_eq!(guard.answer(at(start, 3), 10, keys(0..6), SURE), Verdict::Believe);
}

#[test]
fn a_mass_removal_is_held_for_thirty_seconds_at_most() {
    let start = Instant::now();
    let mut guard = Guard::default();
    guard.answer(start, 10, keys(0..10), SURE);
    assert_eq!(guard.expired(at(start, 29)), None);
    assert_eq!(guard.deadline(), Some(at(start, 30)));
    assert_eq!(guard.expired(at(start, 30)), Some(keys(0..10)));
    assert_eq!(guard.held(), None);
}

/// consul#20790: a token revoked during a blocking query answers 200 with nothing and index 1.
#[test]
fn issue_consul_20790_an_index_that_went_back_removes_nothing_until_two_reads_agree() {
    let start = Instant::now();
    let mut guard = Guard::default();
    assert_eq!(
        guard.answer(start, 1, keys([0]), suspect(Suspicion::IndexRegressed)),
        Verdict::Hold
    );
    assert_eq!(guard.deadline(), None, "no time limit: only reads can confirm it");
    assert_eq!(guard.answer(at(start, 1), 1, keys([0]), SURE), Verdict::Hold);
    assert_eq!(guard.answer(at(start, 2), 1, keys([0]), SURE), Verdict::Believe);
}

#[test]
fn lost_access_holds_until_it_returns_however_often_it_is_confirmed() {
    let start = Instant::now();
    let mut guard = Guard::default();
    for second in 0..600 {
        let verdict = guard.answer(at(start, second), 3, keys(0..3), suspect(Suspicion::AccessLost));
        assert_eq!(verdict, Verdict::Hold);
        assert_eq!(guard.expired(at(start, second)), None);
    }
    assert_eq!(guard.answer(at(start, 600), 3, keys([0]), SURE), Verdict::Believe);
    assert_eq!(guard.held(), None);
}

#[test]
fn access_that_returns_with_a_mass_removal_is_still_doubted() {
    let start = Instant::now();
    let mut guard = Guard::default();
    guard.answer(start, 10, keys(0..10), suspect(Suspicion::AccessLost));
    assert_eq!(guard.answer(at(start, 60), 10, keys(0..10), SURE), Verdict::Hold);
    assert_eq!(guard.held(), Some(Held::new(Suspicion::MassRemoval, 10)));
    assert_eq!(
        guard.answer(at(start, 61), 10, keys(0..10), SURE),
        Verdict::Believe
    );
}

#[test]
fn an_unverified_empty_answer_is_believed_after_thirty_seconds() {
    let start = Instant::now();
    let mut guard = Guard::default();
    guard.answer(start, 2, keys(0..2), suspect(Suspicion::UnverifiedEmpty));
    guard.answer(at(start, 20), 2, keys(0..2), suspect(Suspicion::UnverifiedEmpty));
    assert_eq!(
        guard.expired(at(start, 30)),
        Some(keys(0..2)),
        "repeating it does not extend the doubt"
    );
}

#[test]
fn a_false_alarm_is_forgotten() {
    let start = Instant::now();
    let mut guard = Guard::default();
    guard.answer(start, 10, keys(0..10), SURE);
    assert_eq!(guard.answer(at(start, 1), 10, keys([]), SURE), Verdict::Believe);
    assert_eq!(guard.held(), None);
}

#[test]
fn explicit_removals_pass_in_any_number_and_end_doubt_about_them() {
    let start = Instant::now();
    let mut guard = Guard::default();
    guard.answer(start, 10, keys(0..10), SURE);
    let some: Vec<_> = keys(0..4).into_iter().collect();
    assert_eq!(guard.removal(start, &some, SURE), Verdict::Believe);
    assert_eq!(guard.held(), Some(Held::new(Suspicion::MassRemoval, 6)));
    guard.shown(&keys(4..10));
    assert_eq!(guard.held(), None);
    assert_eq!(
        guard.removal(start, &some, suspect(Suspicion::NoLeader)),
        Verdict::Hold
    );
}

proptest! {
    /// Whatever comes, nothing is removed on suspicion alone, and what is held ends with the answers' agreement.
    #[test]
    fn suspect_answers_never_remove_and_agreeing_reads_always_do(
        answers in prop::collection::vec((0u64..5, 0usize..10, 0usize..6), 0..40),
    ) {
        let mut now = Instant::now();
        let mut guard = Guard::default();
        for (seconds, missing, evidence) in answers {
            now += Duration::from_secs(seconds);
            let evidence = match evidence {
                0 => suspect(Suspicion::AccessLost),
                1 => suspect(Suspicion::IndexRegressed),
                2 => suspect(Suspicion::NoLeader),
                _ => SURE,
            };
            let missing = keys(0..missing);
            let nothing = missing.is_empty();
            let verdict = guard.answer(now, 10, missing, evidence);
            prop_assert!(evidence == SURE || nothing || verdict == Verdict::Hold);
        }
        let all = keys(0..10);
        guard.answer(now, 10, all.clone(), SURE);
        guard.answer(now + Duration::from_secs(1), 10, all.clone(), SURE);
        let verdict = guard.answer(now + Duration::from_secs(2), 10, all, SURE);
        prop_assert!(verdict == Verdict::Believe || guard.held().is_some_and(|held| held.instances == 10));
        guard.answer(now + Duration::from_secs(3), 10, keys(0..10), SURE);
        let held = guard.held();
        prop_assert!(held.is_none_or(|held| held.reason == Suspicion::MassRemoval));
    }
}
