//! The orderly end: heartbeats stop, then everything is withdrawn.

use std::{future::Future, sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout_at},
};
use tracing::{debug, info};

use super::{
    BACKGROUND, Inner, Registrar,
    lease::Group,
    record::{Record, lock},
};
use crate::{
    error::{Error, ErrorKind, Result},
    resilience::Backoff,
    spi::LeaseMode,
};

/// Names of registrations an error lists before it only counts.
const NAMED: usize = 10;

impl Registrar {
    /// Stops every heartbeat, then withdraws every registration: a shared lease by its release, others one by one. With
    /// [`deregister_on_shutdown`](super::RegistrarConfig::deregister_on_shutdown) off, heartbeats just stop.
    ///
    /// May be called again: it then withdraws what is left.
    ///
    /// # Errors
    /// The last error, or `Timeout`, naming what may still be shown after `deadline`.
    ///
    /// # Cancel safety
    /// Dropped, heartbeats have stopped and what is left can be withdrawn by calling it again.
    pub async fn shutdown(&self, deadline: Duration) -> Result<()> {
        let inner = &self.0;
        let (started, until) = (Instant::now(), Instant::now() + deadline);
        let records = {
            // Under the lock, so that no registration is claimed afterwards.
            let records = lock(&inner.records);
            inner.stop.cancel();
            records.values().cloned().collect::<Vec<_>>()
        };
        inner.groups().iter().for_each(|group| group.stop());
        if !inner.config.deregister_on_shutdown {
            lock(&inner.records).clear();
            lock(&inner.groups).clear();
            return Ok(());
        }
        let mut last = None;
        if inner.can.lease == LeaseMode::Shared {
            // What is under way ends first; a request that hangs must not take the time the others need.
            let patience = started + deadline / 2;
            let quiet = join_all(records.iter().map(|record| record.commands.closed()));
            if timeout_at(patience, quiet).await.is_err() {
                debug!("requests still under way: releasing the leases all the same");
            }
            last = inner.release_all(until).await.err();
        }
        let records = inner.remaining();
        if let Err(error) = inner.withdraw_all(records, until).await {
            last = Some(error);
        }
        inner.outcome(last)
    }
}

impl Inner {
    fn groups(&self) -> Vec<Arc<Group>> {
        lock(&self.groups).values().cloned().collect()
    }

    fn remaining(&self) -> Vec<Arc<Record>> {
        lock(&self.records).values().cloned().collect()
    }

    fn remove(&self, record: &Record) {
        lock(&self.records).remove(&record.name);
    }

    /// Releases every shared lease, and with it the registrations that live by it.
    async fn release_all(&self, until: Instant) -> Result<()> {
        let mut result = Ok(());
        for group in self.groups() {
            let released = timeout_at(until, self.release(&group, until)).await;
            match released.unwrap_or_else(|_| Err(late())) {
                Ok(()) => {
                    lock(&self.groups).remove(&group.id);
                    for record in self.remaining() {
                        let lived_by = record.state().lease.as_ref().is_some_and(|l| l.group == group.id);
                        if lived_by {
                            record.gone();
                            self.remove(&record);
                        }
                    }
                    info!(group = group.id.as_str(), "lease released");
                }
                Err(error) => result = Err(error),
            }
        }
        result
    }

    async fn release(&self, group: &Group, until: Instant) -> Result<()> {
        group.stop();
        group.settle().await;
        self.insist(until, || async {
            let request = self.registry.release(&group.id);
            self.request("release", self.config.request_timeout, request)
                .await
        })
        .await
    }

    /// Deregisters every one of `records`, many at once, each when what its keeper has under way has ended.
    async fn withdraw_all(&self, records: Vec<Arc<Record>>, until: Instant) -> Result<()> {
        let room = Semaphore::new(BACKGROUND);
        let withdrawals = join_all(records.iter().map(|record| async {
            let group = {
                let state = record.state();
                state.lease.as_ref().and_then(|lease| self.group(&lease.group))
            };
            timeout_at(until, async {
                record.commands.closed().await;
                if let Some(group) = group {
                    group.settle().await;
                }
                let _permit = room.acquire().await;
                self.withdraw(record, until).await
            })
            .await
            .unwrap_or_else(|_| Err(late()))
        }));
        withdrawals.await.into_iter().fold(Ok(()), Result::and)
    }

    async fn withdraw(&self, record: &Record, until: Instant) -> Result<()> {
        let (held, doubtful) = {
            let state = record.state();
            (state.lease.is_some(), state.doubtful)
        };
        if held {
            self.insist(until, || self.deregister(record)).await?;
        } else if doubtful {
            // The program was told that it is not registered, and it most likely is not: one attempt for good measure.
            if let Err(error) = self.deregister(record).await {
                debug!(%error, "a failed registration may have left a record");
            }
        }
        self.remove(record);
        Ok(())
    }

    /// Repeats `attempt` until it succeeds, fails for good, or `until` has come.
    async fn insist<F, Fut>(&self, until: Instant, mut attempt: F) -> Result<()>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<()>>,
    {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        loop {
            let error = match attempt().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let delay = backoff.next_delay().max(error.retry_after().unwrap_or_default());
            if !error.is_retryable() || Instant::now() + delay >= until {
                return Err(error);
            }
            sleep(delay).await;
        }
    }

    /// What `shutdown` answers: what is left, and why.
    fn outcome(&self, last: Option<Error>) -> Result<()> {
        let left = self.remaining();
        // Doubtful leftovers of failed registrations were never the program's.
        let left: Vec<_> = left
            .iter()
            .filter(|record| record.state().lease.is_some())
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        let mut names: Vec<_> = left
            .iter()
            .take(NAMED)
            .map(|record| format!("{}/{}", record.name.0, record.name.1))
            .collect();
        if left.len() > NAMED {
            names.push(format!("and {} more", left.len() - NAMED));
        }
        let forever = left
            .iter()
            .any(|record| record.state().lease.as_ref().is_some_and(|l| l.ttl.is_none()));
        let hint = if forever {
            "records without a TTL stay until somebody deregisters them; call shutdown again to go on"
        } else {
            "they are no longer renewed and expire after their TTL; call shutdown again to go on"
        };
        Err(last
            .unwrap_or_else(late)
            .with_operation("shutdown")
            .with_backend(self.scheme())
            .with_context("left", names.join(", "))
            .with_hint(hint))
    }
}

fn late() -> Error {
    Error::new(
        ErrorKind::Timeout,
        "the deadline passed before everything was withdrawn",
    )
}
