//! Validates the configuration and puts the backend together.

use std::sync::Arc;

use discovery_core::{Backend, ClientDefaults, Result};

use crate::{
    client::Client, config::EtcdConfig, keys::Keys, kv::EtcdValues, lease::Leases, registry::EtcdRegistry,
    watcher::EtcdWatcher,
};

/// A backend on the cluster that `config` names. Sends nothing yet; reads certificates, to find mistakes early.
///
/// # Errors
/// [`ConfigInvalid`](discovery_core::ErrorKind::ConfigInvalid) naming the field that is wrong.
pub fn backend(config: EtcdConfig) -> Result<Backend> {
    config.validate()?;
    let defaults = ClientDefaults::default().renew_every(config.service_registration.refresh_interval);
    let client = Client::new(config)?;
    let keys = Keys::services(client.config());
    let registry = EtcdRegistry::new(client.clone(), keys.clone(), Leases::new(client.clone()));
    let watcher = EtcdWatcher::new(client.clone(), keys);
    Ok(Backend::new(Arc::new(registry), Arc::new(watcher))
        .with_config(Arc::new(EtcdValues::new(client)))
        .with_defaults(defaults))
}
