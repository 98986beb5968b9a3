//! The conformance suite on real etcd, the oldest and the newest supported, one member and three.
//!
//! `DISCOVERY_ETCD_OLD` and `DISCOVERY_ETCD_NEW` name the programs; `scripts/servers` says where they are. At least one
//! must be named: without a server there is nothing to prove.

use std::{
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use discovery_core::{Backend, Error, ErrorKind, Result};
use discovery_etcd::EtcdConfig;
use discovery_testkit::{
    proxy::{Close, Direction, Flow, Proxy},
    server::Server,
    suite::{self, Case, Fault, Provider, Subject, Tool},
};
use tokio::sync::Mutex;

mod servers;

use servers::Cluster;

fn main() -> ExitCode {
    let mut providers: Vec<Arc<dyn Provider>> = Vec::new();
    for (name, program) in servers::named() {
        for size in [1, 3] {
            providers.push(Arc::new(Version {
                name: if size == 1 {
                    name.to_owned()
                } else {
                    format!("{name}-cluster")
                },
                server: name,
                program: program.clone(),
                size,
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

/// One version of etcd. Cases share a cluster, unless they need one to themselves.
#[derive(Debug)]
struct Version {
    name: String,
    server: &'static str,
    program: String,
    size: usize,
    shared: OnceLock<Mutex<Option<Arc<Cluster>>>>,
}

impl Version {
    async fn start(&self) -> Result<Arc<Cluster>> {
        Cluster::start(self.server, &self.program, self.size, &[])
            .await
            .map(Arc::new)
    }
}

#[async_trait]
impl Provider for Version {
    fn name(&self) -> &str {
        &self.name
    }

    /// What etcd answers cannot be changed on its way; `real.rs` has it refuse by itself.
    fn shows(&self, fault: Fault) -> bool {
        !matches!(fault, Fault::Error(_))
    }

    fn has(&self, tool: Tool) -> bool {
        matches!(tool, Tool::Forget | Tool::Compact)
    }

    async fn subject(&self, case: &Case) -> Result<Box<dyn Subject>> {
        // Compaction takes the history away from everybody.
        let cluster = if case.exclusive || case.tools.contains(&Tool::Compact) {
            self.start().await?
        } else {
            let mut shared = self.shared.get_or_init(Mutex::default).lock().await;
            match &*shared {
                Some(cluster) => cluster.clone(),
                None => shared.insert(self.start().await?).clone(),
            }
        };
        let ways = cluster.endpoints().into_iter().map(Proxy::start);
        Ok(Box::new(Etcd {
            ways: ways.collect::<Result<_>>()?,
            cluster,
        }))
    }
}

#[derive(Debug)]
struct Etcd {
    /// A way to each member.
    ways: Vec<Proxy>,
    cluster: Arc<Cluster>,
}

fn backend(endpoints: impl IntoIterator<Item = String>) -> Result<Backend> {
    let mut config = EtcdConfig::at(endpoints);
    config.discovery.confirm_interval = Duration::from_secs(1);
    discovery_etcd::backend(config)
}

#[async_trait]
impl Subject for Etcd {
    async fn connect(&self) -> Result<Backend> {
        backend(self.ways.iter().map(|way| way.addr().to_string()))
    }

    async fn direct(&self) -> Result<Backend> {
        backend(self.cluster.endpoints().iter().map(ToString::to_string))
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
        let broken = |source: std::io::Error| {
            Error::new(ErrorKind::Unavailable, "the data cannot be removed").with_source(source)
        };
        for member in &self.cluster.members {
            member.kill().await?;
            std::fs::remove_dir_all(member.place().dir().join("data")).map_err(broken)?;
        }
        futures::future::try_join_all(self.cluster.members.iter().map(|member| member.start())).await?;
        self.cluster.serves().await
    }

    async fn compact(&self) -> Result<()> {
        self.cluster.compact().await
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
