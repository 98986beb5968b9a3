//! What only Consul needs, on real servers, the oldest and the newest supported: rights, TLS, sockets, its checks, its
//! limits, and every fault on its own. `DISCOVERY_CONSUL_OLD` and `DISCOVERY_CONSUL_NEW` name the programs.
//!
//! Where each fault is shown, here or in the conformance suite (`tests/conformance.rs`):
//!
//! | fault | case |
//! | --- | --- |
//! | body cut | `faults::a_body_cut_short`, `faults::a_body_reset` |
//! | stall without close | `faults::a_stall`; `recover::silence_is_noticed_and_heals` |
//! | refused | `faults::connections_refused`; `recover::an_outage_causes_no_storm` |
//! | 500, 403, 429 for a while | `faults::answers_of_500`, `faults::answers_of_403`, `faults::answers_of_429` |
//! | garbage for a while | `faults::random_bytes`, `faults::pages_of_html` |
//! | agent killed and restarted empty | `restarts::killed_and_restarted_empty`; `registrar::registers_again_what_the_registry_forgot` |
//! | restarted with its data directory | `restarts::killed_and_restarted_with_its_data` |
//! | token revoked during a watch | `rights::c_40_a_token_revoked_during_a_watch`, `rights::c_40_a_view_under_a_revoked_token` |
//! | token revoked during a heartbeat | `rights::a_token_revoked_during_a_heartbeat` |
//! | token rotated, then revoked | `rights::c_41_a_token_rotated_before_it_is_revoked` |
//! | index backwards | `history::c_10_a_snapshot_restored`, `history::c_10_a_history_lost_in_a_restart` |
//! | header stripped | `history::c_2_answers_without_an_index` |
//! | last instance really deregistered | `history::the_last_instance_deregistered` |
//! | quorum lost | `restarts::c_12_c_30_a_lost_quorum` |
//! | server down at start, ready later | `restarts::a_server_that_starts_late`; `recover::started_while_down_it_is_ready_later` |
//! | server down at start, served from disk | `restarts::a_cold_start_from_disk`; `recover::a_cold_start_uses_the_snapshot_on_disk` |
//! | 300 watches beside heartbeats | `many::c_16_300_watches_beside_heartbeats` |
//! | 1,000 cycles leave nothing | `many::a_thousand_cycles_leave_nothing` |
//! | a datacenter lost | `datacenters::one_lost_leaves_the_other` |

#![expect(
    clippy::unwrap_used,
    reason = "a test program: what is unexpected ends the case"
)]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Duration,
};

use discovery_testkit::server::consul::Age;
use futures::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Trial};
use tokio::time::timeout;

mod datacenters;
mod faults;
mod history;
mod many;
mod registrations;
mod restarts;
mod rights;
mod support;
mod ways;

use support::Setup;

/// How long one case may take.
const LIMIT: Duration = Duration::from_secs(400);
/// Cases mostly wait, each for a server of its own.
const AT_ONCE: usize = 6;

type Case = (&'static str, fn(Setup) -> LocalBoxFuture<'static, ()>);

/// The cases of one file.
macro_rules! cases {
    ($module:ident: $($name:ident),+ $(,)?) => {
        &[$((
            concat!(stringify!($module), "::", stringify!($name)),
            |setup| Box::pin($module::$name(setup)),
        )),+]
    };
}

const CASES: &[&[Case]] = &[
    // First what takes longest.
    cases!(faults:
        answers_of_403,
        a_stall,
        answers_of_500,
        answers_of_429,
        connections_refused,
        random_bytes,
        pages_of_html,
        a_body_cut_short,
        a_body_reset,
    ),
    cases!(rights:
        a_token_revoked_during_a_heartbeat,
        c_40_a_view_under_a_revoked_token,
        c_41_a_token_rotated_before_it_is_revoked,
        c_40_a_token_revoked_during_a_watch,
        the_least_policies_are_enough,
        c_39_hidden_instances_are_never_plainly_none,
    ),
    cases!(datacenters: one_lost_leaves_the_other),
    cases!(restarts:
        c_12_c_30_a_lost_quorum,
        killed_and_restarted_empty,
        killed_and_restarted_with_its_data,
        a_server_that_starts_late,
        a_cold_start_from_disk,
    ),
    cases!(history:
        c_10_a_snapshot_restored,
        c_10_a_history_lost_in_a_restart,
        c_2_answers_without_an_index,
        the_last_instance_deregistered,
    ),
    cases!(many:
        c_16_300_watches_beside_heartbeats,
        a_thousand_cycles_leave_nothing,
    ),
    cases!(registrations:
        c_23_a_renewal_tells_that_it_is_forgotten,
        c_25_c_33_registering_again_changes_nothing,
        c_26_a_check_that_is_gone_leaves_no_orphan,
        made_draining_it_is_never_in_service,
        a_record_of_another_program_is_edited,
    ),
    cases!(ways:
        c_42_tls_and_client_certificates,
        c_43_unix_socket,
    ),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut trials = Vec::new();
    for (case, run) in CASES.iter().copied().flatten() {
        for age in Age::ALL {
            let (handle, binary) = (runtime.handle().clone(), age.binary());
            let missing = binary.is_none();
            let trial = Trial::test(format!("{}::{case}", age.name()), move || {
                let Some(binary) = binary else {
                    return Err(format!("not run: {} is not set", age.variable()).into());
                };
                let setup = Setup { age, binary };
                let ended = catch_unwind(AssertUnwindSafe(|| {
                    handle.block_on(async { timeout(LIMIT, run(setup)).await.expect("an end in time") });
                }));
                ended.map_err(|_| "see above".into())
            });
            trials.push(trial.with_ignored_flag(missing));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
