//! The suite itself: that it is whole, and that it catches what it is there for.

mod mutants;

use std::collections::HashSet;

use super::*;

#[test]
fn no_two_cases_share_a_name_and_every_flag_can_be_proved() {
    let names: HashSet<_> = all().map(|case| (case.group, case.name)).collect();
    assert_eq!(names.len(), all().count());
    for flag in Flag::ALL {
        assert!(
            all().any(|case| case.proves.contains(&flag)),
            "nothing proves `{flag}`"
        );
    }
    for case in all() {
        for flag in case.proves {
            assert!(
                case.needs.contains(flag),
                "{case:?} proves `{flag}` without needing it"
            );
        }
    }
    for group in CLIENT_GROUPS {
        assert!(all().any(|case| case.group == group), "no case in `{group}`");
    }
}
