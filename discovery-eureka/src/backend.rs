//! Validates the configuration and puts the backend together.

use std::sync::Arc;

use discovery_core::{Backend, ClientDefaults, Result};

use crate::{
    client::Client, config::EurekaConfig, poll::Poll, registry::EurekaRegistry, watcher::EurekaWatcher,
};

/// A backend on the servers that `config` names. Sends nothing yet; reads certificates.
///
/// # Errors
/// [`ConfigInvalid`](discovery_core::ErrorKind::ConfigInvalid) naming the field that is wrong.
pub fn backend(config: EurekaConfig) -> Result<Backend> {
    let defaults = ClientDefaults::default()
        .cache_ttl(config.discovery.cache_ttl)
        .keep_on_shutdown(!config.service_registration.deregister_on_exit);
    let client = Client::new(config)?;
    let poll = Arc::new(Poll::new(client.clone()));
    let registry = EurekaRegistry::new(client, poll.clone());
    Ok(Backend::new(Arc::new(registry), Arc::new(EurekaWatcher(poll))).with_defaults(defaults))
}
