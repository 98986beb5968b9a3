//! `config`: the values a registry keeps, and our own settings.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    path::Path,
    pin::pin,
};

use discovery::{
    ConfigChange, ConfigEntry, ConfigKey, ConfigValues, Error, ErrorKind, PutMode, Result, Version,
};
use futures::StreamExt as _;
use serde_json::Value;

use crate::{
    args::{Config, Global},
    commands::with,
    ends::{Ends, unread},
    fault::Fault,
    open::Chosen,
    show::{self, ValueChange},
};

pub(super) async fn values(global: &Global, told: Config) -> Result<(), Fault> {
    match told {
        Config::Explain => {
            let chosen = Chosen::by(global)?;
            let mut settings = chosen.loaded.explain();
            // Defaults of what nobody uses are not in force.
            let mut blocks = chosen.loaded.blocks();
            blocks.extend(["client", chosen.backend]);
            settings.retain(|setting| {
                let block = setting.path.split('.').next().unwrap_or_default();
                blocks.contains(&block)
            });
            Ok(show::settings(global.format, &settings)?)
        }
        Config::Get { key } => {
            with(global, async |client| {
                let entry = client.config()?.get(&key).await?.ok_or_else(|| absent(&key))?;
                Ok(show::entry(global.format, &entry)?)
            })
            .await
        }
        Config::Set {
            key,
            value,
            if_absent,
            if_version,
        } => {
            let mode = match if_version {
                Some(version) => PutMode::IfVersion(Version::new(version)),
                None if if_absent => PutMode::Create,
                None => PutMode::Upsert,
            };
            let value = match value.as_str() {
                "-" => input()?,
                _ => value.into_bytes(),
            };
            with(global, async |client| {
                let version = client.config()?.put(&key, value, mode).await?;
                Ok(show::written(global.format, "set", &key, Some(&version))?)
            })
            .await
        }
        Config::Delete { key, if_version } => {
            with(global, async |client| {
                let version = if_version.map(Version::new);
                if !client.config()?.delete(&key, version).await? {
                    return Err(absent(&key).into());
                }
                Ok(show::written(global.format, "deleted", &key, None)?)
            })
            .await
        }
        Config::List { prefix } => {
            with(global, async |client| {
                let entries = client.config()?.list(&prefix).await?.entries;
                Ok(show::entries(global.format, &entries)?)
            })
            .await
        }
        Config::Watch { key, follow } => {
            with(global, async |client| {
                let values = client.config()?;
                if follow {
                    return watch(global, &values, &key).await;
                }
                let mut entries = values.list(key.trim_end_matches('/')).await?.entries;
                entries.retain(|entry| within(&key, &entry.key));
                Ok(show::entries(global.format, &entries)?)
            })
            .await
        }
        Config::Import { file, prefix } => {
            let all = flattened(&file, &prefix)?;
            with(global, async |client| {
                import(global, &client.config()?, all).await
            })
            .await
        }
    }
}

fn absent(key: &str) -> Error {
    Error::new(ErrorKind::NotFound, "there is no such key")
        .with_context("key", key)
        .with_hint("`config list` shows the keys there are")
}

fn input() -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    io::stdin().read_to_end(&mut value)?;
    Ok(value)
}

/// Whether a key is the one that is watched, or below it.
fn within(watched: &str, key: &ConfigKey) -> bool {
    let watched = watched.trim_end_matches('/');
    let rest = key.as_str().strip_prefix(watched);
    rest.is_some_and(|rest| watched.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

async fn watch(global: &Global, values: &ConfigValues, key: &str) -> Result<(), Fault> {
    let mut ends = Ends::listen()?;
    let follow = async {
        let mut events = pin!(values.watch(key.trim_end_matches('/')));
        let mut seen = BTreeMap::new();
        let mut down = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    if std::mem::take(&mut down) {
                        show::note("the registry answers again")?;
                    }
                    for change in changes(&mut seen, event.change, key) {
                        show::value_change(global.format, &change)?;
                    }
                }
                Err(error) if error.is_retryable() || error.kind() == ErrorKind::WatchExpired => {
                    if !std::mem::replace(&mut down, true) {
                        show::note(&format!("the registry does not answer: {error:#}"))?;
                    }
                }
                Err(error) => return Err(Fault::from(error)),
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = follow => ended,
        () = ends.asked() => Ok(()),
        () = unread() => Ok(()),
    }
}

/// What an event changes; `seen` becomes what is there then.
fn changes(
    seen: &mut BTreeMap<ConfigKey, ConfigEntry>,
    change: ConfigChange,
    watched: &str,
) -> Vec<ValueChange> {
    let mut all = Vec::new();
    let mut put = |seen: &mut BTreeMap<ConfigKey, ConfigEntry>, entry: ConfigEntry| {
        let same = seen
            .get(&entry.key)
            .is_some_and(|old| old.version == entry.version);
        if within(watched, &entry.key) && !same {
            all.push(ValueChange::set(&entry));
            seen.insert(entry.key.clone(), entry);
        }
    };
    match change {
        ConfigChange::Put(entry) => put(seen, entry),
        ConfigChange::Reset(entries) => {
            let gone: Vec<_> = seen
                .keys()
                .filter(|key| entries.iter().all(|entry| entry.key != **key))
                .cloned()
                .collect();
            for entry in entries {
                put(seen, entry);
            }
            for key in gone {
                seen.remove(&key);
                all.push(ValueChange::deleted(&key));
            }
        }
        ConfigChange::Delete(key) => {
            if seen.remove(&key).is_some() {
                all.push(ValueChange::deleted(&key));
            }
        }
        ConfigChange::Confirmed => {}
    }
    all
}

async fn import(global: &Global, values: &ConfigValues, all: Vec<(String, String)>) -> Result<(), Fault> {
    let progress = show::progress(all.len());
    for (done, (key, value)) in all.iter().enumerate() {
        let written = values.put(key, value, PutMode::Upsert).await;
        if let Err(error) = written {
            progress.finish_and_clear();
            return Err(error
                .with_context("key", key.clone())
                .with_context("written before", format!("{done} of {}", all.len()))
                .into());
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    let keys: Vec<_> = all.iter().map(|(key, _)| key.as_str()).collect();
    Ok(show::imported(global.format, &keys)?)
}

/// The values of a file by their keys, each of which could be written.
fn flattened(file: &Path, prefix: &str) -> Result<Vec<(String, String)>> {
    let fault = |text: String| {
        Error::new(ErrorKind::InvalidInput, text).with_context("file", file.display().to_string())
    };
    let text = std::fs::read_to_string(file).map_err(|source| {
        fault("the file cannot be read".to_owned())
            .with_hint("give the path of a YAML file")
            .with_source(source)
    })?;
    let tree: Value = serde_saphyr::from_str(&text).map_err(|error| fault(format!("no YAML: {error}")))?;
    let Value::Object(_) = &tree else {
        return Err(fault("the file holds no mapping".to_owned()).with_hint("write `key: value`, one a line"));
    };
    let mut all = Vec::new();
    flatten(prefix, "", tree, &mut all).map_err(|key| {
        fault(format!("{key} has no value")).with_hint("write \"\" for an empty one, or leave the key out")
    })?;
    for (key, _) in &all {
        ConfigKey::new(key)?;
    }
    Ok(all)
}

/// # Errors
/// The key that has no value.
fn flatten(before: &str, key: &str, value: Value, all: &mut Vec<(String, String)>) -> Result<(), String> {
    let full = format!("{before}{key}");
    match value {
        Value::Null => return Err(full),
        Value::String(text) => all.push((full, text)),
        Value::Object(map) => {
            let before = if key.is_empty() { full } else { full + "/" };
            for (key, value) in map {
                flatten(&before, &key, value, all)?;
            }
        }
        other => all.push((full, other.to_string())),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_becomes_keys_and_values() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let flat = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            flattened(file.path(), "config/")
        };
        let text = "api:\n  timeout: 30s\n  retries: 3\nhosts: [a, b]\non: true\nempty: \"\"\n";
        let all = flat(text).unwrap();
        let all: Vec<_> = all
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            all,
            [
                ("config/api/retries", "3"),
                ("config/api/timeout", "30s"),
                ("config/empty", ""),
                ("config/hosts", r#"["a","b"]"#),
                ("config/on", "true"),
            ]
        );
        for bad in ["- a\n", "a: ~\n", "a: {\n", "\"a//b\": 1\n"] {
            let error = flat(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
            assert!(error.hint().is_some() || bad.ends_with("{\n"), "{bad}");
        }
    }

    #[test]
    fn a_key_is_watched_with_all_below_it() {
        for (watched, key, is) in [
            ("features", "features", true),
            ("features", "features/dark", true),
            ("features/", "features/dark", true),
            ("features", "features2", false),
            ("", "anything", true),
        ] {
            assert_eq!(
                within(watched, &ConfigKey::new(key).unwrap()),
                is,
                "{watched} {key}"
            );
        }
    }

    #[test]
    fn what_an_outage_hid_is_told_afterwards() {
        let entry = |key: &str, version: &str| {
            ConfigEntry::new(
                ConfigKey::new(key).unwrap(),
                b"x".as_slice(),
                Version::new(version.to_owned()),
            )
        };
        let mut seen = BTreeMap::new();
        let mut told = |change| {
            let all = changes(&mut seen, change, "a");
            all.iter()
                .map(ToString::to_string)
                .map(|line| {
                    let (_, rest) = line.split_once(' ').unwrap();
                    rest.trim_end().to_owned()
                })
                .collect::<Vec<_>>()
        };
        let first = ConfigChange::Reset(vec![entry("a/1", "1"), entry("a/2", "1"), entry("b", "1")]);
        assert_eq!(told(first), ["set      a/1 = x", "set      a/2 = x"]);
        assert!(told(ConfigChange::Confirmed).is_empty());
        let after = ConfigChange::Reset(vec![entry("a/1", "2")]);
        assert_eq!(told(after), ["set      a/1 = x", "deleted  a/2"]);
        assert!(told(ConfigChange::Delete(ConfigKey::new("a/2").unwrap())).is_empty());
    }
}
