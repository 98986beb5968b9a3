//! Configuration values.

use std::{collections::BTreeMap, sync::Arc};

use discovery_core::{
    ConfigChange, ConfigEntry, ConfigEvent, ConfigKey, ConfigStore, ConfigStream, Error, ErrorKind, PutMode,
    Result,
};
use futures::StreamExt;
use tokio::time::timeout;

use crate::suite::{Case, Env, Flag, Tool, case::case, env::kind};

const G: &str = "config_store";
const NEEDS: &[Flag] = &[Flag::Config];

pub(super) const CASES: &[Case] = &[
    case!(G, what_is_put_is_got_and_deleted)
        .needs(NEEDS)
        .proves(NEEDS),
    case!(G, create_finds_a_key_present).needs(NEEDS),
    case!(G, another_version_is_a_conflict).needs(NEEDS),
    case!(G, of_two_writers_one_wins).needs(NEEDS),
    case!(G, binary_and_empty_values_round_trip).needs(NEEDS),
    case!(G, a_prefix_lists_what_is_under_it).needs(NEEDS),
    case!(G, a_watch_tells_puts_and_deletes_in_order).needs(NEEDS),
    case!(G, a_resumed_watch_loses_and_repeats_nothing).needs(&[Flag::Config, Flag::Resume]),
    case!(G, an_expired_cursor_says_so)
        .needs(&[Flag::Config, Flag::Resume])
        .tools(&[Tool::Compact]),
    case!(G, hostile_keys_are_refused_or_kept_whole).needs(NEEDS),
    case!(G, no_value_is_ever_logged).needs(NEEDS),
];

fn store(env: &Env) -> Arc<dyn ConfigStore> {
    env.backend
        .config
        .clone()
        .expect("the case needs a configuration store")
}

async fn what_is_put_is_got_and_deleted(env: Env) -> Result<()> {
    let (store, key) = (store(&env), ConfigKey::new(env.name("db") + "/url")?);
    assert_eq!(store.get(&key).await?, None);
    let first = store.put(&key, b"one", PutMode::Upsert).await?;
    let got = store.get(&key).await?.expect("the value");
    assert_eq!((&got.key, &*got.value, &got.version), (&key, &b"one"[..], &first));
    let second = store.put(&key, b"two", PutMode::Upsert).await?;
    assert_ne!(first, second);
    assert_eq!(
        store.get(&key).await?.map(|entry| entry.value.to_vec()),
        Some(b"two".to_vec())
    );
    assert!(store.delete(&key, None).await?);
    assert_eq!(store.get(&key).await?, None);
    assert!(!store.delete(&key, None).await?, "it was there no more");
    Ok(())
}

async fn create_finds_a_key_present(env: Env) -> Result<()> {
    let (store, key) = (store(&env), ConfigKey::new(env.name("key"))?);
    store.put(&key, b"one", PutMode::Create).await?;
    let again = store.put(&key, b"two", PutMode::Create).await;
    assert_eq!(kind(&again), Some(ErrorKind::Conflict), "{again:?}");
    assert_eq!(
        store.get(&key).await?.map(|entry| entry.value.to_vec()),
        Some(b"one".to_vec())
    );
    store.delete(&key, None).await?;
    store.put(&key, b"three", PutMode::Create).await?;
    store.delete(&key, None).await.map(drop)
}

async fn another_version_is_a_conflict(env: Env) -> Result<()> {
    let (store, key) = (store(&env), ConfigKey::new(env.name("key"))?);
    let old = store.put(&key, b"one", PutMode::Create).await?;
    let new = store.put(&key, b"two", PutMode::IfVersion(old.clone())).await?;
    let late = store.put(&key, b"three", PutMode::IfVersion(old.clone())).await;
    assert_eq!(kind(&late), Some(ErrorKind::Conflict), "{late:?}");
    let late = store.delete(&key, Some(old.clone())).await;
    assert_eq!(kind(&late), Some(ErrorKind::Conflict), "{late:?}");
    assert_eq!(
        store.get(&key).await?.map(|entry| entry.version),
        Some(new.clone())
    );
    assert!(store.delete(&key, Some(new.clone())).await?);
    let gone = store.put(&key, b"four", PutMode::IfVersion(new)).await;
    assert_eq!(kind(&gone), Some(ErrorKind::Conflict), "{gone:?}");
    assert_eq!(store.get(&key).await?, None);
    Ok(())
}

async fn of_two_writers_one_wins(env: Env) -> Result<()> {
    let (store, key) = (store(&env), ConfigKey::new(env.name("key"))?);
    for round in 0..10 {
        let version = store
            .put(&key, format!("round {round}").as_bytes(), PutMode::Upsert)
            .await?;
        let put = |value: &'static [u8]| store.put(&key, value, PutMode::IfVersion(version.clone()));
        let (one, two) = tokio::join!(put(b"one"), put(b"two"));
        let (winner, loser) = if one.is_ok() { ("one", two) } else { ("two", one) };
        assert_eq!(kind(&loser), Some(ErrorKind::Conflict), "{loser:?}");
        let value = store.get(&key).await?.map(|entry| entry.value.to_vec());
        assert_eq!(value.as_deref(), Some(winner.as_bytes()));
    }
    store.delete(&key, None).await.map(drop)
}

async fn binary_and_empty_values_round_trip(env: Env) -> Result<()> {
    let store = store(&env);
    let all: Vec<u8> = (0..=255).collect();
    let large = all.repeat(256);
    for (n, value) in [&b""[..], b"\0", &all, &large, "größe".as_bytes()]
        .into_iter()
        .enumerate()
    {
        let key = ConfigKey::new(env.name(&format!("value-{n}")))?;
        store.put(&key, value, PutMode::Create).await?;
        let got = store.get(&key).await?.expect("even an empty value is there");
        assert_eq!(&*got.value, value, "value {n}");
        store.delete(&key, None).await?;
    }
    Ok(())
}

async fn a_prefix_lists_what_is_under_it(env: Env) -> Result<()> {
    let (store, app) = (store(&env), env.name("app"));
    assert!(store.list(&format!("{app}/")).await?.entries.is_empty());
    for key in ["b", "a/deep/er", "a", "ab"] {
        store
            .put(
                &ConfigKey::new(format!("{app}/{key}"))?,
                key.as_bytes(),
                PutMode::Create,
            )
            .await?;
    }
    store
        .put(&ConfigKey::new(format!("{app}x/a"))?, b"another", PutMode::Create)
        .await?;
    let listed = |prefix: String| {
        let store = store.clone();
        async move {
            let snapshot = store.list(&prefix).await?;
            let values = snapshot
                .entries
                .iter()
                .map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
            Ok::<Vec<_>, Error>(values.collect())
        }
    };
    assert_eq!(
        listed(format!("{app}/")).await?,
        ["a", "a/deep/er", "ab", "b"],
        "sorted by key"
    );
    assert_eq!(listed(format!("{app}/a/")).await?, ["a/deep/er"]);
    assert_eq!(
        listed(app.clone()).await?.len(),
        5,
        "a prefix is text, not a folder"
    );
    for entry in store.list(&app).await?.entries {
        store.delete(&entry.key, Some(entry.version)).await?;
    }
    Ok(())
}

/// A watch of values, folded.
struct Values {
    stream: ConfigStream,
    known: BTreeMap<ConfigKey, ConfigEntry>,
    patience: std::time::Duration,
}

impl Values {
    fn new(env: &Env, stream: ConfigStream) -> Self {
        Self {
            stream,
            known: BTreeMap::new(),
            patience: env.patience(),
        }
    }

    /// The next event that is more than a confirmation.
    async fn change(&mut self) -> Result<ConfigEvent> {
        let next = async {
            loop {
                let event = self
                    .stream
                    .next()
                    .await
                    .ok_or_else(|| Error::new(ErrorKind::Unavailable, "the watch ended"))??;
                if event.change != ConfigChange::Confirmed {
                    return Ok(event);
                }
            }
        };
        let event = timeout(self.patience, next)
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, "the watch told nothing"))??;
        match &event.change {
            ConfigChange::Reset(all) => self.known = all.iter().map(|e| (e.key.clone(), e.clone())).collect(),
            ConfigChange::Put(entry) => {
                let before = self.known.insert(entry.key.clone(), entry.clone());
                assert_ne!(before.as_ref(), Some(entry), "told twice (A-3)");
            }
            ConfigChange::Delete(key) => {
                assert!(self.known.remove(key).is_some(), "{key} was deleted twice (A-3)");
            }
            ConfigChange::Confirmed => {}
        }
        Ok(event)
    }
}

async fn a_watch_tells_puts_and_deletes_in_order(env: Env) -> Result<()> {
    let (store, app) = (store(&env), env.name("app"));
    let key = |n: u8| ConfigKey::new(format!("{app}/{n}"));
    store.put(&key(1)?, b"one", PutMode::Create).await?;
    let mut values = Values::new(&env, store.watch(&format!("{app}/"), None));
    let first = values.change().await?;
    assert!(
        matches!(&first.change, ConfigChange::Reset(all) if all.len() == 1),
        "{first:?}"
    );

    store
        .put(&ConfigKey::new(format!("{app}x"))?, b"another", PutMode::Create)
        .await?;
    store.put(&key(2)?, b"two", PutMode::Create).await?;
    let second = values.change().await?;
    assert!(
        matches!(&second.change, ConfigChange::Put(entry) if &*entry.value == b"two"),
        "{second:?}"
    );
    store.put(&key(1)?, b"uno", PutMode::Upsert).await?;
    let third = values.change().await?;
    assert!(
        matches!(&third.change, ConfigChange::Put(entry) if &*entry.value == b"uno"),
        "{third:?}"
    );
    store.delete(&key(1)?, None).await?;
    assert_eq!(values.change().await?.change, ConfigChange::Delete(key(1)?));
    store.delete(&key(2)?, None).await?;
    assert_eq!(values.change().await?.change, ConfigChange::Delete(key(2)?));
    store
        .delete(&ConfigKey::new(format!("{app}x"))?, None)
        .await
        .map(drop)
}

async fn a_resumed_watch_loses_and_repeats_nothing(env: Env) -> Result<()> {
    let (store, app) = (store(&env), env.name("app"));
    let (prefix, key) = (format!("{app}/"), |n: u8| ConfigKey::new(format!("{app}/{n}")));
    store.put(&key(1)?, b"one", PutMode::Create).await?;
    store.put(&key(2)?, b"two", PutMode::Create).await?;
    let mut values = Values::new(&env, store.watch(&prefix, None));
    let cursor = values.change().await?.cursor;
    assert!(cursor.is_some(), "a watch that can resume tells from where");
    values.stream = futures::stream::pending().boxed();
    store.delete(&key(1)?, None).await?;
    store.put(&key(2)?, b"zwei", PutMode::Upsert).await?;
    store.put(&key(3)?, b"three", PutMode::Create).await?;
    values.stream = store.watch(&prefix, cursor);
    for _ in 0..3 {
        let event = values.change().await?;
        assert!(
            !matches!(event.change, ConfigChange::Reset(_)),
            "started over: {event:?}"
        );
    }
    let listed = store.list(&prefix).await?.entries;
    assert_eq!(values.known.into_values().collect::<Vec<_>>(), listed);
    Ok(())
}

async fn an_expired_cursor_says_so(env: Env) -> Result<()> {
    let (store, app) = (store(&env), env.name("app"));
    let key = ConfigKey::new(format!("{app}/1"))?;
    store.put(&key, b"one", PutMode::Create).await?;
    let mut values = Values::new(&env, store.watch(&app, None));
    let cursor = values.change().await?.cursor;
    store.put(&key, b"two", PutMode::Upsert).await?;
    store.delete(&key, None).await?;
    env.subject.compact().await?;
    let mut values = Values::new(&env, store.watch(&app, cursor));
    let error = values
        .change()
        .await
        .expect_err("changes after a cursor that has expired");
    assert_eq!(error.kind(), ErrorKind::WatchExpired, "{error:?}");
    let mut values = Values::new(&env, store.watch(&app, None));
    assert_eq!(values.change().await?.change, ConfigChange::Reset(Vec::new()));
    Ok(())
}

/// what is no key never gets as far as a registry; what is one comes back whole.
async fn hostile_keys_are_refused_or_kept_whole(env: Env) -> Result<()> {
    let (store, app) = (store(&env), env.name("app"));
    for bad in [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        "a/../b",
        "./a",
        "a\nb",
        "a\0",
        " a",
        &"x".repeat(513),
    ] {
        let refused = ConfigKey::new(bad);
        assert_eq!(kind(&refused), Some(ErrorKind::InvalidInput), "{bad:?}");
    }
    for odd in [
        "a b", "a?b", "a#b", "a%2Fb", "a+b", "a&b=c", "größe", "服务", "a:b", "...",
    ] {
        let key = ConfigKey::new(format!("{app}/{odd}"))?;
        store.put(&key, odd.as_bytes(), PutMode::Create).await?;
        let got = store.get(&key).await?.expect("the value");
        assert_eq!((&got.key, &*got.value), (&key, odd.as_bytes()));
        let listed = store.list(key.as_str()).await?.entries;
        assert_eq!(listed.iter().map(|entry| &entry.key).collect::<Vec<_>>(), [&key]);
        assert!(store.delete(&key, None).await?);
    }
    Ok(())
}

/// a value may be a secret. It is in no log at any level, and in no `Debug` of what carries it.
async fn no_value_is_ever_logged(env: Env) -> Result<()> {
    let Some(capture) = &env.capture else {
        panic!("another subscriber was installed before the suite: nothing can be said about the logs");
    };
    let (store, app) = (store(&env), env.name("app"));
    let (key, sentinel) = (ConfigKey::new(format!("{app}/password"))?, env.name("s3ntinel"));
    tracing::trace!(%key, "a sentinel is put");
    let mut values = Values::new(&env, store.watch(&app, None));
    values.change().await?;
    let version = store.put(&key, sentinel.as_bytes(), PutMode::Create).await?;
    let event = values.change().await?;
    let refused = store
        .put(&key, sentinel.as_bytes(), PutMode::Create)
        .await
        .expect_err("the key is there");
    let (got, listed) = (store.get(&key).await?, store.list(&app).await?);
    for (what, text) in [
        ("version", format!("{version:?}")),
        ("event", format!("{event:?}")),
        ("error", format!("{refused:?} {refused:#}")),
        ("entry", format!("{got:?}")),
        ("list", format!("{listed:?}")),
        ("store", format!("{store:?} {:?}", env.backend)),
    ] {
        assert!(!text.contains(&sentinel), "`Debug` of the {what} shows the value");
    }
    store.delete(&key, None).await?;
    capture.assert_no_secret(&sentinel);
    Ok(())
}
