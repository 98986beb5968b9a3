//! New instances get little at first.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Endpoints;
use crate::config::duration;

/// How an instance that was not there before comes to its full weight (Envoy's formula:
/// weight × max(minimum, (age / window)^(1 / aggression))).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SlowStart {
    /// How long that takes.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub window: Duration,
    /// One is linear, more is quicker at first.
    #[serde(default = "linear")]
    pub aggression: f64,
    /// In percent of its weight: what it gets at least.
    #[serde(default = "a_tenth")]
    pub minimum: u8,
}

fn linear() -> f64 {
    1.0
}

fn a_tenth() -> u8 {
    10
}

/// Between two preparations for slow starts.
const SHORTEST_STEP: Duration = Duration::from_millis(250);
const LONGEST_STEP: Duration = Duration::from_secs(3600);

/// One of weight in steps of this.
const SCALE: f64 = 100.0;

impl SlowStart {
    /// Within `window`, linear, from 10 % on.
    pub fn new(window: Duration) -> Self {
        Self {
            window,
            aggression: linear(),
            minimum: a_tenth(),
        }
    }

    /// The same with this aggression.
    #[must_use]
    pub fn aggression(mut self, aggression: f64) -> Self {
        self.aggression = aggression;
        self
    }

    /// The same from this minimum on, in percent.
    #[must_use]
    pub fn minimum(mut self, percent: u8) -> Self {
        self.minimum = percent;
        self
    }

    /// How often weights are computed anew.
    pub(super) fn step(&self) -> Duration {
        (self.window / 20).clamp(SHORTEST_STEP, LONGEST_STEP)
    }

    /// The share of its weight that one of this age gets.
    fn factor(&self, age: Duration) -> f64 {
        if age >= self.window {
            return 1.0;
        }
        let passed = age.as_secs_f64() / self.window.as_secs_f64();
        let aggression = if self.aggression > 0.0 {
            self.aggression
        } else {
            1.0
        };
        passed
            .powf(1.0 / aggression)
            .max(f64::from(self.minimum.min(100)) / 100.0)
    }

    /// The weights now; `None` where all have what they would have anyway: nobody is new, or everybody is.
    pub(super) fn weights(
        &self,
        endpoints: &Endpoints,
        unweighted: bool,
        now: Instant,
    ) -> Option<Arc<[u32]>> {
        let factors: Vec<f64> = endpoints
            .loads
            .iter()
            .map(|load| self.factor(load.age(now)))
            .collect();
        let first = *factors.first()?;
        if factors.iter().all(|factor| (factor - first).abs() < 0.01) {
            return None;
        }
        let weights = endpoints
            .shares()
            .into_iter()
            .zip(factors)
            .map(|(share, factor)| {
                let full = if unweighted { 1.0 } else { f64::from(share) };
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a weight of sixteen bits, times a hundred at most"
                )]
                let slowed = (full * factor * SCALE).round() as u32;
                // Who has weight keeps some.
                slowed.max(u32::from(full > 0.0))
            });
        Some(weights.collect())
    }
}
