//! Clients of instances, made once each.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use discovery_core::{Instance, InstanceKey, pick::Service};

/// Whether who is connected to one is connected to the other.
pub(super) fn at_same_place(one: &Instance, other: &Instance) -> bool {
    (&one.host, one.port, &one.ports) == (&other.host, other.port, &other.ports)
}

/// What was made for each instance, until it leaves the view or moves.
pub(super) struct Made<T>(Mutex<HashMap<InstanceKey, (Arc<Instance>, T)>>);

impl<T> Default for Made<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> fmt::Debug for Made<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Made").finish_non_exhaustive()
    }
}

impl<T: Clone> Made<T> {
    /// What was made for `instance` of `service`; made now where nothing was.
    pub(super) fn of<E>(
        &self,
        service: &Service,
        instance: &Arc<Instance>,
        make: impl FnOnce(&Arc<Instance>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, known)) = kept.get(&instance.key)
            && at_same_place(of, instance)
        {
            return Ok(known.clone());
        }
        let new = make(instance)?;
        // Something joined: a good time to look for what has left.
        if let Ok(now) = service.view().snapshot()
            && kept.len() >= now.instances.len()
        {
            let here: std::collections::HashSet<_> = now.instances.iter().map(|one| &one.key).collect();
            kept.retain(|key, _| here.contains(key));
        }
        kept.insert(instance.key.clone(), (instance.clone(), new.clone()));
        Ok(new)
    }
}
