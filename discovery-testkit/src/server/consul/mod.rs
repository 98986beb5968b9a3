//! Real Consul: one agent or a cluster of three, old or new.
//!
//! `scripts/servers` gets the programs. It is a test tool only: Consul is under the Business Source License from 1.17 on.
//!
//! ```no_run
//! # async fn example() -> discovery_core::Result<()> {
//! use discovery_testkit::server::{Server, consul::Consul};
//! use serde_json::json;
//!
//! let consul = Consul::dev("/usr/bin/consul").acl().build().await?;
//! consul.start().await?;
//! consul.register(&json!({ "ID": "web-1", "Name": "web", "Port": 80 })).await?;
//! consul.restart_empty().await?; // and now: does the client notice?
//! assert!(consul.health("web").await?.is_empty());
//! # Ok(())
//! # }
//! ```

mod age;
mod builder;
mod certificates;
mod cluster;
mod settings;

use std::{net::SocketAddr, path::PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use discovery_core::{Error, ErrorKind, Result, config::Secret};
use hyper::Method;
use serde_json::{Value, json};
use tokio::process::Command;
use url::Url;

use self::settings::{DATA, Ports, SOCKET};
pub use self::{age::Age, builder::ConsulBuilder, certificates::Certificates, cluster::ConsulCluster};
pub use super::http::Reply;
use super::{ChildServer, Place, Recipe, Server, http};

/// The configuration file of an agent, in its place.
const CONFIG: &str = "consul.json";

/// How one agent is run.
#[derive(Debug)]
struct Agent {
    binary: PathBuf,
    node: String,
    dev: bool,
    token: Option<Secret>,
}

impl Agent {
    async fn get(&self, place: &Place, path: &str) -> Result<Value> {
        http::send(
            place.endpoints()[0],
            Method::GET,
            path,
            &headers(self.token.as_ref()),
            Bytes::new(),
        )
        .await?
        .json()
    }
}

/// How a token is sent.
fn headers(token: Option<&Secret>) -> Vec<(&'static str, &str)> {
    token
        .map(|token| ("x-consul-token", token.expose()))
        .into_iter()
        .collect()
}

fn not_ready(what: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, what)
}

#[async_trait]
impl Recipe for Agent {
    fn name(&self) -> &'static str {
        "consul"
    }

    fn ports(&self) -> usize {
        Ports::COUNT
    }

    fn command(&self, place: &Place) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg("agent")
            .arg("-config-file")
            .arg(place.dir().join(CONFIG));
        if self.dev {
            command.arg("-dev");
        }
        command
    }

    /// There is a leader, the agent knows itself, and its node is in the catalogue: what is written now arrives.
    async fn probe(&self, place: &Place) -> Result<()> {
        let leader = self.get(place, "/v1/status/leader").await?;
        if leader.as_str().is_none_or(str::is_empty) {
            return Err(not_ready("there is no leader"));
        }
        self.version(place).await?;
        let node = self.get(place, &path("/v1/catalog/node", &self.node)).await?;
        if node.is_null() {
            return Err(not_ready("its node is not in the catalogue"));
        }
        Ok(())
    }

    async fn version(&self, place: &Place) -> Result<String> {
        let own = self.get(place, "/v1/agent/self").await?;
        let version = own["Config"]["Version"].as_str();
        version
            .map(str::to_owned)
            .ok_or_else(|| Error::new(ErrorKind::Protocol, "no version in /v1/agent/self"))
    }
}

/// A token as Consul's ACL system hands it out.
#[derive(Debug, Clone)]
pub struct AclToken {
    /// Its public name, by which it is revoked.
    pub accessor: String,
    /// What a client sends.
    pub secret: Secret,
}

/// One agent, a server of its own cluster or one of three, with its own ports and directory on loopback.
///
/// Its methods beside [`Server`] speak plain HTTP under the management token, where there is one.
#[derive(Debug)]
pub struct Consul {
    server: ChildServer<Agent>,
    ports: Ports,
    node: String,
    token: Option<Secret>,
    certificates: Option<Certificates>,
    unix_socket: bool,
}

impl Consul {
    /// An agent that forgets everything when it ends (`-dev`), of the program at this path.
    ///
    /// The builder's options change what it is; nothing is run yet.
    pub fn dev(binary: impl Into<PathBuf>) -> ConsulBuilder {
        ConsulBuilder::new(binary.into())
    }

    /// The name of its node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Where it serves HTTPS, where that was asked for; plain HTTP stays beside it.
    pub fn https(&self) -> Option<SocketAddr> {
        self.certificates.as_ref().map(|_| self.ports.https)
    }

    /// The socket it serves HTTP on, where that was asked for; its port stays beside it.
    pub fn socket(&self) -> Option<PathBuf> {
        self.unix_socket.then(|| self.server.place().dir().join(SOCKET))
    }

    /// Where it serves DNS, over UDP and TCP.
    pub fn dns(&self) -> SocketAddr {
        self.ports.dns
    }

    /// The certificates, where TLS was asked for.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// The token that may do everything, where ACLs are on.
    pub fn management_token(&self) -> Option<&Secret> {
        self.token.as_ref()
    }

    /// The id of its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        self.server.place().log_tail()
    }

    /// Freezes it: it keeps its connections and answers nothing.
    pub async fn pause(&self) -> Result<()> {
        self.server.pause().await
    }

    /// Lets it go on after [`Self::pause`].
    pub fn resume(&self) -> Result<()> {
        self.server.resume()
    }

    /// Kills it and starts it without anything it knew, one that was to remember as well.
    pub async fn restart_empty(&self) -> Result<()> {
        self.kill().await?;
        let data = self.server.place().dir().join(DATA);
        match tokio::task::spawn_blocking(move || std::fs::remove_dir_all(data)).await {
            Ok(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::new(ErrorKind::Unexpected, "cannot delete its data").with_source(error));
            }
            _ => {}
        }
        self.start().await
    }

    /// Sends a request under any token or none; the answer is given whatever its status. At most 30 s.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        token: Option<&Secret>,
        body: Option<&Value>,
    ) -> Result<Reply> {
        let body = body.map(Value::to_string).unwrap_or_default().into();
        http::send(self.ports.http, method, path, &headers(token), body).await
    }

    /// `GET` under the management token.
    ///
    /// # Errors
    /// Also for any status but 2xx; so do all methods below.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.request(Method::GET, path, self.token.as_ref(), None)
            .await?
            .json()
    }

    /// `PUT` under the management token.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.request(Method::PUT, path, self.token.as_ref(), Some(body))
            .await?
            .json()
    }

    /// Registers a service at this agent.
    pub async fn register(&self, service: &Value) -> Result<()> {
        self.put("/v1/agent/service/register", service).await.map(drop)
    }

    /// Deregisters a service of this agent.
    pub async fn deregister(&self, id: &str) -> Result<()> {
        self.put(&path("/v1/agent/service/deregister", id), &Value::Null)
            .await
            .map(drop)
    }

    /// The services of this agent, by id.
    pub async fn agent_services(&self) -> Result<Value> {
        self.get("/v1/agent/services").await
    }

    /// The instances of a service with their checks, as the catalogue knows them.
    pub async fn health(&self, service: &str) -> Result<Vec<Value>> {
        match self.get(&path("/v1/health/service", service)).await? {
            Value::Array(instances) => Ok(instances),
            other => Err(Error::new(
                ErrorKind::Protocol,
                format!("not a list of instances: {other}"),
            )),
        }
    }

    /// Writes a node, and a service if there is one in it, into the catalogue; no agent owns it.
    pub async fn register_node(&self, node: &Value) -> Result<()> {
        self.put("/v1/catalog/register", node).await.map(drop)
    }

    /// Takes a node with everything on it out of the catalogue.
    pub async fn deregister_node(&self, node: &str) -> Result<()> {
        self.put("/v1/catalog/deregister", &json!({ "Node": node }))
            .await
            .map(drop)
    }

    /// Creates an ACL policy of these rules.
    pub async fn create_policy(&self, name: &str, rules: &str) -> Result<()> {
        self.put("/v1/acl/policy", &json!({ "Name": name, "Rules": rules }))
            .await
            .map(drop)
    }

    /// Creates a token under these policies.
    pub async fn create_token(&self, policies: &[&str]) -> Result<AclToken> {
        let policies: Vec<Value> = policies.iter().map(|name| json!({ "Name": name })).collect();
        let made = self
            .put("/v1/acl/token", &json!({ "Policies": policies }))
            .await?;
        match (made["AccessorID"].as_str(), made["SecretID"].as_str()) {
            (Some(accessor), Some(secret)) => Ok(AclToken {
                accessor: accessor.to_owned(),
                secret: Secret::new(secret),
            }),
            _ => Err(Error::new(ErrorKind::Protocol, "the answer holds no token")),
        }
    }

    /// Revokes a token. Agents may remember it for 30 s.
    pub async fn revoke_token(&self, token: &AclToken) -> Result<()> {
        let path = path("/v1/acl/token", &token.accessor);
        self.request(Method::DELETE, &path, self.token.as_ref(), None)
            .await?
            .json()
            .map(drop)
    }

    /// Everything its cluster stores, as it is now.
    pub async fn snapshot(&self) -> Result<Bytes> {
        let token = self.token.as_ref();
        let reply = self.request(Method::GET, "/v1/snapshot", token, None).await?;
        reply.ok().map(|reply| reply.body.clone())
    }

    /// Brings its cluster back to what it stored then: its indexes go backwards. What agents registered since they put
    /// back by themselves, some time later.
    pub async fn restore(&self, snapshot: Bytes) -> Result<()> {
        let headers = headers(self.token.as_ref());
        let reply = http::send(self.ports.http, Method::PUT, "/v1/snapshot", &headers, snapshot).await?;
        reply.ok().map(drop)
    }

    /// Joins its datacenter with that of another server, so that each answers for both.
    pub async fn join_wan(&self, other: &Consul) -> Result<()> {
        self.put(&format!("/v1/agent/join/{}?wan=1", other.ports.wan), &Value::Null)
            .await
            .map(drop)
    }
}

/// `prefix` with one more segment, which may hold anything.
fn path(prefix: &str, segment: &str) -> String {
    let mut url = Url::parse("http://localhost").ok();
    if let Some(mut segments) = url.as_mut().and_then(|url| url.path_segments_mut().ok()) {
        segments.push(segment);
    }
    format!("{prefix}{}", url.as_ref().map_or("", Url::path))
}

/// # Cancel safety
/// As [`ChildServer`]'s.
#[async_trait]
impl Server for Consul {
    async fn start(&self) -> Result<()> {
        self.server.start().await
    }

    async fn stop(&self) -> Result<()> {
        self.server.stop().await
    }

    async fn kill(&self) -> Result<()> {
        self.server.kill().await
    }

    fn endpoint(&self) -> SocketAddr {
        self.server.endpoint()
    }

    async fn version(&self) -> Result<String> {
        self.server.version().await
    }
}
