//! A raw watch, folded as a client would.

use std::{collections::BTreeMap, fmt::Display, sync::Arc, time::Duration};

use discovery_core::{
    Backend, Change, Cursor, Error, ErrorKind, Instance, InstanceKey, Query, Result, WatchEvent, WatchStream,
};
use futures::StreamExt;
use tokio::time::{Instant, timeout, timeout_at};

/// A raw watch and what it has told so far. Folding checks rule A-3: nothing is told twice.
pub struct Watching {
    stream: WatchStream,
    patience: Duration,
    /// What a client knows by now.
    pub instances: BTreeMap<InstanceKey, Arc<Instance>>,
    /// Where it can resume.
    pub cursor: Option<Cursor>,
}

impl std::fmt::Debug for Watching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watching")
            .field("instances", &self.instances)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

impl Watching {
    pub(super) fn new(backend: &Backend, query: &Query, since: Option<Cursor>, patience: Duration) -> Self {
        Self {
            stream: backend.watcher.watch(query, since.clone()),
            patience,
            instances: BTreeMap::new(),
            cursor: since,
        }
    }

    /// The same knowledge, gone on with from its cursor by a new watch.
    pub(super) fn resume(self, backend: &Backend, query: &Query) -> Self {
        Self {
            stream: backend.watcher.watch(query, self.cursor.clone()),
            ..self
        }
    }

    /// The next event, whatever it is.
    ///
    /// # Errors
    /// What the watch fails with; `Timeout` when nothing comes, `Unavailable` at its end.
    pub async fn event(&mut self) -> Result<WatchEvent> {
        let event = timeout(self.patience, self.stream.next())
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, "the watch told nothing"))?
            .ok_or_else(|| Error::new(ErrorKind::Unavailable, "the watch ended"))??;
        if event.cursor.is_some() || matches!(event.change, Change::Reset(_)) {
            self.cursor.clone_from(&event.cursor);
        }
        self.fold(&event.change);
        Ok(event)
    }

    /// The next event that is more than a confirmation.
    ///
    /// # Errors
    /// As [`Self::event`].
    pub async fn change(&mut self) -> Result<Change> {
        let until = Instant::now() + self.patience;
        loop {
            let event = timeout_at(until, self.event())
                .await
                .map_err(|_| Error::new(ErrorKind::Timeout, "the watch only confirmed"))??;
            if event.change != Change::Confirmed {
                return Ok(event.change);
            }
        }
    }

    /// Waits until what a client knows is as it should be.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub async fn until(
        &mut self,
        what: impl Display,
        good: impl Fn(&BTreeMap<InstanceKey, Arc<Instance>>) -> bool,
    ) -> Result<()> {
        while !good(&self.instances) {
            self.change().await.map_err(|error| {
                error
                    .with_context("waiting_for", what.to_string())
                    .with_context("known", format!("{:?}", self.instances.keys()))
            })?;
        }
        Ok(())
    }

    /// Waits until a client knows instances at these ports only.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub async fn until_ports(&mut self, ports: &[u16]) -> Result<()> {
        self.until(format!("the ports {ports:?}"), |known| {
            super::env::ports(known.values()) == ports
        })
        .await
    }

    fn fold(&mut self, change: &Change) {
        match change {
            Change::Reset(all) => {
                self.instances = all.iter().map(|i| (i.key.clone(), i.clone())).collect();
                assert_eq!(
                    self.instances.len(),
                    all.len(),
                    "a reset shows an instance twice: {all:?}"
                );
            }
            Change::Upsert(some) => {
                assert!(!some.is_empty(), "an upsert of nothing");
                for instance in some {
                    let before = self.instances.insert(instance.key.clone(), instance.clone());
                    assert_ne!(before.as_ref(), Some(instance), "told twice (A-3)");
                }
            }
            Change::Remove(keys) => {
                assert!(!keys.is_empty(), "a removal of nothing");
                for key in keys {
                    assert!(
                        self.instances.remove(key).is_some(),
                        "{key} was removed twice (A-3)"
                    );
                }
            }
            Change::Confirmed => {}
        }
    }
}
