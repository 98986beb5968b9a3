//! Three servers of one cluster.

use discovery_core::{Error, ErrorKind, Result};
use futures::future::try_join_all;

use super::{Consul, Server};

/// Three servers that elect a leader; one may be lost. Dropping it kills them all.
#[derive(Debug)]
pub struct ConsulCluster {
    members: [Consul; 3],
}

impl ConsulCluster {
    pub(super) fn new(members: [Consul; 3]) -> Self {
        Self { members }
    }

    /// The three servers; each may be killed and started on its own. One started while there is no quorum waits for it.
    pub fn members(&self) -> &[Consul; 3] {
        &self.members
    }

    /// Starts those that do not run, all at once, and waits until each knows a leader.
    pub async fn start(&self) -> Result<()> {
        let down = self.members.iter().filter(|member| member.pid().is_none());
        try_join_all(down.map(Server::start)).await.map(drop)
    }

    /// Stops all that run.
    pub async fn stop(&self) -> Result<()> {
        try_join_all(self.members.iter().map(Server::stop))
            .await
            .map(drop)
    }

    /// The server that leads.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when those that run know no leader that runs.
    pub async fn leader(&self) -> Result<&Consul> {
        for member in self.members.iter().filter(|member| member.pid().is_some()) {
            let Ok(said) = member.get("/v1/status/leader").await else {
                continue;
            };
            let leads = |one: &&Consul| said.as_str() == Some(&one.ports.server.to_string());
            if let Some(leader) = self.members.iter().filter(|one| one.pid().is_some()).find(leads) {
                return Ok(leader);
            }
        }
        Err(Error::new(ErrorKind::NotFound, "no server of the cluster leads"))
    }
}
