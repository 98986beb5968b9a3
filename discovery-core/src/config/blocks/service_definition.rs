//! The `service_definition:` block: what to register, in a file.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::Connect;
use crate::{
    config::{KnownBlock, duration},
    error::Result,
    model::{Check, Registration},
};

/// The `service_definition:` block: what to register. Texts may use `{{ .name }}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ServiceDefinition {
    /// The service.
    pub name: String,
    /// The id of the instance; `<name>-<address>-<port>` where left out.
    pub id: Option<String>,
    /// The IP address or host name clients connect to.
    pub address: String,
    /// The port clients connect to.
    pub port: u16,
    /// Tags.
    pub tags: Vec<String>,
    /// Metadata.
    pub meta: BTreeMap<String, String>,
    /// Weight beside other instances; one where left out.
    pub weight: Option<u16>,
    /// How long it outlives its last heartbeat; the backend's default where left out.
    #[serde(with = "duration::option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Duration>"))]
    pub ttl: Option<Duration>,
    /// Checks.
    pub health_checks: Vec<DeclaredCheck>,
    /// Its part in a service mesh. Not acted on in this release.
    pub connect: Option<Connect>,
}

/// A check in a `service_definition:`, which holds exactly one of `http`, `tcp`, `grpc` and `script`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "AnyCheck")]
#[non_exhaustive]
pub struct DeclaredCheck {
    /// Its name.
    pub name: String,
    /// What is looked at.
    #[serde(flatten)]
    pub look: Look,
    /// The time between two looks; 10 s where left out.
    #[serde(with = "duration::option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Duration>"))]
    pub interval: Option<Duration>,
    /// How long a look may take; 5 s where left out.
    #[serde(with = "duration::option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Duration>"))]
    pub timeout: Option<Duration>,
}

/// What a check looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Look {
    /// A URL, which answers with success.
    Http(String),
    /// An address, which takes a connection.
    Tcp(String),
    /// `host:port` or `host:port/service`, which says that it is serving.
    Grpc(String),
    /// A program and its arguments, which ends with zero.
    Script(Vec<String>),
}

/// A check before it is known to hold one thing to look at.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct AnyCheck {
    name: String,
    http: Option<String>,
    tcp: Option<String>,
    grpc: Option<String>,
    script: Option<Vec<String>>,
    #[serde(default, with = "duration::option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Duration>"))]
    interval: Option<Duration>,
    #[serde(default, with = "duration::option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Duration>"))]
    timeout: Option<Duration>,
}

impl TryFrom<AnyCheck> for DeclaredCheck {
    type Error = &'static str;

    fn try_from(check: AnyCheck) -> Result<Self, Self::Error> {
        let looks = [
            check.http.map(Look::Http),
            check.tcp.map(Look::Tcp),
            check.grpc.map(Look::Grpc),
            check.script.map(Look::Script),
        ];
        let mut looks = looks.into_iter().flatten();
        match (looks.next(), looks.next()) {
            (Some(look), None) => Ok(Self {
                name: check.name,
                look,
                interval: check.interval,
                timeout: check.timeout,
            }),
            _ => Err("a check has exactly one of `http`, `tcp`, `grpc` and `script`"),
        }
    }
}

impl ServiceDefinition {
    /// The block, for [`Loader::new`](crate::config::Loader::new).
    pub const BLOCK: KnownBlock = KnownBlock::of::<Self>("service_definition");

    /// What to register, with texts as they stand: [`Loader::fill`](crate::config::Loader::fill) fills in their variables.
    ///
    /// # Errors
    /// `InvalidInput` for what makes no registration.
    ///
    /// ```
    /// use discovery_core::config::{Loader, ServiceDefinition};
    ///
    /// let loaded = Loader::new(&[ServiceDefinition::BLOCK])
    ///     .yaml(
    ///         "api.yaml",
    ///         r#"service_definition: { name: "api", address: "{{ .host_ip }}", port: 8080 }"#,
    ///     )?
    ///     .fill("service_definition", |name| (name == "host_ip").then(|| "10.0.0.5".to_owned()))?;
    /// let definition: ServiceDefinition = loaded.block("service_definition")?;
    /// assert_eq!(definition.registration()?.id.as_str(), "api-10.0.0.5-8080");
    /// # Ok::<(), discovery_core::Error>(())
    /// ```
    pub fn registration(&self) -> Result<Registration> {
        let mut builder = Registration::builder(&self.name, &self.address, self.port);
        if let Some(id) = &self.id {
            builder = builder.id(id);
        }
        for tag in &self.tags {
            builder = builder.tag(tag);
        }
        for (key, value) in &self.meta {
            builder = builder.meta(key, value);
        }
        if let Some(weight) = self.weight {
            builder = builder.weight(weight);
        }
        if let Some(ttl) = self.ttl {
            builder = builder.ttl(ttl);
        }
        for declared in &self.health_checks {
            builder = builder.check(declared.check());
        }
        builder.build()
    }
}

impl DeclaredCheck {
    fn check(&self) -> Check {
        let mut check = match &self.look {
            Look::Http(url) => Check::http(url),
            Look::Tcp(address) => Check::tcp(address),
            Look::Grpc(target) => Check::grpc(target, false),
            Look::Script(args) => Check::script(args),
        };
        check = check.named(&self.name);
        if let Some(interval) = self.interval {
            check = check.every(interval);
        }
        if let Some(timeout) = self.timeout {
            check = check.timeout(timeout);
        }
        check
    }
}
