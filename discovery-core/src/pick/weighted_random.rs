//! Any of them, the heavier ones more often.

use super::{Endpoints, PickContext, Picker, Strategy, alias::Alias};

/// Any of them, in proportion to their weights; a pick costs the same however many there are.
#[derive(Debug, Clone, Copy, Default)]
pub struct WeightedRandom;

impl Strategy for WeightedRandom {
    fn name(&self) -> &'static str {
        "weighted_random"
    }

    fn prepare(&self, endpoints: &Endpoints) -> Box<dyn Picker> {
        Box::new(Weighted(Alias::of(&endpoints.shares())))
    }
}

#[derive(Debug)]
struct Weighted(Alias);

impl Picker for Weighted {
    #[inline]
    fn pick(&self, context: &mut PickContext) -> Option<usize> {
        self.0.draw(context.rng.u64(..))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, prop, prop_assert, proptest};

    use super::*;
    use crate::pick::fixture::{counts, endpoints};

    const PICKS: u32 = 40_000;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        /// Within five standard deviations of the share that RFC 2782 gives it.
        #[test]
        fn each_gets_the_share_of_its_weight(weights in prop::collection::vec(0u16..100, 1..20)) {
            let endpoints = endpoints(&weights);
            let shares = endpoints.shares();
            let total: u32 = shares.iter().sum();
            let picker = WeightedRandom.prepare(&endpoints);
            for (count, share) in counts(&*picker, weights.len(), PICKS as usize).into_iter().zip(shares) {
                let p = f64::from(share) / f64::from(total);
                let (mean, deviation) = (f64::from(PICKS) * p, (f64::from(PICKS) * p * (1.0 - p)).sqrt());
                prop_assert!((f64::from(count) - mean).abs() <= 5.0 * deviation + 1.0, "{weights:?}");
                prop_assert!(share > 0 || count == 0);
            }
        }
    }
}
