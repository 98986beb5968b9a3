//! One instance of a service, as a registry shows it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{CheckResult, InstanceKey, Status};

/// How much traffic an instance should get beside its siblings.
///
/// Zero keeps its protocol's meaning (RFC 2782: nothing while others have weight, everything alike when all are zero);
/// an instance that must get nothing is [`Instance::draining`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weight(pub u16);

impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A further port of an instance, by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NamedPort {
    /// Its name, such as `metrics`.
    pub name: String,
    /// Its number.
    pub number: u16,
    /// Whether it speaks TLS.
    pub secure: bool,
}

/// Where an instance runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Locality {
    /// Its datacenter or region.
    pub datacenter: Option<Arc<str>>,
    /// Its zone within that.
    pub zone: Option<Arc<str>>,
    /// Its node within that.
    pub node: Option<Arc<str>>,
}

/// One instance of a service, as a registry shows it.
///
/// Two instances are equal when everything but freshness is: a change of metadata alone is a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Instance {
    /// What identifies it.
    pub key: InstanceKey,
    /// Its IP address or host name.
    pub host: Arc<str>,
    /// Its port; zero where the service has none.
    pub port: u16,
    /// Further ports by name.
    pub ports: Vec<NamedPort>,
    /// Its tags, in the registry's order.
    pub tags: Vec<String>,
    /// Its metadata.
    pub meta: BTreeMap<String, String>,
    /// How it is, all checks taken together.
    pub status: Status,
    /// How much traffic it should get.
    pub weight: Weight,
    /// Its priority group: lower is used first (RFC 2782).
    pub priority: u16,
    /// Whether it should get no new traffic although it may work.
    pub draining: bool,
    /// Where it runs.
    pub locality: Locality,
    /// The checks behind `status`, where the query asked for them.
    pub checks: Vec<CheckResult>,
}

impl Instance {
    /// Starts an instance at this address; for backends and tests.
    pub fn builder(key: InstanceKey, host: impl Into<Arc<str>>, port: u16) -> InstanceBuilder {
        InstanceBuilder(Self {
            key,
            host: host.into(),
            port,
            ports: Vec::new(),
            tags: Vec::new(),
            meta: BTreeMap::new(),
            status: Status::Passing,
            weight: Weight::default(),
            priority: 0,
            draining: false,
            locality: Locality::default(),
            checks: Vec::new(),
        })
    }

    /// `host:port`, with an IPv6 address in brackets.
    ///
    /// ```
    /// use discovery_core::{Instance, InstanceId, InstanceKey, ServiceName};
    ///
    /// let key = InstanceKey::new("memory", ServiceName::new("api")?, InstanceId::new("api-1")?);
    /// assert_eq!(Instance::builder(key, "::1", 8080).build().address(), "[::1]:8080");
    /// # Ok::<(), discovery_core::Error>(())
    /// ```
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether new traffic may go to it: it serves and is not draining.
    pub fn is_available(&self) -> bool {
        self.status.is_serving() && !self.draining
    }

    /// Whether it carries every one of `tags`.
    pub fn has_tags(&self, tags: &[String]) -> bool {
        tags.iter().all(|tag| self.tags.contains(tag))
    }
}

/// Builds an [`Instance`]; made by [`Instance::builder`].
#[derive(Debug, Clone)]
#[must_use]
pub struct InstanceBuilder(Instance);

impl InstanceBuilder {
    /// Adds tags.
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.0.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Adds metadata.
    pub fn meta<K: Into<String>, V: Into<String>>(mut self, meta: impl IntoIterator<Item = (K, V)>) -> Self {
        self.0
            .meta
            .extend(meta.into_iter().map(|(k, v)| (k.into(), v.into())));
        self
    }

    /// Adds a named port.
    pub fn port(mut self, name: impl Into<String>, number: u16, secure: bool) -> Self {
        self.0.ports.push(NamedPort {
            name: name.into(),
            number,
            secure,
        });
        self
    }

    /// Sets the status.
    pub fn status(mut self, status: Status) -> Self {
        self.0.status = status;
        self
    }

    /// Sets the weight.
    pub fn weight(mut self, weight: u16) -> Self {
        self.0.weight = Weight(weight);
        self
    }

    /// Sets the priority group.
    pub fn priority(mut self, priority: u16) -> Self {
        self.0.priority = priority;
        self
    }

    /// Marks it draining or not.
    pub fn draining(mut self, draining: bool) -> Self {
        self.0.draining = draining;
        self
    }

    /// Sets where it runs.
    pub fn locality(mut self, locality: Locality) -> Self {
        self.0.locality = locality;
        self
    }

    /// Adds check results.
    pub fn checks(mut self, checks: impl IntoIterator<Item = CheckResult>) -> Self {
        self.0.checks.extend(checks);
        self
    }

    /// The instance.
    pub fn build(self) -> Instance {
        self.0
    }
}

impl Locality {
    /// A locality of these parts, from wide to narrow.
    pub fn new(datacenter: Option<Arc<str>>, zone: Option<Arc<str>>, node: Option<Arc<str>>) -> Self {
        Self {
            datacenter,
            zone,
            node,
        }
    }
}
