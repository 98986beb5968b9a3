//! The conformance suite on real Eureka: one server, and two peers of which one is written to and the other read.
//!
//! `DISCOVERY_EUREKA` names the jar; `scripts/servers` says where it is. Without a server there is nothing to prove.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use discovery_core::{Backend, Error, ErrorKind, Result};
use discovery_eureka::EurekaConfig;
use discovery_testkit::{
    proxy::{
        Close, Direction, Flow, Proxy,
        http::{HttpProxy, Rule},
    },
    server::{
        Server,
        eureka::{Eureka, EurekaPair, SERVER},
    },
    suite::{self, Case, Fault, Provider, Subject, Tool},
    try_eventually,
};
use tokio::sync::Mutex;

fn main() -> ExitCode {
    let Some(jar) = SERVER.binary() else {
        #[expect(clippy::print_stderr, reason = "this is a test program's main")]
        {
            eprintln!("conformance: set DISCOVERY_EUREKA; `scripts/servers` tells the path");
        }
        return ExitCode::FAILURE;
    };
    let provider = |peers| -> Arc<dyn Provider> {
        Arc::new(Setup {
            jar: jar.clone(),
            peers,
            shared: OnceLock::new(),
        })
    };
    suite::run([provider(false), provider(true)])
}

/// One server, or two peers.
#[derive(Debug)]
enum Servers {
    One(Box<Eureka>),
    Two(Box<EurekaPair>),
}

impl Servers {
    /// Where cases write.
    fn first(&self) -> &Eureka {
        match self {
            Self::One(server) => server,
            Self::Two(pair) => &pair.peers()[0],
        }
    }

    /// Where they see what is true.
    fn last(&self) -> &Eureka {
        match self {
            Self::One(server) => server,
            Self::Two(pair) => &pair.peers()[1],
        }
    }
}

/// Cases share servers, unless they need some to themselves.
#[derive(Debug)]
struct Setup {
    jar: PathBuf,
    peers: bool,
    shared: OnceLock<Mutex<Option<Arc<Servers>>>>,
}

impl Setup {
    async fn start(&self) -> Result<Arc<Servers>> {
        let builder = Eureka::dev(&self.jar);
        Ok(Arc::new(if self.peers {
            let pair = builder.pair()?;
            pair.start().await?;
            Servers::Two(Box::new(pair))
        } else {
            let server = builder.build()?;
            server.start().await?;
            Servers::One(Box::new(server))
        }))
    }
}

#[async_trait]
impl Provider for Setup {
    fn name(&self) -> &'static str {
        if self.peers { "eureka-peers" } else { "eureka" }
    }

    /// One peer is behind the other: where a case looks at once, it may see what was.
    fn groups(&self) -> Option<&'static [&'static str]> {
        self.peers
            .then_some(&["register", "renew", "resolve", "watch", "recover"])
    }

    /// U-26: 403 is a server that is not ready.
    fn shows(&self, fault: Fault) -> bool {
        fault != Fault::Error(ErrorKind::PermissionDenied)
    }

    fn has(&self, tool: Tool) -> bool {
        match tool {
            Tool::Forget => !self.peers,
            other => other == Tool::Requests,
        }
    }

    async fn subject(&self, case: &Case) -> Result<Box<dyn Subject>> {
        let servers = if case.exclusive {
            self.start().await?
        } else {
            let mut shared = self.shared.get_or_init(Mutex::default).lock().await;
            match &*shared {
                Some(servers) => servers.clone(),
                None => shared.insert(self.start().await?).clone(),
            }
        };
        let http = HttpProxy::start(servers.first().endpoint())?;
        Ok(Box::new(Way {
            tcp: Proxy::start(http.addr())?,
            http,
            servers,
            refused: AtomicU64::new(0),
            refusing_since: AtomicU64::new(0),
        }))
    }
}

#[derive(Debug)]
struct Way {
    tcp: Proxy,
    http: HttpProxy,
    servers: Arc<Servers>,
    /// Connections refused by faults that are over.
    refused: AtomicU64,
    /// How many connections there had been when the fault began, if it has.
    refusing_since: AtomicU64,
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Minutes in seconds.
fn backend(address: std::net::SocketAddr) -> Result<Backend> {
    let mut config = EurekaConfig::at([address.to_string()]);
    config.discovery.refresh_interval = Duration::from_millis(250);
    config.discovery.restart_grace = Duration::from_secs(3);
    config.server.read_timeout = Duration::from_secs(5);
    discovery_eureka::backend(config)
}

#[async_trait]
impl Subject for Way {
    async fn connect(&self) -> Result<Backend> {
        backend(self.tcp.addr())
    }

    async fn direct(&self) -> Result<Backend> {
        backend(self.servers.last().endpoint())
    }

    async fn break_way(&self, fault: Fault) -> Result<()> {
        let reply = |status: u16, text: &'static str| {
            self.http.rule(Rule::any("*").reply(status, text));
        };
        match fault {
            // Let in and reset, so that tries can be counted.
            Fault::Refuse => {
                self.tcp.hang_up(Close::Reset);
                self.tcp.cut(Close::Reset).await;
                self.refusing_since
                    .store(self.tcp.counters().accepted, Ordering::Relaxed);
            }
            Fault::Cut => {
                self.tcp.cut(Close::Reset).await;
            }
            Fault::Stall => self.tcp.flow_both(Flow::Stall),
            Fault::Garbage => self.tcp.flow(Direction::Down, Flow::Garbage),
            Fault::Delay(delay) => self.tcp.flow_both(Flow::Delay(delay / 2)),
            Fault::Error(ErrorKind::Unauthenticated) => reply(401, ""),
            Fault::Error(ErrorKind::RateLimited) => reply(429, ""),
            Fault::Error(ErrorKind::Unavailable) => reply(503, ""),
            other => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("Eureka has no {other:?}"),
                ));
            }
        }
        Ok(())
    }

    async fn heal(&self) -> Result<()> {
        let since = self.refusing_since.swap(0, Ordering::Relaxed);
        if since > 0 {
            self.refused
                .fetch_add(self.tcp.counters().accepted - since, Ordering::Relaxed);
        }
        self.http.clear_rules();
        self.tcp.heal()
    }

    async fn forget(&self) -> Result<()> {
        self.servers.first().restart().await?;
        let direct = self.direct().await?;
        try_eventually("a registry that serves", Duration::from_secs(30), || async {
            direct.registry.services(&discovery_core::Scope::default()).await
        })
        .await
        .map(drop)
    }

    async fn compact(&self) -> Result<()> {
        Err(Error::new(
            ErrorKind::Unsupported,
            "Eureka keeps no history to compact",
        ))
    }

    fn open_watches(&self) -> Option<usize> {
        None
    }

    fn requests(&self) -> Option<usize> {
        let refused = match self.refusing_since.load(Ordering::Relaxed) {
            0 => 0,
            since => self.tcp.counters().accepted - since,
        };
        Some(self.http.requests_matching("*").len() + count(refused + self.refused.load(Ordering::Relaxed)))
    }

    fn visible_within(&self) -> Duration {
        // A server's cache lives for a second; a peer learns in batches.
        Duration::from_secs(if matches!(*self.servers, Servers::Two(_)) {
            10
        } else {
            4
        })
    }

    /// U-16: one that was renewed outlives its lease by as much again, until the next eviction.
    fn gone_within(&self, ttl: Duration) -> Duration {
        2 * ttl + Duration::from_secs(5) + self.visible_within()
    }
}
