//! The `dns_discovery:` block.

mod update;
mod zone;

use std::{collections::BTreeMap, time::Duration};

use discovery_core::{
    Error, ErrorKind, Result,
    config::{EnvVar, KnownBlock, TlsConfig, UriForm, duration},
};
use serde::{Deserialize, Serialize};

pub use self::{
    update::{KeyAlgorithm, Update},
    zone::{Resolution, Resolver, Zone, ZoneType},
};
use crate::{error, name};

/// Settings of a DNS backend: the `dns_discovery:` block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DnsConfig {
    /// The DNS servers as `ip` or `ip:port`, asked in turn; those of `/etc/resolv.conf` where there are none.
    pub servers: Vec<String>,
    /// How they are asked.
    pub transport: Transport,
    /// How TLS is spoken to them, where `transport` is `tls`.
    pub tls: TlsConfig,
    /// How long one server has for an answer before the next is asked; 2 s, up to 5 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub timeout: Duration,
    /// Short names are looked for in this zone of DNS-SD records, before those of `zones`: for URIs, as their path.
    pub zone: Option<String>,
    /// Domains that short names are looked for in after the zones.
    pub search: Vec<String>,
    /// A name with so many dots is a full name; 1. One with fewer is looked for in `search` first.
    pub ndots: usize,
    /// The port of services that have addresses only; without it, they are not found by them.
    pub port: Option<u16>,
    /// Where services are, and in what form.
    pub zones: Vec<Zone>,
    /// Which names other servers are asked for; the first pattern that fits decides.
    pub resolution: Vec<Resolution>,
    /// The servers that `resolution` names. Two are there without being listed: `consul` (127.0.0.1:8600, over TCP) and
    /// `kubernetes` (those of `servers`, or of `/etc/resolv.conf`).
    pub resolvers: BTreeMap<String, Resolver>,
    /// How long answers are good for.
    pub caching: Caching,
    /// What is made of health.
    pub health_awareness: HealthAwareness,
    /// Registration by dynamic update; without it there is none.
    pub update: Option<Update>,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            transport: Transport::Auto,
            tls: TlsConfig::default(),
            timeout: Duration::from_secs(2),
            zone: None,
            search: Vec::new(),
            ndots: 1,
            port: None,
            zones: Vec::new(),
            resolution: Vec::new(),
            resolvers: BTreeMap::new(),
            caching: Caching::default(),
            health_awareness: HealthAwareness::default(),
            update: None,
        }
    }
}

/// How a server is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Transport {
    /// Over UDP, and over TCP where an answer was cut; names of Consul over TCP at once, as it cuts without saying so (D-1).
    #[default]
    Auto,
    /// Over UDP, and over TCP where an answer was cut.
    Udp,
    /// Over TCP.
    Tcp,
    /// Over TLS (RFC 7858), at port 853 unless given.
    Tls,
}

/// How long answers are good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Caching {
    /// Whether look-ups are answered from the client's cache while their TTL lasts. Views are kept in any case.
    pub enabled: bool,
    /// The longest an answer is good for, whatever its TTL; 30 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub ttl: Duration,
    /// The longest an answer that there is nothing is good for; 10 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub negative_ttl: Duration,
    /// The shortest any answer is good for, so that a TTL of zero is no hot loop; 2 s, at least 1 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub min_ttl: Duration,
}

impl Default for Caching {
    fn default() -> Self {
        Self {
            enabled: true,
            ttl: Duration::from_secs(30),
            negative_ttl: Duration::from_secs(10),
            min_ttl: Duration::from_secs(2),
        }
    }
}

/// What is made of health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HealthAwareness {
    /// Whether the SRV records we register show that an instance is unhealthy or draining. Our own TXT record does anyway.
    pub enabled: bool,
    /// The weight they then have; 0.
    pub unhealthy_weight: u16,
}

impl Default for HealthAwareness {
    fn default() -> Self {
        Self {
            enabled: true,
            unhealthy_weight: 0,
        }
    }
}

impl DnsConfig {
    /// The block, for [`Loader::new`](discovery_core::config::Loader::new).
    pub const BLOCK: KnownBlock = KnownBlock::of::<Self>("dns_discovery")
        .env(&[
            EnvVar::new("DISCOVERY_DNS_SERVERS", "servers"),
            EnvVar::new("DISCOVERY_DNS_TRANSPORT", "transport"),
            EnvVar::new("DISCOVERY_DNS_SEARCH", "search"),
            EnvVar::new("DISCOVERY_DNS_KEY_NAME", "update.key_name"),
            EnvVar::new("DISCOVERY_DNS_SECRET_FILE", "update.secret_file"),
        ])
        .uri(UriForm {
            schemes: &[error::SCHEME],
            endpoints: Some("servers"),
            path: Some("zone"),
            params: &[
                ("ca_file", "tls.ca_file"),
                ("server_name", "tls.server_name"),
                ("min_ttl", "caching.min_ttl"),
                ("ttl", "caching.ttl"),
                ("negative_ttl", "caching.negative_ttl"),
                ("key_name", "update.key_name"),
                ("key_algorithm", "update.key_algorithm"),
                ("secret_env", "update.secret_env"),
                ("secret_file", "update.secret_file"),
                ("primary", "update.server"),
                ("record_ttl", "update.ttl"),
            ],
        });

    /// The settings for a server at this address.
    pub fn at(server: impl Into<String>) -> Self {
        Self {
            servers: vec![server.into()],
            ..Self::default()
        }
    }

    /// The same settings with one more server.
    #[must_use]
    pub fn server(mut self, server: impl Into<String>) -> Self {
        self.servers.push(server.into());
        self
    }

    /// The same settings, asking this way.
    #[must_use]
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// The same settings with one more zone.
    #[must_use]
    pub fn zone(mut self, zone: Zone) -> Self {
        self.zones.push(zone);
        self
    }

    /// The same settings, registering like this.
    #[must_use]
    pub fn update(mut self, update: Update) -> Self {
        self.update = Some(update);
        self
    }

    /// Every zone: that of a URI's path first.
    pub(crate) fn all_zones(&self) -> Vec<Zone> {
        let first = self.zone.as_deref().map(|name| name.trim_matches('/'));
        first
            .map(|name| Zone::new(name, ZoneType::DnsSd))
            .into_iter()
            .chain(self.zones.iter().cloned())
            .collect()
    }

    /// Refuses what could not work.
    pub(crate) fn validate(&self) -> Result<()> {
        if self.timeout > Duration::from_secs(5) {
            return Err(
                invalid("timeout", "out of range").with_hint("give up to 5 s: several servers take turns")
            );
        }
        for zone in self.all_zones() {
            name::absolute(&zone.name).map_err(|error| misnamed("zones", &error))?;
            name::label(&format!("_{}", zone.protocol))
                .map_err(|error| misnamed("zones.protocol", &error))?;
            if zone.kind == ZoneType::Address && zone.port.or(self.port).is_none() {
                return Err(invalid("zones.port", "missing").with_hint(
                    "an address says nothing of a port: give the one that all services of the zone have",
                ));
            }
            if zone.kind == ZoneType::Kubernetes && zone.port_name.is_none() && zone.port.is_none() {
                return Err(invalid("zones.port_name", "missing")
                    .with_hint("give the name of the services' port, or a `port` for headless services"));
            }
        }
        for domain in &self.search {
            name::absolute(domain).map_err(|error| misnamed("search", &error))?;
        }
        let Caching {
            ttl,
            negative_ttl,
            min_ttl,
            ..
        } = self.caching;
        if min_ttl < Duration::from_secs(1) || min_ttl > ttl || min_ttl > negative_ttl {
            return Err(invalid("caching.min_ttl", "out of range")
                .with_hint("give a second or more, and no more than `ttl` and `negative_ttl`"));
        }
        // RFC 8767 and RFC 2308 name these as the longest that are sensible.
        if ttl > Duration::from_secs(7 * 86_400) {
            return Err(invalid("caching.ttl", "out of range").with_hint("give up to 7 days"));
        }
        if negative_ttl > Duration::from_secs(3 * 3_600) {
            return Err(invalid("caching.negative_ttl", "out of range").with_hint("give up to 3 h"));
        }
        if let Some(update) = &self.update {
            update.source()?;
            if update.ttl < Duration::from_secs(1) || update.ttl > Duration::from_secs(7 * 86_400) {
                return Err(invalid("update.ttl", "out of range").with_hint("give from 1 s to 7 days"));
            }
            if !self.all_zones().iter().any(|zone| zone.kind == ZoneType::DnsSd) {
                return Err(invalid("update", "there is no zone to register in")
                    .with_hint("add a zone of type `dns_sd`"));
            }
        }
        Ok(())
    }
}

pub(crate) fn invalid(field: &'static str, fault: &str) -> Error {
    error::error(
        ErrorKind::ConfigInvalid,
        format!("invalid settings: dns_discovery.{field}: {fault}"),
    )
}

/// A field that holds a name which is none.
pub(crate) fn misnamed(field: &'static str, error: &Error) -> Error {
    let hint = error.hint().unwrap_or_default().to_owned();
    invalid(field, error.message()).with_hint(hint)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
