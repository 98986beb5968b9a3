//! Health: of an instance, of one check, of a service.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Instances, ServiceName};
use crate::error::{Error, ErrorKind, Result};

/// How well something is.
///
/// Ordered from best to worst, so that the worst of several is their maximum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// It works.
    #[default]
    Passing,
    /// It works, and somebody should look.
    Warning,
    /// It is not ready yet.
    Starting,
    /// Nobody knows.
    Unknown,
    /// It does not work.
    Critical,
}

impl Status {
    /// Whether traffic should reach it: passing or warning.
    pub const fn is_serving(self) -> bool {
        matches!(self, Self::Passing | Self::Warning)
    }

    /// The lower-case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Starting => "starting",
            Self::Unknown => "unknown",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Status {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [
            Self::Passing,
            Self::Warning,
            Self::Starting,
            Self::Unknown,
            Self::Critical,
        ]
        .into_iter()
        .find(|status| status.as_str() == text)
        .ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "unknown health status")
                .with_context("status", format!("{text:?}"))
                .with_hint("use one of passing, warning, starting, unknown, critical")
        })
    }
}

/// What an instance says of itself: the health its owner wants the registry to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthReport {
    /// How it is.
    pub status: Status,
    /// Whether it should get no new traffic although it works (maintenance, shutting down).
    pub draining: bool,
    /// A line for people, shown by the registry where it can.
    pub output: String,
    /// Set where somebody else than the owner reports: how long it counts. A registry that can (Consul) keeps such a report
    /// as a check beside all others, so that it hides none of them; elsewhere it counts until the next report.
    pub valid_for: Option<Duration>,
}

impl HealthReport {
    /// A report of this status, not draining, without output.
    pub fn new(status: Status) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    /// The same report with a line for people.
    #[must_use]
    pub fn with_output(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }

    /// The same report, draining or not.
    #[must_use]
    pub fn with_draining(mut self, draining: bool) -> Self {
        self.draining = draining;
        self
    }

    /// The same report by somebody else than the owner, which counts for so long.
    #[must_use]
    pub fn with_valid_for(mut self, valid_for: Duration) -> Self {
        self.valid_for = Some(valid_for);
        self
    }
}

/// What one probe found: it could be carried out, and this is what it saw.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckOutcome {
    /// What the probe concludes.
    pub status: Status,
    /// What it saw, in a line.
    pub output: String,
}

impl CheckOutcome {
    /// An outcome.
    pub fn new(status: Status, output: impl Into<String>) -> Self {
        Self {
            status,
            output: output.into(),
        }
    }
}

/// The last known result of one named check of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CheckResult {
    /// The check's name.
    pub name: String,
    /// Its status.
    pub status: Status,
    /// What it last printed.
    pub output: String,
}

impl CheckResult {
    /// A result.
    pub fn new(name: impl Into<String>, status: Status, output: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            status,
            output: output.into(),
        }
    }
}

/// The health of a service: how many of its instances are how well.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceHealth {
    /// The service.
    pub service: ServiceName,
    /// Passing when any instance can serve without warning, warning when any can serve, critical when none can,
    /// unknown when there is no instance.
    pub status: Status,
    /// Instances that pass.
    pub passing: usize,
    /// Instances that warn.
    pub warning: usize,
    /// Instances that do neither.
    pub critical: usize,
    /// Instances, of those above, that are draining.
    pub draining: usize,
    /// The instances with their checks.
    pub instances: Instances,
}

impl ServiceHealth {
    /// Sums up the health of `instances`.
    pub fn of(service: ServiceName, instances: Instances) -> Self {
        let mut health = Self {
            service,
            status: Status::Unknown,
            passing: 0,
            warning: 0,
            critical: 0,
            draining: 0,
            instances: Instances::default(),
        };
        for instance in &instances {
            match instance.status {
                Status::Passing => health.passing += 1,
                Status::Warning => health.warning += 1,
                _ => health.critical += 1,
            }
            health.draining += usize::from(instance.draining);
        }
        health.status = match (health.passing, health.warning, health.critical) {
            (1.., _, _) => Status::Passing,
            (_, 1.., _) => Status::Warning,
            (_, _, 1..) => Status::Critical,
            _ => Status::Unknown,
        };
        health.instances = instances;
        health
    }
}
