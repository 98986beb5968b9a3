//! What stands between a caller and a registry that fails: backoff, retries and their budget.

mod backoff;
mod breaker;
mod budget;
mod retry;

pub use backoff::Backoff;
pub use breaker::{Breaker, BreakerOptions, CircuitState};
pub use budget::RetryBudget;
pub use retry::RetryPolicy;
