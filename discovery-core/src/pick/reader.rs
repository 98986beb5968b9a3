//! The fastest way to pick: borrowed, uncounted, a cache and a cursor of one's own.

use std::{collections::HashMap, fmt, sync::Arc};

use arc_swap::{ArcSwap, Cache};

use super::{PickContext, Service, view::Prepared};
use crate::{error::Result, model::Instance};

/// Picks from one service: one per thread, about a nanosecond a pick. Made by [`Service::reader`].
///
/// It borrows from the view it last saw, allocates nothing, counts nothing and shares no memory that anybody writes.
pub struct Reader {
    cache: Cache<Arc<ArcSwap<Prepared>>, Arc<Prepared>>,
    context: PickContext,
    /// Keeps the upstream watch alive.
    service: Service,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

impl Reader {
    pub(super) fn new(service: Service) -> Self {
        let cache = Cache::new(service.view().current.clone());
        Self {
            cache,
            context: PickContext::new(),
            service,
        }
    }

    /// The next instance; `None` when there is none to pick ([`Service::acquire`] would say why).
    #[inline]
    pub fn pick(&mut self) -> Option<&Instance> {
        let now = self.cache.load();
        let index = now.pick(&mut self.context)?;
        now.endpoints.instances.get(index).map(|instance| &**instance)
    }

    /// The service it picks from.
    pub fn service(&self) -> &Service {
        &self.service
    }
}

/// Picks by name from several services: a map of readers, one per thread.
#[derive(Debug, Default)]
pub struct Readers(HashMap<Box<str>, Reader, foldhash::fast::RandomState>);

impl Readers {
    /// No reader yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Picks from the service called `name`, made by `open` on its first use here.
    ///
    /// # Errors
    /// What `open` fails with.
    #[inline]
    pub fn pick_or_open(
        &mut self,
        name: &str,
        open: impl FnOnce(&str) -> Result<Service>,
    ) -> Result<Option<&Instance>> {
        // Two look-ups on a miss only; the borrow checker does not see through one.
        if !self.0.contains_key(name) {
            self.0.insert(name.into(), open(name)?.reader());
        }
        Ok(self.pick(name))
    }

    /// Picks from the service called `name`; `None` when it was never opened here or has nothing to pick.
    #[inline]
    pub fn pick(&mut self, name: &str) -> Option<&Instance> {
        self.0.get_mut(name)?.pick()
    }

    /// Adds the reader of `service` under `name`.
    pub fn insert(&mut self, name: &str, service: &Service) {
        self.0.insert(name.into(), service.reader());
    }
}
