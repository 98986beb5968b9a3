//! The etcd backend on a real etcd, beside etcd-client and beside one stream of bare tonic.

mod fixture;
mod leases;
mod watch;

use discovery_testkit::server::etcd::Age;

use self::fixture::Fixture;
use crate::harness::{Plan, Report};

/// The contenders, by the names they have in tables.
const OURS: &str = "ours";
const CRATE: &str = "etcd-client";
const RAW: &str = "one stream of tonic";

/// Races them, where there is an etcd.
pub fn run(plan: &Plan, report: &mut Report) {
    let Some(binary) = Age::New.binary() else {
        report.not_run("etcd", format!("{} is not set", Age::New.variable()));
        return;
    };
    let fixture = Fixture::start(&binary);
    watch::run(plan, &fixture, report);
    leases::run(plan, &fixture, report);
}
