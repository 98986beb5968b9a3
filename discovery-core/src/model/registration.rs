//! What a program wants a registry to show of it.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use super::{Check, HealthReport, InstanceId, NamedPort, ServiceName, Status, Weight};
use crate::error::{Error, ErrorKind, Result};

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
    /// name, with an interval or timeout of zero, without a program to run, or with a gRPC target that is none.
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
            check.validate()?;
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

pub(super) fn invalid(field: &'static str, value: &str, want: &str) -> Error {
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
            base().check(Check::script(Vec::<String>::new())),
            base().check(Check::script([" "])),
            base().check(Check::grpc("http://127.0.0.1:80", false)),
            base().check(Check::grpc("127.0.0.1", false)),
            base().check(Check::grpc(":80/api", true)),
        ];
        for builder in bad {
            assert_eq!(builder.build().unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        let good = base()
            .check(Check::script(["/bin/true", ""]))
            .check(Check::grpc("127.0.0.1:80", false))
            .check(Check::grpc("[::1]:80/api.v1.Api", true).named("api"));
        assert_eq!(good.build().unwrap().checks.len(), 3);
    }
}
