//! Balancing as RFC 2782 has it: the lowest priority first, and within it by weight.

use discovery_core::pick::{Endpoints, PickContext, Picker, Strategy};

/// Balancing as RFC 2782 has it: the instances of the lowest priority number, at random by their weights. Those of the next are
/// picked only when none of the first is left.
///
/// One of weight zero beside others with weight is picked hardly ever: once in so many picks as the sum of weights and one.
/// Where all have weight zero, they are picked alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rfc2782;

impl Strategy for Rfc2782 {
    fn name(&self) -> &'static str {
        "rfc2782"
    }

    fn prepare(&self, endpoints: &Endpoints) -> Box<dyn Picker> {
        let all = endpoints.instances().iter();
        Box::new(Weighted::of(all.map(|one| (one.priority, one.weight.0))))
    }
}

#[derive(Debug)]
struct Weighted {
    /// The running sum of weights with an instance's own, and where it is.
    group: Vec<(u64, usize)>,
    /// How many have weight zero.
    idle: usize,
}

impl Weighted {
    /// Of instances with these priorities and weights.
    fn of(instances: impl Iterator<Item = (u16, u16)>) -> Self {
        let all: Vec<_> = instances.collect();
        let first = all.iter().map(|(priority, _)| *priority).min();
        let mut group: Vec<_> = all
            .into_iter()
            .enumerate()
            .filter(|(_, (priority, _))| Some(*priority) == first)
            .map(|(index, (_, weight))| (u64::from(weight), index))
            .collect();
        // Those of weight zero come first, and share the chance that the running sum starts with.
        group.sort_unstable();
        let mut sum = 0;
        for (weight, _) in &mut group {
            sum += *weight;
            *weight = sum;
        }
        let idle = group.iter().take_while(|(sum, _)| *sum == 0).count();
        Self { group, idle }
    }
}

impl Picker for Weighted {
    fn pick(&self, context: &mut PickContext) -> Option<usize> {
        let (sum, _) = *self.group.last()?;
        let lowest = u64::from(self.idle == 0);
        let at = match context.rng.u64(lowest..=sum) {
            0 => context.rng.usize(..self.idle),
            drawn => self.group.partition_point(|(sum, _)| *sum < drawn),
        };
        self.group.get(at).map(|(_, index)| *index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(weights: &[u16], picks: u32) -> Vec<u32> {
        let picker = Weighted::of(weights.iter().map(|weight| (0, *weight)));
        let mut context = PickContext {
            key: None,
            cursor: 0,
            rng: fastrand::Rng::with_seed(2782),
        };
        let mut counts = vec![0; weights.len()];
        for _ in 0..picks {
            counts[picker.pick(&mut context).unwrap()] += 1;
        }
        counts
    }

    /// Pearson's statistic of what was counted against what the weights say.
    fn chi_square(counts: &[u32], expected: &[f64]) -> f64 {
        let parts = counts.iter().zip(expected);
        parts.map(|(n, e)| (f64::from(*n) - e).powi(2) / e).sum()
    }

    /// Of fair draws, 0.1 % are beyond 10.8, 13.8 and 16.3 with one, two and three degrees of freedom.
    #[test]
    fn d_10_picks_follow_the_weights() {
        let found = counts(&[10, 20, 70], 100_000);
        let expected = [10_000.0, 20_000.0, 70_000.0];
        assert!(chi_square(&found, &expected) < 13.8, "{found:?}");
        let found = counts(&[0; 4], 100_000);
        assert!(chi_square(&found, &[25_000.0; 4]) < 16.3, "{found:?}");
        // One chance in 61.
        let found = counts(&[0, 60], 100_000);
        let expected = [100_000.0 / 61.0, 6_000_000.0 / 61.0];
        assert!(chi_square(&found, &expected) < 10.8, "{found:?}");
        let found = counts(&[65_535, 65_535], 10_000);
        assert!(chi_square(&found, &[5_000.0; 2]) < 10.8, "{found:?}");
    }

    #[test]
    fn d_10_the_next_priority_is_for_when_the_first_is_gone() {
        let picked = |instances: &[(u16, u16)]| {
            let picker = Weighted::of(instances.iter().copied());
            let mut context = PickContext::new();
            let mut seen: Vec<_> = (0..1000).filter_map(|_| picker.pick(&mut context)).collect();
            seen.sort_unstable();
            seen.dedup();
            seen
        };
        assert_eq!(picked(&[(20, 5), (10, 5), (10, 5), (65_535, 9)]), [1, 2]);
        assert_eq!(picked(&[(20, 5), (65_535, 9)]), [0]);
        assert_eq!(picked(&[]), [0; 0]);
    }
}
