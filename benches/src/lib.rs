//! What System Control Discovery costs, beside the fastest thing that could do the job and its Rust peers.
//!
//! `README.md` tells the method and how to read the figures.

pub mod breaker;
pub mod build;
pub mod consul;
pub mod dns;
pub mod etcd;
pub mod eureka;
pub mod fanout;
pub mod harness;
pub mod k8s;
pub mod lookup;
pub mod pick;
pub mod publish;
pub mod strategies;
mod upstream;
pub mod world;

/// As the library's sources that are compiled here know it.
mod resilience {
    pub(crate) use discovery_core::resilience::CircuitState;
}
