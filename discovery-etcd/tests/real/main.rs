//! What only etcd needs, on real servers, the oldest and the newest supported: quorum, leases behind our back, compaction,
//! tokens, TLS, big sets, Go's form. `DISCOVERY_ETCD_OLD` and `DISCOVERY_ETCD_NEW` name the programs.
//!
//! Where each fault is shown, here or in the conformance suite (`tests/conformance.rs`):
//!
//! | fault | case |
//! | --- | --- |
//! | the leader killed | `members::e_37_the_leader_may_die` |
//! | two of three stopped for longer than the TTL, then healed | `members::e_5_e_6_a_lost_quorum_ends_nothing` |
//! | `kill -STOP` of the member in use | `members::e_19_a_stopped_member_is_left_for_another` |
//! | silence for longer than the TTL | `leases::e_3_silence_longer_than_the_ttl_is_a_lost_lease` |
//! | a lease revoked with etcdctl | `leases::e_2_a_revoked_lease_is_granted_anew` |
//! | a key deleted with etcdctl | `leases::e_12_a_key_deleted_behind_our_back_returns` |
//! | compaction while disconnected | `watches::e_15_compaction_while_away_loses_no_removal` |
//! | an old backup restored under a watch | `watches::e_17_a_restored_backup_is_read_anew` |
//! | killed and restarted empty | `registrar::registers_again_what_the_registry_forgot` (conformance) |
//! | tokens that live 3 s, and are lost in a restart | `rights::e_31_e_32_expired_tokens_are_replaced` |
//! | a right revoked during a watch | `rights::e_34_a_right_lost_during_a_watch_wipes_nothing` |
//! | authentication turned on and off | `rights::e_33_authentication_may_come_and_go` |
//! | the answer to a write lost | `writes::e_28_a_write_whose_answer_is_lost_is_neither_success_nor_repeated` |
//! | the database full | `writes::e_36_a_full_database_refuses_writes_and_keeps_leases` |
//! | cut, stall, garbage, refused | `recover::…`, `errors::…` (conformance) |
//! | 10,000 instances, 100 changes a second | `many::ten_thousand_under_churn_lose_nothing` |

#![expect(
    clippy::unwrap_used,
    reason = "a test program: what is unexpected ends the case"
)]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Duration,
};

use discovery_testkit::server::etcd::Age;
use futures::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Trial};
use tokio::{sync::RwLock, time::timeout};

mod leases;
mod many;
mod members;
mod rights;
mod support;
mod watches;
mod writes;

use support::Setup;

/// How long one case may take.
const LIMIT: Duration = Duration::from_secs(120);
/// Cases mostly wait, each for a server of its own.
const AT_ONCE: usize = 4;
/// Held by a case that looks at this process as a whole, shared by all others.
static ALONE: RwLock<()> = RwLock::const_new(());

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
    cases!(members:
        e_19_a_stopped_member_is_left_for_another,
        e_5_e_6_a_lost_quorum_ends_nothing,
        e_37_the_leader_may_die,
        e_18_a_member_alone_says_so,
    ),
    cases!(rights:
        e_31_e_32_expired_tokens_are_replaced,
        e_22_e_34_a_missing_right_is_an_error_not_emptiness,
        e_34_a_right_lost_during_a_watch_wipes_nothing,
        e_33_authentication_may_come_and_go,
        e_38_a_certificate_names_the_user_and_nobody_authenticates,
        namespaces_keep_tenants_apart,
        tls_and_a_password,
        tls_and_client_certificates,
    ),
    cases!(leases:
        e_1_the_servers_ttl_counts,
        e_2_a_revoked_lease_is_granted_anew,
        e_2_one_lost_lease_takes_none_of_the_others,
        e_3_silence_longer_than_the_ttl_is_a_lost_lease,
        e_4_leases_of_many_are_kept_on_one_stream,
        e_4_one_keep_alive_carries_five_thousand,
        e_4_silence_of_the_stream_is_told_to_all_who_wait,
        e_7_a_write_under_a_dead_lease_gets_another,
        e_10_changed_metadata_stays_under_its_lease,
        e_11_release_revokes_and_absence_is_success,
        e_12_a_key_deleted_behind_our_back_returns,
    ),
    cases!(watches:
        e_13_what_changes_between_list_and_watch_is_told,
        e_15_compaction_while_away_loses_no_removal,
        e_17_a_restored_backup_is_read_anew,
        e_20_a_resumed_watch_confirms_at_once,
        e_23_e_25_a_large_transaction_is_told_whole,
        e_24_a_large_prefix_is_read_in_pages,
        subscribers_of_a_service_share_one_watch,
        values_are_listed_as_of_one_revision,
    ),
    cases!(writes:
        e_28_no_late_write_takes_from_another_owner,
        e_28_a_write_whose_answer_is_lost_is_neither_success_nor_repeated,
        e_29_no_transaction_has_more_than_one_operation,
        e_36_a_full_database_refuses_writes_and_keeps_leases,
        go_services_see_us_and_we_see_them,
    ),
    cases!(many: ten_thousand_under_churn_lose_nothing),
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
                let setup = Setup { binary };
                let ended = catch_unwind(AssertUnwindSafe(|| {
                    handle.block_on(async {
                        let (alone, shared);
                        if case.starts_with("many::") {
                            alone = ALONE.write().await;
                            timeout(LIMIT, run(setup)).await.expect("an end in time");
                            drop(alone);
                        } else {
                            shared = ALONE.read().await;
                            timeout(LIMIT, run(setup)).await.expect("an end in time");
                            drop(shared);
                        }
                    });
                }));
                ended.map_err(|_| "see above".into())
            });
            trials.push(trial.with_ignored_flag(missing));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
