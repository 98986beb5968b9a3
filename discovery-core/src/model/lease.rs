//! What a registration lives by.

use std::{fmt, sync::Arc, time::Duration};

use super::{HealthReport, InstanceKey};

/// What one renewal keeps alive: one registration (Consul, Eureka, Kubernetes) or all of a process (etcd).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseGroup(Arc<str>);

impl LeaseGroup {
    /// The group the backend calls by this name.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The backend's name for it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LeaseGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseGroup({})", self.0)
    }
}

/// What `register` answers: the full key of the record and what it lives by.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// The record's key, with the parts only the backend knows (node, namespace, datacenter).
    pub key: InstanceKey,
    /// What a renewal of it renews.
    pub group: LeaseGroup,
    /// How long it lives without renewal; `None` where it lives until deregistered.
    pub ttl: Option<Duration>,
    /// How often it is renewed, where that leaves another chance within `ttl`; else every third of it.
    pub renew_every: Option<Duration>,
}

impl Lease {
    /// A lease.
    pub fn new(key: InstanceKey, group: LeaseGroup, ttl: Option<Duration>) -> Self {
        Self {
            key,
            group,
            ttl,
            renew_every: None,
        }
    }

    /// The same lease, renewed this often.
    #[must_use]
    pub fn renewed_every(mut self, interval: Duration) -> Self {
        self.renew_every = Some(interval);
        self
    }
}

/// What a renewal says: for every member of the group, the health its owner wants shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Renewal {
    /// The members and their desired health.
    pub members: Vec<(InstanceKey, HealthReport)>,
}

impl Renewal {
    /// A renewal for these members.
    pub fn new(members: impl IntoIterator<Item = (InstanceKey, HealthReport)>) -> Self {
        Self {
            members: members.into_iter().collect(),
        }
    }
}
