//! Exponential delays with full jitter.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// Endless exponential delays with full jitter: each is drawn between zero and a ceiling that doubles up to a maximum.
///
/// Full jitter keeps a fleet that lost its registry at one moment from returning at one moment.
#[derive(Debug)]
pub struct Backoff {
    builder: ExponentialBuilder,
    ceilings: ExponentialBackoff,
}

impl Backoff {
    /// Delays under ceilings `min`, `2·min`, `4·min` … `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        let builder = ExponentialBuilder::new()
            .with_min_delay(min)
            .with_max_delay(max.max(min))
            .with_factor(2.0)
            .without_max_times();
        Self {
            builder,
            ceilings: builder.build(),
        }
    }

    /// The next delay.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = self.ceilings.next().unwrap_or_default();
        full_jitter(ceiling)
    }

    /// Starts over from the smallest ceiling.
    pub fn reset(&mut self) {
        self.ceilings = self.builder.build();
    }
}

/// Somewhere between nothing and `ceiling`.
pub(crate) fn full_jitter(ceiling: Duration) -> Duration {
    let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(fastrand::u64(..=nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_stay_under_doubling_ceilings_and_use_their_whole_range() {
        let mut largest = [Duration::ZERO; 8];
        for _ in 0..2000 {
            let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
            for (i, largest) in largest.iter_mut().enumerate() {
                let ceiling = Duration::from_millis(500 << i).min(Duration::from_secs(30));
                let delay = backoff.next_delay();
                assert!(delay <= ceiling, "{i}: {delay:?}");
                *largest = delay.max(*largest);
            }
        }
        for (i, largest) in largest.iter().enumerate() {
            let ceiling = Duration::from_millis(500 << i).min(Duration::from_secs(30));
            assert!(*largest > ceiling.mul_f64(0.9), "{i}: {largest:?}");
        }
    }

    #[test]
    fn goes_on_for_ever() {
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_secs(1));
        let longest = (0..10_000).map(|_| backoff.next_delay()).max();
        assert!(longest.is_some_and(|d| d > Duration::from_millis(900) && d <= Duration::from_secs(1)));
    }
}
