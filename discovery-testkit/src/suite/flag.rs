//! What a backend says it can do, one fact at a time.

use std::fmt;

use discovery_core::{Backend, LeaseMode, WatchMode};

/// One thing a backend can or cannot do. Every one that it claims needs a case that proves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Flag {
    /// `register` and `deregister`.
    Register,
    /// Registrations live by a lease that `renew` keeps.
    Lease,
    /// One lease holds all registrations of a process; `release` ends them.
    SharedLease,
    /// `update_meta`.
    UpdateMeta,
    /// `report_health`.
    ReportHealth,
    /// The registry runs checks itself.
    RunsChecks,
    /// `services`.
    ListServices,
    /// Queries for every service at once.
    WatchAll,
    /// Queries that name a datacenter.
    Datacenters,
    /// Queries that name a namespace.
    Namespaces,
    /// Watches go on from a cursor.
    Resume,
    /// The server tells what changes, without being asked.
    PushWatch,
    /// A configuration store.
    Config,
}

impl Flag {
    /// Every flag.
    pub const ALL: [Self; 13] = [
        Self::Register,
        Self::Lease,
        Self::SharedLease,
        Self::UpdateMeta,
        Self::ReportHealth,
        Self::RunsChecks,
        Self::ListServices,
        Self::WatchAll,
        Self::Datacenters,
        Self::Namespaces,
        Self::Resume,
        Self::PushWatch,
        Self::Config,
    ];

    /// Its name in trials and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Lease => "lease",
            Self::SharedLease => "shared_lease",
            Self::UpdateMeta => "update_meta",
            Self::ReportHealth => "report_health",
            Self::RunsChecks => "runs_checks",
            Self::ListServices => "list_services",
            Self::WatchAll => "watch_all",
            Self::Datacenters => "datacenters",
            Self::Namespaces => "namespaces",
            Self::Resume => "resume",
            Self::PushWatch => "push_watch",
            Self::Config => "config",
        }
    }

    /// Whether `backend` claims it.
    pub fn of(self, backend: &Backend) -> bool {
        let can = backend.registry.capabilities();
        match self {
            Self::Register => can.register,
            Self::Lease => can.lease != LeaseMode::None,
            Self::SharedLease => can.lease == LeaseMode::Shared,
            Self::UpdateMeta => can.update_meta,
            Self::ReportHealth => can.report_health,
            Self::RunsChecks => can.runs_checks,
            Self::ListServices => can.list_services,
            Self::WatchAll => can.watch_all,
            Self::Datacenters => can.datacenters,
            Self::Namespaces => can.namespaces,
            Self::Resume => can.resume,
            Self::PushWatch => can.watch == WatchMode::Push,
            Self::Config => backend.config.is_some(),
        }
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
