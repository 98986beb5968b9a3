//! Real Eureka, as Spring Cloud serves it: one server or two peers, and a real Spring Boot client.
//!
//! `scripts/servers` builds the programs, two jars that need `java` on PATH. Servers take 5 to 10 s to start.
//!
//! ```no_run
//! # async fn example() -> discovery_core::Result<()> {
//! use discovery_testkit::server::{Server, eureka::Eureka};
//! use serde_json::json;
//!
//! let eureka = Eureka::dev("eureka.jar").build()?;
//! eureka.start().await?;
//! let instance = json!({ "instanceId": "web-1", "hostName": "h", "app": "WEB", "ipAddr": "192.0.2.1", "status": "UP" });
//! eureka.register("WEB", &instance).await?;
//! assert_eq!(eureka.instances("WEB").await?.len(), 1);
//! eureka.restart().await?; // empty: it keeps nothing. Does the client notice?
//! # Ok(())
//! # }
//! ```

mod client;
mod pair;

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use async_trait::async_trait;
use discovery_core::{Error, ErrorKind, Result};
use hyper::Method;
use serde_json::{Value, json};
use tokio::process::Command;

pub use self::{client::SpringClient, pair::EurekaPair};
use super::{ChildServer, Place, Program, Recipe, Reply, Server, child_server, http};
use crate::sync::lock;

const NAME: &str = "eureka";

/// The server that the tests run, a jar.
pub const SERVER: Program = Program::new(NAME, "DISCOVERY_EUREKA");
/// A Spring Boot service with Netflix' own client, a jar.
pub const CLIENT: Program = Program::new("eureka-client", "DISCOVERY_EUREKA_CLIENT");

/// What makes a server act in seconds where it would in minutes. See `EurekaServerConfigBean` of Spring Cloud Netflix.
const QUICK: [(&str, &str); 10] = [
    // What is written is read at once; see `EurekaBuilder::read_only_cache`.
    ("eureka.server.use-read-only-response-cache", "false"),
    ("eureka.server.response-cache-auto-expiration-in-seconds", "1"),
    ("eureka.server.eviction-interval-timer-in-ms", "1000"),
    ("eureka.server.enable-self-preservation", "false"),
    ("eureka.server.expected-client-renewal-interval-seconds", "1"),
    ("eureka.server.delta-retention-timer-interval-in-ms", "1000"),
    ("eureka.server.retention-time-in-m-s-in-delta-queue", "5000"),
    ("eureka.server.renewal-threshold-update-interval-ms", "5000"),
    ("eureka.server.wait-time-in-ms-when-sync-empty", "0"),
    ("logging.level.root", "WARN"),
];

/// How one jar is run: few resources, quick to start.
fn java(jar: &Path) -> Command {
    let mut command = Command::new("java");
    command
        .args([
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-Xmx256m",
            "-Xshare:auto",
        ])
        .arg("-jar")
        .arg(jar);
    command
}

/// The version that the build noted beside a jar.
fn jar_version(jar: &Path) -> Result<String> {
    fs::read_to_string(jar.with_file_name("version"))
        .map(|version| version.trim().to_owned())
        .map_err(|source| {
            Error::new(ErrorKind::NotFound, "no file `version` beside the jar").with_source(source)
        })
}

/// JSON, both ways: without it Eureka answers in XML.
async fn send(addr: SocketAddr, method: Method, path: &str, body: Option<&Value>) -> Result<Reply> {
    let headers = [
        ("accept", "application/json"),
        ("content-type", "application/json"),
    ];
    let body = body.map(Value::to_string).unwrap_or_default();
    http::send(addr, method, path, &headers, body.into()).await
}

/// How one server is run.
#[derive(Debug)]
struct Spring {
    jar: PathBuf,
    properties: BTreeMap<String, String>,
    /// The URL of its peer, for one of two; set once that has a port.
    peer: Mutex<Option<String>>,
}

#[async_trait]
impl Recipe for Spring {
    fn name(&self) -> &'static str {
        NAME
    }

    fn ready_within(&self) -> Duration {
        Duration::from_secs(300)
    }

    fn command(&self, place: &Place) -> Command {
        let mut command = java(&self.jar);
        command.arg(format!("--server.port={}", place.endpoints()[0].port()));
        // Without a peer its own address: the default is port 8761, where someone may be.
        let peer = lock(&self.peer).clone();
        let peer = peer.unwrap_or_else(|| {
            // Which it must know for its own, or it repeats to itself what it was told a moment ago.
            command.arg("--eureka.instance.hostname=127.0.0.1");
            format!("http://{}/eureka/", place.endpoints()[0])
        });
        command.arg(format!("--eureka.client.service-url.defaultZone={peer}"));
        for (key, value) in &self.properties {
            command.arg(format!("--{key}={value}"));
        }
        command
    }

    async fn probe(&self, place: &Place) -> Result<()> {
        send(place.endpoints()[0], Method::GET, "/eureka/apps", None)
            .await?
            .json()
            .map(drop)
    }

    /// Spring Cloud Netflix', as the build noted it.
    async fn version(&self, _: &Place) -> Result<String> {
        jar_version(&self.jar)
    }
}

/// Options of a server or two peers; [`Eureka::dev`] makes one.
#[derive(Debug, Clone)]
pub struct EurekaBuilder {
    jar: PathBuf,
    properties: BTreeMap<String, String>,
}

impl EurekaBuilder {
    /// Answers come from the cache that clients are served from by default, filled anew at this interval (default 30 s).
    /// Without it they are at most a second old.
    #[must_use]
    pub fn read_only_cache(self, interval: Duration) -> Self {
        self.property("eureka.server.use-read-only-response-cache", "true")
            .property(
                "eureka.server.response-cache-update-interval-ms",
                interval.as_millis().to_string(),
            )
            .property("eureka.server.response-cache-auto-expiration-in-seconds", "180")
    }

    /// It stops evicting when too few heartbeats come in.
    #[must_use]
    pub fn self_preservation(self) -> Self {
        self.property("eureka.server.enable-self-preservation", "true")
    }

    /// Any other property of Spring; goes before what is set here.
    #[must_use]
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(key.into(), value.into());
        self
    }

    /// One server, not started.
    ///
    /// # Errors
    /// [`ErrorKind::Unexpected`] when there is no directory or port to be had.
    pub fn build(self) -> Result<Eureka> {
        let server = ChildServer::new(Spring {
            jar: self.jar,
            properties: self.properties,
            peer: Mutex::default(),
        })?;
        Ok(Eureka { server })
    }

    /// Two servers that are each other's peer, not started.
    ///
    /// # Errors
    /// As [`Self::build`], and [`ErrorKind::ConfigInvalid`] outside a tokio runtime.
    pub fn pair(self) -> Result<EurekaPair> {
        EurekaPair::new(&self)
    }
}

/// One server on loopback. It keeps nothing when it ends.
#[derive(Debug)]
pub struct Eureka {
    server: ChildServer<Spring>,
}

impl Eureka {
    /// A server of the jar at this path, quick: evictions, deltas and caches in seconds.
    ///
    /// The builder's options change what it is; nothing is run yet.
    pub fn dev(jar: impl Into<PathBuf>) -> EurekaBuilder {
        EurekaBuilder {
            jar: jar.into(),
            properties: QUICK
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        }
    }

    /// Where clients find it: `http://127.0.0.1:<port>/eureka/`.
    pub fn url(&self) -> String {
        format!("http://{}/eureka/", self.server.endpoint())
    }

    /// Sends a request that asks for JSON; the answer is given whatever its status. At most 30 s.
    pub async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Reply> {
        send(self.server.endpoint(), method, path, body).await
    }

    /// Registers an instance, the object within Eureka's `{"instance": …}`. A `dataCenterInfo` is added where it has none.
    ///
    /// # Errors
    /// Also for any status but 2xx; so do all methods below.
    pub async fn register(&self, app: &str, instance: &Value) -> Result<()> {
        let mut instance = instance.clone();
        if instance["dataCenterInfo"].is_null() {
            instance["dataCenterInfo"] = json!({
                "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo",
                "name": "MyOwn",
            });
        }
        let body = json!({ "instance": instance });
        self.request(Method::POST, &format!("/eureka/apps/{app}"), Some(&body))
            .await?
            .json()
            .map(drop)
    }

    /// One heartbeat of an instance.
    pub async fn heartbeat(&self, app: &str, id: &str) -> Result<()> {
        let reply = self
            .request(Method::PUT, &format!("/eureka/apps/{app}/{id}"), None)
            .await?;
        if reply.status.is_success() {
            return Ok(());
        }
        reply.json().map(drop)
    }

    /// Takes an instance out.
    pub async fn deregister(&self, app: &str, id: &str) -> Result<()> {
        self.request(Method::DELETE, &format!("/eureka/apps/{app}/{id}"), None)
            .await?
            .json()
            .map(drop)
    }

    /// The instances of an application, whatever their status; none where it does not know the application.
    pub async fn instances(&self, app: &str) -> Result<Vec<Value>> {
        let reply = self
            .request(Method::GET, &format!("/eureka/apps/{app}"), None)
            .await?;
        if reply.status == 404 {
            return Ok(Vec::new());
        }
        match reply.json()?["application"]["instance"].take() {
            Value::Array(instances) => Ok(instances),
            other => Err(Error::new(
                ErrorKind::Protocol,
                format!("not a list of instances: {other}"),
            )),
        }
    }
}

child_server!(Eureka);
