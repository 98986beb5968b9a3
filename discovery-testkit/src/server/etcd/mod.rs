//! Real etcd: one member or a cluster of three, old or new.
//!
//! `scripts/servers` gets the programs: `etcd`, and `etcdctl` beside it.
//!
//! ```no_run
//! # async fn example() -> discovery_core::Result<()> {
//! use discovery_testkit::server::{Server, etcd::Etcd};
//!
//! let etcd = Etcd::dev("/usr/bin/etcd").build().await?;
//! etcd.start().await?;
//! etcd.ctl(&["put", "/services/web/1", "{}"]).await?;
//! etcd.compact(etcd.revision().await?).await?; // and now: does the watch recover?
//! # Ok(())
//! # }
//! ```

mod builder;
mod cluster;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use discovery_core::{Error, ErrorKind, Result, config::Secret};
use hyper::Method;
use serde_json::Value;
use tokio::process::Command;

pub use self::{builder::EtcdBuilder, cluster::EtcdCluster};
use super::{Authority, ChildServer, Identity, Place, Program, Recipe, Server, child_server, http, program};
use crate::sync::lock;

const NAME: &str = "etcd";
/// The folder of a member's data, in its place.
const DATA: &str = "data";
/// The user that may do everything, once there are users.
const ROOT: &str = "root";

/// Which of the two etcds that the tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// 3.4, the oldest supported.
    Old,
    /// From 3.5.13.
    New,
}

impl Age {
    /// Both, oldest first.
    pub const ALL: [Self; 2] = [Self::Old, Self::New];

    fn program(self) -> Program {
        match self {
            Self::Old => Program::new("etcd-old", "DISCOVERY_ETCD_OLD"),
            Self::New => Program::new("etcd-new", "DISCOVERY_ETCD_NEW"),
        }
    }

    /// What it is called in the names of tests.
    pub fn name(self) -> &'static str {
        self.program().name()
    }

    /// The variable that holds the path of its program; `scripts/test` sets it.
    pub fn variable(self) -> &'static str {
        self.program().variable()
    }

    /// The path of its program, where the tests were told one.
    pub fn binary(self) -> Option<PathBuf> {
        self.program().binary()
    }
}

/// Certificates of a member that serves TLS.
#[derive(Debug, Clone)]
struct Tls {
    authority: Authority,
    server: Identity,
    client: Identity,
    mutual: bool,
}

/// How one member is run.
#[derive(Debug)]
struct Member {
    binary: PathBuf,
    flags: Vec<String>,
    name: String,
    /// `name=peer URL` of all members; set once their ports are known.
    cluster: Arc<Mutex<String>>,
    /// It joins a cluster that runs already, when it has no data.
    joins: AtomicBool,
    tls: Option<Tls>,
}

impl Member {
    fn client_url(&self, place: &Place) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", place.endpoints()[0])
    }

    fn peer_url(place: &Place) -> String {
        format!("http://{}", place.endpoints()[1])
    }

    async fn get(place: &Place, path: &str) -> Result<http::Reply> {
        http::send(place.endpoints()[2], Method::GET, path, &[], Bytes::new()).await
    }
}

#[async_trait]
impl Recipe for Member {
    fn name(&self) -> &'static str {
        NAME
    }

    /// For clients, for peers, and for `/health` and `/metrics` without TLS.
    fn ports(&self) -> usize {
        3
    }

    fn command(&self, place: &Place) -> Command {
        let [client, peer] = [self.client_url(place), Self::peer_url(place)];
        let state = if self.joins.load(Ordering::Relaxed) {
            "existing"
        } else {
            "new"
        };
        let mut command = Command::new(&self.binary);
        // What is set for another etcd on this machine is not for this one.
        command.env_clear();
        command.args([
            "--name",
            &self.name,
            "--data-dir",
            DATA,
            "--log-level",
            "warn",
            "--logger",
            "zap",
        ]);
        command.args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ]);
        command.args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ]);
        command.arg("--listen-metrics-urls");
        command.arg(format!("http://{}", place.endpoints()[2]));
        command.args([
            "--initial-cluster",
            &lock(&self.cluster),
            "--initial-cluster-state",
            state,
        ]);
        if let Some(tls) = &self.tls {
            command.arg("--cert-file").arg(&tls.server.cert);
            command.arg("--key-file").arg(&tls.server.key);
            if tls.mutual {
                command
                    .arg("--client-cert-auth")
                    .arg("--trusted-ca-file")
                    .arg(tls.authority.ca());
            }
        }
        command.args(&self.flags);
        command
    }

    /// It knows a leader and reads through it.
    async fn probe(&self, place: &Place) -> Result<()> {
        let health = Self::get(place, "/health").await?.json()?;
        match health["health"].as_str() {
            Some("true") => Ok(()),
            _ => Err(Error::new(
                ErrorKind::Unavailable,
                format!("not healthy: {health}"),
            )),
        }
    }

    async fn version(&self, place: &Place) -> Result<String> {
        let metrics = Self::get(place, "/metrics").await?.text();
        let version = metrics
            .split_once("etcd_server_version{server_version=\"")
            .and_then(|(_, rest)| rest.split_once('"'));
        version
            .map(|(version, _)| version.to_owned())
            .ok_or_else(|| Error::new(ErrorKind::Protocol, "no version in /metrics"))
    }
}

/// What a role may do with a prefix of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Read and watch.
    Read,
    /// Write alone.
    Write,
    /// Both.
    ReadWrite,
}

/// One member, alone or of three, with its own ports and directory on loopback. It keeps its data until it is dropped.
///
/// Its methods beside [`Server`] run `etcdctl`.
#[derive(Debug)]
pub struct Etcd {
    server: ChildServer<Member>,
    name: String,
    ctl: PathBuf,
    url: String,
    tls: Option<Tls>,
    /// The password of root, once there are users; one for the whole cluster.
    root: Arc<Mutex<Option<Secret>>>,
    cluster: Arc<Mutex<String>>,
}

impl Etcd {
    /// A member, of the program at this path; `etcdctl` is beside it.
    ///
    /// The builder's options change what it is; nothing is run yet.
    pub fn dev(binary: impl Into<PathBuf>) -> EtcdBuilder {
        EtcdBuilder::new(binary.into())
    }

    /// Its name in its cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where clients find it, `http` or `https`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The authority of its certificate, where TLS was asked for.
    pub fn authority(&self) -> Option<&Authority> {
        self.tls.as_ref().map(|tls| &tls.authority)
    }

    /// A client's certificate, where TLS was asked for. Its common name is `root`.
    pub fn client_identity(&self) -> Option<&Identity> {
        self.tls.as_ref().map(|tls| &tls.client)
    }

    /// Kills it and starts it without anything it knew: revisions begin anew. For one that is alone.
    pub async fn restart_empty(&self) -> Result<()> {
        self.server.kill().await?;
        self.delete_data().await?;
        *lock(&self.root) = None;
        self.start().await
    }

    async fn delete_data(&self) -> Result<()> {
        program::delete(&self.server.place().dir().join(DATA)).await
    }

    /// Runs `etcdctl` against this member, as root once there are users, and gives what it printed.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when it ends with an error, with what it said; so do all methods below.
    pub async fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let root = lock(&self.root).clone();
        let user = root.as_ref().map(|password| (ROOT, password.expose()));
        self.run_ctl(user, arguments).await
    }

    /// As [`Self::ctl`], as this user.
    pub async fn ctl_as(&self, name: &str, password: &str, arguments: &[&str]) -> Result<String> {
        self.run_ctl(Some((name, password)), arguments).await
    }

    async fn run_ctl(&self, user: Option<(&str, &str)>, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.ctl);
        command.env_clear().env("ETCDCTL_API", "3");
        if let Some((name, password)) = user {
            command.env("ETCDCTL_USER", format!("{name}:{password}"));
        }
        command.args([
            "--endpoints",
            &self.url,
            "--dial-timeout",
            "5s",
            "--command-timeout",
            "10s",
        ]);
        if let Some(tls) = &self.tls {
            command.arg("--cacert").arg(tls.authority.ca());
            if tls.mutual {
                command.arg("--cert").arg(&tls.client.cert);
                command.arg("--key").arg(&tls.client.key);
            }
        }
        command.args(arguments).current_dir(self.server.place().dir());
        program::run("etcdctl", command, "do as told").await
    }

    /// As [`Self::ctl`] with `-w json`.
    pub async fn ctl_json(&self, arguments: &[&str]) -> Result<Value> {
        let arguments = [arguments, &["-w", "json"]].concat();
        let said = self.ctl(&arguments).await?;
        serde_json::from_str(&said)
            .map_err(|source| Error::new(ErrorKind::Protocol, "etcdctl prints no JSON").with_source(source))
    }

    /// Its status: leader, revision, size.
    async fn status(&self) -> Result<Value> {
        let mut all = self.ctl_json(&["endpoint", "status"]).await?;
        Ok(all[0]["Status"].take())
    }

    /// The revision of its store.
    pub async fn revision(&self) -> Result<i64> {
        let status = self.status().await?;
        status["header"]["revision"]
            .as_i64()
            .ok_or_else(|| Error::new(ErrorKind::Protocol, "no revision in the status"))
    }

    /// Whether it leads, alone or its cluster.
    pub async fn leads(&self) -> Result<bool> {
        let status = self.status().await?;
        let leader = status["leader"].as_u64().filter(|leader| *leader != 0);
        Ok(leader.is_some() && leader == status["header"]["member_id"].as_u64())
    }

    /// Forgets all revisions before this one.
    pub async fn compact(&self, revision: i64) -> Result<()> {
        self.ctl(&["compact", &revision.to_string()]).await.map(drop)
    }

    /// Users from now on: `root` under this password, and no access without one.
    pub async fn enable_auth(&self, password: &str) -> Result<()> {
        self.ctl(&["user", "add", &format!("{ROOT}:{password}")]).await?;
        self.ctl(&["role", "add", ROOT]).await?;
        self.ctl(&["user", "grant-role", ROOT, ROOT]).await?;
        self.ctl(&["auth", "enable"]).await?;
        *lock(&self.root) = Some(Secret::new(password));
        Ok(())
    }

    /// No users any more; those that there were are kept.
    pub async fn disable_auth(&self) -> Result<()> {
        self.ctl(&["auth", "disable"]).await?;
        *lock(&self.root) = None;
        Ok(())
    }

    /// Adds a user who has a role of the same name, which may do this with the keys of this prefix.
    pub async fn add_user(
        &self,
        name: &str,
        password: &str,
        permission: Permission,
        prefix: &str,
    ) -> Result<()> {
        let permission = match permission {
            Permission::Read => "read",
            Permission::Write => "write",
            Permission::ReadWrite => "readwrite",
        };
        self.ctl(&["user", "add", &format!("{name}:{password}")]).await?;
        self.ctl(&["role", "add", name]).await?;
        self.ctl(&[
            "role",
            "grant-permission",
            name,
            "--prefix=true",
            permission,
            prefix,
        ])
        .await?;
        self.ctl(&["user", "grant-role", name, name]).await.map(drop)
    }

    /// Saves a backup to this path, which must not be there.
    pub async fn save(&self, backup: &Path) -> Result<()> {
        self.ctl(&["snapshot", "save", &backup.to_string_lossy()])
            .await
            .map(drop)
    }

    /// Kills it and starts it as this backup was: revisions go back. For one that is alone.
    pub async fn restore(&self, backup: &Path) -> Result<()> {
        self.server.kill().await?;
        self.delete_data().await?;
        let cluster = lock(&self.cluster).clone();
        let peer = Member::peer_url(self.server.place());
        let backup = backup.to_string_lossy();
        let line = [
            "snapshot",
            "restore",
            &backup,
            "--data-dir",
            DATA,
            "--name",
            &self.name,
        ];
        let cluster = [
            "--initial-cluster",
            &cluster,
            "--initial-advertise-peer-urls",
            &peer,
        ];
        self.ctl(&[&line[..], &cluster[..]].concat()).await?;
        self.start().await
    }
}

child_server!(Etcd);
