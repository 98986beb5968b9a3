#![doc = include_str!("../README.md")]

mod address;
mod agent;
mod backend;
mod checks;
mod client;
mod config;
mod convert;
mod decode;
mod edits;
mod error;
mod kv;
mod poll;
mod pool;
mod reader;
mod registry;
mod signed;
#[cfg(test)]
mod testing;
mod token;
mod watcher;
mod wire;

pub use backend::backend;
pub use config::{
    Authentication, Connect, Consistency, ConsulConfig, Discovery, HealthChecks, Server, ServiceRegistration,
};
