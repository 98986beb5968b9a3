#![doc = include_str!("../README.md")]

mod auth;
mod backend;
mod client;
mod config;
mod connect;
mod convert;
mod edits;
mod error;
mod feed;
mod keepalive;
mod keys;
mod kv;
mod lease;
mod registry;
mod validate;
mod watcher;
mod wire;

pub use backend::backend;
pub use config::{
    Authentication, ConfigKv, Discovery, EtcdConfig, Format, LeaseSharing, ServiceRegistration,
};
