//! Who the agent is: the parts of a key that only it knows, and what its version can tell.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use discovery_core::{ErrorKind, Result};
use tokio::time::Instant;

use crate::{
    client::{Call, Client, segment},
    wire,
};

/// How long what is known is believed: another agent may be started at the same address.
const VALID: Duration = Duration::from_secs(60);

/// What is known of the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) node: Option<Arc<str>>,
    pub(crate) datacenter: Option<Arc<str>>,
    pub(crate) version: Option<String>,
    /// The agent's address: that of services without one.
    pub(crate) address: String,
    pub(crate) server: bool,
    /// Where it answers DNS.
    pub(crate) dns: Option<String>,
}

/// The agent behind a client; clones share what is known.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    client: Client,
    known: Arc<Mutex<Option<(Instant, Identity)>>>,
}

impl Agent {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            known: Arc::default(),
        }
    }

    /// Who it is. Without the right to `agent:read`, only what other answers give away: the node from the checks of
    /// `id`, which is registered there, and the datacenter where there is only one.
    pub(crate) async fn identity(&self, id: Option<&str>) -> Result<Identity> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, identity)) = known
            && at.elapsed() < VALID
            && (identity.node.is_some() || id.is_none())
        {
            return Ok(identity);
        }
        let identity = match self.told().await {
            Ok(identity) => identity,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => self.guessed(id).await?,
            Err(error) => return Err(error),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some((Instant::now(), identity.clone()));
        Ok(identity)
    }

    /// Forgets who it is, as there may be another now.
    pub(crate) fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether an answer without instances may be one with all of them hidden: servers tell that from 1.11 on.
    pub(crate) async fn may_hide(&self) -> bool {
        if !self.client.has_token() {
            return false;
        }
        let identity = self.identity(None).await.unwrap_or_default();
        !identity.version.as_deref().is_some_and(tells_filtered)
    }

    async fn told(&self) -> Result<Identity> {
        let call = Call::get("/v1/agent/self".to_owned());
        let told: wire::AgentSelf = self
            .client
            .send(&call)
            .await?
            .ok()?
            .json("the agent's description")?;
        let word = |text: String| (!text.is_empty()).then_some(text);
        Ok(Identity {
            node: word(told.config.node_name).map(Arc::from),
            datacenter: word(told.config.datacenter).map(Arc::from),
            version: word(told.config.version),
            address: told.member.addr,
            server: told.config.server,
            dns: told
                .debug_config
                .dns
                .iter()
                .find_map(|address| Some(address.strip_prefix("udp://")?.to_owned())),
        })
    }

    async fn guessed(&self, id: Option<&str>) -> Result<Identity> {
        let mut identity = Identity::default();
        if let Some(id) = id
            && let Some(health) = self.health(id).await?
        {
            identity.node = health
                .checks
                .into_iter()
                .map(|check| check.node)
                .find(|node| !node.is_empty())
                .map(Arc::from);
        }
        let call = Call::get("/v1/catalog/datacenters".to_owned());
        let mut all: Vec<String> = self
            .client
            .send(&call)
            .await?
            .ok()?
            .json("a list of datacenters")?;
        identity.datacenter = match all.len() {
            1 => all.pop().map(Arc::from),
            _ => None,
        };
        Ok(identity)
    }

    /// What the agent itself says of a service of its own. The codes 429 and 503 are data here, unless the body is none.
    pub(crate) async fn health(&self, id: &str) -> Result<Option<wire::LocalHealth>> {
        let call = Call::get(format!("/v1/agent/health/service/id/{}", segment(id)));
        let answer = self.client.send(&self.client.owned(call)).await?;
        match answer.status {
            404 => Ok(None),
            200 => answer.json("the health of a service").map(Some),
            429 | 503 => match serde_json::from_slice(&answer.body) {
                Ok(health) => Ok(Some(health)),
                Err(_) => Err(answer.failure()),
            },
            _ => Err(answer.failure()),
        }
    }
}

/// Whether a server of this version says that it hides results.
fn tells_filtered(version: &str) -> bool {
    let mut parts = version
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or_default());
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default()) >= (1, 11)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C-39
    #[test]
    fn c_39_filtering_is_told_from_1_11_on() {
        for (version, tells) in [
            ("1.8.7+dfsg1", false),
            ("1.10.12", false),
            ("1.11.0", true),
            ("1.22.1", true),
            ("2.0.0", true),
            ("", false),
        ] {
            assert_eq!(tells_filtered(version), tells, "{version}");
        }
    }
}
