//! `watch`.

use std::{collections::BTreeMap, sync::Arc};

use discovery::{
    CheckResult, ErrorKind, Instance, InstanceKey, Query, Result, Snapshot, Source, config::format_duration,
};

use crate::{
    args::{Global, Watch},
    commands::with,
    ends::{Ends, unread},
    fault::Fault,
    show::{self, Change},
};

pub(super) async fn watch(global: &Global, told: &Watch) -> Result<(), Fault> {
    let query = Query::service(&told.name)?.include_unhealthy().with_checks();
    with(global, async |client| {
        let service = client.query(&query)?;
        if !told.follow {
            let snapshot = service.ready().await?;
            let now: Vec<_> = snapshot.instances.iter().map(|one| (**one).clone()).collect();
            return Ok(show::instances(global.format, &now)?);
        }
        let mut ends = Ends::listen()?;
        let follow = async {
            service.ready().await?;
            let mut subscription = service.subscribe();
            let mut seen = Seen::default();
            loop {
                match subscription.next().await {
                    Ok(snapshot) => {
                        if let Some(word) = seen.word(&snapshot) {
                            show::note(&word)?;
                        }
                        for change in seen.changes(&snapshot) {
                            show::change(global.format, &change)?;
                        }
                    }
                    // Too old to be shown, for now.
                    Err(error) if error.kind() == ErrorKind::Unavailable => {
                        show::note(&format!("{error:#}"))?;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        };
        tokio::select! {
            failed = follow => failed,
            () = ends.asked() => Ok(()),
            () = unread() => Ok(()),
        }
    })
    .await
}

/// What was shown last.
#[derive(Default)]
struct Seen {
    instances: BTreeMap<InstanceKey, Arc<Instance>>,
    source: Option<Source>,
    held: usize,
    /// Whether the first answer has been shown.
    first: bool,
}

impl Seen {
    /// What there is to say of the view itself.
    fn word(&mut self, now: &Snapshot) -> Option<String> {
        let held = now.held.map_or(0, |held| held.instances);
        let (source, before) = (self.source.replace(now.source), self.held);
        self.held = held;
        let age = std::time::Duration::from_secs(now.age().as_secs());
        match (source, now.source) {
            (None | Some(Source::Live), Source::Stale | Source::Disk) => Some(format!(
                "the registry does not answer: this is what it said {} ago",
                format_duration(age)
            )),
            (Some(Source::Stale | Source::Disk), Source::Live) => {
                Some("the registry answers again".to_owned())
            }
            _ => match now.held {
                Some(what) if held != before => Some(format!(
                    "{held} removals are held back until they are confirmed ({})",
                    what.reason
                )),
                _ => None,
            },
        }
    }

    /// What is different now.
    fn changes(&mut self, now: &Snapshot) -> Vec<Change> {
        let now: BTreeMap<_, _> = now
            .instances
            .iter()
            .map(|instance| (instance.key.clone(), instance.clone()))
            .collect();
        let mut all = Vec::new();
        for (key, instance) in &now {
            match self.instances.get(key) {
                None => {
                    let reason = if self.first {
                        "registered"
                    } else {
                        "there at the start"
                    };
                    all.push(Change::new("appeared", instance, reason.to_owned()));
                }
                Some(old) => {
                    let reason = difference(old, instance);
                    // What checks say changes all the time; what they conclude is shown.
                    if !reason.is_empty() {
                        all.push(Change::new("changed", instance, reason));
                    }
                }
            }
        }
        for (key, gone) in &self.instances {
            if !now.contains_key(key) {
                all.push(Change::new("gone", gone, "no longer in the registry".to_owned()));
            }
        }
        self.instances = now;
        self.first = true;
        all
    }
}

/// Which parts of an instance are different, and how where that is short.
fn difference(old: &Instance, new: &Instance) -> String {
    let mut parts = Vec::new();
    if old.status != new.status {
        let why = said(old, new).map_or_else(String::new, |check| {
            let line = check.output.lines().next().unwrap_or_default();
            format!(": {} {line}", check.name)
        });
        parts.push(format!("status {} → {}{why}", old.status, new.status));
    }
    if old.draining != new.draining {
        parts.push(
            if new.draining {
                "draining"
            } else {
                "no longer draining"
            }
            .to_owned(),
        );
    }
    if old.address() != new.address() {
        parts.push(format!("address {} → {}", old.address(), new.address()));
    }
    if old.weight != new.weight {
        parts.push(format!("weight {} → {}", old.weight, new.weight));
    }
    for (name, same) in [
        ("tags", old.tags == new.tags),
        ("meta", old.meta == new.meta),
        ("ports", old.ports == new.ports),
    ] {
        if !same {
            parts.push(name.to_owned());
        }
    }
    parts.join(", ")
}

/// The check that made the status what it is: the worst of those that changed.
fn said<'a>(old: &Instance, new: &'a Instance) -> Option<&'a CheckResult> {
    new.checks
        .iter()
        .filter(|check| !check.output.is_empty() && !old.checks.contains(check))
        .max_by_key(|check| check.status)
}
