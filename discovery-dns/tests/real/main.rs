//! The backend on real servers: the DNS ports of Consul, the oldest and the newest supported, BIND and Knot, with a server
//! that lies between where a case wants one; and the DNS face before the servers of every other backend. Variables such as
//! `DISCOVERY_BIND` name the programs, as `scripts/servers` has them; `DISCOVERY_TEST_TIER=slow` makes an outage two minutes
//! long.

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

use discovery_testkit::server::{consul::Age, dns::Software, etcd, eureka, kube};
use futures::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Trial};
use tokio::time::timeout;

mod consul;
mod face;
mod registries;
#[path = "../../../discovery-k8s/tests/servers/mod.rs"]
mod servers;
mod support;
mod tls;
mod updates;
mod views;

/// How long one case may take.
const LIMIT: Duration = Duration::from_secs(400);
/// Cases mostly wait, each for a server of its own.
const AT_ONCE: usize = 6;

type Case<T> = (&'static str, fn(T) -> LocalBoxFuture<'static, ()>);

/// The cases of one file.
macro_rules! cases {
    ($module:ident: $($name:ident),+ $(,)?) => {
        &[$((
            concat!(stringify!($module), "::", stringify!($name)),
            |setup| Box::pin($module::$name(setup)),
        )),+]
    };
}

const CONSUL: &[Case<PathBuf>] = cases!(consul:
    d_1_120_instances,
    d_14_a_ttl_of_zero_is_no_hot_loop,
    d_22_names_of_consul,
);

const ZONES: &[&[Case<support::Setup>]] = &[
    cases!(views:
        d_16_servfail_empties_no_view,
        d_2_a_hundred_instances_over_udp,
        d_7_one_of_two_resolvers_is_dead,
        d_8_d_9_d_12_records_as_servers_have_them,
        d_16_the_last_instance_leaves_at_once,
        d_18_a_slow_refresh_drops_nothing,
    ),
    cases!(updates:
        d_25_fifty_at_once,
        d_23_a_wrong_key_is_told,
        d_24_a_stripped_signature_is_no_success,
        d_27_a_lost_answer_is_asked_for_again,
        d_28_what_a_crash_leaves_is_there_until_it_is_removed,
        what_is_registered_is_what_any_client_of_dns_sees,
    ),
    cases!(face: any_registry_is_served),
];

/// This Knot speaks no TLS.
const BIND: &[Case<support::Setup>] = cases!(tls: look_up_and_registration_over_tls);

const REGISTRIES: &[Case<PathBuf>] = cases!(registries:
    consul_is_served,
    etcd_is_served,
    eureka_is_served,
    kubernetes_is_served,
);

/// The program of each of [`REGISTRIES`], where it is named, and the variable that does.
fn programs() -> [(Option<PathBuf>, &'static str); 4] {
    let (new, etcd) = (Age::New, etcd::Age::New);
    [
        (new.binary(), new.variable()),
        (etcd.binary(), etcd.variable()),
        (eureka::SERVER.binary(), eureka::SERVER.variable()),
        // It keeps its data in an etcd.
        (
            kube::APISERVER.binary().and_then(|_| etcd.binary()),
            kube::APISERVER.variable(),
        ),
    ]
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut trials = Vec::new();
    for age in Age::ALL {
        for (name, run) in CONSUL {
            let work = age.binary().map(|binary| move || run(binary));
            trials.push(trial(
                &runtime,
                &format!("{}::{name}", age.name()),
                age.variable(),
                work,
            ));
        }
    }
    for software in Software::ALL {
        let own = match software {
            Software::Bind => BIND,
            Software::Knot => &[],
        };
        for (name, run) in ZONES.iter().copied().flatten().chain(own) {
            let work = software
                .binary()
                .map(|binary| move || run(support::Setup { software, binary }));
            trials.push(trial(
                &runtime,
                &format!("{}::{name}", software.name()),
                software.variable(),
                work,
            ));
        }
    }
    for ((name, run), (binary, variable)) in REGISTRIES.iter().zip(programs()) {
        let work = binary.map(|binary| move || run(binary));
        trials.push(trial(&runtime, name, variable, work));
    }
    let file = || -> LocalBoxFuture<'static, ()> { Box::pin(registries::a_file_is_served()) };
    trials.push(trial(&runtime, "registries::a_file_is_served", "", Some(file)));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// One case, ignored where its program is not named.
fn trial(
    runtime: &tokio::runtime::Runtime,
    name: &str,
    variable: &'static str,
    work: Option<impl FnOnce() -> LocalBoxFuture<'static, ()> + Send + 'static>,
) -> Trial {
    let (handle, missing) = (runtime.handle().clone(), work.is_none());
    let run = move || {
        let work = work.ok_or_else(|| format!("not run: {variable} is not set"))?;
        let ended = catch_unwind(AssertUnwindSafe(|| {
            handle.block_on(async { timeout(LIMIT, work()).await.expect("an end in time") });
        }));
        ended.map_err(|_| "see above".into())
    };
    Trial::test(name, run).with_ignored_flag(missing)
}
