//! Calls with a deadline, an outcome, and the next instance when one fails.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{Outcome, Service};
use crate::{error::Error, model::Instance};

/// How [`Service::call`] tries.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallPolicy {
    /// How many instances are tried in all; one means no retry.
    pub attempts: u32,
    /// How long one attempt may take; a timeout is a failure of the instance.
    pub timeout: Duration,
}

impl Default for CallPolicy {
    /// Two attempts of five seconds each.
    fn default() -> Self {
        Self {
            attempts: 2,
            timeout: Duration::from_secs(5),
        }
    }
}

impl CallPolicy {
    /// The same policy trying so many instances in all (at least one).
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// The same policy with this timeout for one attempt.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// Why a call did not succeed.
#[derive(Debug)]
pub enum CallError<E> {
    /// There was no instance to call.
    NoInstance(Error),
    /// The last instance tried did not answer in time.
    TimedOut {
        /// That instance.
        instance: Arc<Instance>,
        /// How long it was given.
        after: Duration,
    },
    /// The last instance tried answered with this.
    Failed(E),
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInstance(error) => write!(f, "no instance to call: {error}"),
            Self::TimedOut { instance, after } => {
                write!(f, "{} did not answer within {after:?}", instance.address())
            }
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for CallError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoInstance(error) => Some(error),
            Self::TimedOut { .. } => None,
            Self::Failed(error) => error.source(),
        }
    }
}

impl Service {
    /// Calls an instance and, when that fails or takes too long, the next one.
    ///
    /// Every failure is reported against its instance. Retries of all handles of this view together keep a budget: a fifth
    /// of the calls under way, and three in any case; beyond it a failure is final. Only ask for more than one attempt when `call` may be repeated.
    ///
    /// # Errors
    /// [`CallError`]: that of the last attempt, or that there was nothing to call.
    ///
    /// # Cancel safety
    /// As cancel-safe as `call`; a dropped call ends its in-flight count and records no outcome.
    pub async fn call<T, E, F, Fut>(&self, policy: &CallPolicy, mut call: F) -> Result<T, CallError<E>>
    where
        F: FnMut(Arc<Instance>) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.instances().await.map_err(CallError::NoInstance)?;
        let budget = self.view().budget();
        let _call = budget.enter();
        let mut retry = None;
        let mut tried = Vec::new();
        loop {
            let picked = self.acquire_other(&tried).map_err(CallError::NoInstance)?;
            let instance = picked.instance().clone();
            let error = match timeout(policy.timeout, call(instance.clone())).await {
                Ok(Ok(value)) => {
                    picked.report(Outcome::Success);
                    return Ok(value);
                }
                Ok(Err(error)) => CallError::Failed(error),
                Err(_) => CallError::TimedOut {
                    instance: instance.clone(),
                    after: policy.timeout,
                },
            };
            picked.report(Outcome::Failure);
            tried.push(instance.key.clone());
            if tried.len() >= policy.attempts as usize {
                return Err(error);
            }
            drop(retry.take());
            retry = budget.try_retry();
            if retry.is_none() {
                return Err(error);
            }
        }
    }
}
