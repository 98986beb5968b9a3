//! Service discovery as a library: register, find, balance, and keep working when the registry does not.
//!
//! A [`Client`] speaks to one registry. It keeps what it registers registered, keeps views of the services it is asked for
//! up to date, and answers picks from those views without touching the network.
//!
//! This crate is what applications use. What backends implement, and the planes below the client, are in
//! `discovery_core`, re-exported here.

#[cfg(any(feature = "reqwest-middleware", feature = "tonic", feature = "tower"))]
pub mod adapters;
mod builder;
mod client;
mod definition;
mod dynamic;
mod federation;
mod measured;
mod named;
mod open;
mod registered;
#[cfg(feature = "schema")]
mod schema;
mod sets;
mod sources;
mod startup;
mod status;
mod values;

pub use builder::ClientBuilder;
pub use client::Client;
pub use definition::registration_from;
pub use discovery_core::*;
#[cfg(feature = "dns")]
pub use discovery_dns as dns;
pub use federation::{FailoverConfig, FurtherSource};
pub use open::{
    ClientConfig, backends, builder_for, builder_from, builder_from_config, builder_from_configs,
    builder_from_env, builder_from_uri, explain, loaded, loader, named_backends,
};
pub use registered::Registered;
#[cfg(feature = "schema")]
pub use schema::schema;
pub use sources::{Route, Sources};
pub use status::ClientStatus;
pub use values::ConfigValues;

/// The examples of the README and the pages under `docs/`, run as tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/guides/getting-started.md")]
    struct GettingStarted;
    #[doc = include_str!("../../docs/guides/configuration.md")]
    struct Configuration;
    #[doc = include_str!("../../docs/guides/failover.md")]
    struct Failover;
    #[doc = include_str!("../../docs/guides/adapters.md")]
    struct Adapters;
    #[cfg(feature = "dns")]
    #[doc = include_str!("../../docs/guides/dns.md")]
    struct Dns;
    #[doc = include_str!("../../docs/concepts/freshness-and-evidence.md")]
    struct FreshnessAndEvidence;
    #[doc = include_str!("../../docs/concepts/registration.md")]
    struct Registration;
    #[doc = include_str!("../../docs/concepts/picking.md")]
    struct Picking;
    #[doc = include_str!("../../docs/concepts/errors.md")]
    struct Errors;
}
