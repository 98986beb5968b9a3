//! What stands between a caller and a registry that fails: backoff, retries and their budget.

mod backoff;
mod budget;
mod retry;

pub use backoff::Backoff;
pub use budget::RetryBudget;
pub use retry::RetryPolicy;
