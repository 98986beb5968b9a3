//! What only Kubernetes needs, on a real kube-apiserver: rights, ownership, Leases, history, size.
//! `DISCOVERY_KUBE_APISERVER` and `DISCOVERY_ETCD_NEW` name the programs.

#![expect(
    clippy::unwrap_used,
    reason = "a test program: what is unexpected ends the case"
)]

use std::{process::ExitCode, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use libtest_mimic::{Arguments, Trial};
use tokio::{sync::Mutex, time::timeout};

#[path = "real/credentials.rs"]
mod credentials;
#[path = "real/history.rs"]
mod history;
#[path = "real/leases.rs"]
mod leases;
#[path = "real/reads.rs"]
mod reads;
#[path = "real/rights.rs"]
mod rights;
mod servers;
#[path = "real/support.rs"]
mod support;
#[path = "real/writes.rs"]
mod writes;

use servers::Kube;

type Case = (&'static str, fn(Shared) -> BoxFuture<'static, ()>);
/// The cluster of the cases that leave it as it is.
type Shared = Arc<Mutex<Option<Arc<Kube>>>>;

macro_rules! cases {
    ($($module:ident::$case:ident),* $(,)?) => { &[$((stringify!($case), |s| $module::$case(s).boxed())),*] };
}

const CASES: &[Case] = cases![
    rights::the_least_roles_are_enough,
    rights::the_role_to_register_is_the_least,
    rights::the_role_to_read_is_the_least,
    rights::the_role_to_configure_is_the_least,
    rights::the_manifests_are_what_a_server_takes,
    rights::k_18_a_client_without_rights_is_told_verb_and_resource,
    credentials::k_18_a_service_account_outlives_its_token,
    credentials::a_replaced_authority_is_read_while_running,
    credentials::each_context_of_a_kubeconfig_is_another_client,
    credentials::a_plug_in_of_the_kubeconfig_is_asked_again,
    reads::services_by_another_name_and_headless_ones_are_found,
    reads::a_pod_of_two_families_is_found_at_the_one_wanted,
    reads::what_is_not_ready_is_healthy_only_where_it_is_asked_for,
    reads::k_1_k_2_what_says_nothing_is_ready_and_what_still_serves_has_to_do,
    reads::several_namespaces_all_of_them_and_selectors,
    reads::annotations_and_labels_are_shown,
    writes::k_6_what_others_wrote_is_never_touched,
    writes::k_7_k_8_what_a_slice_cannot_hold_is_refused_before_or_by_the_server,
    writes::k_8_another_family_replaces_the_slice,
    writes::k_9_a_missing_namespace_is_told_at_once,
    writes::k_12_registering_the_same_again_changes_nothing,
    writes::k_13_force_is_for_what_is_ours,
    writes::k_14_changes_of_two_writers_both_stay,
    writes::a_registration_as_others_see_it,
    writes::values_of_several_maps_and_of_some_keys,
    writes::values_outlive_other_writers_of_the_map,
    leases::k_10_a_crashed_registrant_is_hidden_and_removed,
    leases::k_11_the_lease_is_accepted_and_renewed,
    leases::two_registrants_of_one_id_do_not_fight,
    history::k_33_an_apiserver_killed_under_a_watch_takes_nothing_along,
    history::k_20_history_compacted_under_a_stale_watch,
    history::k_26_a_server_that_came_back_with_less_history_is_noticed,
    history::k_30_history_compacted_between_two_pages,
    history::k_31_a_watch_that_trickles_in_says_the_same,
    history::three_hundred_slices_of_a_hundred,
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (missing, shared) = (servers::named().is_none(), Shared::default());
    let trials = CASES.iter().map(|(name, run)| {
        let (handle, shared) = (runtime.handle().clone(), shared.clone());
        let trial = Trial::test(format!("k8s::{name}"), move || {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                handle.block_on(async {
                    let limit = Duration::from_secs(600);
                    timeout(limit, run(shared)).await.expect("an end in time");
                });
            }));
            ended.map_err(|_| "see above".into())
        });
        trial.with_ignored_flag(missing)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    // The last to know it ends the servers.
    runtime.block_on(async { shared.lock().await.take() });
    conclusion.exit_code()
}
