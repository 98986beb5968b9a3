//! What was read lately, and the last good answer for when the registry fails.

use std::{fmt, future::Future, hash::Hash, sync::Arc, time::Duration};

use moka::{future::Cache, ops::compute::Op};
use tokio::time::Instant;

use crate::{
    error::{Error, ErrorKind, Result},
    metrics,
    model::{Evidence, Query, Scope, ServiceSummary, Snapshot, Source, Suspicion},
};

/// What the read cache keeps and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheOptions {
    /// How long an answer counts as fresh where the registry does not say.
    pub ttl: Duration,
    /// How long an empty answer does, at most.
    pub empty_ttl: Duration,
    /// How many answers are kept; beyond that the least used go.
    pub entries: u64,
}

impl Default for CacheOptions {
    /// 10 s, 1 s for empty answers, 1024 answers.
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
            empty_ttl: Duration::from_secs(1),
            entries: 1024,
        }
    }
}

impl CacheOptions {
    fn ttl_of(&self, snapshot: &Snapshot) -> Duration {
        let ttl = snapshot.valid_for.unwrap_or(self.ttl);
        if snapshot.instances.is_empty() {
            ttl.min(self.empty_ttl)
        } else {
            ttl
        }
    }
}

/// The reads of one registry: fresh answers, one fetch for all who miss at once, and the last good answer of each query.
///
/// Kept is the unfiltered answer, so that queries which differ only in filters share it. Only authoritative answers are
/// kept: a suspect one is passed on and leaves everything as it was.
///
/// When a fetch fails, the last good answer is served, marked [`Source::Stale`] and with its age, within the query's
/// `max_stale`. That holds for a registry that cannot answer ([`Unavailable`](ErrorKind::Unavailable), also of an open
/// circuit, [`Timeout`](ErrorKind::Timeout), [`RateLimited`](ErrorKind::RateLimited), [`Protocol`](ErrorKind::Protocol))
/// and for one that refuses us ([`Unauthenticated`](ErrorKind::Unauthenticated),
/// [`PermissionDenied`](ErrorKind::PermissionDenied)): a token that ran out empties no view (rule A-1). Then the answer
/// also carries [`Suspicion::AccessLost`].
pub(super) struct ReadCache {
    backend: &'static str,
    options: CacheOptions,
    instances: Entries<Query, Snapshot>,
    services: Entries<Scope, Arc<[ServiceSummary]>>,
    last_good: Cache<Query, Snapshot>,
}

impl ReadCache {
    pub(super) fn new(backend: &'static str, options: CacheOptions) -> Self {
        Self {
            backend,
            instances: Entries::new(options.entries),
            services: Entries::new(options.entries),
            last_good: Cache::new(options.entries),
            options,
        }
    }

    /// The instances `query` means but for its filters, from the cache or else from `fetch`, which is given the query without
    /// them.
    pub(super) async fn instances<F, Fut>(&self, query: &Query, fetch: F) -> Result<Snapshot>
    where
        F: FnOnce(Query) -> Fut,
        Fut: Future<Output = Result<Snapshot>>,
    {
        let too_old = |snapshot: &Snapshot| query.max_stale.is_some_and(|max| snapshot.age() > max);
        let key = query.upstream();
        if let Some(snapshot) = self.instances.fresh(&key, |snapshot| !too_old(snapshot)).await {
            self.count(true);
            return Ok(snapshot.with_source(Source::Cache));
        }
        self.count(false);
        let fetched = self
            .instances
            .fetch(&key, async {
                let snapshot = fetch(key.clone()).await.map_err(Miss::Failed)?;
                if !is_good(&snapshot) {
                    return Err(Miss::Unkept(snapshot));
                }
                self.last_good.insert(key.clone(), snapshot.clone()).await;
                let ttl = self.options.ttl_of(&snapshot);
                Ok((snapshot, ttl))
            })
            .await;
        match fetched {
            Ok(snapshot) | Err(Miss::Unkept(snapshot)) => Ok(snapshot),
            Err(Miss::Failed(error)) => match self.stale(&key, &error).await {
                Some(snapshot) if !too_old(&snapshot) => Ok(snapshot),
                _ => Err(error),
            },
        }
    }

    /// The services of `scope`, from the cache or else from `fetch`.
    ///
    /// A list of services cannot say how old it is, so a failure is a failure: no stale list is served.
    pub(super) async fn services<F, Fut>(&self, scope: &Scope, fetch: F) -> Result<Vec<ServiceSummary>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Vec<ServiceSummary>>>,
    {
        if let Some(services) = self.services.fresh(scope, |_| true).await {
            self.count(true);
            return Ok(services.to_vec());
        }
        self.count(false);
        let fetched = self.services.fetch(scope, async {
            let services: Arc<[_]> = fetch().await.map_err(Miss::Failed)?.into();
            let ttl = if services.is_empty() {
                self.options.empty_ttl.min(self.options.ttl)
            } else {
                self.options.ttl
            };
            Ok((services, ttl))
        });
        match fetched.await {
            Ok(services) | Err(Miss::Unkept(services)) => Ok(services.to_vec()),
            Err(Miss::Failed(error)) => Err(error),
        }
    }

    /// The last good answer, where `error` allows to serve it.
    async fn stale(&self, key: &Query, error: &Error) -> Option<Snapshot> {
        let refused = match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::RateLimited | ErrorKind::Protocol => {
                false
            }
            ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => true,
            _ => return None,
        };
        let snapshot = self.last_good.get(key).await?.with_source(Source::Stale);
        tracing::debug!(
            backend = self.backend, service = key.label(), age = ?snapshot.age(), error = %error,
            "serving the last good answer"
        );
        Some(if refused {
            snapshot.with_evidence(Evidence::Suspect(Suspicion::AccessLost))
        } else {
            snapshot
        })
    }

    fn count(&self, hit: bool) {
        metrics::cache(self.backend, hit);
    }
}

impl fmt::Debug for ReadCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadCache")
            .field("backend", &self.backend)
            .field("options", &self.options)
            .field("last_good", &self.last_good.entry_count())
            .finish_non_exhaustive()
    }
}

/// Whether an answer may be kept: the registry said it itself and knew it.
fn is_good(snapshot: &Snapshot) -> bool {
    snapshot.evidence == Evidence::Authoritative
        && snapshot.held.is_none()
        && matches!(snapshot.source, Source::Live | Source::Cache)
}

/// Why a fetch left nothing in the cache.
#[derive(Debug, Clone)]
enum Miss<V> {
    /// The answer is not to be kept, and good enough to pass on.
    Unkept(V),
    Failed(Error),
}

/// Values with a deadline each; whoever misses at once shares one fetch.
///
/// The deadline is ours, not moka's, so that one clock decides, which tests can pause. Outdated entries make room when
/// they are asked for or when the capacity is used up.
struct Entries<K, V>(Cache<K, Entry<V>>);

#[derive(Debug, Clone)]
struct Entry<V> {
    value: V,
    fresh_until: Instant,
}

impl<K, V> Entries<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn new(capacity: u64) -> Self {
        Self(Cache::new(capacity))
    }

    /// The value, where there is one within its deadline that `good_enough` accepts; another is removed.
    async fn fresh(&self, key: &K, good_enough: impl Fn(&V) -> bool) -> Option<V> {
        let usable = |entry: &Entry<V>| Instant::now() < entry.fresh_until && good_enough(&entry.value);
        let entry = self.0.get(key).await?;
        if usable(&entry) {
            return Some(entry.value);
        }
        // Looks again before it removes: another caller may have replaced the entry meanwhile.
        let remove = |entry: Option<moka::Entry<K, Entry<V>>>| {
            let outdated = entry.is_some_and(|entry| !usable(entry.value()));
            std::future::ready(if outdated { Op::Remove } else { Op::Nop })
        };
        self.0.entry_by_ref(key).and_compute_with(remove).await;
        None
    }

    /// The value `init` makes and how long it is fresh; callers at the same time share one `init`.
    async fn fetch(
        &self,
        key: &K,
        init: impl Future<Output = Result<(V, Duration), Miss<V>>>,
    ) -> Result<V, Miss<V>> {
        let init = async {
            let (value, ttl) = init.await?;
            let now = Instant::now();
            // A TTL beyond what the clock can say is a day.
            let fresh_until = now.checked_add(ttl).unwrap_or(now + Duration::from_secs(86_400));
            Ok(Entry { value, fresh_until })
        };
        match self.0.try_get_with_by_ref(key, init).await {
            Ok(entry) => Ok(entry.value),
            Err(miss) => Err(Miss::clone(&miss)),
        }
    }
}

#[cfg(test)]
mod tests;
