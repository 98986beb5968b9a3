//! How a client stands.

use discovery_core::{
    BackendInfo, BackendStatus, Result, failover::FailoverState, registrar::RegistrationState,
    resilience::CircuitState,
};

/// How a client stands: what it answers even when the registry does not.
#[derive(Debug)]
#[non_exhaustive]
pub struct ClientStatus {
    /// What it is a client of.
    pub backend: BackendInfo,
    /// What the registry says of itself, or why it does not.
    pub registry: Result<BackendStatus>,
    /// Whether reads are let through to the registry.
    pub circuit: CircuitState,
    /// How each registration of this client stands.
    pub registrations: Vec<RegistrationState>,
    /// How many upstream watches run.
    pub watches: usize,
    /// Which sources serve what is watched, where there are several.
    pub failovers: Vec<FailoverState>,
}
