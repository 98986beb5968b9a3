//! What ran and how it ended.

use std::{path::Path, sync::Mutex, time::Duration};

use discovery_core::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use super::{Case, Flag};
use crate::sync::lock;

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    Passed,
    Failed(String),
    NotRun(String),
}

#[derive(Debug)]
struct Entry {
    provider: String,
    trial: String,
    proves: &'static [Flag],
    ended: Ended,
    took: Duration,
}

/// Every trial that ended, whatever thread it ran on.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Vec<Entry>>);

impl Ledger {
    pub(super) fn note(
        &self,
        provider: &str,
        trial: String,
        case: Option<&Case>,
        ended: Ended,
        took: Duration,
    ) {
        lock(&self.0).push(Entry {
            provider: provider.to_owned(),
            trial,
            proves: case.map_or(&[], |case| case.proves),
            ended,
            took,
        });
    }

    /// The flags that passed cases of `provider` proved.
    pub(super) fn proved(&self, provider: &str) -> Vec<Flag> {
        let entries = lock(&self.0);
        let passed = entries
            .iter()
            .filter(|e| e.provider == provider && e.ended == Ended::Passed);
        passed.flat_map(|entry| entry.proves.iter().copied()).collect()
    }

    /// How many cases of `provider` passed or failed.
    pub(super) fn ran(&self, provider: &str) -> usize {
        let entries = lock(&self.0);
        let ran = |entry: &&Entry| entry.provider == provider && !matches!(entry.ended, Ended::NotRun(_));
        entries.iter().filter(ran).count()
    }

    /// Writes all of it to `path` as JSON.
    pub(super) fn write(&self, path: &Path, claims: &[(String, Vec<Flag>)], wrong: &[String]) -> Result<()> {
        let trials: Vec<Value> = lock(&self.0)
            .iter()
            .map(|entry| {
                let (ended, why) = match &entry.ended {
                    Ended::Passed => ("passed", None),
                    Ended::Failed(why) => ("failed", Some(why)),
                    Ended::NotRun(why) => ("not run", Some(why)),
                };
                json!({
                    "provider": entry.provider,
                    "trial": entry.trial,
                    "ended": ended,
                    "why": why,
                    "seconds": entry.took.as_secs_f64(),
                    "proves": entry.proves.iter().map(|flag| flag.as_str()).collect::<Vec<_>>(),
                })
            })
            .collect();
        let providers: Vec<Value> = claims
            .iter()
            .map(|(name, flags)| {
                let flags: serde_json::Map<_, _> = Flag::ALL
                    .iter()
                    .map(|flag| (flag.as_str().to_owned(), json!(flags.contains(flag))))
                    .collect();
                json!({ "name": name, "flags": flags })
            })
            .collect();
        let report = json!({ "providers": providers, "trials": trials, "wrong": wrong });
        std::fs::write(path, format!("{report:#}\n")).map_err(|source| {
            Error::new(ErrorKind::Unexpected, "cannot write the report")
                .with_context("path", path.display().to_string())
                .with_source(source)
        })
    }
}
