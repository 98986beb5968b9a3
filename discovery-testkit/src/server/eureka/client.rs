//! A Spring Boot service that registers and looks up with Netflix' own client.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use discovery_core::{Error, ErrorKind, Result};
use hyper::Method;
use serde_json::Value;
use tokio::process::Command;

use super::{CLIENT, ChildServer, Place, Recipe, Server, child_server, jar_version, java, send};

/// How the service is run.
#[derive(Debug)]
struct Service {
    jar: PathBuf,
    app: String,
    eureka: String,
}

#[async_trait]
impl Recipe for Service {
    fn name(&self) -> &'static str {
        CLIENT.name()
    }

    fn ready_within(&self) -> Duration {
        Duration::from_secs(300)
    }

    fn command(&self, place: &Place) -> Command {
        let mut command = java(&self.jar);
        command
            .arg(format!("--server.port={}", place.endpoints()[0].port()))
            .arg(format!("--spring.application.name={}", self.app))
            .arg(format!("--eureka.client.service-url.defaultZone={}", self.eureka))
            .arg("--logging.level.root=WARN");
        command
    }

    async fn probe(&self, place: &Place) -> Result<()> {
        let path = format!("/instances?app={}", self.app);
        send(place.endpoints()[0], Method::GET, &path, None)
            .await?
            .json()
            .map(drop)
    }

    async fn version(&self, _: &Place) -> Result<String> {
        jar_version(&self.jar)
    }
}

/// A service on loopback as users of Spring write it. It registers as `<app>:<port>`, renews every second with a lease of
/// 3 s, and fetches every second; stopped in order it deregisters.
#[derive(Debug)]
pub struct SpringClient {
    server: ChildServer<Service>,
}

impl SpringClient {
    /// A service of the jar at this path, an instance of this application at this Eureka, not started.
    ///
    /// # Errors
    /// [`ErrorKind::Unexpected`] when there is no directory or port to be had.
    pub fn new(jar: impl Into<PathBuf>, app: impl Into<String>, eureka: impl Into<String>) -> Result<Self> {
        let server = ChildServer::new(Service {
            jar: jar.into(),
            app: app.into(),
            eureka: eureka.into(),
        })?;
        Ok(Self { server })
    }

    /// The id that it registers under.
    pub fn instance_id(&self) -> String {
        format!("{}:{}", self.server.recipe().app, self.server.endpoint().port())
    }

    /// What its own view holds of an application, whatever the status: `instanceId`, `hostName`, `ipAddr`, `port`,
    /// `portEnabled`, `securePort`, `securePortEnabled`, `vipAddress`, `status`, `metadata`.
    pub async fn instances(&self, app: &str) -> Result<Vec<Value>> {
        let path = format!("/instances?app={app}");
        match send(self.server.endpoint(), Method::GET, &path, None)
            .await?
            .json()?
        {
            Value::Array(instances) => Ok(instances),
            other => Err(Error::new(
                ErrorKind::Protocol,
                format!("not a list of instances: {other}"),
            )),
        }
    }

    /// Changes its own status, `UP` or `DOWN` say, which it then reports.
    pub async fn set_status(&self, status: &str) -> Result<()> {
        let path = format!("/status?value={status}");
        send(self.server.endpoint(), Method::PUT, &path, None)
            .await?
            .json()
            .map(drop)
    }
}

child_server!(SpringClient);
