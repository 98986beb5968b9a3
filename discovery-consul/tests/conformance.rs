//! The conformance suite on real Consul servers, the oldest and the newest supported.
//!
//! `DISCOVERY_CONSUL_OLD` and `DISCOVERY_CONSUL_NEW` name the programs; `scripts/servers` says where they are. At least one
//! must be named: without a server there is nothing to prove.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use discovery_consul::ConsulConfig;
use discovery_core::{Backend, Error, ErrorKind, Result};
use discovery_testkit::{
    proxy::{
        Close, Flow, Proxy,
        http::{HttpProxy, Rule},
    },
    server::{
        Server,
        consul::{Age, Consul},
    },
    suite::{self, Case, Fault, Provider, Subject, Tool},
    try_eventually,
};
use tokio::sync::Mutex;

fn main() -> ExitCode {
    let providers: Vec<_> = Age::ALL
        .into_iter()
        .filter_map(|age| {
            let consul = Version {
                age,
                program: age.binary()?,
                shared: OnceLock::new(),
            };
            Some(Arc::new(consul) as Arc<dyn Provider>)
        })
        .collect();
    if providers.is_empty() {
        #[expect(clippy::print_stderr, reason = "this is a test program's main")]
        {
            eprintln!(
                "conformance: set DISCOVERY_CONSUL_OLD or DISCOVERY_CONSUL_NEW; `scripts/servers` tells the paths"
            );
        }
        return ExitCode::FAILURE;
    }
    suite::run(providers)
}

type Running = Arc<Consul>;

/// One version of Consul. Cases share a server, unless they need one to themselves.
#[derive(Debug)]
struct Version {
    age: Age,
    program: PathBuf,
    shared: OnceLock<Mutex<Option<Running>>>,
}

impl Version {
    async fn start(&self) -> Result<Running> {
        // Cases run side by side, all from one address.
        let consul = Consul::dev(&self.program).connections_per_client(1000);
        let consul = Arc::new(consul.build().await?);
        consul.start().await?;
        Ok(consul)
    }
}

#[async_trait]
impl Provider for Version {
    fn name(&self) -> &'static str {
        self.age.name()
    }

    fn shows(&self, _: Fault) -> bool {
        true
    }

    /// History cannot be compacted, and watches look like other requests.
    fn has(&self, tool: Tool) -> bool {
        matches!(tool, Tool::Forget | Tool::Requests)
    }

    async fn subject(&self, case: &Case) -> Result<Box<dyn Subject>> {
        let server = if case.exclusive {
            self.start().await?
        } else {
            let mut shared = self.shared.get_or_init(Mutex::default).lock().await;
            match &*shared {
                Some(server) => server.clone(),
                None => shared.insert(self.start().await?).clone(),
            }
        };
        let http = HttpProxy::start(server.endpoint())?;
        Ok(Box::new(Agent {
            way: Proxy::start(http.addr())?,
            http,
            server,
            refused: AtomicU64::new(0),
            refusing_since: AtomicU64::new(0),
        }))
    }
}

#[derive(Debug)]
struct Agent {
    way: Proxy,
    http: HttpProxy,
    server: Running,
    /// Connections refused by faults that are over.
    refused: AtomicU64,
    /// How many connections there had been when the fault began, if it has.
    refusing_since: AtomicU64,
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Agent {
    fn backend(address: SocketAddr) -> Result<Backend> {
        let mut config = ConsulConfig::at(address.to_string());
        // A watch confirms as often as it comes back.
        config.discovery.wait = Duration::from_secs(1);
        discovery_consul::backend(config)
    }
}

#[async_trait]
impl Subject for Agent {
    async fn connect(&self) -> Result<Backend> {
        Self::backend(self.way.addr())
    }

    async fn direct(&self) -> Result<Backend> {
        Self::backend(self.server.endpoint())
    }

    async fn break_way(&self, fault: Fault) -> Result<()> {
        let reply = |status: u16, text: &'static str| {
            self.http.rule(Rule::any("*").reply(status, text));
        };
        match fault {
            // Let in and reset, so that tries can be counted.
            Fault::Refuse => {
                self.way.hang_up(Close::Reset);
                self.way.cut(Close::Reset).await;
                self.refusing_since
                    .store(self.way.counters().accepted, Ordering::Relaxed);
            }
            Fault::Cut => {
                self.way.cut(Close::Reset).await;
            }
            Fault::Stall => self.way.flow_both(Flow::Stall),
            Fault::Garbage => self
                .way
                .flow(discovery_testkit::proxy::Direction::Down, Flow::Garbage),
            Fault::Delay(delay) => self.way.flow_both(Flow::Delay(delay / 2)),
            Fault::Error(ErrorKind::PermissionDenied) => reply(403, "Permission denied"),
            Fault::Error(ErrorKind::Unauthenticated) => reply(403, "ACL not found"),
            Fault::Error(ErrorKind::RateLimited) => {
                reply(429, "Your IP is issuing too many concurrent connections");
            }
            Fault::Error(ErrorKind::Unavailable) => reply(500, "No cluster leader"),
            other => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("Consul has no {other:?}"),
                ));
            }
        }
        Ok(())
    }

    async fn heal(&self) -> Result<()> {
        let since = self.refusing_since.swap(0, Ordering::Relaxed);
        if since > 0 {
            self.refused
                .fetch_add(self.way.counters().accepted - since, Ordering::Relaxed);
        }
        self.http.clear_rules();
        self.way.heal()
    }

    async fn forget(&self) -> Result<()> {
        self.server.restart_empty().await?;
        let direct = self.direct().await?;
        try_eventually("a registry that serves", Duration::from_secs(10), || async {
            direct.registry.services(&discovery_core::Scope::default()).await
        })
        .await
        .map(drop)
    }

    async fn compact(&self) -> Result<()> {
        Err(Error::new(
            ErrorKind::Unsupported,
            "Consul keeps no history to compact",
        ))
    }

    fn open_watches(&self) -> Option<usize> {
        None
    }

    fn requests(&self) -> Option<usize> {
        let refused = match self.refusing_since.load(Ordering::Relaxed) {
            0 => 0,
            since => self.way.counters().accepted - since,
        };
        Some(self.http.requests_matching("*").len() + count(refused + self.refused.load(Ordering::Relaxed)))
    }

    fn visible_within(&self) -> Duration {
        // On a machine with more to do; a poll would take a minute.
        Duration::from_secs(3)
    }
}
