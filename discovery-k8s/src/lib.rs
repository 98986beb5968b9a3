#![doc = include_str!("../README.md")]

mod backend;
mod client;
mod config;
mod configmaps;
mod convert;
mod error;
mod feed;
mod lease;
mod reader;
mod reaper;
mod registry;
mod slices;
#[cfg(test)]
mod testing;
mod watcher;
mod wire;

pub use backend::backend;
pub use config::{
    Annotations, ClusterConfig, ConfigMapKeys, ConfigMaps, Endpoints, IpFamily, K8sConfig, Labels,
    RegistrationSettings, ServiceDiscovery,
};
