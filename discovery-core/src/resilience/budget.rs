//! How many retries may be under way at once.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bounds the retries under way at once by a share of the calls under way, so that retries do not multiply the load on
/// a registry that is already failing.
///
/// By default a fifth of the calls, and three retries in any case (Envoy's figures). A retry holds its place from the
/// decision to retry, through its delay, to the end of its attempt. Lock-free.
#[derive(Debug)]
pub struct RetryBudget {
    percent: usize,
    min_retries: usize,
    calls: AtomicUsize,
    retries: AtomicUsize,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new(20, 3)
    }
}

impl RetryBudget {
    /// Retries for `percent` of the calls under way, and `min_retries` in any case.
    pub const fn new(percent: u8, min_retries: usize) -> Self {
        Self {
            percent: percent as usize,
            min_retries,
            calls: AtomicUsize::new(0),
            retries: AtomicUsize::new(0),
        }
    }

    /// Counts a call for as long as the answer lives.
    pub(crate) fn enter(&self) -> Slot<'_> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Slot(&self.calls)
    }

    /// A place for a retry, if one is free.
    pub(crate) fn try_retry(&self) -> Option<Slot<'_>> {
        let allowed =
            (self.calls.load(Ordering::Relaxed).saturating_mul(self.percent) / 100).max(self.min_retries);
        self.retries
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |retries| {
                (retries < allowed).then_some(retries + 1)
            })
            .ok()
            .map(|_| Slot(&self.retries))
    }
}

/// One counted call or retry; dropping it ends the count, also when the call is cancelled.
#[derive(Debug)]
pub(crate) struct Slot<'a>(&'a AtomicUsize);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_three_or_a_fifth_of_the_calls_whichever_is_more() {
        let budget = RetryBudget::default();
        let few: Vec<_> = (0..5).map_while(|_| budget.try_retry()).collect();
        assert_eq!(few.len(), 3);
        drop(few);
        let calls: Vec<_> = (0..100).map(|_| budget.enter()).collect();
        let many: Vec<_> = (0..100).map_while(|_| budget.try_retry()).collect();
        assert_eq!(many.len(), 20);
        drop((calls, many));
        assert!(budget.try_retry().is_some());
        assert_eq!(budget.retries.load(Ordering::Relaxed), 0);
        assert_eq!(budget.calls.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn nothing_allowed_is_nothing() {
        assert!(RetryBudget::new(0, 0).try_retry().is_none());
    }
}
