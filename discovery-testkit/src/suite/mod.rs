//! The conformance suite: what every backend must do, as cases that run on any of them.
//!
//! A [`Provider`] says where backends come from and how the way to their registry is broken; [`run`] runs every case on
//! every provider, as a test program of its own (`harness = false`):
//!
//! ```no_run
//! use std::{process::ExitCode, sync::Arc, time::Duration};
//!
//! use discovery_core::{Backend, Error, ErrorKind, Result};
//! use discovery_testkit::suite::{self, Case, Fault, Provider, Subject, Tool};
//! # use discovery_core::memory::MemoryStore;
//! # async fn my_backend(_: &str) -> Result<Backend> { Ok(MemoryStore::new().backend()) }
//!
//! /// A registry that runs already; nothing of it can be broken.
//! #[derive(Debug)]
//! struct Mine;
//!
//! #[async_trait::async_trait]
//! impl Provider for Mine {
//!     fn name(&self) -> &str {
//!         "mine"
//!     }
//!     fn shows(&self, _: Fault) -> bool {
//!         false
//!     }
//!     fn has(&self, _: Tool) -> bool {
//!         false
//!     }
//!     async fn subject(&self, _: &Case) -> Result<Box<dyn Subject>> {
//!         Ok(Box::new(Mine))
//!     }
//! }
//!
//! fn cannot<T>() -> Result<T> {
//!     Err(Error::new(ErrorKind::Unsupported, "this registry cannot be broken"))
//! }
//!
//! #[async_trait::async_trait]
//! impl Subject for Mine {
//!     async fn connect(&self) -> Result<Backend> {
//!         my_backend("127.0.0.1:7000").await
//!     }
//!     async fn direct(&self) -> Result<Backend> {
//!         self.connect().await
//!     }
//!     async fn break_way(&self, _: Fault) -> Result<()> {
//!         cannot()
//!     }
//!     async fn heal(&self) -> Result<()> {
//!         cannot()
//!     }
//!     async fn forget(&self) -> Result<()> {
//!         cannot()
//!     }
//!     async fn compact(&self) -> Result<()> {
//!         cannot()
//!     }
//!     fn open_watches(&self) -> Option<usize> {
//!         None
//!     }
//!     fn requests(&self) -> Option<usize> {
//!         None
//!     }
//!     fn visible_within(&self) -> Duration {
//!         Duration::from_secs(1)
//!     }
//! }
//!
//! fn main() -> ExitCode {
//!     suite::run([Arc::new(Mine) as Arc<dyn Provider>])
//! }
//! ```

mod case;
mod cases;
mod env;
mod flag;
mod honesty;
mod memory;
mod provider;
mod report;
mod runner;
#[cfg(test)]
mod tests;
mod watching;

pub use case::{Case, Tier};
pub use cases::{CLIENT_GROUPS, all};
pub use env::Env;
pub use flag::Flag;
pub use memory::MemoryProvider;
pub use provider::{Fault, Provider, Subject, Tool};
pub use runner::run;
pub use watching::Watching;
