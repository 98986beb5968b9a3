//! What the rules say of Consul itself, and what the library makes of it: on real servers, the oldest and the newest
//! supported. `DISCOVERY_CONSUL_OLD` and `DISCOVERY_CONSUL_NEW` name the programs; what cannot run is shown as ignored.
//! `DISCOVERY_ETCD_NEW` names an etcd, a gRPC server to look at.

#![expect(
    clippy::unwrap_used,
    reason = "a test program: what is unexpected ends the case"
)]

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use discovery_consul::{ConsulConfig, backend};
use discovery_core::{
    Backend, HealthReport, Instance, Lease, Query, Registration, RegistrationBuilder, Renewal, Status,
};
use discovery_testkit::{
    eventually,
    server::{
        Server,
        consul::{Age, Consul},
    },
};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::time::timeout;

#[path = "rules/checks.rs"]
mod checks;
#[path = "rules/records.rs"]
mod records;

const PATIENCE: Duration = Duration::from_secs(60);

type Run = fn(Age, PathBuf) -> Result<(), Failed>;

macro_rules! cases {
    ($slow:literal: $($module:ident::$name:ident),+ $(,)?) => {
        [$((stringify!($name), $slow, (|age, binary| run($module::$name(age, binary))) as Run)),+]
    };
}

fn main() {
    let usual = cases![false:
        records::c_14_keys_that_servers_take_for_others_are_refused,
        records::c_15_any_name_round_trips,
        records::c_21_a_record_of_another_agent_is_left_alone_and_its_owner_named,
        records::c_24_a_registration_is_passing_at_once,
        records::c_27_c_28_two_instances_of_an_agent_share_no_check,
        records::c_29_one_lost_heartbeat_of_three_costs_nothing,
        records::c_34_tags_edited_in_the_catalogue_win,
        records::c_36_a_name_that_dns_does_not_show_is_found_all_the_same,
        checks::h_1_what_an_http_endpoint_answers_is_what_is_shown,
        checks::h_2_what_other_checks_say_is_what_is_shown,
        checks::h_3_h_4_counted_results_are_shown_as_the_server_counts,
        checks::h_5_a_heartbeat_of_any_status_holds_off_the_ttl,
        checks::h_6_an_output_alone_wakes_nobody,
        checks::h_7_a_lost_node_takes_its_instances_out,
    ];
    let slow = cases![true:
        records::c_31_what_was_reaped_is_registered_again,
        records::c_38_the_agent_puts_its_record_back,
    ];
    let cases: Vec<_> = usual.into_iter().chain(slow).collect();
    let slow_too = std::env::var("DISCOVERY_TEST_TIER").is_ok_and(|tier| tier == "slow");
    let trials = Age::ALL.into_iter().flat_map(|age| {
        cases.clone().into_iter().map(move |(name, slow, case)| {
            let binary = age.binary();
            let why = match &binary {
                None => format!(" (not run: {} is not set)", age.variable()),
                Some(_) if slow && !slow_too => " (not run: slow)".to_owned(),
                Some(_) => String::new(),
            };
            let ignored = !why.is_empty();
            Trial::test(format!("{}::{name}{why}", age.name()), move || {
                case(age, binary.ok_or("no program is named")?)
            })
            .with_ignored_flag(ignored)
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}

fn run(case: impl Future<Output = ()>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async { timeout(Duration::from_secs(400), case).await })?;
    Ok(())
}

async fn dev(binary: PathBuf) -> Consul {
    let consul = Consul::dev(binary).build().await.unwrap();
    consul.start().await.unwrap();
    consul
}

fn on(consul: &Consul) -> Backend {
    backend(ConsulConfig::at(consul.endpoint().to_string())).unwrap()
}

fn web(id: &str) -> RegistrationBuilder {
    Registration::builder("web", "10.0.0.5", 8080)
        .id(id)
        .ttl(Duration::from_secs(30))
}

/// Every instance of `web`, whatever its health, by id.
async fn all(backend: &Backend) -> BTreeMap<String, Instance> {
    let query = Query::service("web").unwrap().include_unhealthy().with_checks();
    let found = backend.registry.instances(&query).await.unwrap();
    found
        .instances
        .iter()
        .map(|one| (one.key.id.to_string(), (**one).clone()))
        .collect()
}

/// Waits until the instances of `web` show these statuses.
async fn show(backend: &Backend, wanted: &[(&str, Status)]) {
    let wanted: BTreeMap<_, _> = wanted
        .iter()
        .map(|(id, status)| ((*id).to_owned(), *status))
        .collect();
    eventually(format!("{wanted:?}"), PATIENCE, || async {
        let shown: BTreeMap<_, _> = all(backend)
            .await
            .into_iter()
            .map(|(id, one)| (id, one.status))
            .collect();
        if shown == wanted {
            Ok(())
        } else {
            Err(format!("{shown:?}"))
        }
    })
    .await;
}

async fn beat(backend: &Backend, lease: &Lease, health: HealthReport) {
    let renewal = Renewal::new([(lease.key.clone(), health)]);
    backend.registry.renew(&lease.group, &renewal).await.unwrap();
}
