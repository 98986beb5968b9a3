//! The one decorator around a registry.

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tracing::{Instrument, debug_span};

use super::{
    Breaker, BreakerOptions, CacheOptions, CircuitState, RetryBudget, RetryPolicy, cache::ReadCache,
};
use crate::{
    error::{Error, ErrorKind, Result},
    metrics,
    model::{
        HealthReport, Instance, InstanceKey, Lease, LeaseGroup, MetaChange, Query, Registration, Renewal,
        Scope, ServiceSummary, Snapshot,
    },
    spi::{BackendInfo, BackendStatus, Capabilities, ServiceRegistry},
};

/// How a [`Resilient`] registry treats calls.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResilienceOptions {
    /// How many reads may be at the registry at once; more wait (at least one).
    pub limit: usize,
    /// How long one attempt of a read may take, waiting included.
    pub read_timeout: Duration,
    /// How long `register` may take. A Consul without a leader answers after seven seconds.
    pub register_timeout: Duration,
    /// How long any other write may take.
    pub write_timeout: Duration,
    /// How reads are repeated.
    pub retry: RetryPolicy,
    /// When reads stop for a while; `None` lets them through always.
    pub breaker: Option<BreakerOptions>,
    /// What is kept of reads; `None` keeps nothing.
    pub cache: Option<CacheOptions>,
}

impl Default for ResilienceOptions {
    /// 64 reads at once, 5 s each; 10 s for a write.
    fn default() -> Self {
        Self {
            limit: 64,
            read_timeout: Duration::from_secs(5),
            register_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            retry: RetryPolicy::default(),
            breaker: Some(BreakerOptions::default()),
            cache: Some(CacheOptions::default()),
        }
    }
}

/// A registry that copes with its server's failures, as far as that can be done without lying.
///
/// Reads pass, from inside to outside, a limit, a timeout, retries within a budget, a circuit breaker and a cache; the
/// order is fixed. So the deadline covers waiting for a place, each attempt has its own deadline, the circuit sees one
/// outcome per call, and the cache serves while the circuit is open.
///
/// | operation | limit | timeout | retry | circuit | cache |
/// | --- | --- | --- | --- | --- | --- |
/// | `instances`, `services` | yes | yes | yes | yes | yes |
/// | `instance` | yes | yes | yes | yes | |
/// | `status` | yes | yes | | | |
/// | all writes | | yes | | | |
///
/// `status` asks every time, so that it tells the truth while the circuit is open. Writes have nothing but a deadline:
/// no crowd of readers and no open circuit may hold up a heartbeat, and their retries are the registrar's business.
///
/// The cache serves the last good answer, marked [`Source::Stale`](crate::Source::Stale), when the registry cannot
/// answer, and also when it refuses us: a token that ran out empties no view. `max_stale` of the query bounds its age.
/// Filters are applied here, so that queries which differ only in those share one entry.
///
/// Every error leaves with the names of its operation and backend.
///
/// # Cancel safety
/// Every method is cancel-safe; callers who wait for another's fetch take over when that one is dropped.
#[derive(Debug)]
pub struct Resilient {
    calls: Arc<Calls>,
    cache: Option<ReadCache>,
}

impl Resilient {
    /// `inner` under these options.
    pub fn new(inner: Arc<dyn ServiceRegistry>, options: ResilienceOptions) -> Self {
        let backend = inner.info().scheme;
        Self {
            cache: options.cache.clone().map(|cache| ReadCache::new(backend, cache)),
            calls: Arc::new(Calls {
                backend,
                limit: Semaphore::new(options.limit.clamp(1, Semaphore::MAX_PERMITS)),
                budget: RetryBudget::default(),
                breaker: options
                    .breaker
                    .clone()
                    .map(|breaker| Breaker::new(backend, breaker)),
                options,
                inner,
            }),
        }
    }

    /// The same registry without the cache: for reads that must see the registry itself, such as a confirmation, a
    /// read-back or a poll. Limit, budget and circuit are shared.
    pub fn uncached(&self) -> Arc<dyn ServiceRegistry> {
        Arc::new(Self {
            calls: self.calls.clone(),
            cache: None,
        })
    }

    /// What the circuit lets through now.
    pub fn circuit(&self) -> CircuitState {
        self.calls
            .breaker
            .as_ref()
            .map_or(CircuitState::Closed, Breaker::state)
    }
}

#[derive(Debug)]
struct Calls {
    inner: Arc<dyn ServiceRegistry>,
    backend: &'static str,
    options: ResilienceOptions,
    limit: Semaphore,
    budget: RetryBudget,
    breaker: Option<Breaker>,
}

impl Calls {
    /// One attempt of a read, within the limit and its deadline.
    async fn attempt<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let limited = async {
            // The semaphore is never closed; were it, the limit would be off.
            let _place = self.limit.acquire().await.ok();
            call.await
        };
        within(self.options.read_timeout, limited).await
    }

    /// A read with everything but the cache.
    async fn read<T, Fut>(&self, operation: &'static str, call: impl Fn() -> Fut) -> Result<T>
    where
        Fut: Future<Output = Result<T>>,
    {
        let retried = self
            .options
            .retry
            .run_within(&self.budget, true, |_| self.attempt(call()));
        // Boxed, so that a hit of the cache does not carry the room for a miss.
        let started = Instant::now();
        let span = debug_span!("discovery.read", operation, backend = self.backend);
        let result = match &self.breaker {
            Some(breaker) => Box::pin(breaker.run(retried)).instrument(span).await,
            None => Box::pin(retried).instrument(span).await,
        };
        metrics::discovery_duration(self.backend, operation, started.elapsed());
        self.named(operation, result)
    }

    async fn write<T>(
        &self,
        operation: &'static str,
        deadline: Duration,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.named(operation, within(deadline, call).await)
    }

    fn named<T>(&self, operation: &'static str, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.with_operation(operation).with_backend(self.backend))
    }

    async fn instances(&self, query: &Query) -> Result<Snapshot> {
        self.read("instances", || self.inner.instances(query)).await
    }

    async fn services(&self, scope: &Scope) -> Result<Vec<ServiceSummary>> {
        self.read("services", || self.inner.services(scope)).await
    }
}

async fn within<T>(deadline: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(deadline, call).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Timeout, "no answer in time")
            .with_context("deadline", format!("{deadline:?}")))
    })
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ServiceRegistry for Resilient {
    fn info(&self) -> BackendInfo {
        self.calls.inner.info()
    }

    fn capabilities(&self) -> Capabilities {
        self.calls.inner.capabilities()
    }

    async fn register(&self, registration: &Registration) -> Result<Lease> {
        let calls = &self.calls;
        let call = calls.inner.register(registration);
        calls
            .write("register", calls.options.register_timeout, call)
            .await
    }

    async fn renew(&self, group: &LeaseGroup, renewal: &Renewal) -> Result<()> {
        let calls = &self.calls;
        let call = calls.inner.renew(group, renewal);
        calls.write("renew", calls.options.write_timeout, call).await
    }

    async fn deregister(&self, key: &InstanceKey) -> Result<()> {
        let calls = &self.calls;
        let call = calls.inner.deregister(key);
        calls.write("deregister", calls.options.write_timeout, call).await
    }

    async fn release(&self, group: &LeaseGroup) -> Result<()> {
        let calls = &self.calls;
        let call = calls.inner.release(group);
        calls.write("release", calls.options.write_timeout, call).await
    }

    async fn update_meta(&self, key: &InstanceKey, change: &MetaChange) -> Result<()> {
        let calls = &self.calls;
        let call = calls.inner.update_meta(key, change);
        calls
            .write("update_meta", calls.options.write_timeout, call)
            .await
    }

    async fn report_health(&self, key: &InstanceKey, report: &HealthReport) -> Result<()> {
        let calls = &self.calls;
        let call = calls.inner.report_health(key, report);
        calls
            .write("report_health", calls.options.write_timeout, call)
            .await
    }

    async fn instance(&self, key: &InstanceKey) -> Result<Option<Instance>> {
        let calls = &self.calls;
        calls.read("instance", || calls.inner.instance(key)).await
    }

    async fn instances(&self, query: &Query) -> Result<Snapshot> {
        let fetch = async |query: Query| self.calls.instances(&query).await;
        let snapshot = match &self.cache {
            Some(cache) => cache.instances(query, fetch).await,
            None => self.calls.instances(query).await,
        };
        Ok(filtered(snapshot?, query))
    }

    async fn services(&self, scope: &Scope) -> Result<Vec<ServiceSummary>> {
        let fetch = || self.calls.services(scope);
        match &self.cache {
            Some(cache) => cache.services(scope, fetch).await,
            None => fetch().await,
        }
    }

    async fn status(&self) -> Result<BackendStatus> {
        let calls = &self.calls;
        calls.named("status", calls.attempt(calls.inner.status()).await)
    }
}

/// Only what `query` accepts, as registries may ignore its filters; the same sequence where that is all of it.
fn filtered(mut snapshot: Snapshot, query: &Query) -> Snapshot {
    if !snapshot.instances.iter().all(|instance| query.accepts(instance)) {
        let accepted = snapshot
            .instances
            .iter()
            .filter(|instance| query.accepts(instance));
        snapshot.instances = accepted.cloned().collect();
    }
    snapshot
}

#[cfg(test)]
mod tests;
