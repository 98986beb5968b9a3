//! The Kubernetes backend on a real kube-apiserver, beside a bare kube-rs reflector.

mod fixture;
pub mod memory;
mod watch;

use discovery_testkit::server::{etcd::Age, kube::APISERVER};

use self::fixture::Fixture;
use crate::harness::{Plan, Report};

/// The contenders, by the names they have in tables.
const OURS: &str = "ours";
const REFLECTOR: &str = "kube reflector";

/// Races them, where there is an apiserver.
pub fn run(plan: &Plan, report: &mut Report) {
    let (Some(apiserver), Some(etcd)) = (APISERVER.binary(), Age::New.binary()) else {
        let why = format!("{} or {} is not set", APISERVER.variable(), Age::New.variable());
        report.not_run("k8s", why);
        return;
    };
    let fixture = Fixture::start(apiserver, etcd);
    watch::run(plan, &fixture, report);
    memory::run(&fixture, report);
}
