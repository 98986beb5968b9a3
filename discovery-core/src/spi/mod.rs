//! What a backend implements.

mod backend;
mod config_store;
mod health_check;
mod registry;
mod sourced;
mod watcher;

pub use backend::{Backend, BackendInfo, BackendStatus, Capabilities, ClientDefaults, LeaseMode, WatchMode};
pub use config_store::{
    ConfigChange, ConfigEntry, ConfigEvent, ConfigKey, ConfigSnapshot, ConfigStore, ConfigStream, PutMode,
    Version,
};
pub use health_check::HealthCheck;
pub use registry::ServiceRegistry;
pub use watcher::{Change, WatchEvent, WatchStream, Watcher};
