//! The fastest way to pick: borrowed, uncounted, a cache and a cursor of one's own.

use std::{collections::HashMap, fmt, sync::Arc};

use smol_str::SmolStr;

use super::{
    PickContext, Service,
    view::{Prepared, State},
};
use crate::{
    error::Result,
    model::{Instance, Snapshot},
};

/// Picks from one service: one per thread, about a nanosecond a pick. Made by [`Service::reader`].
///
/// It borrows from the view it last saw, allocates nothing, counts nothing and shares no memory that anybody writes.
pub struct Reader {
    /// What the view showed when it was last looked at.
    now: Arc<Prepared>,
    context: PickContext,
    /// Keeps the upstream watch alive. Boxed: a pick does not look at it, and many readers fit where it would lie.
    service: Box<Service>,
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
        Self {
            now: service.view().load_full(),
            context: PickContext::new(),
            service: Box::new(service),
        }
    }

    /// The next instance; `None` when there is none to pick ([`Service::acquire`] would say why).
    #[inline]
    pub fn pick(&mut self) -> Option<&Instance> {
        if self.now.replaced() {
            self.renew();
        }
        let index = self.now.pick(&mut self.context)?;
        self.now
            .endpoints
            .instances
            .get(index)
            .map(|instance| &**instance)
    }

    /// Out of line, so that a pick stays small enough to be compiled into its caller.
    #[cold]
    #[inline(never)]
    fn renew(&mut self) {
        self.now = self.service.view().load_full();
    }

    /// Whether the view shows something newer than what this reader last looked at.
    #[inline]
    pub fn is_outdated(&self) -> bool {
        self.now.replaced()
    }

    /// Looks at the view again, and answers the snapshot whose instances [`Self::pick_index`] counts from now on.
    ///
    /// # Errors
    /// `Unavailable` when nothing was ever seen or the view has expired, `Closed` after shutdown.
    pub fn refresh(&mut self) -> Result<Snapshot> {
        self.renew();
        match self.now.state {
            State::Ready => Ok(self.now.snapshot.clone()),
            _ => Err(self.now.refusal()),
        }
    }

    /// The place of the next instance in the snapshot last looked at, however old: for bindings, which keep objects of
    /// their own beside the instances.
    #[inline]
    pub fn pick_index(&mut self) -> Option<usize> {
        self.now.pick(&mut self.context)
    }

    /// The service it picks from.
    pub fn service(&self) -> &Service {
        &self.service
    }
}

/// Picks by name from several services: a map of readers, one per thread.
///
/// Names of up to 23 bytes lie in the map itself: a look-up does not follow a pointer to compare them.
#[derive(Debug, Default)]
pub struct Readers(HashMap<SmolStr, Reader, foldhash::fast::RandomState>);

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
