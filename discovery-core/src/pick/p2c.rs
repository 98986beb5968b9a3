//! The less busy of two.

use std::sync::Arc;

use super::{Endpoints, Load, PickContext, Picker, Strategy, alias::Alias};
use crate::model::Chunks;

/// Of two drawn at random in proportion to their weights, the one with fewer calls in flight for its weight.
///
/// Sees what [`acquire`](super::Service::acquire) and [`call`](super::Service::call) count.
#[derive(Debug, Clone, Copy, Default)]
pub struct P2c;

impl Strategy for P2c {
    fn name(&self) -> &'static str {
        "p2c"
    }

    fn prepare(&self, endpoints: &Endpoints) -> Box<dyn Picker> {
        let shares = endpoints.shares();
        Box::new(TwoChoices {
            alias: Alias::of(&shares),
            shares,
            loads: endpoints.loads.clone(),
        })
    }
}

#[derive(Debug)]
struct TwoChoices {
    alias: Alias,
    shares: Vec<u32>,
    loads: Chunks<Arc<Load>>,
}

impl TwoChoices {
    #[inline]
    fn busy(&self, index: usize) -> Option<(u64, u64)> {
        let in_flight = self.loads.get(index)?.in_flight();
        Some((in_flight.into(), (*self.shares.get(index)?).into()))
    }
}

impl Picker for TwoChoices {
    #[inline]
    fn pick(&self, context: &mut PickContext) -> Option<usize> {
        let (first, second) = self.alias.two(&mut context.rng)?;
        let ((a, weight_of_a), (b, weight_of_b)) = (self.busy(first)?, self.busy(second)?);
        Some(if b * weight_of_a < a * weight_of_b {
            second
        } else {
            first
        })
    }
}
