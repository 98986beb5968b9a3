//! Three members of one cluster.

use std::{sync::atomic::Ordering, time::Duration};

use discovery_core::{Error, ErrorKind, Result};
use futures::future::try_join_all;

use super::{Etcd, Member, Server};
use crate::eventually::try_eventually;

/// How long a change of members may be refused.
const SETTLE: Duration = Duration::from_secs(60);

/// Three members that elect a leader; one may be lost. Dropping it kills them all.
#[derive(Debug)]
pub struct EtcdCluster {
    members: [Etcd; 3],
}

impl EtcdCluster {
    pub(super) fn new(members: [Etcd; 3]) -> Self {
        Self { members }
    }

    /// The three members; each may be killed, frozen and started on its own. One started while there is no quorum waits
    /// for it.
    pub fn members(&self) -> &[Etcd; 3] {
        &self.members
    }

    /// Where clients find them.
    pub fn urls(&self) -> Vec<String> {
        self.members.iter().map(|member| member.url.clone()).collect()
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

    /// The member that leads.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when none of those that run does.
    pub async fn leader(&self) -> Result<&Etcd> {
        for member in self.members.iter().filter(|member| member.pid().is_some()) {
            if matches!(member.leads().await, Ok(true)) {
                return Ok(member);
            }
        }
        Err(Error::new(ErrorKind::NotFound, "no member of the cluster leads"))
    }

    /// Kills a member for good and starts another in its place, with its name and its ports and nothing of its data: the
    /// others tell it everything. They must have a quorum.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a number beyond 2, and when no other member runs.
    pub async fn replace(&self, number: usize) -> Result<()> {
        let none = || Error::new(ErrorKind::NotFound, "no such member, or no other that runs");
        let old = self.members.get(number).ok_or_else(none)?;
        let others = self.members.iter().enumerate();
        let (_, other) = others
            .into_iter()
            .find(|(other, member)| *other != number && member.pid().is_some())
            .ok_or_else(none)?;
        old.kill().await?;
        let peer = Member::peer_url(old.server.place());
        // All is refused for as long as the others are not sure of each other: the one killed may have led.
        let settled = "the others agree";
        let list = || async { other.ctl_json(&["member", "list"]).await };
        let listed = try_eventually(settled, SETTLE, list).await?;
        let members = listed["members"].as_array().into_iter().flatten();
        let id = members
            .filter(|member| member["peerURLs"][0] == peer.as_str())
            .find_map(|member| member["ID"].as_u64())
            .ok_or_else(none)?;
        let remove = || async { other.ctl(&["member", "remove", &format!("{id:x}")]).await };
        try_eventually(settled, SETTLE, remove).await?;
        let peer = format!("--peer-urls={peer}");
        let add = || async { other.ctl(&["member", "add", &old.name, &peer]).await };
        try_eventually(settled, SETTLE, add).await?;
        old.delete_data().await?;
        old.server.recipe().joins.store(true, Ordering::Relaxed);
        old.start().await
    }
}
