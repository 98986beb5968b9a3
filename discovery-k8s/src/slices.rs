//! What one slice says, and by what its objects are known.

use std::{sync::Arc, time::Duration};

use discovery_core::Instance;

use crate::wire;

/// The namespace and name of an object, or of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl Id {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    pub(crate) fn of(meta: &wire::Meta) -> Self {
        Self::new(&meta.namespace, &meta.name)
    }
}

/// What one slice says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fold {
    pub(crate) service: Id,
    /// What it lives by, where it is one of ours.
    pub(crate) lives: Option<Lives>,
    /// How far its family is preferred: less is better.
    pub(crate) rank: u8,
    pub(crate) instances: Vec<Arc<Instance>>,
}

/// What an instance that is no pod lives by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lives {
    pub(crate) lease: Id,
    pub(crate) ttl: Duration,
}

/// What a Lease said last: which one it is, and when it was renewed.
pub(crate) fn said(lease: &wire::Lease) -> String {
    format!("{}/{}", lease.metadata.uid, lease.spec.renew_time)
}
