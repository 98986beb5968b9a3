//! Validates the configuration and puts the backend together.

use std::sync::Arc;

use discovery_core::{
    Backend, ClientDefaults, Result, ServiceRegistry, Watcher,
    watch::{PollPace, PollingWatcher},
};
use tracing::warn;

use crate::{
    checks::MIN_DEREGISTER_AFTER, client::Client, config::ConsulConfig, kv::ConsulValues, reader::Reader,
    registry::ConsulRegistry, watcher::ConsulWatcher,
};

/// A backend on the agent that `config` names. Sends nothing yet; reads certificates.
///
/// # Errors
/// [`ConfigInvalid`](discovery_core::ErrorKind::ConfigInvalid) naming the field that is wrong.
pub fn backend(config: ConsulConfig) -> Result<Backend> {
    let idle = config.idle_settings();
    let after = config.health_checks.deregister_after;
    if !after.is_zero() && after < MIN_DEREGISTER_AFTER {
        warn!(
            ?after,
            "consul.health_checks.deregister_after: Consul raises it to a minute"
        );
    }
    let defaults = ClientDefaults::default()
        .cache_ttl(config.discovery.cache_ttl)
        .keep_on_shutdown(!config.service_registration.deregister_on_exit)
        .auto_register(config.service_registration.auto_register);
    let discovery = config.discovery.clone();
    let reader = Reader::new(Client::new(config)?);
    let registry: Arc<dyn ServiceRegistry> = Arc::new(ConsulRegistry::new(reader.clone()));
    let watcher: Arc<dyn Watcher> = if discovery.watch_services {
        Arc::new(ConsulWatcher(reader.clone()))
    } else {
        let pace = PollPace::every(discovery.refresh_interval);
        Arc::new(PollingWatcher::new(registry.clone(), pace))
    };
    Ok(Backend::new(registry, watcher)
        .with_config(Arc::new(ConsulValues(reader)))
        .with_defaults(defaults)
        .with_idle(idle))
}
