//! Servers, the way to them that faults break, and what cases look at.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use discovery::Client;
use discovery_consul::{ConsulConfig, backend};
use discovery_core::{
    Backend, Instance, Query, Registration, Snapshot, Source, Status,
    pick::{Service, Subscription},
};
use discovery_testkit::{
    eventually,
    proxy::{Proxy, http::HttpProxy},
    server::{
        Server,
        consul::{AclToken, Age, Consul, ConsulBuilder},
    },
};
use tokio::time::timeout;

/// Never an assertion about speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The TTL of [`web`] where heartbeats matter; they come every second.
pub(crate) const TTL: Duration = Duration::from_secs(3);
/// A TTL that no case outlives.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// What a case runs on.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) age: Age,
    pub(crate) binary: PathBuf,
}

impl Setup {
    pub(crate) fn is_old(&self) -> bool {
        self.age == Age::Old
    }

    pub(crate) fn consul(&self) -> ConsulBuilder {
        Consul::dev(&self.binary)
    }

    pub(crate) async fn started(&self) -> Consul {
        started(self.consul()).await
    }

    /// One that denies what no token allows.
    pub(crate) async fn guarded(&self) -> Consul {
        started(self.consul().acl()).await
    }
}

pub(crate) async fn started(builder: ConsulBuilder) -> Consul {
    let consul = builder.build().await.unwrap();
    consul.start().await.unwrap();
    consul
}

/// Watches that confirm every second.
pub(crate) fn brisk(address: SocketAddr) -> ConsulConfig {
    let mut config = ConsulConfig::at(address.to_string());
    config.discovery.wait = Duration::from_secs(1);
    config
}

/// A backend straight at the server.
pub(crate) fn direct(consul: &Consul) -> Backend {
    backend(ConsulConfig::at(consul.endpoint().to_string())).unwrap()
}

/// One under the token that may do everything.
pub(crate) fn root(consul: &Consul) -> Backend {
    with_token(consul, consul.management_token().unwrap().expose())
}

pub(crate) fn with_token(consul: &Consul, token: &str) -> Backend {
    backend(ConsulConfig::at(consul.endpoint().to_string()).token(token)).unwrap()
}

/// A token with these rules and no others.
pub(crate) async fn token(consul: &Consul, name: &str, rules: &str) -> AclToken {
    consul.create_policy(name, rules).await.unwrap();
    consul.create_token(&[name]).await.unwrap()
}

/// A client that does not wait long; its watches end with their last user.
pub(crate) fn client(config: ConsulConfig) -> Client {
    Client::builder(backend(config).unwrap())
        .timeout(Duration::from_secs(10))
        .linger(Duration::from_millis(100))
        .build()
        .unwrap()
}

/// The way from a client to a server: TCP faults first, then those of HTTP.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) tcp: Proxy,
    pub(crate) http: HttpProxy,
}

impl Way {
    pub(crate) fn to(consul: &Consul) -> Self {
        let http = HttpProxy::start(consul.endpoint()).unwrap();
        Self {
            tcp: Proxy::start(http.addr()).unwrap(),
            http,
        }
    }

    pub(crate) fn heal(&self) {
        self.http.clear_rules();
        self.tcp.heal().unwrap();
    }
}

/// Instance `n` of `service`, at port `n`.
pub(crate) fn numbered(service: &str, n: u16, ttl: Duration) -> Registration {
    Registration::builder(service, "10.0.0.5", n)
        .id(format!("{service}-{n}"))
        .ttl(ttl)
        .build()
        .unwrap()
}

pub(crate) fn web(id: &str) -> Registration {
    Registration::builder("web", "10.0.0.5", 8080)
        .id(id)
        .ttl(Duration::from_secs(30))
        .build()
        .unwrap()
}

/// Registers these instances of `service` and waits until the catalogue has no others.
pub(crate) async fn register(truth: &Backend, service: &str, ports: &[u16]) {
    for port in ports {
        let registration = numbered(service, *port, LONG);
        truth.registry.register(&registration).await.unwrap();
    }
    sees(truth, service, ports).await;
}

/// Withdraws instance `n` of `service` through the agent that has it.
pub(crate) async fn deregister(consul: &Consul, service: &str, n: u16) {
    consul.deregister(&format!("{service}-{n}")).await.unwrap();
}

/// All instances of `service`, whatever their health.
pub(crate) async fn found(truth: &Backend, service: &str) -> discovery_core::Result<Vec<Arc<Instance>>> {
    let query = Query::service(service).unwrap().include_unhealthy();
    let found = truth.registry.instances(&query).await?;
    Ok(found.instances.iter().cloned().collect())
}

/// Waits until the catalogue has these instances.
pub(crate) async fn sees(truth: &Backend, service: &str, ports: &[u16]) {
    eventually(format!("{service} at {ports:?}"), PATIENCE, || async {
        let found = found(truth, service).await.map_err(|error| error.to_string())?;
        let mut seen: Vec<_> = found.iter().map(|instance| instance.port).collect();
        seen.sort_unstable();
        if seen == ports {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .await;
}

/// The status of the only instance of `service`.
pub(crate) async fn status(truth: &Backend, service: &str) -> Result<Status, String> {
    let found = found(truth, service).await.map_err(|error| error.to_string())?;
    match &found[..] {
        [instance] => Ok(instance.status),
        other => Err(format!("{other:?}")),
    }
}

/// Waits until the only instance of `service` has this status.
pub(crate) async fn turns(truth: &Backend, service: &str, wanted: Status, patience: Duration) {
    eventually(format!("{service} {wanted}"), patience, || async {
        match status(truth, service).await {
            Ok(status) if status == wanted => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

pub(crate) fn ports(view: &Snapshot) -> Vec<u16> {
    let mut ports: Vec<_> = view.instances.iter().map(|instance| instance.port).collect();
    ports.sort_unstable();
    ports
}

/// A view and every state it goes through.
pub(crate) struct Views {
    pub(crate) service: Service,
    pub(crate) changes: Subscription,
    /// The last state it was seen in.
    last: Option<Snapshot>,
}

impl Views {
    /// A live view of these instances.
    pub(crate) async fn of(client: &Client, query: &Query, ports: &[u16]) -> Self {
        let service = client.query(query).unwrap();
        let mut views = Self {
            changes: service.subscribe(),
            service,
            last: None,
        };
        views.live(ports, PATIENCE).await;
        views
    }

    pub(crate) async fn until(
        &mut self,
        what: &str,
        patience: Duration,
        good: impl Fn(&Snapshot) -> bool,
    ) -> Snapshot {
        self.while_all(&[], what, patience, good).await
    }

    /// Waits for a good view, while every view before it shows these instances at least.
    pub(crate) async fn while_all(
        &mut self,
        kept: &[u16],
        what: &str,
        patience: Duration,
        good: impl Fn(&Snapshot) -> bool,
    ) -> Snapshot {
        let wait = async {
            loop {
                if let Some(view) = &self.last {
                    if good(view) {
                        return view.clone();
                    }
                    shows(view, kept);
                }
                self.last = Some(self.changes.next().await.unwrap());
            }
        };
        let Ok(view) = timeout(patience, wait).await else {
            panic!("waited in vain for {what}; last seen: {:?}", self.last);
        };
        view
    }

    pub(crate) async fn live(&mut self, wanted: &[u16], patience: Duration) -> Snapshot {
        let what = format!("a live view of {wanted:?}");
        self.until(&what, patience, |view| {
            view.source == Source::Live && ports(view) == wanted
        })
        .await
    }

    /// Waits until it knows that it is cut off, having lost nothing.
    pub(crate) async fn stale(&mut self, kept: &[u16]) {
        let view = self
            .while_all(kept, "a stale view", PATIENCE, |view| {
                view.source == Source::Stale
            })
            .await;
        assert_eq!(ports(&view), kept);
    }

    /// Does this while the view shows these instances at least.
    pub(crate) async fn keeps<T>(&mut self, kept: &[u16], work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                view = self.changes.next() => {
                    shows(self.last.insert(view.unwrap()), kept);
                }
                done = &mut work => return done,
            }
        }
    }
}

#[track_caller]
fn shows(view: &Snapshot, kept: &[u16]) {
    let shown = ports(view);
    assert!(
        kept.iter().all(|port| shown.contains(port)),
        "{kept:?} are gone: {view:?}"
    );
}
