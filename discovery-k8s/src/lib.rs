#![doc = include_str!("../README.md")]

mod backend;
mod call;
mod checks;
mod client;
mod cluster;
mod config;
mod configmaps;
mod convert;
mod error;
mod feed;
mod intent;
mod lease;
mod merge;
mod names;
mod reader;
mod reaper;
mod record;
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
