//! What a case works with.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use discovery_core::{Backend, ErrorKind, Instance, Lease, Query, Registration, RegistrationBuilder, Result};

use discovery::{Client, ClientBuilder};
use tokio::time::{Instant, interval};

use super::{Subject, Watching};
use crate::{capture::Capture, try_eventually};

/// What a case works with: its subject, a first backend on it, and names of its own.
#[derive(Debug)]
pub struct Env {
    /// The registry.
    pub subject: Arc<dyn Subject>,
    /// A client's backend, over the way that faults break.
    pub backend: Backend,
    /// Everything logged in this process, unless somebody else listens.
    pub(super) capture: Option<Capture>,
    unique: String,
}

impl Env {
    pub(super) async fn new(subject: Arc<dyn Subject>, capture: Option<Capture>) -> Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            backend: subject.connect().await?,
            subject,
            capture,
            unique: format!("{:06x}{n:x}", fastrand::u32(..1 << 24)),
        })
    }

    /// A service name nobody else uses: a DNS label, as every registry takes it.
    pub fn name(&self, part: &str) -> String {
        format!("{part}-{}", self.unique)
    }

    /// A registration of `service` at 127.0.0.1 and this port.
    pub fn registration(&self, service: &str, port: u16) -> RegistrationBuilder {
        Registration::builder(service, "127.0.0.1", port)
    }

    /// Registers `service` at 127.0.0.1 and this port.
    pub async fn register(&self, service: &str, port: u16) -> Result<Lease> {
        self.backend
            .registry
            .register(&self.registration(service, port).build()?)
            .await
    }

    /// A client over the way that faults break.
    pub async fn client(&self) -> Result<Client> {
        self.client_with(|builder| builder).await
    }

    /// A client over the way that faults break, configured further.
    pub async fn client_with(&self, change: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Result<Client> {
        let builder = Client::builder(self.subject.connect().await?)
            .timeout(Duration::from_secs(10))
            .linger(Duration::from_millis(100));
        change(builder).build()
    }

    /// The shortest TTL this registry keeps and a busy machine does not miss: a third of it is between two heartbeats.
    pub fn ttl(&self) -> Duration {
        self.subject.min_ttl().max(Duration::from_secs(3))
    }

    /// Starts to watch.
    pub fn watch(&self, query: &Query) -> Watching {
        Watching::new(&self.backend, query, None, self.patience())
    }

    /// How long a case waits for what should be visible by now: never an assertion about speed.
    pub fn patience(&self) -> Duration {
        self.subject.visible_within() + Duration::from_secs(20)
    }

    /// Waits until `query` shows what `good` wants, filters applied, and answers it.
    pub async fn sees(
        &self,
        backend: &Backend,
        query: &Query,
        what: impl Display,
        good: impl Fn(&[Arc<Instance>]) -> bool,
    ) -> Result<Vec<Arc<Instance>>> {
        try_eventually(what, self.patience(), || async {
            let found = found(backend, query)
                .await
                .map_err(|error| format!("{error:#}"))?;
            if good(&found) {
                Ok(found)
            } else {
                Err(shown(&found))
            }
        })
        .await
    }

    /// Checks again and again, for so long, that `query` shows these ports.
    ///
    /// # Panics
    /// When it shows others.
    pub async fn stays(
        &self,
        backend: &Backend,
        query: &Query,
        ports: &[u16],
        how_long: Duration,
    ) -> Result<()> {
        let until = Instant::now() + how_long;
        let mut ticks = interval(Duration::from_millis(20));
        while Instant::now() < until {
            ticks.tick().await;
            let found = found(backend, query).await?;
            assert_eq!(
                self::ports(&found),
                ports,
                "it did not stay so: {}",
                shown(&found)
            );
        }
        Ok(())
    }

    /// Waits until `query` shows these ports.
    pub async fn sees_ports(&self, backend: &Backend, query: &Query, ports: &[u16]) -> Result<()> {
        let good = |found: &[Arc<Instance>]| self::ports(found) == ports;
        self.sees(backend, query, format!("the ports {ports:?}"), good)
            .await
            .map(drop)
    }
}

/// What `query` shows, filters applied, sorted by key.
pub(super) async fn found(backend: &Backend, query: &Query) -> Result<Vec<Arc<Instance>>> {
    let snapshot = backend.registry.instances(query).await?;
    let mut found: Vec<_> = snapshot
        .instances
        .iter()
        .filter(|i| query.accepts(i))
        .cloned()
        .collect();
    found.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(found)
}

/// The ports of these instances, sorted.
pub(super) fn ports<'a>(instances: impl IntoIterator<Item = &'a Arc<Instance>>) -> Vec<u16> {
    let mut ports: Vec<_> = instances.into_iter().map(|i| i.port).collect();
    ports.sort_unstable();
    ports
}

/// The one instance a case expects.
#[track_caller]
pub(super) fn only(found: &[Arc<Instance>]) -> &Instance {
    match found {
        [instance] => instance,
        _ => panic!("expected one instance, found {}", shown(found)),
    }
}

/// The kind a call failed with.
pub(super) fn kind<T>(result: &Result<T>) -> Option<ErrorKind> {
    result.as_ref().err().map(discovery_core::Error::kind)
}

fn shown(found: &[Arc<Instance>]) -> String {
    let instances: Vec<_> = found
        .iter()
        .map(|i| format!("{} {}", i.address(), i.status))
        .collect();
    format!("{} instances: [{}]", found.len(), instances.join(", "))
}
