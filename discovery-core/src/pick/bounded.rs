//! The bound on what one instance may carry for the keys it owns.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

use super::{Endpoints, Load, load::Tracker};

/// In percent of the fair share of what is in flight (Envoy's `hash_balance_factor`; typical are 120 to 200).
const FACTOR: u64 = 125;

/// Consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam): who has more in flight than
/// 125 % of its fair share passes new keys on.
#[derive(Debug)]
pub(super) struct Bounded {
    totals: Arc<Totals>,
    tracker: Arc<dyn Tracker>,
    shares: Vec<u32>,
    all_shares: u64,
}

/// What is in flight in all. Each load's part is kept, so that what two threads tell out of order heals by itself.
#[derive(Debug)]
struct Totals {
    loads: Vec<Arc<Load>>,
    parts: Vec<AtomicU32>,
    total: AtomicU64,
}

impl Tracker for Totals {
    fn changed(&self, slot: usize, _up: bool) {
        if let (Some(load), Some(part)) = (self.loads.get(slot), self.parts.get(slot)) {
            let now = load.in_flight();
            let before = part.swap(now, Relaxed);
            self.total
                .fetch_add(u64::from(now).wrapping_sub(u64::from(before)), Relaxed);
        }
    }
}

impl Bounded {
    pub(super) fn of(endpoints: &Endpoints) -> Self {
        let shares = endpoints.shares();
        let totals = Arc::new(Totals {
            loads: endpoints.loads.iter().cloned().collect(),
            parts: shares.iter().map(|_| AtomicU32::default()).collect(),
            total: AtomicU64::default(),
        });
        let tracker: Arc<dyn Tracker> = totals.clone();
        for (slot, load) in totals.loads.iter().enumerate() {
            load.track(&tracker, slot);
            totals.changed(slot, true);
        }
        Self {
            totals,
            tracker,
            all_shares: shares.iter().map(|share| u64::from(*share)).sum(),
            shares,
        }
    }

    /// The first of these that has room; the first of all where nobody has.
    #[inline]
    pub(super) fn first(&self, mut candidates: impl Iterator<Item = u32>) -> Option<usize> {
        let first = candidates.next()? as usize;
        if self.has_room(first) {
            return Some(first);
        }
        let other = candidates
            .map(|candidate| candidate as usize)
            .find(|candidate| self.has_room(*candidate));
        Some(other.unwrap_or(first))
    }

    #[inline]
    fn has_room(&self, index: usize) -> bool {
        let (Some(load), Some(share)) = (self.totals.loads.get(index), self.shares.get(index)) else {
            return false;
        };
        let in_flight = u128::from(load.in_flight());
        // Idle ones always have room: a bound is one at least.
        if in_flight == 0 {
            return true;
        }
        let total = u128::from(self.totals.total.load(Relaxed)) + 1;
        let bound =
            (total * u128::from(FACTOR) * u128::from(*share)).div_ceil(u128::from(self.all_shares) * 100);
        in_flight < bound
    }
}

impl Drop for Bounded {
    fn drop(&mut self) {
        for load in &self.totals.loads {
            load.untrack(&self.tracker);
        }
    }
}
