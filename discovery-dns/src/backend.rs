//! Validates the configuration and puts the backend together.

use std::{sync::Arc, time::Duration};

use discovery_core::{
    Backend, ClientDefaults, Result, ServiceRegistry,
    watch::{PollPace, PollingWatcher},
};

#[cfg(feature = "update")]
use crate::update::Writer;
use crate::{config::DnsConfig, lookup::Lookup, registry::DnsRegistry, route::Routes};

/// A backend on the DNS servers that `config` names. Sends nothing yet; reads certificates, and `/etc/resolv.conf` where no
/// server is given.
///
/// # Errors
/// [`ConfigInvalid`](discovery_core::ErrorKind::ConfigInvalid) naming the field that is wrong.
pub fn backend(config: DnsConfig) -> Result<Backend> {
    config.validate()?;
    let caching = config.caching.clone();
    let lookup = Arc::new(Lookup {
        routes: Routes::new(&config)?,
    });
    let registry: Arc<dyn ServiceRegistry> = Arc::new(DnsRegistry {
        #[cfg(feature = "update")]
        writer: Writer::new(&config, &lookup)?,
        lookup,
        config,
    });
    // An answer says how long it is good for. The floor holds for the shortest wait that is drawn around it, too.
    let floor = caching.min_ttl * 10 / 9 + Duration::from_millis(1);
    let pace = PollPace::every(caching.ttl).between(floor, caching.ttl.max(floor));
    let watcher = Arc::new(PollingWatcher::new(registry.clone(), pace));
    let cache = if caching.enabled {
        caching.ttl
    } else {
        Duration::ZERO
    };
    Ok(Backend::new(registry, watcher).with_defaults(ClientDefaults::default().cache_ttl(Some(cache))))
}
