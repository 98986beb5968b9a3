//! How the registrar behaves.

use std::time::Duration;

use crate::resilience::RetryPolicy;

/// How a [`Registrar`](super::Registrar) behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegistrarConfig {
    /// How often a call of the program (`register`, `deregister`, `update_meta`, `report_health`) is tried before the
    /// program sees an error. What keeps a registration alive in the background is tried for ever.
    pub retry: RetryPolicy,
    /// Whether [`shutdown`](super::Registrar::shutdown) withdraws what is registered; else heartbeats just stop.
    pub deregister_on_shutdown: bool,
    /// How often a registration without a TTL is read back; one with a TTL is read back every TTL.
    pub read_back: Duration,
    /// The time between two heartbeats: a third of the TTL where not set, or where it is more than half of it.
    pub renew_every: Option<Duration>,
    /// After so long a request is given up, should the backend's own deadline not have ended it. A renewal gets a fifth of
    /// its TTL where that is less.
    pub request_timeout: Duration,
}

impl Default for RegistrarConfig {
    /// The default policy, withdrawal on shutdown, read back every 30 s, requests of at most 15 s.
    fn default() -> Self {
        Self {
            retry: RetryPolicy::default(),
            deregister_on_shutdown: true,
            read_back: Duration::from_secs(30),
            renew_every: None,
            request_timeout: Duration::from_secs(15),
        }
    }
}

impl RegistrarConfig {
    /// The same configuration with this policy for the program's own calls.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// The same configuration, withdrawing on shutdown or not.
    #[must_use]
    pub fn deregister_on_shutdown(mut self, withdraw: bool) -> Self {
        self.deregister_on_shutdown = withdraw;
        self
    }

    /// The same configuration, reading registrations without a TTL back so often.
    #[must_use]
    pub fn read_back(mut self, every: Duration) -> Self {
        self.read_back = every;
        self
    }

    /// The same configuration with this time between two heartbeats.
    #[must_use]
    pub fn renew_every(mut self, every: Option<Duration>) -> Self {
        self.renew_every = every;
        self
    }

    /// The same configuration with this limit on a request.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }
}
