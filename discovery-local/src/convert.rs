//! Between the model and what the database keeps. Pure.

use std::sync::Arc;

use discovery_core::{
    CheckResult, HealthReport, Instance, InstanceId, InstanceKey, Registration, Result, ServiceName, Status,
};
use serde::Serialize;

use crate::error::{SCHEME, garbled};

/// The key of a record.
pub(crate) fn key(service: &str, id: &str) -> InstanceKey {
    InstanceKey::new(SCHEME, ServiceName::observed(service), InstanceId::observed(id))
}

/// What a record shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The instance, without its check.
    pub(crate) instance: Arc<Instance>,
    /// What its owner last reported in a line.
    pub(crate) output: String,
}

impl Shown {
    /// What a registration shows.
    pub(crate) fn of(registration: &Registration) -> Self {
        let key = key(registration.service.as_str(), registration.id.as_str());
        let mut instance = Instance::builder(key, registration.address.clone(), registration.port)
            .status(registration.health.status)
            .draining(registration.health.draining)
            .tags(registration.tags.iter().cloned())
            .meta(registration.meta.clone())
            .build();
        instance.ports.clone_from(&registration.ports);
        instance.weight = registration.weight;
        Self {
            instance: Arc::new(instance),
            output: registration.health.output.clone(),
        }
    }

    /// What the database keeps of it.
    pub(crate) fn read(body: &[u8], output: String) -> Result<Self> {
        Ok(Self {
            instance: serde_json::from_slice(body).map_err(garbled)?,
            output,
        })
    }

    /// What the database is to keep of the instance.
    pub(crate) fn body(&self) -> Result<String> {
        serde_json::to_string(&self.instance).map_err(garbled)
    }

    /// The instance; with checks it carries the one check there is: what its owner reports.
    pub(crate) fn instance(&self, with_checks: bool) -> Arc<Instance> {
        if !with_checks {
            return self.instance.clone();
        }
        let mut instance = Instance::clone(&self.instance);
        let check = CheckResult::new("health", instance.status, &*self.output);
        instance.checks.push(check);
        Arc::new(instance)
    }

    /// The health it shows.
    pub(crate) fn health(&self) -> HealthReport {
        HealthReport::new(self.instance.status)
            .with_draining(self.instance.draining)
            .with_output(self.output.clone())
    }

    pub(crate) fn set_health(&mut self, health: &HealthReport) {
        if (self.instance.status, self.instance.draining) != (health.status, health.draining) {
            let instance = Arc::make_mut(&mut self.instance);
            (instance.status, instance.draining) = (health.status, health.draining);
        }
        self.output.clone_from(&health.output);
    }
}

/// The health a registration asked for, as the database keeps it.
#[derive(Serialize)]
struct Asked<'a> {
    status: Status,
    draining: bool,
    output: &'a str,
}

pub(crate) fn asked(health: &HealthReport) -> Result<String> {
    serde_json::to_string(&Asked {
        status: health.status,
        draining: health.draining,
        output: &health.output,
    })
    .map_err(garbled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_registered_is_what_is_read() {
        let registration = Registration::builder("größe", "::1", 8080)
            .tags(["v2", "a,b"])
            .meta("k", "\u{202e}\"'")
            .port("metrics", 9090, true)
            .weight(0)
            .status(Status::Starting)
            .build()
            .unwrap();
        let shown = Shown::of(&registration);
        let read = Shown::read(shown.body().unwrap().as_bytes(), shown.output.clone()).unwrap();
        assert_eq!(read, shown);
        assert_eq!(read.instance.weight, registration.weight);
        assert_eq!(read.instance.ports, registration.ports);
        assert_eq!(read.health(), registration.health);
    }

    #[test]
    fn a_record_that_makes_no_sense_is_an_error() {
        for garbage in ["", "{}", "[1]", "{\"key\":1}", "\0"] {
            let error = Shown::read(garbage.as_bytes(), String::new()).unwrap_err();
            assert_eq!(error.kind(), discovery_core::ErrorKind::Protocol, "{garbage:?}");
        }
    }

    #[test]
    fn health_with_checks_is_one_check() {
        let registration = Registration::builder("api", "127.0.0.1", 1).build().unwrap();
        let mut shown = Shown::of(&registration);
        shown.set_health(
            &HealthReport::new(Status::Warning)
                .with_output("slow")
                .with_draining(true),
        );
        assert!(shown.instance(false).checks.is_empty());
        let instance = shown.instance(true);
        assert_eq!(
            instance.checks,
            [CheckResult::new("health", Status::Warning, "slow")]
        );
        assert!(instance.draining);
    }
}
