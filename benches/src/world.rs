//! A registry that only exists here, and the library's own views of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use discovery_core::{
    Backend, BackendInfo, BackendStatus, Capabilities, Change, Cursor, Error, ErrorKind, HealthReport,
    Instance, InstanceId, InstanceKey, Lease, LeaseGroup, MetaChange, Query, Registration, Renewal, Result,
    Scope, ServiceName, ServiceRegistry, ServiceSummary, Snapshot, TaskGroup, WatchEvent, WatchStream,
    Watcher,
    pick::{Endpoints, Picker, RoundRobin, Service, Strategy},
    resolver::{Resolver, ResolverOptions},
};
use futures::{StreamExt, stream};
use tokio::{runtime::Runtime, sync::mpsc};

/// Instances of `service` on `port`s of one host.
pub fn instances(service: &str, n: usize, port: u16) -> Vec<Arc<Instance>> {
    weighted(service, n, port, |_| 1)
}

/// The same with weights.
pub fn weighted(service: &str, n: usize, port: u16, weight: impl Fn(usize) -> u16) -> Vec<Arc<Instance>> {
    let name = ServiceName::observed(service);
    (0..n)
        .map(|i| {
            let id = InstanceId::observed(format!("{service}-{i}"));
            let key = InstanceKey::new("bench", name.clone(), id);
            let host = format!("10.{}.{}.{}", i >> 16, (i >> 8) & 255, i & 255);
            Arc::new(Instance::builder(key, host, port).weight(weight(i)).build())
        })
        .collect()
}

/// What the registry shows of one service: a first answer, then events.
#[derive(Debug)]
struct Feed {
    first: Vec<Arc<Instance>>,
    later: mpsc::UnboundedReceiver<WatchEvent>,
}

#[derive(Debug, Default)]
struct Fake {
    feeds: Mutex<HashMap<String, Feed>>,
    /// Keeps every watch open to the end.
    open: Mutex<Vec<mpsc::UnboundedSender<WatchEvent>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watcher for Fake {
    fn watch(&self, query: &Query, _: Option<Cursor>) -> WatchStream {
        let feed = lock(&self.feeds)
            .remove(query.label())
            .expect("one watch for each service");
        let first = stream::once(async { Ok(WatchEvent::new(Change::Reset(feed.first))) });
        let later = stream::unfold(feed.later, |mut later| async {
            let event = later.recv().await?;
            Some((Ok(event), later))
        });
        first.chain(later).boxed()
    }
}

fn only_watched<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "it can only be watched"))
}

#[async_trait]
impl ServiceRegistry for Fake {
    fn info(&self) -> BackendInfo {
        BackendInfo::new("bench", "nowhere")
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities::read_only(Duration::from_secs(3600))
    }
    async fn register(&self, _: &Registration) -> Result<Lease> {
        only_watched()
    }
    async fn renew(&self, _: &LeaseGroup, _: &Renewal) -> Result<()> {
        only_watched()
    }
    async fn deregister(&self, _: &InstanceKey) -> Result<()> {
        only_watched()
    }
    async fn release(&self, _: &LeaseGroup) -> Result<()> {
        only_watched()
    }
    async fn update_meta(&self, _: &InstanceKey, _: &MetaChange) -> Result<()> {
        only_watched()
    }
    async fn report_health(&self, _: &InstanceKey, _: &HealthReport) -> Result<()> {
        only_watched()
    }
    async fn instance(&self, _: &InstanceKey) -> Result<Option<Instance>> {
        only_watched()
    }
    async fn instances(&self, _: &Query) -> Result<Snapshot> {
        only_watched()
    }
    async fn services(&self, _: &Scope) -> Result<Vec<ServiceSummary>> {
        only_watched()
    }
    async fn status(&self) -> Result<BackendStatus> {
        only_watched()
    }
}

/// A resolver over a registry in memory. Its views stay as they are while nobody drives a current-thread `runtime`.
#[derive(Debug)]
pub struct World {
    /// What the resolver's tasks run on.
    pub runtime: Runtime,
    resolver: Resolver,
    fake: Arc<Fake>,
}

/// A live service of a [`World`].
#[derive(Debug)]
pub struct Live {
    /// A handle whose view is ready.
    pub service: Service,
    /// Its instances as they were first shown.
    pub instances: Vec<Arc<Instance>>,
    events: mpsc::UnboundedSender<WatchEvent>,
}

impl Live {
    /// Changes one instance.
    pub fn upsert(&self, instance: Arc<Instance>) {
        let event = WatchEvent::new(Change::Upsert(vec![instance]));
        self.events.send(event).expect("the watch is open");
    }
}

/// A strategy that keeps what it is asked to prepare for.
#[derive(Debug, Default)]
struct Keep(Mutex<Endpoints>);

impl Strategy for Keep {
    fn name(&self) -> &'static str {
        "keep"
    }

    fn prepare(&self, endpoints: &Endpoints) -> Box<dyn Picker> {
        lock(&self.0).clone_from(endpoints);
        RoundRobin.prepare(endpoints)
    }
}

impl World {
    /// An empty registry, whose watches run on `runtime`.
    pub fn new(runtime: Runtime) -> Self {
        let fake = Arc::<Fake>::default();
        let tasks = {
            let _inside = runtime.enter();
            TaskGroup::current().expect("inside a runtime")
        };
        let backend = Backend::new(fake.clone(), fake.clone());
        Self {
            runtime,
            resolver: Resolver::new(backend, tasks, ResolverOptions::default()),
            fake,
        }
    }

    /// A registry whose watches run only while `runtime` is blocked on, on that very thread.
    pub fn quiet() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        Self::new(runtime.expect("a runtime"))
    }

    /// Adds a service of `n` healthy instances and waits until its view shows them.
    pub fn service(&self, name: &str, n: usize) -> Live {
        self.balanced(name, n, &(Arc::new(RoundRobin) as Arc<dyn Strategy>))
    }

    /// The same, balanced like this.
    pub fn balanced(&self, name: &str, n: usize, strategy: &Arc<dyn Strategy>) -> Live {
        self.of(name, instances(name, n, 8000), strategy)
    }

    /// What a strategy prepares pickers for.
    pub fn endpoints(&self, name: &str, instances: Vec<Arc<Instance>>) -> Endpoints {
        let kept = Arc::<Keep>::default();
        self.of(name, instances, &(kept.clone() as Arc<dyn Strategy>));
        lock(&kept.0).clone()
    }

    /// Adds a service of these instances, balanced like this, and waits until its view shows them.
    pub fn of(&self, name: &str, instances: Vec<Arc<Instance>>, strategy: &Arc<dyn Strategy>) -> Live {
        let n = instances.len();
        let (events, later) = mpsc::unbounded_channel();
        let feed = Feed {
            first: instances.clone(),
            later,
        };
        lock(&self.fake.feeds).insert(name.to_owned(), feed);
        lock(&self.fake.open).push(events.clone());
        let query = Query::service(name).expect("a valid name");
        let service = {
            let _inside = self.runtime.enter();
            let view = self.resolver.view(&query, strategy).expect("a view");
            Service::new(view, Duration::from_secs(10))
        };
        let seen = self.runtime.block_on(service.ready()).expect("a first answer");
        assert_eq!(seen.instances.len(), n);
        Live {
            service,
            instances,
            events,
        }
    }
}
