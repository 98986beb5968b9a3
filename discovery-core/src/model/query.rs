//! What to ask a registry for.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use super::{Instance, ServiceName};
use crate::error::Result;

/// Which instances a query means.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// Those of one service.
    Service(ServiceName),
    /// Those of every service.
    All,
}

/// Where a query looks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Scope {
    /// A datacenter other than the backend's own.
    pub datacenter: Option<Arc<str>>,
    /// A namespace other than the backend's own.
    pub namespace: Option<Arc<str>>,
}

/// What to look for.
///
/// `target` and `scope` decide what is asked of the registry; the rest filters the answer, so that two queries which
/// differ only in that share one upstream watch.
///
/// ```
/// use std::time::Duration;
/// use discovery_core::Query;
///
/// let query = Query::service("api")?.tag("v2").max_stale(Duration::from_secs(60));
/// # Ok::<(), discovery_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Query {
    /// Which instances.
    pub target: Target,
    /// Where.
    pub scope: Scope,
    /// Only those that carry all of these tags.
    pub tags: Vec<String>,
    /// Only those that serve (passing or warning) and are not draining; on unless [`Query::include_unhealthy`].
    pub healthy_only: bool,
    /// Whether instances carry the results of their checks.
    pub with_checks: bool,
    /// Refuse to answer from a view that the registry last confirmed longer ago than this.
    pub max_stale: Option<Duration>,
}

impl Query {
    /// The healthy instances of one service.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when the name is not one.
    pub fn service(name: impl AsRef<str>) -> Result<Self> {
        Ok(Self::new(Target::Service(ServiceName::new(name)?)))
    }

    /// The healthy instances of every service.
    pub fn all() -> Self {
        Self::new(Target::All)
    }

    /// The healthy instances of `target`.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            scope: Scope::default(),
            tags: Vec::new(),
            healthy_only: true,
            with_checks: false,
            max_stale: None,
        }
    }

    /// Only instances that also carry this tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// In this datacenter.
    #[must_use]
    pub fn datacenter(mut self, datacenter: impl Into<Arc<str>>) -> Self {
        self.scope.datacenter = Some(datacenter.into());
        self
    }

    /// In this namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<Arc<str>>) -> Self {
        self.scope.namespace = Some(namespace.into());
        self
    }

    /// Unhealthy and draining instances too.
    #[must_use]
    pub fn include_unhealthy(mut self) -> Self {
        self.healthy_only = false;
        self
    }

    /// With the results of the checks of each instance.
    #[must_use]
    pub fn with_checks(mut self) -> Self {
        self.with_checks = true;
        self
    }

    /// Never from a view the registry last confirmed longer ago than this.
    #[must_use]
    pub fn max_stale(mut self, max_stale: Duration) -> Self {
        self.max_stale = Some(max_stale);
        self
    }

    /// The same question without what is filtered on our side: what upstream watches are shared by.
    #[must_use]
    pub fn upstream(&self) -> Self {
        Self {
            scope: self.scope.clone(),
            with_checks: self.with_checks,
            healthy_only: false,
            ..Self::new(self.target.clone())
        }
    }

    /// Whether `instance` passes the filters of this query; which service it belongs to is not looked at.
    pub fn accepts(&self, instance: &Instance) -> bool {
        (!self.healthy_only || instance.is_available()) && instance.has_tags(&self.tags)
    }

    /// The service's name, or `*` for all: for spans and metrics.
    pub fn label(&self) -> &str {
        match &self.target {
            Target::Service(name) => name.as_str(),
            Target::All => "*",
        }
    }
}

/// A service as a registry lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ServiceSummary {
    /// Its name.
    pub name: ServiceName,
    /// Every tag any of its instances carries, sorted.
    pub tags: Vec<String>,
    /// How many instances it has, where the registry says so.
    pub instances: Option<usize>,
}

impl ServiceSummary {
    /// A summary; tags are sorted and each kept once.
    pub fn new(name: ServiceName, mut tags: Vec<String>, instances: Option<usize>) -> Self {
        tags.sort_unstable();
        tags.dedup();
        Self {
            name,
            tags,
            instances,
        }
    }
}
