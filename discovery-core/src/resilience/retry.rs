//! Bounded retries of one operation.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep};

use super::{Backoff, RetryBudget, backoff::full_jitter};
use crate::error::{Error, ErrorKind, Result};

/// How often and how long one operation is tried again.
///
/// Repeated are errors whose advice is transient, and of an operation that is not idempotent only those that certainly
/// happened before it had an effect. A server's own `retry_after` is honoured when it is longer than the delay drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// How many attempts in all; one means no retry.
    pub attempts: u32,
    /// The first ceiling a delay is drawn under.
    pub min_delay: Duration,
    /// The largest ceiling.
    pub max_delay: Duration,
    /// No attempt starts later than this after the first.
    pub max_elapsed: Duration,
}

impl Default for RetryPolicy {
    /// Three attempts, 100 ms doubling to 2 s, within 10 s.
    fn default() -> Self {
        Self {
            attempts: 3,
            min_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(2),
            max_elapsed: Duration::from_secs(10),
        }
    }
}

impl RetryPolicy {
    /// One attempt only.
    pub fn never() -> Self {
        Self {
            attempts: 1,
            ..Self::default()
        }
    }

    /// The same policy with so many attempts in all (at least one).
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// The same policy with these ceilings.
    #[must_use]
    pub fn delays(mut self, min: Duration, max: Duration) -> Self {
        (self.min_delay, self.max_delay) = (min, max.max(min));
        self
    }

    /// The same policy starting no attempt later than this after the first.
    #[must_use]
    pub fn max_elapsed(mut self, max_elapsed: Duration) -> Self {
        self.max_elapsed = max_elapsed;
        self
    }

    /// Runs `attempt` until it succeeds, fails for good, or the policy is used up. It is given the attempt's number,
    /// from one.
    ///
    /// # Errors
    /// The last attempt's error, with `attempts` in its context where there was more than one.
    ///
    /// # Cancel safety
    /// As cancel-safe as `attempt`.
    pub async fn run<T, F, Fut>(&self, idempotent: bool, attempt: F) -> Result<T>
    where
        F: FnMut(u32) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        self.run_counted(None, idempotent, attempt).await
    }

    /// Like [`run`](Self::run), while `budget` has room for one more retry.
    ///
    /// # Errors
    /// As `run`; `retry_budget: exhausted` in the context tells that the budget ended it.
    ///
    /// # Cancel safety
    /// As cancel-safe as `attempt`; dropping the future gives back its place in the budget.
    pub async fn run_within<T, F, Fut>(&self, budget: &RetryBudget, idempotent: bool, attempt: F) -> Result<T>
    where
        F: FnMut(u32) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        self.run_counted(Some(budget), idempotent, attempt).await
    }

    async fn run_counted<T, F, Fut>(
        &self,
        budget: Option<&RetryBudget>,
        idempotent: bool,
        mut attempt: F,
    ) -> Result<T>
    where
        F: FnMut(u32) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let _call = budget.map(RetryBudget::enter);
        let mut retry = None;
        let started = Instant::now();
        let mut backoff = Backoff::new(self.min_delay, self.max_delay);
        let mut number = 1;
        loop {
            let mut error = match attempt(number).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let mut delay = backoff.next_delay();
            if let Some(after) = error.retry_after() {
                // A little more than the server asked, so that a fleet told the same does not return as one.
                delay = delay.max(after.saturating_add(full_jitter(self.min_delay)));
            }
            let mut give_up = number >= self.attempts
                || !may_repeat(&error, idempotent)
                || started.elapsed().saturating_add(delay) > self.max_elapsed;
            if let (Some(budget), None, false) = (budget, &retry, give_up) {
                retry = budget.try_retry();
                if retry.is_none() {
                    error = error.with_context("retry_budget", "exhausted");
                    give_up = true;
                }
            }
            if give_up {
                return Err(if number > 1 {
                    error.with_context("attempts", number.to_string())
                } else {
                    error
                });
            }
            sleep(delay).await;
            number += 1;
        }
    }
}

/// Whether `error` allows the same request again.
fn may_repeat(error: &Error, idempotent: bool) -> bool {
    error.is_retryable() && (idempotent || error.kind() == ErrorKind::RateLimited)
}

#[cfg(test)]
mod tests;
