//! Owned tasks: every task belongs to a group, which is cancelled and joined on shutdown.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::Semaphore,
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::error::{Error, ErrorKind, Result};

/// The pause after a failed `accept`, such as one for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

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

    /// Starts a server: every connection that `listener` takes is served in a task of its own, `at_once` of them at a time;
    /// the next one waits for its turn. All of it ends with the group.
    pub fn serve<S, F>(&self, listener: TcpListener, at_once: usize, serve: S)
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (group, cancelled) = (self.clone(), self.cancelled.clone());
        let seats = Arc::new(Semaphore::new(at_once));
        let accept = async move {
            loop {
                // The semaphore is never closed.
                let seat = seats.clone().acquire_owned().await;
                let Ok((connection, _)) = listener.accept().await else {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                let (served, cancelled) = (serve(connection), group.cancelled.clone());
                group.spawn(async move {
                    cancelled.run_until_cancelled(served).await;
                    drop(seat);
                });
            }
        };
        self.spawn(async move { cancelled.run_until_cancelled(accept).await });
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

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use tokio::{io::AsyncReadExt as _, sync::mpsc};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_server_serves_some_at_a_time_and_ends_with_its_group() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let group = TaskGroup::current().unwrap();
        let (started, mut starts) = mpsc::channel(8);
        let (open, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let highest = peak.clone();
        group.serve(listener, 2, move |mut connection| {
            let (started, open, peak) = (started.clone(), open.clone(), peak.clone());
            async move {
                peak.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                started.send(()).await.unwrap();
                let ended = connection.read(&mut [0]).await;
                assert_eq!(ended.unwrap(), 0);
                open.fetch_sub(1, Ordering::SeqCst);
            }
        });
        let mut clients = Vec::new();
        for _ in 0..6 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        starts.recv().await.unwrap();
        while clients.len() > 1 {
            tokio::time::timeout(DEADLINE, starts.recv())
                .await
                .unwrap()
                .unwrap();
            clients.remove(0);
        }
        assert_eq!(highest.load(Ordering::SeqCst), 2);
        group.join(DEADLINE).await.unwrap();
        let mut last = clients.pop().unwrap();
        assert_eq!(last.read(&mut [0]).await.unwrap(), 0);
    }
}
