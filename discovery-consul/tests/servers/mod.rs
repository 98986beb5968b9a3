//! Real Consul servers for tests.

use std::net::SocketAddr;

use async_trait::async_trait;
use discovery_core::{Error, ErrorKind, Result};
use discovery_testkit::server::{Place, Recipe};
use tokio::process::Command;

/// The programs to test: name and path of those that are named.
pub(crate) fn named() -> Vec<(&'static str, String)> {
    [
        ("consul-old", "DISCOVERY_CONSUL_OLD"),
        ("consul-new", "DISCOVERY_CONSUL_NEW"),
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

/// A development server, which keeps nothing: restarted, it is empty.
#[derive(Debug, Clone)]
pub(crate) struct Dev {
    pub(crate) name: &'static str,
    pub(crate) program: String,
    /// Further lines of its configuration.
    pub(crate) more: String,
}

impl Dev {
    /// A server without access control.
    pub(crate) fn new(name: &'static str, program: &str) -> Self {
        Self {
            name,
            program: program.to_owned(),
            more: String::new(),
        }
    }

    /// Whether it is of the oldest version.
    pub(crate) fn is_old(&self) -> bool {
        self.name == "consul-old"
    }
}

#[async_trait]
impl Recipe for Dev {
    fn name(&self) -> &'static str {
        self.name
    }

    fn ports(&self) -> usize {
        5
    }

    fn command(&self, place: &Place) -> Command {
        let ports: Vec<_> = place.endpoints().iter().map(SocketAddr::port).collect();
        let grpc_tls = if self.is_old() { "" } else { "grpc_tls = -1" };
        let config = format!(
            "node_name = \"n1\"\nbind_addr = \"127.0.0.1\"\nclient_addr = \"127.0.0.1\"\nlog_level = \"WARN\"\n\
             disable_update_check = true\nperformance {{ raft_multiplier = 1 }}\n\
             ports {{ http = {} https = {} grpc = -1 dns = -1 {grpc_tls} server = {} serf_lan = {} serf_wan = {} }}\n{}\n",
            ports[0],
            if self.more.contains("cert_file") {
                i32::from(ports[4])
            } else {
                -1
            },
            ports[1],
            ports[2],
            ports[3],
            self.more,
        );
        let file = place.dir().join("agent.hcl");
        std::fs::write(&file, config).expect("the server's own directory can be written");
        let mut command = Command::new(&self.program);
        command.arg("agent").arg("-dev").arg("-config-file").arg(file);
        command
    }

    /// It serves once it has a leader, which can be asked without a token.
    async fn probe(&self, place: &Place) -> Result<()> {
        let config = discovery_consul::ConsulConfig::at(place.endpoints()[0].to_string());
        let status = discovery_consul::backend(config)?.registry.status().await?;
        match status.leader {
            Some(_) => Ok(()),
            None => Err(Error::new(ErrorKind::Unavailable, "no leader yet")),
        }
    }

    async fn version(&self, place: &Place) -> Result<String> {
        let config = discovery_consul::ConsulConfig::at(place.endpoints()[0].to_string());
        let status = discovery_consul::backend(config)?.registry.status().await?;
        status
            .version
            .ok_or_else(|| Error::new(ErrorKind::Protocol, "the server does not tell its version"))
    }
}
