#![doc = include_str!("../README.md")]

mod agent;
mod backend;
mod client;
mod config;
mod convert;
mod error;
mod kv;
mod poll;
mod reader;
mod registry;
mod signed;
#[cfg(test)]
mod testing;
mod watcher;
mod wire;

pub use backend::backend;
pub use config::{
    Authentication, Connect, Consistency, ConsulConfig, Discovery, HealthChecks, Server, ServiceRegistration,
};
