//! The Eureka backend on a real server, beside fetching everything and beside a bare poll of changes.

mod cost;
mod fixture;
mod watch;

use discovery_testkit::server::eureka::SERVER;

use self::fixture::Fixture;
use crate::harness::{Plan, Report};

/// The contenders, by the names they have in tables.
const OURS: &str = "ours";
const FULL: &str = "full fetch, serde";
const DELTA: &str = "bare delta poll";

/// Races them, where there is a server.
pub fn run(plan: &Plan, report: &mut Report) {
    let Some(jar) = SERVER.binary() else {
        report.not_run("eureka", format!("{} is not set", SERVER.variable()));
        return;
    };
    let fixture = Fixture::start(&jar);
    watch::run(plan, &fixture, report);
    cost::run(plan, &fixture, report);
}
