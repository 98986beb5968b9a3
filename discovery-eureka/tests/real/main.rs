//! What only Eureka needs, on real servers: what they make of registrations, restarts, peers, other clients, many of
//! everything. `DISCOVERY_EUREKA` and `DISCOVERY_EUREKA_CLIENT` name the jars, `DISCOVERY_PYTHON_EUREKA` an interpreter with
//! `py-eureka-client`.

#![expect(
    clippy::unwrap_used,
    reason = "a test program: what is unexpected ends the case"
)]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use discovery_testkit::server::eureka::SERVER;
use futures::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Trial};
use tokio::time::timeout;

mod evictions;
mod many;
mod others;
mod peers;
mod records;
mod restarts;
mod support;
mod ways;

/// How long one case may take, on a machine that has much else to do; of the slow tier some take minutes.
const LIMIT: Duration = Duration::from_secs(900);

/// Whether cases take the time that faults take in earnest.
fn slow() -> bool {
    std::env::var("DISCOVERY_TEST_TIER").is_ok_and(|tier| tier == "slow")
}

/// Cases mostly wait, each for a server of its own, and servers take memory.
const AT_ONCE: usize = 3;

/// The programs a case may need.
struct Setup {
    jar: PathBuf,
    other: PathBuf,
}

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
    cases!(peers: u_20_one_cut_off_then_back_pollutes_nothing, u_30_a_peer_that_dies_is_left),
    cases!(evictions:
        u_16_a_renewed_lease_lasts_twice_as_long,
        u_17_an_eviction_takes_a_few_at_most,
        u_18_self_preservation_keeps_the_dead,
    ),
    cases!(many: five_hundred_applications_of_twenty, a_9_u_19_heartbeats_race_with_withdrawals),
    cases!(records:
        u_11_an_older_registration_is_ignored,
        u_12_no_registration_ends_or_makes_maintenance,
        u_13_metadata_set_aside_is_lost_with_the_next_registration,
        u_14_a_status_that_is_there_is_not_held,
        u_15_maintenance_taken_back_without_a_status_is_unknown,
        u_20_ones_own_record_is_read_past_the_cache,
        u_1_u_4_what_a_server_sends,
        statuses_ports_urls_and_names,
    ),
    cases!(restarts:
        fifty_clients_of_a_restarted_server_do_not_come_back_in_step,
        u_10_u_25_a_server_restarted_empty,
        u_26_a_server_that_warms_up_says_nothing,
    ),
    cases!(ways:
        remote_regions_are_looked_in_where_they_are_asked_for,
        u_22_a_hash_that_does_not_fit_reads_everything_again,
        xml_says_the_same_as_json,
        lists_come_packed,
        data_centres_and_both_ports,
    ),
];

/// Names the jar of a Spring Boot service.
const SPRING: &str = "DISCOVERY_EUREKA_CLIENT";

/// What needs another program, and its variable.
const WITH_OTHERS: &[(Case, &str)] = &[
    (
        ("others::a_spring_service_and_we_see_each_other", |setup| {
            Box::pin(others::a_spring_service_and_we_see_each_other(setup))
        }),
        SPRING,
    ),
    (
        ("others::py_eureka_client_and_we_see_each_other", |setup| {
            Box::pin(others::py_eureka_client_and_we_see_each_other(setup))
        }),
        others::PYTHON,
    ),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let alone = CASES.iter().copied().flatten().map(|case| (*case, ""));
    let mut trials = Vec::new();
    for ((name, run), variable) in alone.chain(WITH_OTHERS.iter().copied()) {
        let (handle, jar) = (runtime.handle().clone(), SERVER.binary());
        let other = std::env::var_os(variable)
            .filter(|_| !variable.is_empty())
            .map(PathBuf::from);
        let missing = match (&jar, &other) {
            (None, _) => Some(SERVER.variable()),
            (_, None) if !variable.is_empty() => Some(variable),
            _ => None,
        };
        let trial = Trial::test(name, move || {
            if let Some(missing) = missing {
                return Err(format!("not run: {missing} is not set").into());
            }
            let setup = Setup {
                jar: jar.unwrap_or_default(),
                other: other.unwrap_or_default(),
            };
            let ended = catch_unwind(AssertUnwindSafe(|| {
                handle.block_on(async { timeout(LIMIT, run(setup)).await.expect("an end in time") });
            }));
            ended.map_err(|_| "see above".into())
        });
        trials.push(trial.with_ignored_flag(missing.is_some()));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
