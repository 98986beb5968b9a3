//! The `discovery_metrics:` block: what is measured.

use serde::{Deserialize, Serialize};

use crate::config::KnownBlock;

/// The `discovery_metrics:` block: what is measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DiscoveryMetrics {
    /// Of registrations.
    pub service_registry: Vec<Metric>,
    /// Of checks.
    pub health_checks: Vec<Metric>,
    /// Of look-ups.
    pub discovery: Vec<Metric>,
}

impl DiscoveryMetrics {
    /// The block, for [`Loader::new`](crate::config::Loader::new).
    pub const BLOCK: KnownBlock = KnownBlock::of::<Self>("discovery_metrics");
}

/// One thing that is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// How it counts.
    pub r#type: MetricType,
    /// What it means.
    #[serde(default)]
    pub description: String,
    /// What it is told apart by.
    #[serde(default)]
    pub labels: Vec<String>,
}

/// How a metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum MetricType {
    /// It goes up.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It is a distribution.
    Histogram,
}
