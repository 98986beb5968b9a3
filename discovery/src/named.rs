//! Configuration values under the names that `dynamic_configuration:` gives them.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use discovery_core::{
    ConfigChange, ConfigEntry, ConfigKey, ConfigSnapshot, ConfigStore, ConfigStream, Cursor, Error,
    ErrorKind, PutMode, Result, Version, watch::poll_values,
};
use futures::StreamExt as _;

/// A store, seen below a prefix and under other names.
#[derive(Debug)]
pub(crate) struct Named {
    store: Arc<dyn ConfigStore>,
    names: Arc<Names>,
    /// Watches ask this often, instead of being told.
    poll: Option<Duration>,
}

/// Which names stand for which keys.
#[derive(Debug)]
struct Names {
    /// What every key starts with.
    prefix: String,
    /// Names, and what they stand for below the prefix: a key, or a folder where it ends with `/`.
    mappings: BTreeMap<String, String>,
}

impl Named {
    /// The values of `store` below `prefix`, under the names of `mappings`.
    ///
    /// # Errors
    /// `ConfigInvalid` for a mapping that stands for no key.
    pub(crate) fn new(
        store: Arc<dyn ConfigStore>,
        prefix: &str,
        mappings: &BTreeMap<String, String>,
        poll: Option<Duration>,
    ) -> Result<Self> {
        for (name, key) in mappings {
            let key = format!("{prefix}{}", key.strip_suffix('/').unwrap_or(key));
            let (name_fits, key_fits) = (ConfigKey::new(name), ConfigKey::new(&key));
            if let Err(source) = name_fits.and(key_fits) {
                return Err(
                    Error::new(ErrorKind::ConfigInvalid, "a mapping stands for no key")
                        .with_context("name", name)
                        .with_context("key", key)
                        .with_hint("give it segments with single slashes between them, as in `database/url`")
                        .with_source(source),
                );
            }
        }
        Ok(Self {
            store,
            names: Arc::new(Names {
                prefix: prefix.to_owned(),
                mappings: mappings.clone(),
            }),
            poll,
        })
    }
}

impl Names {
    /// What a name stands for, below the prefix.
    fn below<'a>(&'a self, name: &'a str) -> Cow<'a, str> {
        if let Some(key) = self.mappings.get(name) {
            return key.strip_suffix('/').unwrap_or(key).into();
        }
        match name.split_once('/') {
            Some((first, rest)) => match self.mappings.get(first).filter(|key| key.ends_with('/')) {
                Some(folder) => format!("{folder}{rest}").into(),
                None => name.into(),
            },
            None => name.into(),
        }
    }

    fn key(&self, name: &ConfigKey) -> Result<ConfigKey> {
        ConfigKey::new(format!("{}{}", self.prefix, self.below(name.as_str())))
    }

    /// The name of a key; nothing for one that no name stands for.
    fn name(&self, key: &str) -> Option<ConfigKey> {
        let below = key.strip_prefix(&self.prefix)?;
        let mapped = self.mappings.iter().find_map(|(name, key)| {
            if key == below {
                return Some(name.clone());
            }
            let rest = key.ends_with('/').then(|| below.strip_prefix(key.as_str()))??;
            (!rest.is_empty()).then(|| format!("{name}/{rest}"))
        });
        let name = mapped.unwrap_or_else(|| below.to_owned());
        // A key that is called like somebody else's name is out of reach.
        (!name.is_empty() && self.below(&name) == below).then(|| ConfigKey::observed(name))
    }

    /// What all keys start with whose names start with `prefix`, and perhaps others.
    fn scope(&self, prefix: &str) -> String {
        let folder = prefix.split_once('/').and_then(|(first, rest)| {
            let folder = self.mappings.get(first).filter(|key| key.ends_with('/'))?;
            Some(format!("{}{folder}{rest}", self.prefix))
        });
        folder.unwrap_or_else(|| {
            let rest = if self.mappings.is_empty() { prefix } else { "" };
            format!("{}{rest}", self.prefix)
        })
    }

    /// An entry under its name, where that starts with `prefix`.
    fn entry(&self, entry: ConfigEntry, prefix: &str) -> Option<ConfigEntry> {
        let key = self.name(entry.key.as_str())?;
        key.as_str()
            .starts_with(prefix)
            .then(|| ConfigEntry::new(key, entry.value, entry.version))
    }

    fn entries(&self, entries: Vec<ConfigEntry>, prefix: &str) -> Vec<ConfigEntry> {
        entries
            .into_iter()
            .filter_map(|entry| self.entry(entry, prefix))
            .collect()
    }

    fn change(&self, change: ConfigChange, prefix: &str) -> ConfigChange {
        match change {
            ConfigChange::Reset(all) => {
                let mut entries = self.entries(all, prefix);
                entries.sort_by(|a, b| a.key.cmp(&b.key));
                ConfigChange::Reset(entries)
            }
            ConfigChange::Put(entry) => match self.entry(entry, prefix) {
                Some(entry) => ConfigChange::Put(entry),
                None => ConfigChange::Confirmed,
            },
            ConfigChange::Delete(key) => match self.name(key.as_str()) {
                Some(name) if name.as_str().starts_with(prefix) => ConfigChange::Delete(name),
                _ => ConfigChange::Confirmed,
            },
            ConfigChange::Confirmed => ConfigChange::Confirmed,
        }
    }
}

#[async_trait]
impl ConfigStore for Named {
    async fn get(&self, key: &ConfigKey) -> Result<Option<ConfigEntry>> {
        let entry = self.store.get(&self.names.key(key)?).await?;
        Ok(entry.map(|entry| ConfigEntry::new(key.clone(), entry.value, entry.version)))
    }

    async fn put(&self, key: &ConfigKey, value: &[u8], mode: PutMode) -> Result<Version> {
        self.store.put(&self.names.key(key)?, value, mode).await
    }

    async fn delete(&self, key: &ConfigKey, version: Option<Version>) -> Result<bool> {
        self.store.delete(&self.names.key(key)?, version).await
    }

    async fn list(&self, prefix: &str) -> Result<ConfigSnapshot> {
        let all = self.store.list(&self.names.scope(prefix)).await?;
        Ok(ConfigSnapshot::new(
            self.names.entries(all.entries, prefix),
            all.cursor,
        ))
    }

    fn watch(&self, prefix: &str, since: Option<Cursor>) -> ConfigStream {
        let (names, scope) = (self.names.clone(), self.names.scope(prefix));
        let raw = match self.poll {
            Some(every) => poll_values(self.store.clone(), scope, every),
            None => self.store.watch(&scope, since),
        };
        let prefix = prefix.to_owned();
        let told = raw.map(move |event| {
            event.map(|mut event| {
                event.change = names.change(event.change, &prefix);
                event
            })
        });
        told.boxed()
    }
}

#[cfg(test)]
mod tests {
    use discovery_core::memory::MemoryStore;

    use super::*;

    /// The mappings of the specification.
    fn named(store: &MemoryStore, poll: Option<Duration>) -> Named {
        let mappings = [
            ("database_url", "database/connection_string"),
            ("log_level", "logging/level"),
            ("feature_flags", "features/"),
        ];
        let mappings = mappings.map(|(name, key)| (name.to_owned(), key.to_owned()));
        let values = store.backend().config.unwrap();
        Named::new(values, "config/app/", &mappings.into(), poll).unwrap()
    }

    fn key(text: &str) -> ConfigKey {
        ConfigKey::new(text).unwrap()
    }

    fn names(entries: &[ConfigEntry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.key.as_str()).collect()
    }

    async fn filled() -> (MemoryStore, Named) {
        let store = MemoryStore::new();
        let named = named(&store, None);
        for name in ["database_url", "feature_flags/beta", "plain", "log_level"] {
            named
                .put(&key(name), name.as_bytes(), PutMode::Create)
                .await
                .unwrap();
        }
        (store, named)
    }

    #[tokio::test]
    async fn names_stand_for_keys_below_the_prefix() {
        let (store, named) = filled().await;
        let raw = store.backend().config.unwrap();
        raw.put(&key("config/other"), b"x", PutMode::Create)
            .await
            .unwrap();
        // Called like a name that stands for another key: out of reach.
        raw.put(&key("config/app/log_level"), b"x", PutMode::Create)
            .await
            .unwrap();
        let all = raw.list("").await.unwrap();
        assert_eq!(
            names(&all.entries),
            [
                "config/app/database/connection_string",
                "config/app/features/beta",
                "config/app/log_level",
                "config/app/logging/level",
                "config/app/plain",
                "config/other"
            ]
        );
        for (prefix, expected) in [
            (
                "",
                &["database_url", "feature_flags/beta", "log_level", "plain"][..],
            ),
            ("feature_flags/", &["feature_flags/beta"]),
            ("feature_flags/b", &["feature_flags/beta"]),
            ("feature", &["feature_flags/beta"]),
            ("log_level", &["log_level"]),
            ("logging", &[]),
        ] {
            let listed = named.list(prefix).await.unwrap();
            assert_eq!(names(&listed.entries), expected, "{prefix}");
        }
        let got = named.get(&key("log_level")).await.unwrap().unwrap();
        assert_eq!((got.key.as_str(), &*got.value), ("log_level", &b"log_level"[..]));
        // Versions are the store's own: compare and set works by name.
        let mode = PutMode::IfVersion(got.version.clone());
        named
            .put(&key("log_level"), b"debug", mode.clone())
            .await
            .unwrap();
        let refused = named.put(&key("log_level"), b"info", mode).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert!(named.delete(&key("database_url"), None).await.unwrap());
        assert!(
            raw.get(&key("config/app/database/connection_string"))
                .await
                .unwrap()
                .is_none()
        );
    }

    #[tokio::test]
    async fn a_watch_tells_names() {
        let (_store, named) = filled().await;
        let mut watch = named.watch("feature_flags", None);
        let mut next = async || watch.next().await.unwrap().unwrap().change;
        let ConfigChange::Reset(all) = next().await else {
            panic!()
        };
        assert_eq!(names(&all), ["feature_flags/beta"]);
        named
            .put(&key("feature_flags/new"), b"1", PutMode::Create)
            .await
            .unwrap();
        let ConfigChange::Put(entry) = next().await else {
            panic!()
        };
        assert_eq!(entry.key.as_str(), "feature_flags/new");
        // What does not concern it is a confirmation.
        named.put(&key("plain"), b"1", PutMode::Upsert).await.unwrap();
        assert_eq!(next().await, ConfigChange::Confirmed);
        named.delete(&key("feature_flags/beta"), None).await.unwrap();
        assert_eq!(next().await, ConfigChange::Delete(key("feature_flags/beta")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_polls_asks_so_often() {
        let store = MemoryStore::new();
        let every = Duration::from_secs(30);
        let named = named(&store, Some(every));
        let mut watch = named.watch("", None);
        let mut next = async || watch.next().await.unwrap().unwrap().change;
        assert_eq!(next().await, ConfigChange::Reset(Vec::new()));
        named
            .put(&key("log_level"), b"debug", PutMode::Create)
            .await
            .unwrap();
        let asked = tokio::time::Instant::now();
        assert!(matches!(next().await, ConfigChange::Put(entry) if entry.key.as_str() == "log_level"));
        assert!(asked.elapsed() >= every * 9 / 10 && asked.elapsed() <= every * 11 / 10);
        assert_eq!(next().await, ConfigChange::Confirmed);
    }

    #[test]
    fn a_mapping_to_no_key_is_refused() {
        let values = MemoryStore::new().backend().config.unwrap();
        for (name, to) in [("a", "b//c"), ("a", "/"), ("", "b"), ("a", "../b")] {
            let mappings = [(name.to_owned(), to.to_owned())].into();
            let error = Named::new(values.clone(), "config/", &mappings, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{name}: {to}");
            assert!(error.hint().is_some());
        }
    }
}
