//! Configuration values that the registry keeps beside its services.

use std::{sync::Arc, time::Duration};

use discovery_core::{
    ConfigEntry, ConfigEvent, ConfigKey, ConfigSnapshot, ConfigStore, Error, ErrorKind, PutMode, Result,
    Version,
    watch::{Recover, Recovered},
};
use futures::{Stream, stream};
use tokio::time::timeout;

/// Reads, writes and watches configuration values. Made by [`Client::config`](crate::Client::config).
///
/// Every method is cancel-safe and ends within the client's timeout; a write that timed out may have happened.
#[derive(Debug, Clone)]
pub struct ConfigValues {
    store: Arc<dyn ConfigStore>,
    backend: &'static str,
    timeout: Duration,
    /// How long a watch may stay silent before it is opened again.
    idle: Duration,
}

impl ConfigValues {
    pub(crate) fn new(
        store: Arc<dyn ConfigStore>,
        backend: &'static str,
        timeout: Duration,
        idle: Duration,
    ) -> Self {
        Self {
            store,
            backend,
            timeout,
            idle,
        }
    }

    async fn within<T>(&self, operation: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
        timeout(self.timeout, call)
            .await
            .unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Timeout, "no answer in time")
                    .with_context("timeout", format!("{:?}", self.timeout)))
            })
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

    /// Changes of every key that starts with `prefix`, for ever: the first event is all there is, an outage shows as an
    /// error between events, and after one only what changed follows where the registry can tell, else all there is.
    pub fn watch(&self, prefix: &str) -> impl Stream<Item = Result<ConfigEvent>> + Send + use<> {
        let (store, prefix) = (self.store.clone(), prefix.to_owned());
        let watch = Recover::new(self.idle, move |since| store.watch(&prefix, since));
        let backend = self.backend;
        stream::unfold(watch, move |mut watch| async move {
            let item = match watch.next().await {
                Recovered::Event(event) => Ok(event),
                Recovered::Down { error, .. } => Err(error.with_backend(backend)),
            };
            Some((item, watch))
        })
    }
}
