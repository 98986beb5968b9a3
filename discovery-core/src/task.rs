//! Owned tasks: every task belongs to a group, which is cancelled and joined on shutdown.

use std::{future::Future, time::Duration};

use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::error::{Error, ErrorKind, Result};

/// The tasks of one client, on the runtime it was made in.
#[derive(Debug, Clone)]
pub struct TaskGroup {
    runtime: Handle,
    tracker: TaskTracker,
    cancelled: CancellationToken,
}

impl TaskGroup {
    /// A group on the current runtime.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] outside a tokio runtime.
    pub fn current() -> Result<Self> {
        let runtime = Handle::try_current().map_err(|source| {
            Error::new(ErrorKind::ConfigInvalid, "no tokio runtime here")
                .with_hint("build the client inside `#[tokio::main]` or `Runtime::block_on`")
                .with_source(source)
        })?;
        Ok(Self {
            runtime,
            tracker: TaskTracker::new(),
            cancelled: CancellationToken::new(),
        })
    }

    /// Starts a task. It should end soon after [`Self::cancelled`] does.
    #[allow(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.tracker.spawn_on(task, &self.runtime)
    }

    /// The token that tells tasks to end.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// Tells every task to end, without waiting.
    pub fn cancel(&self) {
        self.tracker.close();
        self.cancelled.cancel();
    }

    /// Tells every task to end and waits for all of them.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] when some still run after `deadline`.
    ///
    /// # Cancel safety
    /// Cancel-safe: calling it again goes on waiting.
    pub async fn join(&self, deadline: Duration) -> Result<()> {
        self.cancel();
        tokio::time::timeout(deadline, self.tracker.wait())
            .await
            .map_err(|_| {
                Error::new(ErrorKind::Timeout, "background tasks still run")
                    .with_operation("shutdown")
                    .with_context("tasks", self.tracker.len().to_string())
            })
    }
}
