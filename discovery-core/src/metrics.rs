//! Names and labels of every metric, in one place. The program picks the recorder (the `metrics` facade).

use std::{sync::Arc, time::Duration};

use metrics::{counter, gauge, histogram};

use crate::error::ErrorKind;

#[allow(
    clippy::cast_precision_loss,
    reason = "counts of instances are far below 2^52"
)]
fn count(number: usize) -> f64 {
    number as f64
}

// Gauges of a watch are labelled with the name of its source: that is the backend's, unless a client reads from several.

/// Healthy instances of a service.
pub(crate) fn healthy(service: &str, source: &Arc<str>, instances: usize) {
    gauge!("healthy_services_total", "service" => service.to_owned(), "backend" => source.clone())
        .set(count(instances));
}

/// Whether the watch of a service is up.
pub(crate) fn watch_up(service: &str, source: &Arc<str>, up: bool) {
    gauge!("discovery_watch_up", "service" => service.to_owned(), "backend" => source.clone())
        .set(f64::from(u8::from(up)));
}

/// Instances whose removal the guard holds back.
pub(crate) fn held(service: &str, source: &Arc<str>, instances: usize) {
    gauge!("discovery_guard_held_instances", "service" => service.to_owned(), "backend" => source.clone())
        .set(count(instances));
}

/// Seconds since the registry last confirmed the view of a service.
pub(crate) fn view_age(service: &str, source: &Arc<str>, age: Duration) {
    gauge!("discovery_view_age_seconds", "service" => service.to_owned(), "backend" => source.clone())
        .set(age.as_secs_f64());
}

/// A watch failed and is opened again.
pub(crate) fn watch_failed(backend: &'static str, kind: ErrorKind) {
    counter!("discovery_watch_failures_total", "backend" => backend, "kind" => kind.as_str()).increment(1);
}

/// Views of a service that another than the first tier of sources serves: one more, or with `-1.0` one less.
pub(crate) fn failover_active(service: &str, change: f64) {
    gauge!("discovery_failover_active", "service" => service.to_owned()).increment(change);
}

/// How long a look-up took; `query_type` is `watch` (to the first view), `instances`, `services` or `instance`.
pub(crate) fn discovery_duration(backend: &'static str, query_type: &'static str, took: Duration) {
    histogram!("service_discovery_duration", "backend" => backend, "query_type" => query_type)
        .record(took.as_secs_f64());
}

/// Registrations this process keeps: one more, or with `-1.0` one less. The datacenter is empty where there is none.
pub(crate) fn registered(backend: &'static str, datacenter: &str, change: f64) {
    gauge!("registered_services_total", "backend" => backend, "datacenter" => datacenter.to_owned())
        .increment(change);
}

/// How long a `register` call took that succeeded, its retries included.
pub(crate) fn registration_duration(backend: &'static str, took: Duration) {
    histogram!("service_registration_duration", "backend" => backend).record(took.as_secs_f64());
}

/// A registration that was lost has been made again.
pub(crate) fn reregistered(backend: &'static str) {
    counter!("discovery_reregistrations_total", "backend" => backend).increment(1);
}

/// A read was answered from the cache, or was not.
pub(crate) fn cache(backend: &'static str, hit: bool) {
    if hit {
        counter!("discovery_cache_hits_total", "backend" => backend).increment(1);
    } else {
        counter!("discovery_cache_misses_total", "backend" => backend).increment(1);
    }
}

/// A look of a check took so long, and failed for this reason (`critical`, `timeout`, `error`) if it did.
pub(crate) fn checked(service: &str, check_name: &str, took: Duration, failure: Option<&'static str>) {
    let (service, check_name) = (service.to_owned(), check_name.to_owned());
    histogram!("health_check_duration", "service" => service.clone(), "check_name" => check_name.clone())
        .record(took.as_secs_f64());
    if let Some(reason) = failure {
        counter!("health_check_failures_total", "service" => service, "check_name" => check_name, "reason" => reason)
            .increment(1);
    }
}
