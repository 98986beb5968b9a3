//! From what a test asks for to a server that can be started.

use std::{collections::BTreeMap, fs, path::PathBuf};

use discovery_core::{Result, config::Secret};
use tokio::process::Command;

use super::{ADMIN, Apiserver, Authority, ChildServer, Etcd, Http, KubeApiserver, NAME, TOKENS, User};
use crate::server::program;

/// Options of a server; [`KubeApiserver::dev`] makes one.
#[derive(Debug, Clone)]
pub struct KubeBuilder {
    binary: PathBuf,
    etcd: PathBuf,
    flags: Vec<String>,
    users: BTreeMap<String, User>,
}

impl KubeBuilder {
    pub(super) fn new(binary: PathBuf, etcd: PathBuf) -> Self {
        let builder = Self {
            binary,
            etcd,
            flags: Vec::new(),
            users: BTreeMap::new(),
        };
        builder.user(ADMIN, &["system:masters"])
    }

    /// A user with a token, in these groups; what he may do RBAC says.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, groups: &[&str]) -> Self {
        let user = User {
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            token: Secret::new(format!("{:032x}", fastrand::u128(..))),
        };
        self.users.insert(name.into(), user);
        self
    }

    /// Every list and watch goes to etcd, which is compacted only when a test does it: then a watch from an old revision
    /// ends with 410. There are no bookmarks then.
    #[must_use]
    pub fn without_watch_cache(self) -> Self {
        self.flag("--watch-cache=false")
            .flag("--etcd-compaction-interval=0")
    }

    /// Any other flag, as `--name=value`.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// The server and its etcd, not started.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](discovery_core::ErrorKind::Unavailable) when a program does not run.
    pub async fn build(self) -> Result<KubeApiserver> {
        let mut version = Command::new(&self.binary);
        version.arg("--version");
        program::run(NAME, version, "tell its version").await?;
        let etcd = Etcd::dev(self.etcd).build().await?;
        let authority = Authority::make().await?;
        let admin = self.users[ADMIN].token.clone();
        let recipe = Apiserver {
            binary: self.binary,
            flags: self.flags,
            etcd: etcd.url().to_owned(),
            identity: authority.server(NAME).await?,
            signer: authority.client("service-accounts", &[]).await?,
            http: Http::new(authority.ca(), admin)?,
            authority,
        };
        let server = ChildServer::new(recipe)?;
        let dir = server.place().dir();
        let tokens: String = self
            .users
            .iter()
            .enumerate()
            .map(|(number, (name, user))| line_of_tokens(name, number, user))
            .collect();
        fs::write(dir.join(TOKENS), tokens)
            .map_err(|source| program::cannot(NAME, "have its files").with_source(source))?;
        Ok(KubeApiserver {
            server,
            etcd,
            users: self.users,
        })
    }
}

/// `token,user,uid,"groups"`
fn line_of_tokens(name: &str, number: usize, user: &User) -> String {
    let groups = user.groups.join(",");
    format!("{},{name},{number},\"{groups}\"\n", user.token.expose())
}
