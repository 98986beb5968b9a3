//! The `high_availability:` block: what a client does when the registry does not.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};

use super::{EnvVar, KnownBlock, duration};
use crate::{
    model::{Check, CheckKind, Registration},
    resilience::RetryPolicy,
};

/// The tag of services that others cannot do without.
const CRITICAL: &str = "critical";

/// Delays between attempts stop growing here, unless `retry_delay` itself is longer.
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// How long an attempt may itself take: Consul answers a registration without a leader after 7 s.
const ATTEMPT: Duration = Duration::from_secs(10);

/// The `high_availability:` block; its defaults are the values of the specification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HighAvailability {
    /// How a program registers itself.
    pub service_registration: ServiceRegistration,
    /// How often and how long checks look.
    pub health_checks: HealthChecks,
    /// How services are found.
    pub discovery: Discovery,
}

/// How a program registers itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ServiceRegistration {
    /// How often the first registration is tried in all before it is an error; one that succeeded once is kept for ever.
    pub retry_attempts: NonZeroU32,
    /// The longest first delay between two attempts; later ones may take up to twice the one before.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub retry_delay: Duration,
    /// Whether a client registers what its configuration declares as soon as it starts.
    pub register_on_startup: bool,
    /// Whether shutting a client down withdraws what it registered.
    pub deregister_on_shutdown: bool,
}

impl Default for ServiceRegistration {
    fn default() -> Self {
        Self {
            retry_attempts: NonZeroU32::MIN.saturating_add(2),
            retry_delay: Duration::from_secs(5),
            register_on_startup: true,
            deregister_on_shutdown: true,
        }
    }
}

/// How often and how long checks look, where a check does not say itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HealthChecks {
    /// Whether an instance may have several checks.
    pub multiple_checks: bool,
    /// The time between two looks.
    pub check_intervals: CheckIntervals,
    /// How long a look may take.
    pub timeout_configuration: CheckTimeouts,
}

impl Default for HealthChecks {
    fn default() -> Self {
        Self {
            multiple_checks: true,
            check_intervals: CheckIntervals::default(),
            timeout_configuration: CheckTimeouts::default(),
        }
    }
}

/// The time between two looks of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CheckIntervals {
    /// For services others cannot do without: those with the tag `critical`.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub critical_services: Duration,
    /// For all others.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub standard_services: Duration,
}

impl Default for CheckIntervals {
    fn default() -> Self {
        Self {
            critical_services: Duration::from_secs(10),
            standard_services: Duration::from_secs(30),
        }
    }
}

/// How long a look of a check may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CheckTimeouts {
    /// Of an HTTP request.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub http_checks: Duration,
    /// Of a TCP connection.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub tcp_checks: Duration,
    /// Of a script.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub script_checks: Duration,
}

impl Default for CheckTimeouts {
    fn default() -> Self {
        Self {
            http_checks: Duration::from_secs(5),
            tcp_checks: Duration::from_secs(3),
            script_checks: Duration::from_secs(10),
        }
    }
}

/// How services are found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Discovery {
    /// Whether lookups are cached.
    pub cache_configuration: bool,
    /// Whether further sources step in for one that fails.
    pub failover_mechanisms: bool,
    /// The name of the balancing strategy.
    pub load_balancing: String,
    /// Whether a backend, or an instance, that keeps failing is left alone for a while.
    pub circuit_breakers: bool,
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            cache_configuration: true,
            failover_mechanisms: true,
            load_balancing: "weighted_round_robin".to_owned(),
            circuit_breakers: true,
        }
    }
}

impl HighAvailability {
    /// The block, for [`Loader::new`](super::Loader::new).
    pub const BLOCK: KnownBlock = KnownBlock::of::<Self>("high_availability").env(&[
        EnvVar::new(
            "DISCOVERY_HIGH_AVAILABILITY_RETRY_ATTEMPTS",
            "service_registration.retry_attempts",
        ),
        EnvVar::new(
            "DISCOVERY_HIGH_AVAILABILITY_RETRY_DELAY",
            "service_registration.retry_delay",
        ),
        EnvVar::new(
            "DISCOVERY_HIGH_AVAILABILITY_REGISTER_ON_STARTUP",
            "service_registration.register_on_startup",
        ),
        EnvVar::new(
            "DISCOVERY_HIGH_AVAILABILITY_DEREGISTER_ON_SHUTDOWN",
            "service_registration.deregister_on_shutdown",
        ),
        EnvVar::new(
            "DISCOVERY_HIGH_AVAILABILITY_LOAD_BALANCING",
            "discovery.load_balancing",
        ),
        EnvVar::new(
            "DISCOVERY_HIGH_AVAILABILITY_CIRCUIT_BREAKERS",
            "discovery.circuit_breakers",
        ),
    ]);

    /// How a first registration is repeated: every attempt is made, however long the delays drawn.
    pub fn retry_policy(&self) -> RetryPolicy {
        let registration = &self.service_registration;
        let attempts = registration.retry_attempts.get();
        let longest = registration.retry_delay.max(LONGEST_DELAY);
        RetryPolicy::default()
            .attempts(attempts)
            .delays(registration.retry_delay, longest)
            .max_elapsed(longest.saturating_add(ATTEMPT).saturating_mul(attempts))
    }

    /// The checks of a registration, with the block's interval and timeout where they do not say themselves.
    pub fn checks(&self, registration: &Registration) -> Vec<Check> {
        let intervals = &self.health_checks.check_intervals;
        let interval = if registration.tags.iter().any(|tag| tag == CRITICAL) {
            intervals.critical_services
        } else {
            intervals.standard_services
        };
        let with = |check: &Check| check.clone().or(interval, self.check_timeout(&check.kind));
        registration.checks.iter().map(with).collect()
    }

    /// How long a look of this kind may take, where the check does not say itself.
    pub fn check_timeout(&self, kind: &CheckKind) -> Duration {
        let timeouts = &self.health_checks.timeout_configuration;
        match kind {
            // gRPC is HTTP.
            CheckKind::Http { .. } | CheckKind::Grpc { .. } => timeouts.http_checks,
            CheckKind::Tcp { .. } => timeouts.tcp_checks,
            CheckKind::Script { .. } => timeouts.script_checks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Loader;

    /// The block of the specification, character for character.
    const SPECIFICATION: &str = r#"# Best practices configuration
high_availability:
  service_registration:
    retry_attempts: 3
    retry_delay: "5s"
    register_on_startup: true
    deregister_on_shutdown: true

  health_checks:
    multiple_checks: true
    check_intervals:
      critical_services: "10s"
      standard_services: "30s"
    timeout_configuration:
      http_checks: "5s"
      tcp_checks: "3s"
      script_checks: "10s"

  discovery:
    cache_configuration: true
    failover_mechanisms: true
    load_balancing: "weighted_round_robin"
    circuit_breakers: true
"#;

    #[test]
    fn the_block_of_the_specification_is_the_default() {
        let loader = Loader::new(&[HighAvailability::BLOCK]);
        let written = loader.clone().yaml("spec.yaml", SPECIFICATION).unwrap();
        let read: HighAvailability = written.block("high_availability").unwrap();
        assert_eq!(read, HighAvailability::default());
        assert_eq!(
            loader.block::<HighAvailability>("high_availability").unwrap(),
            read
        );
        // Every default is also a line of the specification, so that neither can drift.
        let places = written
            .explain()
            .into_iter()
            .map(|setting| setting.origin.to_string());
        assert_eq!(places.filter(|place| place.starts_with("spec.yaml:")).count(), 14);
        assert_eq!(written.explain().len(), 14);
    }

    #[test]
    fn drives_retries() {
        let policy = HighAvailability::default().retry_policy();
        assert_eq!((policy.attempts, policy.min_delay), (3, Duration::from_secs(5)));
        assert!(policy.max_elapsed >= (policy.max_delay + ATTEMPT) * 3);
        let most = r#"{ "service_registration": { "retry_attempts": 4294967295, "retry_delay": "36500d" } }"#;
        let most: HighAvailability = serde_json::from_str(most).unwrap();
        assert_eq!(most.retry_policy().attempts, u32::MAX);
    }

    #[test]
    fn drives_what_a_check_does_not_say() {
        let seconds = Duration::from_secs;
        let of = |tag: &str| {
            let url = "http://127.0.0.1:1/";
            let registration = Registration::builder("api", "127.0.0.1", 1)
                .tag(tag)
                .check(Check::http(url))
                .check(Check::tcp("127.0.0.1:1"))
                .check(
                    Check::http(url)
                        .named("own")
                        .every(seconds(10))
                        .timeout(seconds(7)),
                )
                .build()
                .unwrap();
            let checks = HighAvailability::default().checks(&registration);
            let said = checks.iter().map(|check| (check.interval, check.timeout));
            said.map(|(a, b)| (a.as_secs(), b.as_secs())).collect::<Vec<_>>()
        };
        assert_eq!(of("v1"), [(30, 5), (30, 3), (10, 7)]);
        assert_eq!(of("critical"), [(10, 5), (10, 3), (10, 7)]);
    }

    #[test]
    fn drives_check_timeouts() {
        let block = HighAvailability::default();
        let http = CheckKind::Http { url: String::new() };
        let tcp = CheckKind::Tcp {
            address: String::new(),
        };
        assert_eq!(block.check_timeout(&http), Duration::from_secs(5));
        assert_eq!(block.check_timeout(&tcp), Duration::from_secs(3));
        let script = CheckKind::Script { args: Vec::new() };
        assert_eq!(block.check_timeout(&script), Duration::from_secs(10));
    }
}
