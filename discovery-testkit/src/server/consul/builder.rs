//! From what a test asks for to agents that can be started.

use std::{net::SocketAddr, path::PathBuf};

use discovery_core::{Error, Result, config::Secret};
use tokio::process::Command;

use super::{
    Agent, CONFIG, Certificates, ChildServer, Consul, ConsulCluster,
    settings::{Options, Ports, Settings, Tls, Version},
};
use crate::server::program;

/// Options of an agent or a cluster; [`Consul::dev`] makes one.
#[derive(Debug, Clone)]
pub struct ConsulBuilder {
    binary: PathBuf,
    options: Options,
}

impl ConsulBuilder {
    pub(super) fn new(binary: PathBuf) -> Self {
        let options = Options {
            datacenter: "dc1".to_owned(),
            ..Options::default()
        };
        Self { binary, options }
    }

    /// The name of its datacenter; default `dc1`.
    #[must_use]
    pub fn datacenter(mut self, name: impl Into<String>) -> Self {
        self.options.datacenter = name.into();
        self
    }

    /// ACLs with the policy "deny", and a management token that is there from the start.
    #[must_use]
    pub fn acl(mut self) -> Self {
        self.options.acl = true;
        self
    }

    /// HTTPS beside HTTP, under certificates of its own.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.options.tls = Tls::Server;
        self
    }

    /// HTTPS that asks clients for a certificate of the same authority.
    #[must_use]
    pub fn mutual_tls(mut self) -> Self {
        self.options.tls = Tls::Mutual;
        self
    }

    /// It remembers, from one start to the next.
    #[must_use]
    pub fn persistent(mut self) -> Self {
        self.options.persistent = true;
        self
    }

    /// Checks may run programs.
    #[must_use]
    pub fn script_checks(mut self) -> Self {
        self.options.script_checks = true;
        self
    }

    /// A Unix socket beside its port; [`Consul::socket`] tells where.
    #[must_use]
    pub fn unix_socket(mut self) -> Self {
        self.options.unix_socket = true;
        self
    }

    /// How many connections one client may have; Consul's default is 200.
    #[must_use]
    pub fn connections_per_client(mut self, limit: u32) -> Self {
        self.options.connections_per_client = Some(limit);
        self
    }

    /// One agent, not started.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](discovery_core::ErrorKind::Unavailable) when the program does not run.
    pub async fn build(self) -> Result<Consul> {
        let [consul] = self.agents::<1>().await?;
        Ok(consul)
    }

    /// Three servers of one cluster that remember, not started.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub async fn cluster(self) -> Result<ConsulCluster> {
        Ok(ConsulCluster::new(self.persistent().agents::<3>().await?))
    }

    async fn agents<const N: usize>(self) -> Result<[Consul; N]> {
        let version = self.version().await?;
        let token = self.options.acl.then(random_token);
        let certificates = match self.options.tls {
            Tls::Off => None,
            Tls::Server | Tls::Mutual => {
                Some(Certificates::make(&self.binary, &self.options.datacenter).await?)
            }
        };
        let mut agents = Vec::with_capacity(N);
        for number in 1..=N {
            let node = format!("{}-node-{number}", self.options.datacenter);
            let server = ChildServer::new(Agent {
                binary: self.binary.clone(),
                node: node.clone(),
                dev: !self.options.persistent,
                token: token.clone(),
            })?;
            let ports = Ports::of(server.place().endpoints()).ok_or_else(|| cannot("count its ports"))?;
            agents.push(Consul {
                server,
                ports,
                node,
                token: token.clone(),
                certificates: certificates.clone(),
                unix_socket: self.options.unix_socket,
            });
        }
        let cluster: Vec<SocketAddr> = match N {
            1 => Vec::new(),
            _ => agents.iter().map(|agent| agent.ports.lan).collect(),
        };
        for agent in &agents {
            let settings = Settings {
                options: &self.options,
                version,
                node: &agent.node,
                ports: agent.ports,
                token: agent.token.as_ref().map(Secret::expose),
                certificates: agent.certificates.as_ref(),
                dir: agent.server.place().dir(),
                cluster: &cluster,
            };
            std::fs::write(
                agent.server.place().dir().join(CONFIG),
                settings.json().to_string(),
            )
            .map_err(|source| cannot("write its configuration").with_source(source))?;
        }
        agents.try_into().map_err(|_| cannot("count the agents"))
    }

    async fn version(&self) -> Result<Version> {
        let mut command = Command::new(&self.binary);
        command.arg("version");
        let said = run(command, "tell its version").await?;
        parse_version(&said).ok_or_else(|| cannot("tell its version").with_context("said", said))
    }
}

/// The version in `Consul v1.22.6` and what follows.
fn parse_version(said: &str) -> Option<Version> {
    let mut parts = said.trim_start().strip_prefix("Consul v")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Runs the program to its end, and gives what it printed.
pub(super) async fn run(command: Command, what: &'static str) -> Result<String> {
    program::run("Consul", command, what).await
}

pub(super) fn cannot(what: &'static str) -> Error {
    program::cannot("Consul", what)
}

/// A token in the form that Consul wants: a UUID.
fn random_token() -> Secret {
    let hex = format!("{:032x}", fastrand::u128(..));
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    Secret::new(parts.join("-"))
}

#[cfg(test)]
mod tests {
    use discovery_core::ErrorKind;

    use super::*;

    #[test]
    fn versions_are_read_as_consul_prints_them() {
        assert_eq!(parse_version("Consul v1.8.7\nProtocol 2 spoken"), Some((1, 8)));
        assert_eq!(parse_version("Consul v1.22.6+ent\nRevision 1"), Some((1, 22)));
        assert_eq!(parse_version("GNU ls 9"), None);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error_that_says_what_to_do() {
        let error = Consul::dev("/nonexistent/consul").build().await.unwrap_err();
        assert_eq!(
            (error.kind(), error.is_retryable()),
            (ErrorKind::Unavailable, false)
        );
        assert!(error.hint().unwrap().contains("scripts/servers"));
    }
}
