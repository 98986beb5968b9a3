//! How long answers are good for.

use std::time::Duration;

use crate::config::Caching;

/// The longest TTL there is; more counts as none (RFC 2181 §8).
const LONGEST: u32 = i32::MAX as u32;

/// The shortest of some TTLs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ttl(pub(crate) Option<u32>);

impl Ttl {
    pub(crate) fn note(&mut self, seconds: u32) {
        let seconds = if seconds > LONGEST { 0 } else { seconds };
        self.0 = Some(self.0.map_or(seconds, |shortest| shortest.min(seconds)));
    }

    pub(crate) fn join(&mut self, other: Self) {
        if let Some(seconds) = other.0 {
            self.note(seconds);
        }
    }

    /// How long an answer is good for: not shorter than the floor, nor longer than the ceiling (D-14, D-15).
    pub(crate) fn within(self, caching: &Caching, empty: bool) -> Duration {
        let most = if empty { caching.negative_ttl } else { caching.ttl };
        // Nothing says how long: not for long.
        let told = self
            .0
            .map_or(caching.min_ttl, |seconds| Duration::from_secs(seconds.into()));
        told.clamp(caching.min_ttl, most)
    }
}
