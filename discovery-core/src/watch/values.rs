//! A watch of configuration values by asking again and again.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use tokio::time::sleep;

use super::polling::jittered;
use crate::{
    error::Result,
    spi::{ConfigChange, ConfigEntry, ConfigEvent, ConfigStore, ConfigStream},
};

/// The changes of every key of `store` that starts with `prefix`, found by listing them every `interval`, ± 10 %.
///
/// The first event is a [`ConfigChange::Reset`]; later ones are what differs from the last answer, and a
/// [`ConfigChange::Confirmed`] where nothing does. There are no cursors. An error ends the stream.
pub fn poll_values(store: Arc<dyn ConfigStore>, prefix: String, interval: Duration) -> ConfigStream {
    let poller = Poller {
        store,
        prefix,
        interval,
        told: None,
        due: VecDeque::new(),
    };
    stream::try_unfold(poller, |mut poller| async move {
        let change = poller.next().await?;
        Ok(Some((ConfigEvent::new(change, None), poller)))
    })
    .boxed()
}

struct Poller {
    store: Arc<dyn ConfigStore>,
    prefix: String,
    interval: Duration,
    /// The last answer, sorted by key.
    told: Option<Vec<ConfigEntry>>,
    due: VecDeque<ConfigChange>,
}

impl Poller {
    async fn next(&mut self) -> Result<ConfigChange> {
        if let Some(change) = self.due.pop_front() {
            return Ok(change);
        }
        if self.told.is_some() {
            sleep(jittered(self.interval)).await;
        }
        let seen = self.store.list(&self.prefix).await?.entries;
        let Some(told) = self.told.replace(seen.clone()) else {
            return Ok(ConfigChange::Reset(seen));
        };
        let at =
            |all: &[ConfigEntry], entry: &ConfigEntry| all.binary_search_by(|one| one.key.cmp(&entry.key));
        for entry in &told {
            if at(&seen, entry).is_err() {
                self.due.push_back(ConfigChange::Delete(entry.key.clone()));
            }
        }
        for entry in seen {
            if at(&told, &entry).map_or(true, |i| told[i] != entry) {
                self.due.push_back(ConfigChange::Put(entry));
            }
        }
        Ok(self.due.pop_front().unwrap_or(ConfigChange::Confirmed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        memory::MemoryStore,
        spi::{ConfigKey, PutMode},
    };

    #[tokio::test(start_paused = true)]
    async fn tells_what_differs_from_the_last_answer() {
        let store = MemoryStore::new().backend().config.unwrap();
        let key = |name: &str| ConfigKey::new(name).unwrap();
        for name in ["a", "b", "c"] {
            store.put(&key(name), b"1", PutMode::Create).await.unwrap();
        }
        let mut watch = poll_values(store.clone(), String::new(), Duration::from_secs(30));
        let mut next = async || watch.next().await.unwrap().unwrap().change;
        assert!(matches!(next().await, ConfigChange::Reset(all) if all.len() == 3));
        assert_eq!(next().await, ConfigChange::Confirmed);
        store.delete(&key("a"), None).await.unwrap();
        store.put(&key("b"), b"2", PutMode::Upsert).await.unwrap();
        store.put(&key("d"), b"1", PutMode::Upsert).await.unwrap();
        assert_eq!(next().await, ConfigChange::Delete(key("a")));
        for (name, value) in [("b", b"2"), ("d", b"1")] {
            let change = next().await;
            let ConfigChange::Put(entry) = &change else {
                panic!("{change:?}")
            };
            assert_eq!((entry.key.as_str(), &*entry.value), (name, &value[..]));
        }
        assert_eq!(next().await, ConfigChange::Confirmed);
    }
}
