//! A set of instances by key, kept as a published sequence.

use std::{collections::HashMap, sync::Arc};

use crate::{
    model::{Instance, InstanceKey},
    pick::{Endpoints, Load},
};

/// Instances by key, over the persistent sequence that views publish.
///
/// Adding appends and removing moves the last one into the gap: a change costs one chunk, whatever the size.
#[derive(Debug, Default)]
pub(super) struct Members {
    index: HashMap<InstanceKey, usize, foldhash::fast::RandomState>,
    endpoints: Endpoints,
    /// How many of them new traffic may go to.
    available: usize,
}

impl Members {
    pub(super) fn len(&self) -> usize {
        self.endpoints.len()
    }

    pub(super) fn available(&self) -> usize {
        self.available
    }

    pub(super) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<Instance>, &Arc<Load>)> {
        self.endpoints.instances.iter().zip(self.endpoints.loads.iter())
    }

    /// Adds one, with a `new` load, or replaces it; answers its load if anything changed. An equal instance keeps its identity.
    pub(super) fn upsert(
        &mut self,
        instance: &Arc<Instance>,
        new: impl FnOnce() -> Arc<Load>,
    ) -> Option<&Arc<Load>> {
        let at = self.index.get(&instance.key).copied();
        if at.is_some_and(|at| self.endpoints.instances.get(at) == Some(instance)) {
            return None;
        }
        self.put_at(at, instance, new)
    }

    /// Adds one with this load, or replaces one that is known to be another.
    pub(super) fn put(&mut self, instance: &Arc<Instance>, load: &Arc<Load>) {
        let at = self.index.get(&instance.key).copied();
        self.put_at(at, instance, || load.clone());
    }

    /// Puts one where it is, or at the end with a `new` load; answers its load.
    fn put_at(
        &mut self,
        at: Option<usize>,
        instance: &Arc<Instance>,
        new: impl FnOnce() -> Arc<Load>,
    ) -> Option<&Arc<Load>> {
        self.available += usize::from(instance.is_available());
        let at = if let Some(at) = at {
            if let Some(old) = self.endpoints.instances.get(at) {
                self.available -= usize::from(old.is_available());
            }
            self.endpoints.instances.0.set(at, instance.clone());
            at
        } else {
            let at = self.endpoints.len();
            self.index.insert(instance.key.clone(), at);
            self.endpoints.instances.0.push(instance.clone());
            self.endpoints.loads.push(new());
            at
        };
        self.endpoints.loads.get(at)
    }

    /// Removes; answers whether it was there.
    pub(super) fn remove(&mut self, key: &InstanceKey) -> bool {
        let Some(at) = self.index.remove(key) else {
            return false;
        };
        if let Some(removed) = self.endpoints.instances.0.swap_remove(at) {
            self.available -= usize::from(removed.is_available());
        }
        self.endpoints.loads.swap_remove(at);
        if let Some(moved) = self.endpoints.instances.get(at) {
            self.index.insert(moved.key.clone(), at);
        }
        true
    }
}
