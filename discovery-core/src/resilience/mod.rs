//! What stands between a caller and a registry that fails: backoff and retries.

mod backoff;
mod retry;

pub use backoff::Backoff;
pub use retry::RetryPolicy;
