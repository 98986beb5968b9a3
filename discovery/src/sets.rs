//! The checks that `health_checks:` gives the services a client registers. The client runs them.

use std::{sync::Arc, time::Duration};

use discovery_core::{
    Check, HealthCheck, Registration, Result,
    config::{CheckLook, HealthCheckSets, ServiceChecks, Variables},
    health::{HttpCheck, TcpCheck, Thresholds},
};

/// A check and what carries it out.
pub(crate) type Probe = (Check, Arc<dyn HealthCheck>);

/// The set of a service: the one of its name, else of its name and `_service`.
pub(crate) fn of<'a>(sets: &'a HealthCheckSets, service: &str) -> Option<&'a ServiceChecks> {
    let sets = &sets.0;
    sets.get(service)
        .or_else(|| sets.get(&format!("{service}_service")))
}

/// The probes of a set for one instance: all but scripts, since a client starts no programs.
///
/// # Errors
/// `InvalidInput` for a URL or address that is none, `Unsupported` for a URL with `https`.
pub(crate) fn probes(set: &ServiceChecks, registration: &Registration) -> Result<Vec<Probe>> {
    let port = registration.port.to_string();
    let variables = Variables::new([("address", &*registration.address), ("port", &port)]);
    let mut probes: Vec<Probe> = Vec::new();
    for declared in &set.checks {
        let (check, probe): Probe = match &declared.look {
            CheckLook::Http {
                url,
                method,
                expected_status,
                expected_body,
                ..
            } => {
                let url = variables.fill(url)?;
                let mut probe = HttpCheck::new(&url)?.method(method)?;
                if let Some(status) = expected_status {
                    probe = probe.expect_status(*status)?;
                }
                if let Some(text) = expected_body {
                    probe = probe.expect_body(text);
                }
                (Check::http(url), Arc::new(probe))
            }
            CheckLook::Tcp { address, .. } => {
                let address = variables.fill(address)?;
                (Check::tcp(&*address), Arc::new(TcpCheck::new(&address)?))
            }
            _ => continue,
        };
        let check = check
            .named(&declared.name)
            .every(declared.interval)
            .timeout(declared.timeout);
        probes.push((check, probe));
    }
    Ok(probes)
}

/// How many looks in a row change what a check shows.
pub(crate) fn thresholds(set: &ServiceChecks) -> Thresholds {
    Thresholds {
        successes: set.success_threshold.get(),
        failures: set.failure_threshold.get(),
    }
}

/// How long an instance may be critical before it is withdrawn.
pub(crate) fn patience(set: &ServiceChecks) -> Option<Duration> {
    set.deregister_critical_service_after
}

/// What of the sets is not acted on.
pub(crate) fn idle(sets: &HealthCheckSets) -> Option<&'static str> {
    let mut checks = sets.0.values().flat_map(|set| &set.checks);
    let script = checks.any(|check| !matches!(check.look, CheckLook::Http { .. } | CheckLook::Tcp { .. }));
    script.then_some("health_checks: checks of type `script` (a client starts no programs)")
}
