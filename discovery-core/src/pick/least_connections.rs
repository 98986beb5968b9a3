//! The least busy of all.

use std::sync::Arc;

use super::{Endpoints, PickContext, Picker, Strategy, alias::Alias, load::Tracker, tournament::Tournament};

/// The one with the fewest calls in flight for its weight, exactly; among equals by chance, in proportion to weights
/// while all are idle.
///
/// Sees what [`acquire`](super::Service::acquire) and [`call`](super::Service::call) count.
#[derive(Debug, Clone, Copy, Default)]
pub struct LeastConnections;

impl Strategy for LeastConnections {
    fn name(&self) -> &'static str {
        "least_connections"
    }

    fn prepare(&self, endpoints: &Endpoints) -> Box<dyn Picker> {
        let tournament = Tournament::of(endpoints);
        Box::new(Least {
            alias: Alias::of(&endpoints.shares()),
            tracker: tournament.follow(),
            tournament,
        })
    }
}

#[derive(Debug)]
struct Least {
    alias: Alias,
    tournament: Arc<Tournament>,
    tracker: Arc<dyn Tracker>,
}

impl Picker for Least {
    #[inline]
    fn pick(&self, context: &mut PickContext) -> Option<usize> {
        let drawn = self.alias.draw(context.rng.u64(..))?;
        if self.tournament.is_least(drawn) {
            return Some(drawn);
        }
        self.tournament.least(&mut context.rng)
    }
}

impl Drop for Least {
    fn drop(&mut self) {
        self.tournament.leave(&self.tracker);
    }
}
