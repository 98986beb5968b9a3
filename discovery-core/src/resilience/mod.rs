//! What stands between a caller and a registry that fails: backoff, retries and their budget, the circuit breaker, the
//! cache, and the one decorator that puts them in their order.

mod backoff;
mod breaker;
mod budget;
mod cache;
mod decorator;
#[cfg(test)]
mod fake;
mod retry;

pub use backoff::Backoff;
pub(crate) use backoff::full_jitter;
pub use breaker::{Breaker, BreakerOptions, CircuitState};
pub use budget::RetryBudget;
pub(crate) use budget::Slot;
pub use cache::CacheOptions;
pub use decorator::{ResilienceOptions, Resilient};
pub use retry::RetryPolicy;
