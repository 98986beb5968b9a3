//! The conformance suite on real etcd, the oldest and the newest supported, one member and three.
//!
//! `DISCOVERY_ETCD_OLD` and `DISCOVERY_ETCD_NEW` name the programs; `scripts/servers` says where they are. At least one
//! must be named: without a server there is nothing to prove.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use discovery_core::{Backend, Error, ErrorKind, Result};
use discovery_etcd::EtcdConfig;
use discovery_testkit::{
    proxy::{Close, Direction, Flow, Proxy},
    server::{
        Server,
        etcd::{Age, Etcd, EtcdCluster},
    },
    suite::{self, Case, Fault, Provider, Subject, Tool},
};
use futures::future::try_join_all;
use tokio::sync::Mutex;

fn main() -> ExitCode {
    let mut providers: Vec<Arc<dyn Provider>> = Vec::new();
    for age in Age::ALL {
        let Some(program) = age.binary() else { continue };
        for cluster in [false, true] {
            let suffix = if cluster { "-cluster" } else { "" };
            providers.push(Arc::new(Version {
                name: format!("{}{suffix}", age.name()),
                program: program.clone(),
                cluster,
                shared: OnceLock::new(),
            }));
        }
    }
    if providers.is_empty() {
        #[expect(clippy::print_stderr, reason = "this is a test program's main")]
        {
            eprintln!(
                "conformance: set DISCOVERY_ETCD_OLD or DISCOVERY_ETCD_NEW; `scripts/servers` tells the paths"
            );
        }
        return ExitCode::FAILURE;
    }
    suite::run(providers)
}

/// One version of etcd, alone or three. Cases share the servers, unless they need some to themselves.
#[derive(Debug)]
struct Version {
    name: String,
    program: PathBuf,
    cluster: bool,
    shared: OnceLock<Mutex<Option<Servers>>>,
}

/// One member or three.
#[derive(Debug, Clone)]
enum Servers {
    One(Arc<Etcd>),
    Three(Arc<EtcdCluster>),
}

impl Servers {
    fn members(&self) -> &[Etcd] {
        match self {
            Self::One(etcd) => std::slice::from_ref(etcd),
            Self::Three(cluster) => cluster.members(),
        }
    }

    fn endpoints(&self) -> impl Iterator<Item = SocketAddr> {
        self.members().iter().map(Server::endpoint)
    }
}

impl Version {
    async fn start(&self) -> Result<Servers> {
        let builder = Etcd::dev(&self.program);
        Ok(if self.cluster {
            let cluster = builder.cluster().await?;
            cluster.start().await?;
            Servers::Three(Arc::new(cluster))
        } else {
            let etcd = builder.build().await?;
            etcd.start().await?;
            Servers::One(Arc::new(etcd))
        })
    }
}

#[async_trait]
impl Provider for Version {
    fn name(&self) -> &str {
        &self.name
    }

    /// What etcd answers cannot be changed on its way; `real/` has it refuse by itself.
    fn shows(&self, fault: Fault) -> bool {
        !matches!(fault, Fault::Error(_))
    }

    fn has(&self, tool: Tool) -> bool {
        matches!(tool, Tool::Forget | Tool::Compact)
    }

    async fn subject(&self, case: &Case) -> Result<Box<dyn Subject>> {
        // Compaction takes the history away from everybody.
        let servers = if case.exclusive || case.tools.contains(&Tool::Compact) {
            self.start().await?
        } else {
            let mut shared = self.shared.get_or_init(Mutex::default).lock().await;
            match &*shared {
                Some(servers) => servers.clone(),
                None => shared.insert(self.start().await?).clone(),
            }
        };
        Ok(Box::new(Ways {
            ways: servers.endpoints().map(Proxy::start).collect::<Result<_>>()?,
            servers,
        }))
    }
}

#[derive(Debug)]
struct Ways {
    /// One to each member.
    ways: Vec<Proxy>,
    servers: Servers,
}

fn backend(endpoints: impl IntoIterator<Item = SocketAddr>) -> Result<Backend> {
    let mut config = EtcdConfig::at(endpoints.into_iter().map(|endpoint| endpoint.to_string()));
    config.discovery.confirm_interval = Duration::from_secs(1);
    discovery_etcd::backend(config)
}

#[async_trait]
impl Subject for Ways {
    async fn connect(&self) -> Result<Backend> {
        backend(self.ways.iter().map(Proxy::addr))
    }

    async fn direct(&self) -> Result<Backend> {
        backend(self.servers.endpoints())
    }

    async fn break_way(&self, fault: Fault) -> Result<()> {
        for way in &self.ways {
            match fault {
                Fault::Refuse => {
                    way.hang_up(Close::Reset);
                    way.cut(Close::Reset).await;
                }
                Fault::Cut => {
                    way.cut(Close::Reset).await;
                }
                Fault::Stall => way.flow_both(Flow::Stall),
                Fault::Garbage => way.flow(Direction::Down, Flow::Garbage),
                Fault::Delay(delay) => way.flow_both(Flow::Delay(delay / 2)),
                other => {
                    return Err(Error::new(ErrorKind::Unsupported, format!("no {other:?} here")));
                }
            }
        }
        Ok(())
    }

    async fn heal(&self) -> Result<()> {
        self.ways.iter().try_for_each(Proxy::heal)
    }

    async fn forget(&self) -> Result<()> {
        let members = self.servers.members();
        // All of them, before one of the others could tell it anything.
        try_join_all(members.iter().map(Server::kill)).await?;
        try_join_all(members.iter().map(Etcd::restart_empty))
            .await
            .map(drop)
    }

    async fn compact(&self) -> Result<()> {
        let member = &self.servers.members()[0];
        member.ctl(&["put", "unrelated", "x"]).await?;
        member.compact(member.revision().await?).await
    }

    fn open_watches(&self) -> Option<usize> {
        None
    }

    fn requests(&self) -> Option<usize> {
        None
    }

    fn visible_within(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// What servers with default elections keep (E-1).
    fn min_ttl(&self) -> Duration {
        Duration::from_secs(2)
    }

    /// Expired leases are looked for every half second, and revoked by agreement.
    fn gone_within(&self, ttl: Duration) -> Duration {
        ttl + Duration::from_millis(1500)
    }
}
