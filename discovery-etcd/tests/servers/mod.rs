//! Real etcd servers for tests.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use discovery_core::{Error, ErrorKind, Result};
use discovery_testkit::server::{ChildServer, Place, Recipe, Server};
use etcd_client::Client;
use tokio::process::Command;

/// The programs to test: name and path of those that are named.
pub(crate) fn named() -> Vec<(&'static str, String)> {
    [
        ("etcd-old", "DISCOVERY_ETCD_OLD"),
        ("etcd-new", "DISCOVERY_ETCD_NEW"),
    ]
    .into_iter()
    .filter_map(|(name, variable)| {
        let program = std::env::var(variable)
            .ok()
            .filter(|program| !program.is_empty())?;
        Some((name, program))
    })
    .collect()
}

/// One member; alone, or of a cluster whose peers listen where `peers` says.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    name: &'static str,
    program: PathBuf,
    number: usize,
    peers: Vec<SocketAddr>,
    more: Vec<String>,
}

impl Member {
    pub(crate) fn alone(name: &'static str, program: &str, more: &[&str]) -> Self {
        Self {
            name,
            program: program.into(),
            number: 0,
            peers: Vec::new(),
            more: more.iter().map(ToString::to_string).collect(),
        }
    }
}

/// What went wrong outside the library.
pub(crate) fn broken(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Unavailable, "the server cannot be asked").with_source(source)
}

/// A client that goes by none of our code.
pub(crate) async fn plain(endpoint: SocketAddr) -> Result<Client> {
    Client::connect([endpoint.to_string()], None)
        .await
        .map_err(broken)
}

#[async_trait]
impl Recipe for Member {
    fn name(&self) -> &'static str {
        self.name
    }

    fn ports(&self) -> usize {
        2
    }

    fn command(&self, place: &Place) -> Command {
        let client = place.endpoints()[0];
        let peers = if self.peers.is_empty() {
            vec![place.endpoints()[1]]
        } else {
            self.peers.clone()
        };
        let cluster: Vec<_> = peers
            .iter()
            .enumerate()
            .map(|(i, peer)| format!("m{i}=http://{peer}"))
            .collect();
        let peer = peers[self.number];
        let mut command = Command::new(&self.program);
        command
            .args(["--name", &format!("m{}", self.number)])
            .arg("--data-dir")
            .arg(place.dir().join("data"))
            .args(["--listen-client-urls", &format!("http://{client}")])
            .args(["--advertise-client-urls", &format!("http://{client}")])
            .args(["--listen-peer-urls", &format!("http://{peer}")])
            .args(["--initial-advertise-peer-urls", &format!("http://{peer}")])
            .args(["--initial-cluster", &cluster.join(",")])
            .args(["--heartbeat-interval", "50", "--election-timeout", "250"])
            .args(["--log-level", "error"])
            .args(&self.more);
        command
    }

    /// A member of a cluster serves only with others; that is waited for elsewhere.
    async fn probe(&self, place: &Place) -> Result<()> {
        if !self.peers.is_empty() {
            tokio::net::TcpStream::connect(place.endpoints()[0])
                .await
                .map_err(broken)?;
            return Ok(());
        }
        let mut client = plain(place.endpoints()[0]).await?;
        match client.get("probe", None).await {
            // It serves, and wants to know whom.
            Err(etcd_client::Error::GRpcStatus(status))
                if status.message().contains("user name is empty") =>
            {
                Ok(())
            }
            got => got.map_err(broken).map(drop),
        }
    }

    async fn version(&self, place: &Place) -> Result<String> {
        let mut client = plain(place.endpoints()[0]).await?;
        Ok(client.status().await.map_err(broken)?.version().to_owned())
    }
}

/// A cluster of one member or of three.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) members: Vec<Arc<ChildServer<Member>>>,
}

impl Cluster {
    /// Starts it and waits until it serves.
    pub(crate) async fn start(name: &'static str, program: &str, size: usize, more: &[&str]) -> Result<Self> {
        let mut cluster = Self { members: Vec::new() };
        let mut recipe = Member::alone(name, program, more);
        if size > 1 {
            let listeners: Vec<_> = (0..size)
                .map(|_| std::net::TcpListener::bind("127.0.0.1:0").map_err(broken))
                .collect::<Result<_>>()?;
            for listener in &listeners {
                recipe.peers.push(listener.local_addr().map_err(broken)?);
            }
        }
        for number in 0..size {
            recipe.number = number;
            cluster.members.push(Arc::new(ChildServer::new(recipe.clone())?));
        }
        futures::future::try_join_all(cluster.members.iter().map(|member| member.start())).await?;
        cluster.serves().await?;
        Ok(cluster)
    }

    pub(crate) fn endpoints(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.endpoint()).collect()
    }

    /// Waits until every member that runs serves.
    pub(crate) async fn serves(&self) -> Result<()> {
        for member in self.members.iter().filter(|member| member.pid().is_some()) {
            discovery_testkit::try_eventually("a leader", std::time::Duration::from_secs(20), || async {
                let mut client = plain(member.endpoint())
                    .await
                    .map_err(|failed| failed.to_string())?;
                client
                    .get("probe", None)
                    .await
                    .map_err(|failed| failed.to_string())
            })
            .await?;
        }
        Ok(())
    }

    /// Has it forget its history up to now.
    pub(crate) async fn compact(&self) -> Result<()> {
        let mut client = plain(self.endpoints()[0]).await?;
        let now = client.put("compact", "", None).await.map_err(broken)?;
        let revision = now.header().map_or(0, etcd_client::ResponseHeader::revision);
        client.compact(revision, None).await.map_err(broken).map(drop)
    }
}
