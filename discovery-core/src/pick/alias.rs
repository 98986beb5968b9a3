//! Draws in proportion to weights, in constant time.

/// Vose's alias method: a table of as many places as there are weights, each shared by two at most.
#[derive(Debug)]
pub(super) struct Alias {
    len: usize,
    /// Below which of 2³² a place is its own, and whose it is otherwise. Empty where all weigh the same.
    places: Vec<(u32, u32)>,
}

impl Alias {
    pub(super) fn of(weights: &[u32]) -> Self {
        let even = weights.windows(2).all(|pair| pair[0] == pair[1]);
        Self {
            len: weights.len(),
            places: if even { Vec::new() } else { places(weights) },
        }
    }

    /// The one that `random` falls on; `None` when there is none.
    #[inline]
    pub(super) fn draw(&self, random: u64) -> Option<usize> {
        let (high, low) = (random >> 32, random & u64::from(u32::MAX));
        let at = usize::try_from((high * self.len as u64) >> 32).ok()?;
        match self.places.get(at) {
            Some((below, other)) if low >= u64::from(*below) => Some(*other as usize),
            _ => (at < self.len).then_some(at),
        }
    }

    /// Two of them: different ones, unless the weights leave hardly a choice.
    #[inline]
    pub(super) fn two(&self, rng: &mut fastrand::Rng) -> Option<(usize, usize)> {
        let first = self.draw(rng.u64(..))?;
        if self.places.is_empty() {
            if self.len < 2 {
                return Some((first, first));
            }
            let second = rng.usize(..self.len - 1);
            return Some((first, second + usize::from(second >= first)));
        }
        let second = (0..4)
            .filter_map(|_| self.draw(rng.u64(..)))
            .find(|second| *second != first);
        Some((first, second.unwrap_or(first)))
    }
}

fn places(weights: &[u32]) -> Vec<(u32, u32)> {
    let n = weights.len() as u128;
    let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    // A place holds `total`; so that everything is whole, a weight counts `n` times.
    let mut left: Vec<u128> = weights.iter().map(|weight| u128::from(*weight) * n).collect();
    let mut places: Vec<(u32, u32)> = (0u32..).zip(weights).map(|(i, _)| (u32::MAX, i)).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) =
        (0..weights.len()).partition(|index| left[*index] < total);
    while let (Some(poor), Some(&rich)) = (small.pop(), large.last()) {
        let share = (left[poor] << 32) / total;
        places[poor] = (
            u32::try_from(share).unwrap_or(u32::MAX),
            u32::try_from(rich).unwrap_or(u32::MAX),
        );
        left[rich] -= total - left[poor];
        if left[rich] < total {
            large.pop();
            small.push(rich);
        }
    }
    places
}
