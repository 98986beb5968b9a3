#![doc = include_str!("../README.md")]

mod backend;
mod clock;
mod config;
mod convert;
mod error;
mod file;
mod follow;
mod kv;
mod log;
mod owner;
mod records;
mod registry;
mod store;
mod watcher;
mod worker;

pub use backend::backend;
pub use config::{Lifetime, LocalConfig};
