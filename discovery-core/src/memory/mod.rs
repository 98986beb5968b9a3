//! The embedded registry: one process, no server. The reference for the contract every backend keeps.
//!
//! Clients that share a [`MemoryStore`] see each other. Records live by leases that expire on tokio's clock, watches
//! read a log that can be replayed and is compacted, and configuration values sit beside the services. Nothing runs in
//! the background: expiry is found by whoever looks next, and a watch wakes by itself when the next lease runs out.
//!
//! ```
//! use discovery_core::{Query, Registration, memory::MemoryStore};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let backend = MemoryStore::new().backend();
//! backend.registry.register(&Registration::builder("api", "127.0.0.1", 8080).build()?).await?;
//! let snapshot = backend.registry.instances(&Query::service("api")?).await?;
//! assert_eq!(snapshot.instances[0].address(), "127.0.0.1:8080");
//! # Ok::<(), discovery_core::Error>(()) }).unwrap();
//! ```

mod backend;
mod config;
mod config_store;
mod follow;
mod log;
mod records;
mod registry;
mod store;
mod watcher;

#[cfg(test)]
mod tests;

pub use config::MemoryConfig;
pub use store::MemoryStore;
