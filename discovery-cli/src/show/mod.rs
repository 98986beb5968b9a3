//! Data to stdout, in the format that was asked for; everything else to stderr.

mod table;
mod values;

use std::{
    io::{self, Write as _},
    time::Duration,
};

use discovery::{
    BackendInfo, BackendStatus, Capabilities, Instance, InstanceKey, ServiceHealth, ServiceSummary,
    config::Setting,
};
use serde::Serialize;

use self::table::{colored, table};
use crate::args::Format;

pub(crate) use self::values::Change;
use self::values::{
    CheckLine, Done, Health, InstanceValue, Port, Service, SettingValue, StatusValue, Summary,
};

type Shown = io::Result<()>;

/// Shows one value: as a table that `text` makes, or as it is.
fn value<T: Serialize>(format: Format, value: &T, text: impl FnOnce() -> String) -> Shown {
    let mut out = anstream::stdout().lock();
    match format {
        Format::Table => writeln!(out, "{}", text()),
        Format::Json => {
            let json = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
            writeln!(out, "{json}")
        }
        Format::Yaml => {
            let yaml = serde_saphyr::to_string(value).map_err(io::Error::other)?;
            write!(out, "{yaml}")
        }
    }
}

/// A word to whoever sits there.
pub(crate) fn note(text: &str) -> Shown {
    writeln!(anstream::stderr().lock(), "{text}")
}

/// Something was done to an instance.
pub(crate) fn done(format: Format, what: &'static str, key: &InstanceKey) -> Shown {
    let done = Done::new(what, key);
    value(format, &done, || format!("{what} {} of {}", key.id, key.service))
}

pub(crate) fn services(format: Format, services: &[ServiceSummary]) -> Shown {
    let all: Vec<_> = services.iter().map(Service::of).collect();
    value(format, &all, || {
        let count = |service: &Service| {
            service
                .instances
                .map_or_else(|| "-".to_owned(), |n| n.to_string())
        };
        let rows = all
            .iter()
            .map(|one| vec![one.name.clone(), count(one), one.tags.join(",")]);
        table(&["SERVICE", "INSTANCES", "TAGS"], rows, "no services")
    })
}

pub(crate) fn instances(format: Format, instances: &[Instance]) -> Shown {
    let all: Vec<_> = instances.iter().map(InstanceValue::of).collect();
    value(format, &all, || {
        let rows = instances.iter().map(|one| {
            vec![
                one.key.service.to_string(),
                one.key.id.to_string(),
                one.address(),
                state(one),
                one.tags.join(","),
            ]
        });
        table(
            &["SERVICE", "ID", "ADDRESS", "STATUS", "TAGS"],
            rows,
            "no instances",
        )
    })
}

pub(crate) fn picks(format: Format, instances: &[Instance]) -> Shown {
    let all: Vec<_> = instances.iter().map(InstanceValue::of).collect();
    value(format, &all, || {
        let lines: Vec<_> = instances.iter().map(Instance::address).collect();
        lines.join("\n")
    })
}

pub(crate) fn instance(format: Format, instance: &Instance) -> Shown {
    let shown = InstanceValue::of(instance);
    value(format, &shown, || {
        let mut rows = vec![
            ("service", instance.key.service.to_string()),
            ("id", instance.key.id.to_string()),
            ("address", instance.address()),
            ("status", state(instance)),
            ("weight", instance.weight.to_string()),
            ("tags", instance.tags.join(", ")),
        ];
        let places = [
            ("datacenter", &instance.key.datacenter),
            ("zone", &instance.locality.zone),
            ("namespace", &instance.key.namespace),
            ("node", &instance.key.node),
        ];
        rows.extend(
            places
                .iter()
                .filter_map(|(name, at)| Some((*name, at.as_ref()?.to_string()))),
        );
        rows.extend(
            instance
                .ports
                .iter()
                .map(|port| ("port", format!("{} {}", port.name, port.number))),
        );
        rows.extend(
            instance
                .meta
                .iter()
                .map(|(key, value)| ("meta", format!("{key} = {value}"))),
        );
        let checks = instance.checks.iter();
        rows.extend(checks.map(|check| ("check", check_line(check))));
        let rows = rows.into_iter().map(|(name, text)| vec![name.to_owned(), text]);
        table(&[], rows, "")
    })
}

/// Instances and what their checks say.
pub(crate) fn health(format: Format, instances: &[Instance]) -> Shown {
    let all: Vec<_> = instances.iter().map(Health::of).collect();
    value(format, &all, || {
        let rows = instances.iter().map(|one| {
            let checks: Vec<_> = one.checks.iter().map(check_line).collect();
            vec![
                one.key.service.to_string(),
                one.key.id.to_string(),
                state(one),
                checks.join("\n"),
            ]
        });
        table(&["SERVICE", "ID", "STATUS", "CHECKS"], rows, "no instances")
    })
}

pub(crate) fn summary(format: Format, all: &[ServiceHealth]) -> Shown {
    let values: Vec<_> = all.iter().map(Summary::of).collect();
    value(format, &values, || {
        let rows = values.iter().map(|one| {
            vec![
                one.service.to_string(),
                colored(one.status),
                one.passing.to_string(),
                one.warning.to_string(),
                one.critical.to_string(),
                one.draining.to_string(),
            ]
        });
        let heads = ["SERVICE", "STATUS", "PASSING", "WARNING", "CRITICAL", "DRAINING"];
        table(&heads, rows, "no services")
    })
}

/// Every check of every instance on a line of its own.
pub(crate) fn checks(format: Format, instances: &[Instance], whole: bool) -> Shown {
    let all: Vec<_> = instances.iter().flat_map(CheckLine::all).collect();
    value(format, &all, || {
        let rows = all.iter().map(|line| {
            let output = if whole {
                line.output
            } else {
                first_line(line.output)
            };
            vec![
                line.id.to_string(),
                line.check.to_owned(),
                colored(line.status),
                output.to_string(),
            ]
        });
        table(&["ID", "CHECK", "STATUS", "OUTPUT"], rows, "no checks")
    })
}

pub(crate) fn status(
    format: Format,
    info: &BackendInfo,
    status: &BackendStatus,
    can: Option<&Capabilities>,
) -> Shown {
    let shown = StatusValue::of(info, status, can);
    value(format, &shown, || {
        let mut rows = vec![
            ("backend".to_owned(), info.scheme.to_owned()),
            ("address".to_owned(), info.address.clone()),
            ("state".to_owned(), "reachable".to_owned()),
            ("latency".to_owned(), format!("{:.1?}", status.latency)),
        ];
        rows.extend(
            status
                .version
                .iter()
                .map(|version| ("version".to_owned(), version.clone())),
        );
        rows.extend(
            status
                .leader
                .iter()
                .map(|leader| ("leader".to_owned(), leader.clone())),
        );
        if can.is_some() {
            rows.extend(
                shown
                    .details
                    .iter()
                    .map(|(key, text)| ((*key).to_owned(), (*text).to_owned())),
            );
            let able = shown.capabilities.iter().flatten();
            rows.extend(
                able.map(|(name, can)| ((*name).to_owned(), if *can { "yes" } else { "no" }.to_owned())),
            );
        }
        table(&[], rows.into_iter().map(|(name, text)| vec![name, text]), "")
    })
}

pub(crate) fn ports(format: Format, all: &[(String, String, Duration)]) -> Shown {
    let values: Vec<_> = all
        .iter()
        .map(|(address, state, took)| Port {
            address,
            state,
            millis: took.as_millis(),
        })
        .collect();
    value(format, &values, || {
        let rows = all
            .iter()
            .map(|(address, state, took)| vec![address.clone(), state.clone(), format!("{took:.1?}")]);
        table(&["ADDRESS", "STATE", "TOOK"], rows, "no ports to try")
    })
}

pub(crate) fn settings(format: Format, settings: &[Setting]) -> Shown {
    let all: Vec<_> = settings.iter().map(SettingValue::of).collect();
    value(format, &all, || {
        let rows = all
            .iter()
            .map(|one| vec![one.path.to_owned(), one.value.to_string(), one.origin.clone()]);
        table(&["SETTING", "VALUE", "FROM"], rows, "no settings")
    })
}

/// One change of a watch, on one line in every format but YAML.
pub(crate) fn change(format: Format, change: &Change) -> Shown {
    let mut out = anstream::stdout().lock();
    match format {
        Format::Table => writeln!(out, "{change}")?,
        Format::Json => {
            let json = serde_json::to_string(change).map_err(io::Error::other)?;
            writeln!(out, "{json}")?;
        }
        Format::Yaml => {
            let yaml = serde_saphyr::to_string(change).map_err(io::Error::other)?;
            write!(out, "---\n{yaml}")?;
        }
    }
    out.flush()
}

/// One step of something that is shown while it happens.
pub(crate) fn step(what: &str, text: &str, took: Duration) -> Shown {
    writeln!(anstream::stdout().lock(), "{what:<10} {text}  ({took:.1?})")
}

fn state(instance: &Instance) -> String {
    let status = colored(instance.status);
    if instance.draining {
        format!("{status}, draining")
    } else {
        status
    }
}

fn check_line(check: &discovery::CheckResult) -> String {
    let output = first_line(&check.output);
    let dash = if output.is_empty() { "" } else { " — " };
    format!("{} {}{dash}{output}", check.name, colored(check.status))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
