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

    pub(super) fn get(&self, key: &InstanceKey) -> Option<(&Arc<Instance>, &Arc<Load>)> {
        self.endpoints.get(*self.index.get(key)?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<Instance>, &Arc<Load>)> {
        self.endpoints.instances.iter().zip(self.endpoints.loads.iter())
    }

    /// Adds or replaces; answers whether anything changed. An equal instance keeps its identity.
    pub(super) fn upsert(&mut self, instance: &Arc<Instance>, load: &Arc<Load>) -> bool {
        if let Some(&at) = self.index.get(&instance.key) {
            if let Some(old) = self.endpoints.instances.get(at) {
                if old == instance {
                    return false;
                }
                self.available -= usize::from(old.is_available());
            }
            self.endpoints.instances.0.set(at, instance.clone());
        } else {
            self.index.insert(instance.key.clone(), self.endpoints.len());
            self.endpoints.instances.0.push(instance.clone());
            self.endpoints.loads.push(load.clone());
        }
        self.available += usize::from(instance.is_available());
        true
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
