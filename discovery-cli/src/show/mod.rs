//! Data to stdout, in the format that was asked for; everything else to stderr.

mod changes;
mod table;
mod values;

use std::{
    io::{self, Write as _},
    time::Duration,
};

use discovery::{
    BackendInfo, BackendStatus, Capabilities, CheckResult, ConfigEntry, Instance, InstanceKey, ServiceHealth,
    ServiceSummary, Status, Version, config::Setting, pick::Explained,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

pub(crate) use self::changes::{Change, ValueChange};
use self::{
    table::{clean, colored, table},
    values::{
        CheckLine, Done, Entry, ExplainedValue, Health, Imported, InstanceValue, Port, Registered, Service,
        SettingValue, StatusValue, Step, Summary,
    },
};
use crate::args::Format;

type Shown = io::Result<()>;

/// Shows one value: as a table that `text` makes, or as it is. An empty table is no data, and `nothing` is said instead.
fn value<T: Serialize>(format: Format, value: &T, nothing: &str, text: impl FnOnce() -> String) -> Shown {
    match format {
        Format::Table => match text() {
            text if text.is_empty() => note(nothing),
            text => writeln!(anstream::stdout().lock(), "{text}"),
        },
        Format::Json => json(serde_json::to_string_pretty(value)),
        Format::Yaml => {
            let yaml = serde_saphyr::to_string(value).map_err(io::Error::other)?;
            write!(anstream::stdout().lock(), "{yaml}")
        }
    }
}

/// Shows one of many values that come one after the other: on one line in every format but YAML.
fn streamed<T: Serialize>(format: Format, value: &T, text: impl FnOnce() -> String) -> Shown {
    match format {
        Format::Table => writeln!(anstream::stdout().lock(), "{}", clean(&text()))?,
        Format::Json => json(serde_json::to_string(value))?,
        Format::Yaml => {
            let yaml = serde_saphyr::to_string(value).map_err(io::Error::other)?;
            write!(anstream::stdout().lock(), "---\n{yaml}")?;
        }
    }
    io::stdout().flush()
}

/// Shows JSON, which has no colours to leave out.
fn json(text: serde_json::Result<String>) -> Shown {
    let text = text.map_err(io::Error::other)?;
    writeln!(io::stdout().lock(), "{text}")
}

/// A word to whoever sits there.
pub(crate) fn note(text: &str) -> Shown {
    writeln!(anstream::stderr().lock(), "{}", clean(text))
}

/// How far something long is, on a terminal; nothing anywhere else, and for what is short.
pub(crate) fn progress(steps: usize) -> ProgressBar {
    if steps < 2 {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(steps as u64);
    match ProgressStyle::with_template("{bar:40} {pos}/{len} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

// === what was done ===

/// Something was done to an instance.
pub(crate) fn done(format: Format, what: &'static str, key: &InstanceKey) -> Shown {
    let done = Done::new(what, key);
    value(format, &done, "", || {
        format!("{what} {} of {}", key.id, key.service)
    })
}

/// An instance was registered, and lives so long without heartbeat, or until it is deregistered.
pub(crate) fn registered(format: Format, key: &InstanceKey, ttl: Option<Duration>) -> Shown {
    let done = Registered::new(key, ttl);
    value(format, &done, "", || {
        format!("registered {} of {}", key.id, key.service)
    })
}

/// The health of an instance was reported.
pub(crate) fn reported(format: Format, status: Status, key: &InstanceKey) -> Shown {
    let done = Done::new("reported", key).saying(status);
    value(format, &done, "", || {
        format!("reported {} for {} of {}", colored(status), key.id, key.service)
    })
}

/// A value was written, or deleted.
pub(crate) fn written(format: Format, what: &'static str, key: &str, version: Option<&Version>) -> Shown {
    let written = values::Written {
        what,
        key,
        version: version.map(Version::as_str),
    };
    value(format, &written, "", || format!("{what} {key}"))
}

/// Values were imported.
pub(crate) fn imported(format: Format, keys: &[&str]) -> Shown {
    let imported = Imported {
        what: "imported",
        keys,
    };
    value(format, &imported, "", || match keys.len() {
        1 => "imported 1 value".to_owned(),
        many => format!("imported {many} values"),
    })
}

/// One step of something that is shown while it happens.
pub(crate) fn step(format: Format, what: &'static str, text: &str, took: Duration) -> Shown {
    let step = Step::new(what, text, took);
    streamed(format, &step, || format!("{what:<10} {text}  ({took:.1?})"))
}

/// One change of a watch.
pub(crate) fn change(format: Format, change: &Change) -> Shown {
    streamed(format, change, || change.to_string())
}

/// One change of a value.
pub(crate) fn value_change(format: Format, change: &ValueChange) -> Shown {
    streamed(format, change, || change.to_string())
}

// === services and instances ===

pub(crate) fn services(format: Format, services: &[ServiceSummary]) -> Shown {
    let all: Vec<_> = services.iter().map(Service::of).collect();
    value(format, &all, "no services", || {
        let count = |service: &Service| {
            service
                .instances
                .map_or_else(|| "-".to_owned(), |n| n.to_string())
        };
        let rows = all
            .iter()
            .map(|one| vec![one.name.clone(), count(one), one.tags.join(",")]);
        table(&["SERVICE", "INSTANCES", "TAGS"], rows)
    })
}

pub(crate) fn instances(format: Format, instances: &[Instance]) -> Shown {
    let all: Vec<_> = instances.iter().map(InstanceValue::of).collect();
    value(format, &all, "no instances", || {
        let rows = instances.iter().map(|one| {
            vec![
                one.key.service.to_string(),
                one.key.id.to_string(),
                one.address(),
                state(one),
                one.tags.join(","),
            ]
        });
        table(&["SERVICE", "ID", "ADDRESS", "STATUS", "TAGS"], rows)
    })
}

pub(crate) fn picks(format: Format, instances: &[Instance]) -> Shown {
    let all: Vec<_> = instances.iter().map(InstanceValue::of).collect();
    value(format, &all, "no picks", || {
        let lines: Vec<_> = instances.iter().map(Instance::address).collect();
        lines.join("\n")
    })
}

pub(crate) fn explained(format: Format, all: &[Explained]) -> Shown {
    let values: Vec<_> = all.iter().map(ExplainedValue::of).collect();
    value(format, &values, "no instances", || {
        let rows = all.iter().zip(&values).map(|(one, value)| {
            vec![
                one.instance.key.id.to_string(),
                one.instance.address(),
                state(&one.instance),
                one.instance.weight.to_string(),
                one.verdict.to_string(),
                value.why.to_owned(),
            ]
        });
        table(&["ID", "ADDRESS", "STATUS", "WEIGHT", "VERDICT", "WHY"], rows)
    })
}

pub(crate) fn instance(format: Format, instance: &Instance) -> Shown {
    let shown = InstanceValue::of(instance);
    value(format, &shown, "", || {
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
        table(&[], rows)
    })
}

// === health ===

/// Instances and what their checks say.
pub(crate) fn health(format: Format, instances: &[Instance]) -> Shown {
    let all: Vec<_> = instances.iter().map(Health::of).collect();
    value(format, &all, "no instances", || {
        let rows = instances.iter().map(|one| {
            let checks: Vec<_> = one.checks.iter().map(check_line).collect();
            vec![
                one.key.service.to_string(),
                one.key.id.to_string(),
                state(one),
                checks.join("\n"),
            ]
        });
        table(&["SERVICE", "ID", "STATUS", "CHECKS"], rows)
    })
}

pub(crate) fn summary(format: Format, all: &[ServiceHealth]) -> Shown {
    let values: Vec<_> = all.iter().map(Summary::of).collect();
    value(format, &values, "no services", || {
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
        table(&heads, rows)
    })
}

/// Every check with a status that is wanted, on a line of its own; of an instance without checks its status.
pub(crate) fn checks(
    format: Format,
    instances: &[Instance],
    wanted: impl Fn(Status) -> bool,
    whole: bool,
) -> Shown {
    let all: Vec<_> = instances
        .iter()
        .flat_map(CheckLine::all)
        .filter(|line| wanted(line.status))
        .collect();
    value(format, &all, "no checks", || {
        let rows = all.iter().map(|line| {
            let output = if whole {
                line.output.trim_end()
            } else {
                first_line(line.output)
            };
            vec![
                line.service.to_owned(),
                line.id.to_owned(),
                line.check.unwrap_or("-").to_owned(),
                colored(line.status),
                output.to_owned(),
            ]
        });
        table(&["SERVICE", "ID", "CHECK", "STATUS", "OUTPUT"], rows)
    })
}

// === the registry ===

pub(crate) fn status(
    format: Format,
    info: &BackendInfo,
    status: &BackendStatus,
    can: Option<&Capabilities>,
) -> Shown {
    let shown = StatusValue::of(info, status, can);
    value(format, &shown, "", || {
        let row = |name: &str, text: &str| vec![name.to_owned(), text.to_owned()];
        let mut rows = vec![
            row("backend", info.scheme),
            row("address", &info.address),
            row("state", "reachable"),
            row("latency", &format!("{:.1?}", status.latency)),
        ];
        rows.extend(status.version.iter().map(|version| row("version", version)));
        rows.extend(status.leader.iter().map(|leader| row("leader", leader)));
        if can.is_some() {
            rows.extend(shown.details.iter().map(|(key, text)| row(key, text)));
            let able = shown.capabilities.iter().flatten();
            rows.extend(
                able.map(|(name, can)| row(&name.replace('_', " "), if *can { "yes" } else { "no" })),
            );
        }
        table(&[], rows)
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
    value(format, &values, "no ports to try", || {
        let rows = all
            .iter()
            .map(|(address, state, took)| vec![address.clone(), state.clone(), format!("{took:.1?}")]);
        table(&["ADDRESS", "STATE", "TOOK"], rows)
    })
}

#[cfg(feature = "dns")]
pub(crate) fn records(format: Format, all: &[discovery::dns::Record]) -> Shown {
    let values: Vec<_> = all.iter().map(values::RecordValue::of).collect();
    value(format, &values, "no records", || {
        let rows = values.iter().map(|one| {
            vec![
                one.name.to_owned(),
                one.kind.to_owned(),
                one.ttl_seconds.to_string(),
                one.value.to_owned(),
            ]
        });
        table(&["NAME", "TYPE", "TTL", "VALUE"], rows)
    })
}

// === settings and values ===

pub(crate) fn settings(format: Format, settings: &[Setting]) -> Shown {
    let all: Vec<_> = settings.iter().map(SettingValue::of).collect();
    value(format, &all, "no settings", || {
        let rows = all
            .iter()
            .map(|one| vec![one.path.to_owned(), one.value.to_string(), one.origin.clone()]);
        table(&["SETTING", "VALUE", "FROM"], rows)
    })
}

/// One value. For people, and for scripts, the value alone: byte for byte, and a line feed.
pub(crate) fn entry(format: Format, entry: &ConfigEntry) -> Shown {
    if format == Format::Table {
        let mut out = io::stdout().lock();
        out.write_all(&entry.value)?;
        return out.write_all(b"\n");
    }
    value(format, &Entry::of(entry), "", String::new)
}

pub(crate) fn entries(format: Format, entries: &[ConfigEntry]) -> Shown {
    let all: Vec<_> = entries.iter().map(Entry::of).collect();
    value(format, &all, "no values", || {
        let rows = all
            .iter()
            .map(|one| vec![one.key.to_owned(), one.short(), one.version.to_owned()]);
        table(&["KEY", "VALUE", "VERSION"], rows)
    })
}

fn state(instance: &Instance) -> String {
    let status = colored(instance.status);
    if instance.draining {
        format!("{status}, draining")
    } else {
        status
    }
}

fn check_line(check: &CheckResult) -> String {
    let output = first_line(&check.output);
    let dash = if output.is_empty() { "" } else { " — " };
    format!("{} {}{dash}{output}", check.name, colored(check.status))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
