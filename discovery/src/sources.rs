//! Several sources for one client: which there are, and in what order services are looked for in them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use discovery_core::{
    Backend, Error, ErrorKind, Query, Result, Scope, ServiceName, ServiceRegistry as _, Snapshot, Target,
    TaskGroup,
    failover::{Failover, FailoverPolicy, FailoverState, Leg},
    pick::{RoundRobin, Strategy, View},
    resilience::{ResilienceOptions, Resilient},
    resolver::{Resolver, ResolverOptions, check_query},
};

use crate::builder::Disk;

/// The sources a client reads from: its own backend, which alone gets the writes, and further ones that step in for it.
///
/// Services are looked for in all of them, in the order in which they were added, unless a [`Route`] says otherwise. Names
/// are what instances carry as [`InstanceKey::source`](crate::InstanceKey::source).
///
/// ```
/// use std::time::Duration;
/// use discovery::{Client, Sources, failover::FailoverPolicy, memory::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> discovery::Result<()> {
/// let (here, there) = (MemoryStore::new(), MemoryStore::new());
/// let sources = Sources::new("here")
///     .then("there", there.backend())
///     .policy(FailoverPolicy::default().max_outage(Duration::from_secs(10)));
/// let client = Client::builder(here.backend()).sources(sources).build()?;
/// # client.shutdown(Duration::from_secs(1)).await
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Sources {
    pub(crate) primary: Arc<str>,
    further: Vec<(Arc<str>, Backend)>,
    routes: BTreeMap<String, Route>,
    others: Option<Route>,
    policy: FailoverPolicy,
}

impl Sources {
    /// The client's own backend, under this name.
    pub fn new(primary: impl Into<Arc<str>>) -> Self {
        Self {
            primary: primary.into(),
            further: Vec::new(),
            routes: BTreeMap::new(),
            others: None,
            policy: FailoverPolicy::default(),
        }
    }

    /// And this backend, after those added before.
    pub fn then(mut self, name: impl Into<Arc<str>>, backend: Backend) -> Self {
        self.further.push((name.into(), backend));
        self
    }

    /// Where one service is looked for.
    pub fn service(mut self, name: impl Into<String>, route: Route) -> Self {
        self.routes.insert(name.into(), route);
        self
    }

    /// Where services are looked for that have no route of their own; in all sources, one after the other, unless set.
    pub fn others(mut self, route: Route) -> Self {
        self.others = Some(route);
        self
    }

    /// When sources give way, and when they are used again.
    pub fn policy(mut self, policy: FailoverPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The names of all sources, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.primary).chain(self.further.iter().map(|(name, _)| &**name))
    }
}

/// In which sources a service is looked for, and in what order.
///
/// ```
/// use discovery::Route;
///
/// let route = Route::to(["dc1", "dc2"]).or(["dns"]); // both datacenters together, and DNS when they have nothing
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Route {
    tiers: Vec<Vec<String>>,
    strategy: Option<Arc<dyn Strategy>>,
}

impl Route {
    /// In these, which serve together.
    pub fn to<S: Into<String>>(sources: impl IntoIterator<Item = S>) -> Self {
        Self {
            tiers: Vec::new(),
            strategy: None,
        }
        .or(sources)
    }

    /// And when those have too few healthy instances, in these.
    pub fn or<S: Into<String>>(mut self, sources: impl IntoIterator<Item = S>) -> Self {
        self.tiers.push(sources.into_iter().map(Into::into).collect());
        self
    }

    /// Balanced like this, where a handle does not say.
    pub fn strategy(mut self, strategy: Arc<dyn Strategy>) -> Self {
        self.strategy = Some(strategy);
        self
    }
}

/// A source in use.
struct Opened {
    name: Arc<str>,
    reads: Arc<Resilient>,
    resolver: Resolver,
}

/// A [`Route`] by the places of its sources.
struct Way {
    tiers: Vec<Vec<usize>>,
    strategy: Option<Arc<dyn Strategy>>,
}

impl Way {
    /// Whether the client's own backend is all there is to it.
    fn is_plain(&self) -> bool {
        matches!(&self.tiers[..], [tier] if tier[..] == [0])
    }
}

/// The sources of a client, opened.
pub(crate) struct Reading {
    sources: Vec<Opened>,
    ways: HashMap<ServiceName, Way>,
    others: Way,
    failover: Failover,
}

impl Reading {
    /// Opens what is beside the client's own backend, whose reads and views these are.
    pub(crate) fn open(
        told: Sources,
        own: (Arc<Resilient>, Resolver),
        tasks: &TaskGroup,
        resilience: &ResilienceOptions,
        resolver: &ResolverOptions,
        disk: Option<&Disk>,
    ) -> Result<Self> {
        let mut names: Vec<String> = Vec::new();
        for name in told.names() {
            if name.is_empty() || names.iter().any(|other| other == name) {
                return Err(invalid("every source needs a name of its own", name));
            }
            names.push(name.to_owned());
        }
        let mut sources = vec![Opened {
            name: told.primary,
            reads: own.0,
            resolver: own.1,
        }];
        for (name, backend) in told.further {
            let mut backend = backend.named(name.clone());
            let reads = Arc::new(Resilient::new(backend.registry.clone(), resilience.clone()));
            let mut options = resolver.clone();
            options.disk = disk.map(|disk| disk.store(reads.info()));
            backend.registry = reads.uncached();
            sources.push(Opened {
                name,
                reads,
                resolver: Resolver::new(backend, tasks.clone(), options),
            });
        }
        let way = |route: &Route| -> Result<Way> {
            let mut seen = Vec::new();
            let mut tiers = Vec::new();
            for tier in &route.tiers {
                let mut places = Vec::new();
                for name in tier {
                    let place = names
                        .iter()
                        .position(|other| other == name)
                        .ok_or_else(|| invalid("a route leads to a source that is not there", name))?;
                    if seen.contains(&place) {
                        return Err(invalid("a route leads twice to the same source", name));
                    }
                    seen.push(place);
                    places.push(place);
                }
                tiers.push(places);
            }
            if seen.is_empty() {
                return Err(invalid("a route leads to no source", ""));
            }
            Ok(Way {
                tiers,
                strategy: route.strategy.clone(),
            })
        };
        let ways = told
            .routes
            .iter()
            .map(|(service, route)| Ok((ServiceName::new(service)?, way(route)?)))
            .collect::<Result<_>>()?;
        let others = match &told.others {
            Some(route) => way(route)?,
            None => Way {
                tiers: (0..sources.len()).map(|place| vec![place]).collect(),
                strategy: None,
            },
        };
        Ok(Self {
            sources,
            ways,
            others,
            failover: Failover::new(told.policy, tasks.clone(), resolver),
        })
    }

    /// Where a query leads, if to more than the client's own backend. One that spans services, or names a datacenter or
    /// namespace, does not.
    fn way(&self, query: &Query) -> Option<&Way> {
        let Target::Service(name) = &query.target else {
            return None;
        };
        if query.scope != Scope::default() {
            return None;
        }
        Some(self.ways.get(name).unwrap_or(&self.others)).filter(|way| !way.is_plain())
    }

    /// How the route of a query says that it is balanced.
    pub(crate) fn strategy(&self, query: &Query) -> Option<&Arc<dyn Strategy>> {
        let Target::Service(name) = &query.target else {
            return None;
        };
        self.ways.get(name)?.strategy.as_ref()
    }

    /// The view of a query over its sources; nothing where the client's own backend is all there is to it.
    pub(crate) fn view(&self, query: &Query, strategy: &Arc<dyn Strategy>) -> Option<Result<Arc<View>>> {
        let way = self.way(query)?;
        let plain: Arc<dyn Strategy> = Arc::new(RoundRobin);
        Some(self.failover.view(query, strategy, || {
            let leg = |place: &usize| {
                let source = &self.sources[*place];
                Ok(Leg::new(
                    source.name.clone(),
                    source.resolver.view(query, &plain)?,
                ))
            };
            let tiers = way.tiers.iter();
            tiers.map(|tier| tier.iter().map(leg).collect()).collect()
        }))
    }

    /// As [`Self::view`], looking once.
    pub(crate) async fn lookup(&self, query: &Query) -> Option<Result<Snapshot>> {
        let way = self.way(query)?;
        let mut asked = Vec::with_capacity(way.tiers.len());
        for tier in &way.tiers {
            asked.push(tier.iter().map(|place| self.ask(*place, query)).collect());
        }
        Some(self.failover.lookup(query, asked).await)
    }

    /// What all sources of a query have, whichever serve.
    pub(crate) async fn lookup_everywhere(&self, query: &Query) -> Option<Result<Snapshot>> {
        let way = self.way(query)?;
        let places = way.tiers.iter().flatten();
        let asked = places.map(|place| self.ask(*place, query)).collect();
        Some(self.failover.lookup_everywhere(query, asked).await)
    }

    async fn ask(&self, place: usize, query: &Query) -> Result<Snapshot> {
        let reads = &self.sources[place].reads;
        check_query(query, &reads.capabilities()).map_err(|error| error.with_backend(reads.info().scheme))?;
        reads.instances(query).await
    }

    pub(crate) fn states(&self) -> Vec<FailoverState> {
        self.failover.states()
    }

    /// The upstream watches of the sources beside the client's own backend.
    pub(crate) fn upstreams(&self) -> usize {
        let further = self.sources.iter().skip(1);
        further.map(|source| source.resolver.upstreams()).sum()
    }
}

fn invalid(message: &'static str, name: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message).with_context("source", format!("{name:?}"))
}
