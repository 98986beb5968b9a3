//! Why an instance is or is not chosen now.

use std::{fmt, sync::Arc, time::Duration};

use serde::Serialize;

use super::Load;
use crate::{model::Instance, resilience::CircuitState};

/// Whether an instance takes part in picks, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// It takes part.
    Used,
    /// It takes part although it is unhealthy or ejected: too few others are left.
    UsedInPanic,
    /// The query or the client's filter asks for other tags or metadata.
    Filtered,
    /// The client keeps to other instances.
    OutsideSubset,
    /// It takes no new traffic.
    Draining,
    /// Its checks say it does not serve.
    Unhealthy,
    /// It failed too often and is left out for a while.
    Ejected,
    /// Instances nearer by are enough.
    TooFar,
    /// Its weight is zero while others have weight.
    NoWeight,
    /// Its source stands by: another serves.
    StandBy,
    /// The view cannot be used at all.
    NoView,
}

impl Verdict {
    /// Whether the instance takes part.
    pub const fn is_used(self) -> bool {
        matches!(self, Self::Used | Self::UsedInPanic)
    }

    /// The name used in logs, the command line and Python.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::UsedInPanic => "used_in_panic",
            Self::Filtered => "filtered",
            Self::OutsideSubset => "outside_subset",
            Self::Draining => "draining",
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
            Self::TooFar => "too_far",
            Self::NoWeight => "no_weight",
            Self::StandBy => "stand_by",
            Self::NoView => "no_view",
        }
    }

    /// What it means, for people.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Used => "takes part in picks",
            Self::UsedInPanic => "takes part although it is unhealthy: too few others are left",
            Self::Filtered => "a filter asks for other tags or metadata",
            Self::OutsideSubset => "this client keeps to other instances",
            Self::Draining => "takes no new work",
            Self::Unhealthy => "its checks say that it does not serve",
            Self::Ejected => "failed too often, and is left out for a while",
            Self::TooFar => "instances nearer by are enough",
            Self::NoWeight => "its weight is zero, and others have some",
            Self::StandBy => "its source stands by: another one serves",
            Self::NoView => "there is no view of the service",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One instance as a balancer sees it now.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Explained {
    /// The instance: its health, weight and zone are here.
    pub instance: Arc<Instance>,
    /// Whether it takes part.
    pub verdict: Verdict,
    /// Calls under way.
    pub in_flight: u32,
    /// Calls reported as succeeded.
    pub succeeded: u64,
    /// Calls reported as failed.
    pub failed: u64,
    /// The decaying peak of its latencies; zero before the first outcome.
    pub peak_latency: Duration,
    /// Its circuit: open while it is ejected.
    pub circuit: CircuitState,
    /// For how much longer it is ejected.
    pub ejected_for: Option<Duration>,
}

impl Explained {
    pub(super) fn of(instance: &Arc<Instance>, load: &Load, verdict: Verdict) -> Self {
        Self {
            instance: instance.clone(),
            verdict,
            in_flight: load.in_flight(),
            succeeded: load.succeeded(),
            failed: load.failed(),
            peak_latency: load.peak_latency(),
            circuit: load.circuit(),
            ejected_for: load.ejected_for(),
        }
    }
}
