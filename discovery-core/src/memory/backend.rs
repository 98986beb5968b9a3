//! The backend over a store: its parts, what it is and what it can do.

use std::{sync::Arc, time::Duration};

use super::{MemoryStore, config_store::MemoryValues, registry::MemoryRegistry, watcher::MemoryWatcher};
use crate::spi::{Backend, BackendInfo, Capabilities, LeaseMode, WatchMode};

/// The one word that names this backend, and the source its instances carry.
pub(super) const SCHEME: &str = "memory";

impl MemoryStore {
    /// A backend on this store, with a configuration store.
    pub fn backend(&self) -> Backend {
        Backend::new(
            Arc::new(MemoryRegistry(self.0.clone())),
            Arc::new(MemoryWatcher(self.0.clone())),
        )
        .with_config(Arc::new(MemoryValues(self.0.clone())))
    }
}

/// What it is: the address is the store's name, or `private`.
pub(super) fn info(name: Option<&str>) -> BackendInfo {
    BackendInfo::new(SCHEME, name.unwrap_or("private"))
}

/// What it can do: all but datacenters, namespaces, shared leases and running checks.
pub(super) fn capabilities(confirm_every: Duration) -> Capabilities {
    Capabilities {
        register: true,
        lease: LeaseMode::Single,
        update_meta: true,
        report_health: true,
        runs_checks: false,
        list_services: true,
        watch_all: true,
        datacenters: false,
        namespaces: false,
        watch: WatchMode::Push,
        resume: true,
        confirm_every,
    }
}
