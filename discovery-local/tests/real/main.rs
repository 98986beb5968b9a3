//! Several processes on one file: this program starts itself again and again.

mod child;
mod disk;
mod processes;
mod support;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// `real!(function)`: the test that runs this function and is called like it.
macro_rules! real {
    ($module:ident :: $run:ident) => {
        Trial::test(concat!(stringify!($module), "::", stringify!($run)), || {
            crate::support::run($module::$run())
        })
    };
}

fn main() -> ExitCode {
    if let Some(role) = std::env::var_os(child::ROLE) {
        return child::main(&role.to_string_lossy());
    }
    let tests = vec![
        real!(processes::a_change_is_seen_within_100_ms),
        real!(processes::a_killed_process_takes_its_instances_along),
        real!(processes::a_stopped_process_is_not_expired),
        real!(processes::killed_in_the_midst_of_changes_loses_nothing),
        real!(processes::of_two_that_fight_over_an_id_one_is_shown),
        real!(processes::twenty_processes_of_fifty),
        real!(processes::what_is_detached_outlives_its_process),
        real!(processes::what_a_command_registers_lasts_until_deregistered),
        real!(processes::counting_by_compare_and_set_loses_nothing),
        // What cannot run here is shown as ignored, never as passed.
        real!(disk::a_full_disk_ends_nobody)
            .with_kind("needs root to mount a small disk")
            .with_ignored_flag(!rustix::process::geteuid().is_root()),
        real!(disk::a_file_that_is_none_of_ours_is_told_and_kept),
        real!(disk::a_change_under_way_is_waited_for_and_hinders_no_read),
        real!(disk::a_client_goes_on_in_a_new_file),
        real!(disk::a_cleaned_folder_of_locks_is_made_again),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}
