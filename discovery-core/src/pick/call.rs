//! Calls with a deadline, an outcome, and the next instance when one fails.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{Outcome, Picked, Service};
use crate::{
    error::{Error, Result},
    model::{Instance, InstanceKey},
    resilience::Slot,
};

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
    pub async fn call<T, E, F, Fut>(
        &self,
        policy: &CallPolicy,
        mut call: F,
    ) -> std::result::Result<T, CallError<E>>
    where
        F: FnMut(Arc<Instance>) -> Fut,
        Fut: Future<Output = std::result::Result<T, E>>,
    {
        self.instances().await.map_err(CallError::NoInstance)?;
        let mut attempts = self.attempts(policy.attempts);
        let mut picked = attempts.first().map_err(CallError::NoInstance)?;
        loop {
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
            picked = match attempts.another() {
                Some(other) => other,
                None => return Err(error),
            };
        }
    }

    /// A call of up to `most` attempts, for who makes and reports them himself: adapters, mostly. [`Self::call`] is this and
    /// a deadline.
    pub fn attempts(&self, most: u32) -> Attempts<'_> {
        Attempts {
            service: self,
            left: most,
            tried: Vec::new(),
            retry: None,
            _call: self.view().budget().enter(),
        }
    }
}

/// One call, however many instances it tries: each time another one while there is one, and within the budget of the view.
#[derive(Debug)]
pub struct Attempts<'a> {
    service: &'a Service,
    left: u32,
    tried: Vec<InstanceKey>,
    retry: Option<Slot<'a>>,
    _call: Slot<'a>,
}

impl Attempts<'_> {
    /// The instance to try first.
    ///
    /// # Errors
    /// As [`Service::acquire`].
    pub fn first(&mut self) -> Result<Picked> {
        let picked = self.service.acquire_other(&self.tried)?;
        self.left = self.left.saturating_sub(1);
        self.tried.push(picked.key.clone());
        Ok(picked)
    }

    /// After a failure, the instance to try next; `None` where that was the last attempt, the budget is used up, or no
    /// instance takes a call.
    pub fn another(&mut self) -> Option<Picked> {
        if self.left == 0 {
            return None;
        }
        // The place of the attempt before is free again.
        self.retry = None;
        self.retry = Some(self.service.view().budget().try_retry()?);
        self.first().ok()
    }
}
