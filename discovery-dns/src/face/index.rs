//! What a view holds, by the names it is asked for.

use std::{collections::HashMap, sync::Arc};

use discovery_core::{Instance, Snapshot, Source};

/// The instances of every service, by its name in lower case.
#[derive(Debug, Default)]
pub(crate) struct Index {
    services: HashMap<String, Vec<Arc<Instance>>>,
    /// Whether the registry confirms what is in here.
    pub(crate) live: bool,
}

impl Index {
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let mut services: HashMap<String, Vec<Arc<Instance>>> = HashMap::new();
        for instance in &snapshot.instances {
            let name = instance.key.service.as_str().to_lowercase();
            services.entry(name).or_default().push(instance.clone());
        }
        Self {
            services,
            live: snapshot.source == Source::Live,
        }
    }

    /// The instances of a service that carry a tag, in any case: nothing where there is none, healthy or not.
    pub(crate) fn find(&self, service: &str, tag: Option<&str>) -> Option<Vec<&Arc<Instance>>> {
        let tagged = |one: &&Arc<Instance>| {
            tag.is_none_or(|tag| one.tags.iter().any(|other| other.to_lowercase() == *tag))
        };
        let found: Vec<_> = self.services.get(service)?.iter().filter(tagged).collect();
        (!found.is_empty()).then_some(found)
    }
}
