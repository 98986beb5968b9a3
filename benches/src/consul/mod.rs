//! The Consul backend on a real Consul, beside a loop on reqwest and beside a bare socket.

pub(crate) mod calls;
mod cli;
mod fixture;
mod raw;
mod refresh;
mod watch;

use discovery_testkit::server::consul::Age;

use self::fixture::Fixture;
use crate::harness::{Plan, Report};

/// The contenders, by the names they have in tables.
const OURS: &str = "ours";
const REQWEST: &str = "reqwest + serde";
const RAW: &str = "raw socket";

/// Races them, where there is a Consul.
pub fn run(plan: &Plan, report: &mut Report) {
    let Some(binary) = Age::New.binary() else {
        report.not_run("consul", format!("{} is not set", Age::New.variable()));
        return;
    };
    let fixture = Fixture::start(&binary);
    watch::run(plan, &fixture, report);
    calls::run(plan, &fixture, report);
    cli::run(plan, &fixture, report);
    drop(fixture);
    refresh::run(plan, &binary, report);
}
