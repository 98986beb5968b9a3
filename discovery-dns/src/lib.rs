#![doc = include_str!("../README.md")]

mod answers;
mod backend;
mod client;
mod config;
mod convert;
mod error;
mod face;
#[cfg(all(fuzzing, feature = "update"))]
pub mod fuzzing;
mod lookup;
mod name;
mod registry;
mod rfc2782;
mod route;
mod stream;
#[cfg(test)]
mod testing;
#[cfg(feature = "update")]
mod tsig;
mod ttl;
#[cfg(feature = "update")]
mod update;
mod wire;

pub use answers::{Record, answers, system_servers};
pub use backend::backend;
pub use config::{
    Caching, DnsConfig, HealthAwareness, KeyAlgorithm, Resolution, Resolver, Transport, Update, Zone,
    ZoneType,
};
pub use face::{Face, FaceConfig, serve};
pub use rfc2782::Rfc2782;
