//! Two servers that replicate to each other, through proxies.

use discovery_core::Result;
use futures::future::try_join_all;

use super::{Eureka, EurekaBuilder, Server};
use crate::{
    proxy::{Close, Proxy},
    sync::lock,
};

/// What peers do in seconds where they would in minutes.
const QUICK: [(&str, &str); 7] = [
    // One that starts takes over what the other knows.
    ("eureka.client.fetch-registry", "true"),
    ("eureka.server.registry-sync-retries", "1"),
    ("eureka.server.registry-sync-retry-wait-ms", "500"),
    ("eureka.server.peer-eureka-nodes-update-interval-ms", "1000"),
    ("eureka.server.peer-node-connect-timeout-ms", "1000"),
    ("eureka.server.peer-node-read-timeout-ms", "2000"),
    ("eureka.client.registry-fetch-interval-seconds", "1"),
];

/// Two peers. What one is told it tells the other, until they are cut off from each other. Dropping it kills both.
#[derive(Debug)]
pub struct EurekaPair {
    peers: [Eureka; 2],
    /// In front of each peer, for the other alone.
    proxies: [Proxy; 2],
}

impl EurekaPair {
    pub(super) fn new(builder: &EurekaBuilder) -> Result<Self> {
        let make = |name: &str| {
            let mut builder = builder.clone();
            for (key, value) in QUICK {
                builder
                    .properties
                    .entry(key.to_owned())
                    .or_insert_with(|| value.to_owned());
            }
            // A peer whose host name is its own it takes for itself.
            builder.property("eureka.instance.hostname", name).build()
        };
        let peers = [make("peer-1")?, make("peer-2")?];
        let proxies = [
            Proxy::start(peers[0].endpoint())?,
            Proxy::start(peers[1].endpoint())?,
        ];
        for (peer, other) in peers.iter().zip(proxies.iter().rev()) {
            *lock(&peer.server.recipe().peer) = Some(format!("http://{}/eureka/", other.addr()));
        }
        Ok(Self { peers, proxies })
    }

    /// The two; each may be killed and started on its own.
    pub fn peers(&self) -> &[Eureka; 2] {
        &self.peers
    }

    /// Starts those that do not run, both at once.
    pub async fn start(&self) -> Result<()> {
        let down = self.peers.iter().filter(|peer| peer.pid().is_none());
        try_join_all(down.map(Server::start)).await.map(drop)
    }

    /// Stops all that run.
    pub async fn stop(&self) -> Result<()> {
        try_join_all(self.peers.iter().map(Server::stop)).await.map(drop)
    }

    /// Cuts them off from each other; clients still reach both.
    pub async fn cut_off(&self) {
        for proxy in &self.proxies {
            proxy.refuse();
            proxy.cut(Close::Reset).await;
        }
    }

    /// Lets them reach each other again.
    ///
    /// # Errors
    /// [`discovery_core::ErrorKind::Unexpected`] when a proxy cannot listen again.
    pub fn heal(&self) -> Result<()> {
        self.proxies.iter().try_for_each(Proxy::heal)
    }
}
