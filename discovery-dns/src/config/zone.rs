//! Where services are, and who is asked for them.

use discovery_core::config::TlsConfig;
use serde::{Deserialize, Serialize};

use super::Transport;

/// What a zone's records look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ZoneType {
    /// Consul's: SRV at `<service>.service.<zone>`.
    Consul,
    /// Kubernetes': SRV at `_<port_name>._<protocol>.<service>.<namespace>.svc.<zone>`, or addresses of a headless service
    /// where the zone has a `port`.
    Kubernetes,
    /// Service instances (RFC 6763): PTR at `_<service>._<protocol>.<zone>`, SRV and TXT at each instance.
    DnsSd,
    /// SRV at `_<service>._<protocol>.<zone>` (RFC 2782).
    Srv,
    /// A and AAAA at `<service>.<zone>`, all at the zone's `port`.
    Address,
}

/// Where services are, and in what form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Zone {
    /// The domain.
    pub name: String,
    /// What its records look like.
    #[serde(rename = "type")]
    pub kind: ZoneType,
    /// The protocol in names: `tcp` unless set.
    #[serde(default = "tcp")]
    pub protocol: String,
    /// The port of services found by address.
    #[serde(default)]
    pub port: Option<u16>,
    /// The name of the port of Kubernetes services.
    #[serde(default)]
    pub port_name: Option<String>,
    /// The namespace of Kubernetes services: `default` unless set.
    #[serde(default = "default_namespace")]
    pub namespace: String,
}

fn tcp() -> String {
    "tcp".to_owned()
}

fn default_namespace() -> String {
    "default".to_owned()
}

impl Zone {
    /// A zone of this name and type.
    pub fn new(name: impl Into<String>, kind: ZoneType) -> Self {
        Self {
            name: name.into(),
            kind,
            protocol: tcp(),
            port: None,
            port_name: None,
            namespace: default_namespace(),
        }
    }

    /// The same zone, whose services are at this port.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The same zone, for services of this protocol, `tcp` or `udp`.
    #[must_use]
    pub fn protocol(mut self, protocol: impl Into<String>) -> Self {
        self.protocol = protocol.into();
        self
    }
}

/// Which servers are asked for the names that fit a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Resolution {
    /// A name, or `*.` and what names end in.
    pub pattern: String,
    /// One of `resolvers`.
    pub resolver: String,
}

impl Resolution {
    /// Has this resolver asked for the names that fit.
    pub fn new(pattern: impl Into<String>, resolver: impl Into<String>) -> Self {
        Self {
            pattern: pattern.into(),
            resolver: resolver.into(),
        }
    }
}

/// Servers asked for some names.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Resolver {
    /// As `ip` or `ip:port`.
    pub servers: Vec<String>,
    /// How they are asked.
    pub transport: Transport,
    /// How TLS is spoken to them.
    pub tls: TlsConfig,
}

impl Resolver {
    /// These servers.
    pub fn at<S: Into<String>>(servers: impl IntoIterator<Item = S>) -> Self {
        Self {
            servers: servers.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }
}
