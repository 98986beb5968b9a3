//! From what a test asks for to members that can be started.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

use discovery_core::{Error, Result};
use tokio::process::Command;

use super::{Authority, ChildServer, Etcd, EtcdCluster, Member, NAME, ROOT, Tls};
use crate::{server::program, sync::lock};

/// Options of a member or a cluster; [`Etcd::dev`] makes one.
#[derive(Debug, Clone)]
pub struct EtcdBuilder {
    binary: PathBuf,
    flags: Vec<String>,
    tls: bool,
    mutual: bool,
}

impl EtcdBuilder {
    pub(super) fn new(binary: PathBuf) -> Self {
        Self {
            binary,
            flags: Vec::new(),
            tls: false,
            mutual: false,
        }
    }

    /// TLS for clients, under certificates of its own; no plain text beside it.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// TLS that asks clients for a certificate of the same authority.
    #[must_use]
    pub fn mutual_tls(mut self) -> Self {
        self.mutual = true;
        self.tls()
    }

    /// How long the token of a user is good without being used; etcd's default is 300 s. In whole seconds.
    #[must_use]
    pub fn token_ttl(self, ttl: Duration) -> Self {
        self.flag(format!("--auth-token-ttl={}", ttl.as_secs()))
    }

    /// Any other flag, as `--name=value`.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// One member, not started.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](discovery_core::ErrorKind::Unavailable) when the program does not run.
    pub async fn build(self) -> Result<Etcd> {
        let [etcd] = self.members::<1>().await?;
        Ok(etcd)
    }

    /// Three members of one cluster, not started.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub async fn cluster(self) -> Result<EtcdCluster> {
        Ok(EtcdCluster::new(self.members::<3>().await?))
    }

    async fn members<const N: usize>(mut self) -> Result<[Etcd; N]> {
        let mut command = Command::new(&self.binary);
        command.env_clear().arg("--version");
        let said = program::run(NAME, command, "tell its version").await?;
        let version =
            parse_version(&said).ok_or_else(|| cannot("tell its version").with_context("said", said))?;
        // A test's data need not outlive the machine.
        if version >= (3, 5) {
            self.flags.push("--unsafe-no-fsync".to_owned());
        }
        let tls = if self.tls {
            Some(self.certificates().await?)
        } else {
            None
        };
        let root = Arc::default();
        let cluster: Arc<Mutex<String>> = Arc::default();
        let mut members = Vec::with_capacity(N);
        for number in 1..=N {
            let name = format!("m{number}");
            let member = Member {
                binary: self.binary.clone(),
                flags: self.flags.clone(),
                name: name.clone(),
                cluster: Arc::clone(&cluster),
                joins: AtomicBool::new(false),
                tls: tls.clone(),
            };
            let server = ChildServer::new(member)?;
            members.push(Etcd {
                url: server.recipe().client_url(server.place()),
                server,
                name,
                ctl: self.binary.with_file_name("etcdctl"),
                tls: tls.clone(),
                root: Arc::clone(&root),
                cluster: Arc::clone(&cluster),
            });
        }
        let peers: Vec<String> = members
            .iter()
            .map(|member| format!("{}={}", member.name, Member::peer_url(member.server.place())))
            .collect();
        *lock(&cluster) = peers.join(",");
        members.try_into().map_err(|_| cannot("count the members"))
    }

    async fn certificates(&self) -> Result<Tls> {
        let authority = Authority::make().await?;
        Ok(Tls {
            server: authority.server(NAME).await?,
            client: authority.client(ROOT, &[]).await?,
            authority,
            mutual: self.mutual,
        })
    }
}

fn cannot(what: &'static str) -> Error {
    program::cannot(NAME, what)
}

/// The version in `etcd Version: 3.5.16` and what follows.
fn parse_version(said: &str) -> Option<(u32, u32)> {
    let mut parts = said.trim_start().strip_prefix("etcd Version: ")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use discovery_core::ErrorKind;

    use super::*;

    #[test]
    fn versions_are_read_as_etcd_prints_them() {
        assert_eq!(parse_version("etcd Version: 3.4.23\nGit SHA: x"), Some((3, 4)));
        assert_eq!(parse_version("etcd Version: 3.5.16\n"), Some((3, 5)));
        assert_eq!(parse_version("GNU ls 9"), None);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error_that_says_what_to_do() {
        let error = Etcd::dev("/nonexistent/etcd").build().await.unwrap_err();
        assert_eq!(
            (error.kind(), error.is_retryable()),
            (ErrorKind::Unavailable, false)
        );
        assert!(error.hint().unwrap().contains("scripts/servers"));
    }
}
