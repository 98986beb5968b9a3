//! The conformance suite on real servers, BIND and Knot, registering by dynamic update.
//!
//! `DISCOVERY_BIND` and `DISCOVERY_KNOT` name the programs; `scripts/servers` says where they are. At least one must be named:
//! without a server there is nothing to prove.

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
use discovery_dns::{DnsConfig, Transport, Update, Zone, ZoneType};
use discovery_testkit::{
    proxy::{
        Close, Proxy,
        dns::{Act, DnsProxy, refusal},
    },
    server::{
        Server,
        dns::{Dns, Software},
    },
    suite::{self, Case, Fault, Provider, Subject, Tool},
    try_eventually,
};
use tokio::sync::Mutex;

const ZONE: &str = "$TTL 1
@ SOA ns root 1 3600 600 86400 1
@ NS ns
ns A 127.0.0.1
";

fn main() -> ExitCode {
    let ways = [
        ("bind", Software::Bind, Transport::Tcp),
        ("bind-udp", Software::Bind, Transport::Auto),
        ("knot", Software::Knot, Transport::Tcp),
    ];
    let providers: Vec<_> = ways
        .into_iter()
        .filter_map(|(name, software, transport)| {
            let server = Program {
                name,
                software,
                binary: software.binary()?,
                transport,
                shared: OnceLock::new(),
            };
            Some(Arc::new(server) as Arc<dyn Provider>)
        })
        .collect();
    if providers.is_empty() {
        #[expect(clippy::print_stderr, reason = "this is a test program's main")]
        {
            eprintln!("conformance: set DISCOVERY_BIND or DISCOVERY_KNOT; `scripts/servers` tells the paths");
        }
        return ExitCode::FAILURE;
    }
    suite::run(providers)
}

/// One server, asked one way. Cases share it, unless they need one to themselves.
#[derive(Debug)]
struct Program {
    name: &'static str,
    software: Software,
    binary: PathBuf,
    transport: Transport,
    shared: OnceLock<Mutex<Option<Arc<Dns>>>>,
}

impl Program {
    async fn start(&self) -> Result<Arc<Dns>> {
        let server = Dns::of(self.software, &self.binary)
            .zone("svc.test", ZONE)
            .updates()
            .build()?;
        server.start().await?;
        Ok(Arc::new(server))
    }
}

#[async_trait]
impl Provider for Program {
    fn name(&self) -> &'static str {
        self.name
    }

    /// A server has no word for being asked too fast, nor one for credentials when it is read.
    fn shows(&self, fault: Fault) -> bool {
        !matches!(
            fault,
            Fault::Error(ErrorKind::RateLimited | ErrorKind::Unauthenticated) | Fault::Cut
        )
    }

    /// What is refused over UDP cannot be counted. There are no watches, and no history.
    fn has(&self, tool: Tool) -> bool {
        match tool {
            Tool::Forget => true,
            Tool::Requests => self.transport == Transport::Tcp,
            _ => false,
        }
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
        let dns = DnsProxy::start(server.endpoint()).await?;
        let tcp = Proxy::start(dns.addr())?;
        Ok(Box::new(Zoned {
            tcp,
            dns,
            server,
            transport: self.transport,
            refused: AtomicU64::new(0),
            refusing_since: AtomicU64::new(0),
        }))
    }
}

#[derive(Debug)]
struct Zoned {
    /// The way over TCP: it counts what it hangs up on.
    tcp: Proxy,
    dns: DnsProxy,
    server: Arc<Dns>,
    transport: Transport,
    /// Connections refused by faults that are over.
    refused: AtomicU64,
    /// How many connections there had been when the fault began, if it has.
    refusing_since: AtomicU64,
}

impl Zoned {
    fn backend(&self, address: String, transport: Transport) -> Result<Backend> {
        let key = self
            .server
            .key()
            .ok_or_else(|| Error::new(ErrorKind::Unexpected, "no key"))?;
        let mut update = Update::signed(&key.name, key.secret.expose());
        update.ttl = Duration::from_secs(1);
        let mut config = DnsConfig::at(address)
            .transport(transport)
            .zone(Zone::new("svc.test", ZoneType::DnsSd))
            .update(update);
        // A busy machine takes its time.
        config.timeout = Duration::from_secs(5);
        config.caching.min_ttl = Duration::from_secs(1);
        config.caching.ttl = Duration::from_secs(1);
        config.caching.negative_ttl = Duration::from_secs(1);
        discovery_dns::backend(config)
    }
}

#[async_trait]
impl Subject for Zoned {
    async fn connect(&self) -> Result<Backend> {
        let address = match self.transport {
            Transport::Tcp => self.tcp.addr(),
            _ => self.dns.addr(),
        };
        self.backend(address.to_string(), self.transport)
    }

    async fn direct(&self) -> Result<Backend> {
        self.backend(self.server.endpoint().to_string(), Transport::Tcp)
    }

    async fn break_way(&self, fault: Fault) -> Result<()> {
        let code = |code: u8| {
            self.dns
                .rule(move |packet| Act::Reply(vec![refusal(packet.bytes, code)]));
        };
        match fault {
            Fault::Refuse if self.transport == Transport::Tcp => {
                self.tcp.hang_up(Close::Reset);
                self.tcp.cut(Close::Reset).await;
                self.refusing_since
                    .store(self.tcp.counters().accepted, Ordering::Relaxed);
            }
            Fault::Refuse => self.dns.refuse().await,
            Fault::Stall => self.dns.rule(|_| Act::Silence),
            Fault::Garbage => self.dns.rule(|packet| {
                let noise = packet.bytes.iter().rev().map(|byte| byte.wrapping_mul(73) ^ 0xa5);
                Act::Reply(vec![noise.collect()])
            }),
            Fault::Delay(delay) => self.dns.rule(move |_| Act::Delay(delay)),
            Fault::Error(ErrorKind::PermissionDenied) => code(5),
            Fault::Error(ErrorKind::Unavailable) => code(2),
            other => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("DNS has no {other:?}"),
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
        self.dns.heal().await?;
        self.tcp.heal()
    }

    async fn forget(&self) -> Result<()> {
        self.server.restart_empty().await?;
        let direct = self.direct().await?;
        try_eventually("a server that serves", Duration::from_secs(10), || async {
            direct.registry.status().await
        })
        .await
        .map(drop)
    }

    async fn compact(&self) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "DNS keeps no history"))
    }

    fn open_watches(&self) -> Option<usize> {
        None
    }

    fn requests(&self) -> Option<usize> {
        let refused = match self.refusing_since.load(Ordering::Relaxed) {
            0 => 0,
            since => self.tcp.counters().accepted - since,
        };
        let refused = refused + self.refused.load(Ordering::Relaxed);
        Some(self.dns.count() + usize::try_from(refused).unwrap_or(usize::MAX))
    }

    fn visible_within(&self) -> Duration {
        // Views follow the TTL of a second.
        Duration::from_secs(4)
    }
}
