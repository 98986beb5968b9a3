//! Watches of values: one feed per ConfigMap, and what its changes mean for the keys asked for.

use std::collections::{BTreeMap, VecDeque};

use discovery_core::{ConfigChange, ConfigEntry, ConfigEvent, ConfigKey, ConfigStream, ErrorKind, Result};
use futures::stream::{self, BoxStream, SelectAll, StreamExt as _};

use super::K8sValues;
use crate::{
    call::CONFIGMAPS,
    error,
    feed::{Scope, Step, follow},
    wire::ConfigMap,
};

/// Follows what the maps hold under a prefix, until something fails.
pub(super) fn watch(values: K8sValues, prefix: &str) -> ConfigStream {
    let following = Following {
        values,
        prefix: prefix.to_owned(),
        feeds: SelectAll::new(),
        heard: Vec::new(),
        unread: 0,
        told: false,
        known: Vec::new(),
        queue: VecDeque::new(),
    };
    stream::unfold(Some(following), |following| async {
        let mut following = following?;
        match following.next().await {
            Ok(event) => Some((Ok(event), Some(following))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct Following {
    values: K8sValues,
    prefix: String,
    feeds: SelectAll<BoxStream<'static, (usize, Result<Step<ConfigMap>>)>>,
    heard: Vec<bool>,
    unread: usize,
    told: bool,
    /// What each map holds under the prefix.
    known: Vec<BTreeMap<ConfigKey, ConfigEntry>>,
    queue: VecDeque<ConfigEvent>,
}

impl Following {
    async fn next(&mut self) -> Result<ConfigEvent> {
        if self.heard.is_empty() {
            let namespace = self.values.namespace().await?;
            let (client, count) = (self.values.0.clone(), self.values.maps().len());
            for (i, map) in self.values.maps().iter().enumerate() {
                let scope = Scope {
                    resource: &CONFIGMAPS,
                    namespace: Some(namespace.to_string()),
                    labels: None,
                    fields: Some(format!("metadata.name={}", map.name)),
                };
                let watch = client.config().service_discovery.watch_timeout;
                let steps = follow::<ConfigMap>(client.clone(), scope, watch);
                self.feeds.push(steps.map(move |step| (i, step)).boxed());
            }
            (self.heard, self.unread) = (vec![false; count], count);
            self.known = vec![BTreeMap::new(); count];
        }
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Ok(event);
            }
            let Some((map, step)) = self.feeds.next().await else {
                return Err(error::error(ErrorKind::Unavailable, "the watch ended"));
            };
            self.take(map, step?)?;
        }
    }

    fn take(&mut self, map: usize, step: Step<ConfigMap>) -> Result<()> {
        self.heard[map] = true;
        match step {
            Step::All(all) => {
                self.unread -= 1;
                let found = all.into_iter().next().unwrap_or_default();
                self.becomes(map, &found)?;
            }
            Step::Put(found) => self.becomes(map, &found)?,
            Step::Gone(_) => self.becomes(map, &ConfigMap::default())?,
            Step::Confirmed => {}
        }
        if !self.told {
            if self.unread == 0 {
                self.told = true;
                self.queue.clear();
                let mut all: Vec<_> = self
                    .known
                    .iter()
                    .flat_map(|known| known.values().cloned())
                    .collect();
                all.sort_by(|a, b| a.key.cmp(&b.key));
                self.heard.fill(false);
                self.queue
                    .push_back(ConfigEvent::new(ConfigChange::Reset(all), None));
            } else {
                self.queue.clear();
            }
        } else if self.heard.iter().all(|heard| *heard) {
            self.heard.fill(false);
            if self.queue.is_empty() {
                self.queue
                    .push_back(ConfigEvent::new(ConfigChange::Confirmed, None));
            }
        }
        Ok(())
    }

    /// Queues the difference between what a map held and what it holds.
    fn becomes(&mut self, map: usize, found: &ConfigMap) -> Result<()> {
        let mut now = self.values.entries(&self.values.maps()[map], found)?;
        now.retain(|key, _| key.as_str().starts_with(&self.prefix));
        let before = std::mem::replace(&mut self.known[map], now);
        let now = &self.known[map];
        for key in before.keys().filter(|key| !now.contains_key(*key)) {
            self.queue
                .push_back(ConfigEvent::new(ConfigChange::Delete(key.clone()), None));
        }
        for entry in now.values().filter(|entry| before.get(&entry.key) != Some(entry)) {
            self.queue
                .push_back(ConfigEvent::new(ConfigChange::Put(entry.clone()), None));
        }
        Ok(())
    }
}
