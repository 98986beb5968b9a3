//! The checks of a registration, as the agent is told of them: pure.

use std::time::Duration;

use discovery_core::{Check, CheckKind, ErrorKind, HealthReport, Registration, Result, Status};

use crate::{
    config::ConsulConfig,
    convert::{invalid, status_text},
    error, wire,
};

/// Checks by which Consul takes an instance, or all of a node, out of service for maintenance.
const SERVICE_MAINTENANCE: &str = "_service_maintenance:";
const NODE_MAINTENANCE: &str = "_node_maintenance";
/// Consul raises a shorter `DeregisterCriticalServiceAfter` to this.
pub(crate) const MIN_DEREGISTER_AFTER: Duration = Duration::from_secs(60);

/// The check that the heartbeats of a registration renew.
pub(crate) fn ttl_check(id: &str) -> String {
    format!("{id}:ttl")
}

/// C-27: checks are unique per agent. The last segment has no `:`, so no two pairs of id and name give the same one.
fn agent_check(id: &str, name: &str) -> String {
    format!("{id}:check-{name}")
}

/// Whether a check shows maintenance rather than health.
pub(crate) fn is_maintenance<T: AsRef<str>>(check: &wire::Check<T>) -> bool {
    check.id.as_ref() == NODE_MAINTENANCE || check.id.as_ref().starts_with(SERVICE_MAINTENANCE)
}

/// A duration as Go reads it.
fn go(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// Every check of a registration: its heartbeat, where it has a TTL, those the agent runs, and its maintenance.
pub(crate) fn of(
    registration: &Registration,
    ttl: Option<Duration>,
    config: &ConsulConfig,
) -> Result<Vec<wire::RegisterCheck>> {
    let id = registration.id.as_str();
    let mut checks = Vec::new();
    if let Some(ttl) = ttl {
        let after = config.health_checks.deregister_after;
        checks.push(wire::RegisterCheck {
            check_id: ttl_check(id),
            name: "heartbeat".to_owned(),
            ttl: Some(go(ttl)),
            // C-24: it would start critical. Where the agent runs checks, they have the say from the start.
            status: Some(if registration.checks.is_empty() {
                status_text(registration.health.status)
            } else {
                "passing"
            }),
            deregister_critical_service_after: (!after.is_zero())
                .then(|| go(after.max(MIN_DEREGISTER_AFTER))),
            ..wire::RegisterCheck::default()
        });
    }
    for check in &registration.checks {
        checks.push(agent_run(id, check, registration.health.status)?);
    }
    if registration.health.draining {
        checks.push(maintenance_check(id, &registration.health));
    }
    Ok(checks)
}

/// Maintenance as a check of the registration itself: one that is enabled afterwards would be dropped by
/// `replace-existing-checks`, and the instance would be in service until it is enabled again. Nobody ever passes it.
fn maintenance_check(id: &str, health: &HealthReport) -> wire::RegisterCheck {
    wire::RegisterCheck {
        check_id: format!("{SERVICE_MAINTENANCE}{id}"),
        name: "Service Maintenance Mode".to_owned(),
        ttl: Some("1h".to_owned()),
        status: Some("critical"),
        notes: health.output.clone(),
        ..wire::RegisterCheck::default()
    }
}

/// The check that holds what somebody else than the owner reported; it turns critical when that counts no longer.
pub(crate) fn reported(id: &str, report: &HealthReport, valid_for: Duration) -> wire::ReportedCheck {
    wire::ReportedCheck {
        id: format!("{id}:reported"),
        name: "reported",
        service_id: id.to_owned(),
        ttl: go(valid_for),
        status: status_text(report.status),
    }
}

fn agent_run(id: &str, check: &Check, starts: Status) -> Result<wire::RegisterCheck> {
    if check.name.contains(':') {
        return Err(invalid("check", &check.name).with_hint("give the check a name without `:`"));
    }
    let mut wire = wire::RegisterCheck {
        check_id: agent_check(id, &check.name),
        name: check.name.clone(),
        interval: Some(go(check.interval)),
        timeout: Some(go(check.timeout)),
        status: Some(status_text(starts)),
        deregister_critical_service_after: check
            .deregister_after
            .map(|after| go(after.max(MIN_DEREGISTER_AFTER))),
        ..wire::RegisterCheck::default()
    };
    match &check.kind {
        CheckKind::Http { url } => wire.http = Some(url.clone()),
        CheckKind::Tcp { address } => wire.tcp = Some(address.clone()),
        CheckKind::Script { args } => wire.args.clone_from(args),
        CheckKind::Grpc { target, tls } => {
            wire.grpc = Some(target.clone());
            wire.grpc_use_tls = *tls;
        }
        _ => {
            return Err(error::error(
                ErrorKind::Unsupported,
                "this kind of check cannot be run by the agent",
            )
            .with_context("check", check.name.clone()));
        }
    }
    Ok(wire)
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
