#![doc = include_str!("../README.md")]

mod address;
mod apps;
mod backend;
mod client;
mod config;
mod convert;
mod edits;
mod error;
mod poll;
mod pool;
mod registry;
mod servers;
mod watcher;
mod wire;
mod xml;

pub use backend::backend;
pub use config::{Authentication, Discovery, EurekaConfig, LookUp, Server, ServiceRegistration, ServiceUrl};
