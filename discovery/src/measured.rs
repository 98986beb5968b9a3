//! What of the `discovery_metrics:` block is measured.

use discovery_core::config::{DiscoveryMetrics, Metric, MetricType};

/// The metrics of the specification; they are always measured.
const MEASURED: [(&str, MetricType); 7] = [
    ("registered_services_total", MetricType::Gauge),
    ("healthy_services_total", MetricType::Gauge),
    ("service_registration_duration", MetricType::Histogram),
    ("health_check_duration", MetricType::Histogram),
    ("health_check_failures_total", MetricType::Counter),
    ("service_discovery_duration", MetricType::Histogram),
    ("discovery_cache_hits_total", MetricType::Counter),
];

/// What to tell where the block names a metric that is not measured, or is measured in another way.
pub(crate) fn idle(block: &DiscoveryMetrics) -> Option<&'static str> {
    let named = [&block.service_registry, &block.health_checks, &block.discovery];
    let measured = |metric: &Metric| MEASURED.contains(&(metric.name.as_str(), metric.r#type));
    let other = named.into_iter().flatten().any(|metric| !measured(metric));
    other.then_some("discovery_metrics: metrics other than those of the specification")
}
