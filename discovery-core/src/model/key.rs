//! What identifies an instance.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{InstanceId, ServiceName};

/// What identifies an instance, in snapshots, removals, load carry-over and every write.
///
/// An id alone does not: Consul ids are unique per agent, etcd, Eureka and Kubernetes keys need service or namespace.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InstanceKey {
    /// The name of the source it was read from or is written to (by default the backend's scheme).
    pub source: Arc<str>,
    /// The datacenter, where the backend has them.
    pub datacenter: Option<Arc<str>>,
    /// The namespace, where the backend has them.
    pub namespace: Option<Arc<str>>,
    /// The node or agent that owns the record, where the backend has them.
    pub node: Option<Arc<str>>,
    /// The service it is an instance of.
    pub service: ServiceName,
    /// Its id.
    pub id: InstanceId,
}

impl InstanceKey {
    /// The key of an instance in a backend without datacenters, namespaces and nodes.
    pub fn new(source: impl Into<Arc<str>>, service: ServiceName, id: InstanceId) -> Self {
        Self {
            source: source.into(),
            datacenter: None,
            namespace: None,
            node: None,
            service,
            id,
        }
    }

    /// The same key in this datacenter.
    #[must_use]
    pub fn with_datacenter(mut self, datacenter: impl Into<Arc<str>>) -> Self {
        self.datacenter = Some(datacenter.into());
        self
    }

    /// The same key in this namespace.
    #[must_use]
    pub fn with_namespace(mut self, namespace: impl Into<Arc<str>>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// The same key on this node.
    #[must_use]
    pub fn with_node(mut self, node: impl Into<Arc<str>>) -> Self {
        self.node = Some(node.into());
        self
    }
}

impl fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        for part in [&self.datacenter, &self.namespace, &self.node]
            .into_iter()
            .flatten()
        {
            write!(f, "/{part}")?;
        }
        write!(f, "/{}/{}", self.service, self.id)
    }
}

impl fmt::Debug for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
