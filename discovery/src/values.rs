//! Configuration values that the registry keeps beside its services.

use std::{sync::Arc, time::Duration};

use discovery_core::{
    ConfigEntry, ConfigEvent, ConfigKey, ConfigSnapshot, ConfigStore, Error, ErrorKind, PutMode, Result,
    TaskGroup, Version,
    watch::{Recover, Recovered},
};
use futures::{Stream, stream};
use tokio::time::timeout;

/// Reads, writes and watches configuration values. Made by [`Client::config`](crate::Client::config).
///
/// Every method is cancel-safe and ends within the client's timeout; a write that timed out may have happened. After
/// shutdown every method answers `Closed`.
#[derive(Debug, Clone)]
pub struct ConfigValues {
    store: Arc<dyn ConfigStore>,
    backend: &'static str,
    timeout: Duration,
    /// How long a watch may stay silent before it is opened again.
    idle: Duration,
    /// Those of the client: cancelled means closed.
    tasks: TaskGroup,
}

impl ConfigValues {
    pub(crate) fn new(
        store: Arc<dyn ConfigStore>,
        backend: &'static str,
        timeout: Duration,
        idle: Duration,
        tasks: TaskGroup,
    ) -> Self {
        Self {
            store,
            backend,
            timeout,
            idle,
            tasks,
        }
    }

    async fn within<T>(&self, operation: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
        let limited = async {
            timeout(self.timeout, call).await.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Timeout, "no answer in time")
                    .with_context("timeout", format!("{:?}", self.timeout)))
            })
        };
        let answer = self.tasks.cancelled().run_until_cancelled(limited).await;
        answer
            .unwrap_or_else(|| Err(closed()))
            .map_err(|error| error.with_operation(operation).with_backend(self.backend))
    }

    /// The value of `key`, or nothing where it is absent.
    ///
    /// # Errors
    /// `InvalidInput` when `key` is not one; whatever the registry fails with.
    pub async fn get(&self, key: &str) -> Result<Option<ConfigEntry>> {
        let key = ConfigKey::new(key)?;
        self.within("config get", self.store.get(&key)).await
    }

    /// Writes `key` and answers its new version.
    ///
    /// # Errors
    /// `InvalidInput` when `key` is not one, `Conflict` when `mode` does not hold.
    pub async fn put(&self, key: &str, value: impl AsRef<[u8]> + Send, mode: PutMode) -> Result<Version> {
        let key = ConfigKey::new(key)?;
        self.within("config put", self.store.put(&key, value.as_ref(), mode))
            .await
    }

    /// Deletes `key` and answers whether it was there; with a version, only while the key has it.
    ///
    /// # Errors
    /// `InvalidInput` when `key` is not one, `Conflict` when the key has another version.
    pub async fn delete(&self, key: &str, version: Option<Version>) -> Result<bool> {
        let key = ConfigKey::new(key)?;
        self.within("config delete", self.store.delete(&key, version))
            .await
    }

    /// Every entry whose key starts with `prefix`, at one moment.
    ///
    /// # Errors
    /// Whatever the registry fails with.
    pub async fn list(&self, prefix: &str) -> Result<ConfigSnapshot> {
        self.within("config list", self.store.list(prefix)).await
    }

    /// Changes of every key that starts with `prefix`: the first event is all there is, an outage shows as an error between
    /// events, and after one only what changed follows where the registry can tell, else all there is. It goes on until
    /// shutdown, which it tells as its last item.
    pub fn watch(&self, prefix: &str) -> impl Stream<Item = Result<ConfigEvent>> + Send + use<> {
        let (store, prefix) = (self.store.clone(), prefix.to_owned());
        let watch = Recover::new(self.idle, move |since| store.watch(&prefix, since));
        let (backend, tasks) = (self.backend, self.tasks.clone());
        stream::unfold(Some(watch), move |watch| {
            let tasks = tasks.clone();
            async move {
                let mut watch = watch?;
                match tasks.cancelled().run_until_cancelled(watch.next()).await {
                    Some(Recovered::Event(event)) => Some((Ok(event), Some(watch))),
                    Some(Recovered::Down { error, .. }) => {
                        Some((Err(error.with_backend(backend)), Some(watch)))
                    }
                    None => Some((Err(closed().with_backend(backend)), None)),
                }
            }
        })
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the client was shut down")
}
