//! Configuration values.

use std::sync::Arc;

use super::*;
use crate::spi::{ConfigChange, ConfigKey, ConfigStream, PutMode};

fn key(text: &str) -> ConfigKey {
    ConfigKey::new(text).unwrap()
}

fn values(store: &MemoryStore) -> Arc<dyn ConfigStore> {
    store.backend().config.unwrap()
}

/// The next change in short: `=`, `+` or `-` with keys, or `.` for a confirmation.
async fn next(stream: &mut ConfigStream) -> String {
    match stream.next().await.unwrap().unwrap().change {
        ConfigChange::Reset(all) => {
            let keys: Vec<_> = all.iter().map(|entry| entry.key.as_str()).collect();
            format!("={}", keys.join(" "))
        }
        ConfigChange::Put(entry) => format!("+{}={}", entry.key, String::from_utf8_lossy(&entry.value)),
        ConfigChange::Delete(key) => format!("-{key}"),
        ConfigChange::Confirmed => ".".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn writes_obey_their_mode_and_versions_tell_changes() {
    let values = values(&MemoryStore::new());
    let url = key("db/url");
    let one = values.put(&url, b"one", PutMode::Create).await.unwrap();
    assert_eq!(
        kind(values.put(&url, b"two", PutMode::Create).await),
        Some(ErrorKind::Conflict)
    );
    assert_eq!(*values.get(&url).await.unwrap().unwrap().value, *b"one");
    assert_eq!(values.put(&url, b"one", PutMode::Upsert).await.unwrap(), one);
    let two = values
        .put(&url, b"two", PutMode::IfVersion(one.clone()))
        .await
        .unwrap();
    assert_ne!(one, two);
    let late = values.put(&url, b"three", PutMode::IfVersion(one.clone())).await;
    assert_eq!(kind(late), Some(ErrorKind::Conflict));
    let absent = values.put(&key("no"), b"", PutMode::IfVersion(one.clone())).await;
    assert_eq!(kind(absent), Some(ErrorKind::Conflict));

    assert_eq!(
        kind(values.delete(&url, Some(one)).await),
        Some(ErrorKind::Conflict)
    );
    assert!(values.delete(&url, Some(two.clone())).await.unwrap());
    assert!(!values.delete(&url, None).await.unwrap());
    assert!(values.get(&url).await.unwrap().is_none());
    // A key made anew does not come back under an old version.
    assert_ne!(values.put(&url, b"two", PutMode::Create).await.unwrap(), two);
}

#[tokio::test(start_paused = true)]
async fn of_many_writers_with_one_version_one_wins() {
    let values = values(&MemoryStore::new());
    let version = values.put(&key("n"), b"0", PutMode::Create).await.unwrap();
    let mut won = 0;
    for n in 1..=10_u8 {
        let put = values
            .put(&key("n"), &[n], PutMode::IfVersion(version.clone()))
            .await;
        won += usize::from(put.is_ok());
    }
    assert_eq!(won, 1);
}

#[tokio::test(start_paused = true)]
async fn a_prefix_is_listed_and_watched_with_deletions() {
    let store = MemoryStore::new();
    let values = values(&store);
    for name in ["db/url", "db/user", "dc", "a"] {
        values.put(&key(name), b"x", PutMode::Upsert).await.unwrap();
    }
    let list = values.list("db/").await.unwrap();
    let keys: Vec<_> = list.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["db/url", "db/user"]);
    assert_eq!(values.list("").await.unwrap().entries.len(), 4);

    let mut stream = values.watch("db/", None);
    assert_eq!(store.watchers(), 0);
    assert_eq!(next(&mut stream).await, "=db/url db/user");
    values.put(&key("a"), b"y", PutMode::Upsert).await.unwrap();
    values.put(&key("db/url"), b"x", PutMode::Upsert).await.unwrap();
    values.put(&key("db/url"), b"y", PutMode::Upsert).await.unwrap();
    values.delete(&key("db/user"), None).await.unwrap();
    assert_eq!(next(&mut stream).await, "+db/url=y");
    assert_eq!(next(&mut stream).await, "-db/user");
    assert_eq!(next(&mut stream).await, ".");
    assert_eq!(store.watchers(), 1);

    let mut resumed = values.watch("db/", list.cursor);
    assert_eq!(next(&mut resumed).await, "+db/url=y");
    assert_eq!(next(&mut resumed).await, "-db/user");
}

#[tokio::test(start_paused = true)]
async fn compacted_foreign_and_lost_histories_expire() {
    let store = MemoryStore::new();
    let values = values(&store);
    let cursor = values.list("").await.unwrap().cursor;
    values.put(&key("a"), b"x", PutMode::Upsert).await.unwrap();
    let expired = async |cursor| {
        let event = values.watch("", cursor).next().await.unwrap();
        kind(event) == Some(ErrorKind::WatchExpired)
    };
    // The log of instances is another history, even of the same store.
    let instances = store.backend().registry.instances(&Query::all()).await.unwrap();
    assert!(expired(instances.cursor).await);
    store.compact();
    assert!(expired(cursor).await);

    let mut stream = values.watch("", None);
    assert_eq!(next(&mut stream).await, "=a");
    store.forget_all();
    assert_eq!(kind(stream.next().await.unwrap()), Some(ErrorKind::WatchExpired));
    assert!(values.list("").await.unwrap().entries.is_empty());
}
