//! One after the other, the heavier ones more often, spread as evenly as can be.

use super::{Endpoints, PickContext, Picker, Strategy, round_robin::Rotation};

/// The longest rotation that is laid out; weights that would need a longer one are rounded to fit.
const LONGEST: u64 = 1 << 16;

/// One after the other in proportion to their weights, a heavy one never in a burst, every handle at its own pace.
///
/// The rotation is laid out when the membership changes, so that a pick costs what a plain rotation does. Weight zero keeps
/// RFC 2782's meaning: nothing while others have weight, all alike when all are zero.
#[derive(Debug, Clone, Copy, Default)]
pub struct WeightedRoundRobin;

impl Strategy for WeightedRoundRobin {
    fn name(&self) -> &'static str {
        "weighted_round_robin"
    }

    fn prepare(&self, endpoints: &Endpoints) -> Box<dyn Picker> {
        let weights: Vec<u64> = endpoints.shares().into_iter().map(u64::from).collect();
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return Box::new(Rotation::of(weights.len()));
        }
        let order = rotation(&weights);
        Box::new(Weighted {
            turns: Rotation::of(order.len()),
            order,
        })
    }
}

#[derive(Debug)]
struct Weighted {
    turns: Rotation,
    order: Vec<u32>,
}

impl Picker for Weighted {
    #[inline]
    fn pick(&self, context: &mut PickContext) -> Option<usize> {
        let turn = self.turns.pick(context)?;
        self.order.get(turn).map(|index| *index as usize)
    }
}

/// Up to so many steps a rotation is laid out exactly as nginx's smooth weighting would turn.
const EXACT: u64 = 1 << 20;

/// The indices of one full rotation: each as often as its weight, its turns spread apart.
fn rotation(weights: &[u64]) -> Vec<u32> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let total: u64 = weights.iter().map(|weight| weight / divisor).sum();
    if total <= LONGEST && total.saturating_mul(weights.len() as u64) <= EXACT {
        let weights: Vec<i64> = weights
            .iter()
            .map(|weight| i64::try_from(weight / divisor).unwrap_or(0))
            .collect();
        return smooth(&weights);
    }
    let turns = |weight: u64| {
        let exact = weight / divisor;
        // Whoever has weight keeps a turn, however the rounding goes.
        if total <= LONGEST {
            exact
        } else {
            (exact * LONGEST / total).max(u64::from(weight > 0))
        }
    };
    earliest(weights.iter().map(|weight| turns(*weight)))
}

/// nginx's smooth weighting: every turn adds each weight to its owner's credit, the richest goes next and pays the total.
fn smooth(weights: &[i64]) -> Vec<u32> {
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0; weights.len()];
    (0..total)
        .filter_map(|_| {
            for (credit, weight) in credit.iter_mut().zip(weights) {
                *credit += weight;
            }
            // The first of the richest, as nginx has it.
            let (index, richest) = credit
                .iter_mut()
                .enumerate()
                .rev()
                .max_by_key(|(_, credit)| **credit)?;
            *richest -= total;
            u32::try_from(index).ok()
        })
        .collect()
}

/// The earliest deadline first: each turn of an endpoint of `w` turns is due at the middle of one `w`-th of the rotation.
/// The same proportions at every prefix as [`smooth`], to within a turn, at the price of a sort.
fn earliest(turns: impl Iterator<Item = u64>) -> Vec<u32> {
    let mut due: Vec<(f64, u32)> = Vec::new();
    for (index, turns) in (0u32..).zip(turns) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a rotation has at most some hundred thousand turns"
        )]
        due.extend((0..turns).map(|turn| ((turn as f64 + 0.5) / turns as f64, index)));
    }
    due.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    due.into_iter().map(|(_, index)| index).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, prop_assume, proptest};

    use super::*;
    use crate::pick::fixture::endpoints;

    fn picker(weights: &[u16]) -> Box<dyn Picker> {
        WeightedRoundRobin.prepare(&endpoints(weights))
    }

    fn picks(weights: &[u16], number: usize) -> Vec<usize> {
        let picker = picker(weights);
        let mut context = PickContext::at(0);
        (0..number).map_while(|_| picker.pick(&mut context)).collect()
    }

    #[test]
    fn a_heavy_one_never_comes_in_a_burst() {
        assert_eq!(picks(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0], "as nginx turns");
        let order = picks(&[3, 1], 8);
        assert!(
            order
                .windows(4)
                .all(|four| four.iter().filter(|i| **i == 0).count() == 3),
            "{order:?}"
        );
    }

    #[test]
    fn zero_keeps_its_meaning() {
        assert_eq!(picks(&[0, 0, 0], 3), [0, 1, 2]);
        assert!(picks(&[0, 2, 1], 30).iter().all(|index| *index != 0));
        assert!(picks(&[], 3).is_empty());
    }

    proptest! {
        /// Over whole rotations the shares are exact, and no prefix is ever more than one turn off per endpoint.
        #[test]
        fn shares_follow_weights_at_every_prefix(weights in prop::collection::vec(0u16..50, 1..12)) {
            let total: usize = weights.iter().map(|w| usize::from(*w)).sum();
            prop_assume!(total > 0);
            let picked = picks(&weights, total * 2);
            let mut counts = vec![0f64; weights.len()];
            for (done, index) in (1u32..).zip(&picked) {
                counts[*index] += 1.0;
                for (count, weight) in counts.iter().zip(&weights) {
                    let fair = f64::from(done) * f64::from(*weight) / f64::from(u32::try_from(total).unwrap());
                    prop_assert!((count - fair).abs() <= 2.0, "{weights:?} {picked:?}");
                }
            }
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert!((count - 2.0 * f64::from(*weight)).abs() < f64::EPSILON);
            }
        }

        /// The order for long rotations keeps the proportions of the exact one at every prefix.
        #[test]
        fn both_orders_agree_to_within_a_turn_or_two(weights in prop::collection::vec(0u16..30, 1..10)) {
            let exact = smooth(&weights.iter().map(|w| i64::from(*w)).collect::<Vec<_>>());
            let sorted = earliest(weights.iter().map(|w| u64::from(*w)));
            prop_assert_eq!(exact.len(), sorted.len());
            let mut lead = vec![0i32; weights.len()];
            for (a, b) in exact.iter().zip(&sorted) {
                lead[*a as usize] += 1;
                lead[*b as usize] -= 1;
                prop_assert!(lead.iter().all(|lead| lead.abs() <= 2), "{:?} {:?}", exact, sorted);
            }
        }

        #[test]
        fn extreme_weights_neither_panic_nor_starve(weights in prop::collection::vec(any::<u16>(), 1..40)) {
            let wide: Vec<u64> = weights.iter().map(|w| u64::from(*w)).collect();
            let order = rotation(&wide);
            prop_assert!(order.len() as u64 <= LONGEST + weights.len() as u64);
            for (index, weight) in (0u32..).zip(&wide) {
                prop_assert_eq!(*weight > 0, order.contains(&index));
            }
        }
    }
}
