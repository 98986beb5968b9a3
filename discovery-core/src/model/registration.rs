//! What a program wants a registry to show of it.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use super::{HealthReport, InstanceId, NamedPort, ServiceName, Status, Weight};
use crate::error::{Error, ErrorKind, Result};

/// How a check looks at an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckKind {
    /// GET this `http://` URL: 2xx passes, 429 warns, anything else is critical (as Consul's agent has it).
    Http {
        /// The URL.
        url: String,
    },
    /// Connect to this `host:port`.
    Tcp {
        /// The address.
        address: String,
    },
}

/// A check of an instance: what to look at and how often.
///
/// Run by the registry where it runs checks itself, else by the client that registered the instance.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// Its name, unique within the registration.
    pub name: String,
    /// What to look at.
    pub kind: CheckKind,
    /// The time between two looks.
    pub interval: Duration,
    /// How long a look may take.
    pub timeout: Duration,
    /// Have the registry drop the registration when the check has been critical for so long, where it can.
    pub deregister_after: Option<Duration>,
}

impl Check {
    /// An HTTP check every 10 s with a timeout of 5 s.
    pub fn http(url: impl Into<String>) -> Self {
        Self::new("http", CheckKind::Http { url: url.into() })
    }

    /// A TCP check every 10 s with a timeout of 5 s.
    pub fn tcp(address: impl Into<String>) -> Self {
        Self::new(
            "tcp",
            CheckKind::Tcp {
                address: address.into(),
            },
        )
    }

    fn new(name: &str, kind: CheckKind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            deregister_after: None,
        }
    }

    /// The same check under this name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The same check every `interval`.
    #[must_use]
    pub fn every(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// The same check with this timeout.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same check, dropping the registration after so long critical.
    #[must_use]
    pub fn deregister_after(mut self, after: Duration) -> Self {
        self.deregister_after = Some(after);
        self
    }
}

/// What a program wants a registry to show of it, validated.
///
/// ```
/// use std::time::Duration;
/// use discovery_core::{Check, Registration};
///
/// let registration = Registration::builder("api", "127.0.0.1", 8080)
///     .tag("v2")
///     .meta("team", "platform")
///     .ttl(Duration::from_secs(30))
///     .check(Check::http("http://127.0.0.1:8080/health"))
///     .build()?;
/// assert_eq!(registration.id.as_str(), "api-127.0.0.1-8080");
/// # Ok::<(), discovery_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registration {
    /// The service.
    pub service: ServiceName,
    /// The id; `<name>-<address>-<port>` unless set.
    pub id: InstanceId,
    /// The IP address or host name clients connect to.
    pub address: Arc<str>,
    /// The port clients connect to.
    pub port: u16,
    /// Further ports by name.
    pub ports: Vec<NamedPort>,
    /// Tags.
    pub tags: Vec<String>,
    /// Metadata.
    pub meta: BTreeMap<String, String>,
    /// Weight beside siblings.
    pub weight: Weight,
    /// How long the record outlives its last heartbeat; the backend's default where `None`.
    pub ttl: Option<Duration>,
    /// Checks.
    pub checks: Vec<Check>,
    /// The health to start with.
    pub health: HealthReport,
}

impl Registration {
    /// Starts a registration of a service at an address.
    pub fn builder(name: impl Into<String>, address: impl Into<String>, port: u16) -> RegistrationBuilder {
        RegistrationBuilder {
            name: name.into(),
            address: address.into(),
            port,
            id: None,
            ports: Vec::new(),
            tags: Vec::new(),
            meta: BTreeMap::new(),
            weight: Weight::default(),
            ttl: None,
            checks: Vec::new(),
            health: HealthReport::default(),
        }
    }
}

/// Builds a [`Registration`]; setters never fail, [`build`](Self::build) reports.
#[derive(Debug, Clone)]
#[must_use]
pub struct RegistrationBuilder {
    name: String,
    address: String,
    port: u16,
    id: Option<String>,
    ports: Vec<NamedPort>,
    tags: Vec<String>,
    meta: BTreeMap<String, String>,
    weight: Weight,
    ttl: Option<Duration>,
    checks: Vec<Check>,
    health: HealthReport,
}

impl RegistrationBuilder {
    /// Sets the id.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Adds a tag.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Adds tags.
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Adds one metadata pair.
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.meta.insert(key.into(), value.into());
        self
    }

    /// Adds a named port.
    pub fn port(mut self, name: impl Into<String>, number: u16, secure: bool) -> Self {
        self.ports.push(NamedPort {
            name: name.into(),
            number,
            secure,
        });
        self
    }

    /// Sets the weight.
    pub fn weight(mut self, weight: u16) -> Self {
        self.weight = Weight(weight);
        self
    }

    /// Sets how long the record outlives its last heartbeat.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Adds a check.
    pub fn check(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }

    /// Sets the status to start with.
    pub fn status(mut self, status: Status) -> Self {
        self.health.status = status;
        self
    }

    /// The registration.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] naming the first thing wrong: the name, the id, the address (empty, with a scheme or
    /// port, or one nobody can connect to, such as `0.0.0.0`), port zero, a TTL under a second, a check with a repeated
    /// name or with an interval or timeout of zero.
    pub fn build(self) -> Result<Registration> {
        let service = ServiceName::new(&self.name)?;
        check_address(&self.address)?;
        if self.port == 0 {
            return Err(invalid("port", "0", "a port from 1 to 65535"));
        }
        if self.ttl.is_some_and(|ttl| ttl < Duration::from_secs(1)) {
            return Err(invalid("ttl", &format!("{:?}", self.ttl), "a second or more"));
        }
        for (i, check) in self.checks.iter().enumerate() {
            if check.name.is_empty() || self.checks[..i].iter().any(|other| other.name == check.name) {
                return Err(invalid("check", &check.name, "a name of its own for every check"));
            }
            if check.interval.is_zero() || check.timeout.is_zero() {
                return Err(invalid(
                    "check",
                    &check.name,
                    "an interval and a timeout above zero",
                ));
            }
        }
        let id = match &self.id {
            Some(id) => InstanceId::new(id)?,
            None => InstanceId::new(format!("{service}-{}-{}", self.address, self.port))?,
        };
        Ok(Registration {
            service,
            id,
            address: self.address.into(),
            port: self.port,
            ports: self.ports,
            tags: self.tags,
            meta: self.meta,
            weight: self.weight,
            ttl: self.ttl,
            checks: self.checks,
            health: self.health,
        })
    }
}

fn invalid(field: &'static str, value: &str, want: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, "invalid registration")
        .with_context(field, format!("{value:?}"))
        .with_hint(format!("give {want}"))
}

/// An IP address that others can connect to, or a host name: no scheme, no port, no path.
fn check_address(address: &str) -> Result<()> {
    let want = "an IP address or host name that others can connect to, such as 192.0.2.1";
    let fault = match address.parse::<IpAddr>() {
        Ok(ip) => ip.is_unspecified() || ip.is_multicast(),
        Err(_) => {
            address.is_empty()
                || address.len() > 253
                || !address.split('.').all(|label| {
                    !label.is_empty()
                        && label.len() <= 63
                        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                })
                // All-numeric names are mistyped IPv4 addresses.
                || address.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        }
    };
    if fault {
        Err(invalid("address", address, want))
    } else {
        Ok(())
    }
}

/// A change of metadata: keys to set and keys to remove; all others stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetaChange {
    /// Keys to set.
    pub set: BTreeMap<String, String>,
    /// Keys to remove.
    pub remove: Vec<String>,
}

impl MetaChange {
    /// A change that sets nothing and removes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also sets `key`.
    #[must_use]
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.set.insert(key.into(), value.into());
        self
    }

    /// Also removes `key`.
    #[must_use]
    pub fn remove(mut self, key: impl Into<String>) -> Self {
        self.remove.push(key.into());
        self
    }

    /// Applies the change to `meta`.
    pub fn apply(&self, meta: &mut BTreeMap<String, String>) {
        for key in &self.remove {
            meta.remove(key);
        }
        meta.extend(self.set.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_nobody_can_connect_to_are_refused() {
        for bad in [
            "",
            "0.0.0.0",
            "::",
            "http://host",
            "host:80",
            "a b",
            "10.0.1",
            "10.0.0.256",
            "host/",
            "a..b",
            "224.0.0.1",
        ] {
            let error = Registration::builder("api", bad, 80).build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
        for good in ["127.0.0.1", "::1", "db-1.internal", "localhost", "my_host"] {
            assert!(Registration::builder("api", good, 80).build().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn zero_ports_ttls_and_repeated_checks_are_refused() {
        let base = || Registration::builder("api", "127.0.0.1", 80);
        let bad = [
            Registration::builder("api", "127.0.0.1", 0),
            base().ttl(Duration::from_millis(10)),
            base()
                .check(Check::tcp("127.0.0.1:80"))
                .check(Check::tcp("127.0.0.1:81")),
            base().check(Check::tcp("127.0.0.1:80").every(Duration::ZERO)),
            base().id("a/b"),
        ];
        for builder in bad {
            assert_eq!(builder.build().unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }
}
