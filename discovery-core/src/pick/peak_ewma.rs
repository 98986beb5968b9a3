//! The faster and less busy of two.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Endpoints, Load, PickContext, Picker, Strategy, alias::Alias};
use crate::model::Chunks;

/// Of two drawn at random in proportion to their weights, the one that costs less: its decaying peak latency times the
/// calls it would have in flight.
///
/// One that was never measured is tried at once, but with one call only until that is answered. A failed call never makes
/// an instance cheaper. Sees what [`acquire`](super::Service::acquire) and [`call`](super::Service::call) report.
#[derive(Debug, Clone, Copy, Default)]
pub struct PeakEwma;

impl Strategy for PeakEwma {
    fn name(&self) -> &'static str {
        "peak_ewma"
    }

    fn prepare(&self, endpoints: &Endpoints) -> Box<dyn Picker> {
        Box::new(Cheaper {
            alias: Alias::of(&endpoints.shares()),
            loads: endpoints.loads.clone(),
        })
    }
}

/// What one costs that was never measured and is being tried, in seconds: more than any that was (finagle's rule).
const UNKNOWN: f64 = 1e6;

#[derive(Debug)]
struct Cheaper {
    alias: Alias,
    loads: Chunks<Arc<Load>>,
}

impl Cheaper {
    #[inline]
    fn cost(&self, index: usize, now: Instant) -> Option<f64> {
        let load = self.loads.get(index)?;
        let (peak, in_flight) = (load.peak(now), f64::from(load.in_flight()));
        Some(if peak == 0.0 && in_flight > 0.0 {
            UNKNOWN + in_flight
        } else {
            peak * (in_flight + 1.0)
        })
    }
}

impl Picker for Cheaper {
    #[inline]
    fn pick(&self, context: &mut PickContext) -> Option<usize> {
        self.pick_at(context, Instant::now())
    }

    #[inline]
    fn pick_at(&self, context: &mut PickContext, now: Instant) -> Option<usize> {
        let (first, second) = self.alias.two(&mut context.rng)?;
        Some(if self.cost(second, now)? < self.cost(first, now)? {
            second
        } else {
            first
        })
    }
}
