//! The least of many counts, at any time, without asking all of them.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
};

use super::{Endpoints, Load, load::Tracker};

/// How many a node stands for.
const FAN: usize = 32;
/// A node is the least value below it and, in its low bits, a version that counts what was seen of its children: who
/// computed a node from what is out of date fails to set it and looks again.
const VERSION: u32 = 16;
const HIGHEST: u64 = u64::MAX >> VERSION;
/// One call in flight at weight one.
const ONE: u64 = 1 << 24;

/// A tree over the loads of a picker in which every node keeps the least value below it: what changes walks up as far as it
/// matters, and a look walks down. Lock-free; exact as soon as those who change something have told it.
#[derive(Debug)]
pub(super) struct Tournament {
    loads: Vec<Arc<Load>>,
    /// What a call in flight counts, by weight; `None` for those that get nothing.
    steps: Vec<Option<u64>>,
    levels: Vec<Vec<AtomicU64>>,
}

impl Tournament {
    pub(super) fn of(endpoints: &Endpoints) -> Arc<Self> {
        let step = |share: &u32| (*share > 0).then(|| (ONE / u64::from(*share)).max(1));
        let mut levels = Vec::new();
        let mut width = endpoints.len();
        while width > 1 || (levels.is_empty() && width > 0) {
            width = width.div_ceil(FAN);
            levels.push((0..width).map(|_| AtomicU64::new(0)).collect());
        }
        Arc::new(Self {
            loads: endpoints.loads.iter().cloned().collect(),
            steps: endpoints.shares().iter().map(step).collect(),
            levels,
        })
    }

    /// Follows its loads from now on.
    pub(super) fn follow(self: &Arc<Self>) -> Arc<dyn Tracker> {
        let tracker: Arc<dyn Tracker> = self.clone();
        for (slot, load) in self.loads.iter().enumerate() {
            load.track(&tracker, slot);
        }
        for slot in (0..self.loads.len()).step_by(FAN) {
            self.raised(slot);
        }
        tracker
    }

    pub(super) fn leave(&self, tracker: &Arc<dyn Tracker>) {
        self.loads.iter().for_each(|load| load.untrack(tracker));
    }

    /// How busy one is for its weight.
    #[inline]
    fn value(&self, index: usize) -> u64 {
        match (self.loads.get(index), self.steps.get(index)) {
            (Some(load), Some(Some(step))) => (u64::from(load.in_flight()) * step).min(HIGHEST - 1),
            _ => HIGHEST,
        }
    }

    /// The value of a child of `level`.
    #[inline]
    fn child(&self, level: usize, index: usize) -> u64 {
        match level.checked_sub(1).and_then(|below| self.levels.get(below)) {
            Some(nodes) => nodes
                .get(index)
                .map_or(HIGHEST, |node| node.load(Acquire) >> VERSION),
            None => self.value(index),
        }
    }

    fn children(&self, level: usize, node: usize) -> Range<usize> {
        let below = level.checked_sub(1).and_then(|below| self.levels.get(below));
        let width = below.map_or(self.loads.len(), Vec::len);
        node * FAN..width.min((node + 1) * FAN)
    }

    /// Whether nobody is less busy.
    #[inline]
    pub(super) fn is_least(&self, index: usize) -> bool {
        let root = self.levels.last().and_then(|root| root.first());
        root.is_some_and(|root| self.value(index) <= root.load(Acquire) >> VERSION)
    }

    /// One of the least busy; among equals, the first from a random place on.
    pub(super) fn least(&self, rng: &mut fastrand::Rng) -> Option<usize> {
        let mut at = 0;
        for (level, nodes) in self.levels.iter().enumerate().rev() {
            let wanted = nodes.get(at)?.load(Acquire) >> VERSION;
            let children = self.children(level, at);
            let start = children.start + rng.usize(..children.len().max(1));
            let mut best = (u64::MAX, start);
            for child in (start..children.end).chain(children.start..start) {
                let value = self.child(level, child);
                if value < best.0 {
                    best = (value, child);
                    if value <= wanted {
                        break;
                    }
                }
            }
            at = best.1;
        }
        (at < self.loads.len()).then_some(at)
    }

    /// A value rose: where it was the least, another is now.
    fn raised(&self, slot: usize) {
        let mut at = slot;
        for (level, nodes) in self.levels.iter().enumerate() {
            at /= FAN;
            let Some(node) = nodes.get(at) else { return };
            loop {
                let before = node.load(Acquire);
                let mut least = HIGHEST;
                for child in self.children(level, at) {
                    least = least.min(self.child(level, child));
                    if least <= before >> VERSION {
                        return;
                    }
                }
                if set(node, before, least) {
                    break;
                }
            }
        }
    }

    /// A value fell: it may be the least now. What others compute without it must not count.
    fn fell(&self, slot: usize) {
        let mut at = slot;
        for (level, nodes) in self.levels.iter().enumerate() {
            let value = self.child(level, at);
            at /= FAN;
            let Some(node) = nodes.get(at) else { return };
            loop {
                let before = node.load(Acquire);
                if set(node, before, value.min(before >> VERSION)) {
                    if value >= before >> VERSION {
                        return;
                    }
                    break;
                }
            }
        }
    }
}

fn set(node: &AtomicU64, before: u64, value: u64) -> bool {
    let version = before.wrapping_add(1) & ((1 << VERSION) - 1);
    node.compare_exchange(before, value << VERSION | version, AcqRel, Relaxed)
        .is_ok()
}

impl Tracker for Tournament {
    fn changed(&self, slot: usize, up: bool) {
        if up {
            self.raised(slot);
        } else {
            self.fell(slot);
        }
    }
}
