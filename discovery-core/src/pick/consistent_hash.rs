//! A ring of points.

use super::{
    Endpoints, PickContext, Picker, Strategy,
    bounded::Bounded,
    hash::{mix, sharing},
};

/// How many points an instance of average weight has, as in ketama.
const POINTS: u64 = 160;

/// A ring on which each instance has points in proportion to its weight; a key goes to the next point, with bounded load.
///
/// A removal moves only the keys of what was removed.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConsistentHash;

impl Strategy for ConsistentHash {
    fn name(&self) -> &'static str {
        "consistent_hash"
    }

    fn prepare(&self, endpoints: &Endpoints) -> Box<dyn Picker> {
        let points = points(endpoints);
        let buckets = points.len().next_power_of_two().max(2);
        let shift = 64 - buckets.trailing_zeros();
        let starts = (0..buckets as u64)
            .map(|bucket| {
                let at = points.partition_point(|(hash, _)| hash >> shift < bucket);
                u32::try_from(at).unwrap_or(u32::MAX)
            })
            .collect();
        Box::new(Ring {
            points,
            starts,
            shift,
            bounded: Bounded::of(endpoints),
        })
    }
}

#[derive(Debug)]
struct Ring {
    points: Vec<(u64, u32)>,
    /// For the first bits of a hash, where to begin to look.
    starts: Vec<u32>,
    shift: u32,
    bounded: Bounded,
}

impl Picker for Ring {
    #[inline]
    fn pick(&self, context: &mut PickContext) -> Option<usize> {
        let key = context.key_or_random();
        let start = *self.starts.get(usize::try_from(key >> self.shift).ok()?)? as usize;
        let passed = self
            .points
            .get(start..)?
            .iter()
            .take_while(|(hash, _)| *hash < key);
        let (before, after) = self.points.split_at_checked(start + passed.count())?;
        self.bounded
            .first(after.iter().chain(before).map(|(_, index)| *index))
    }
}

/// An instance's points do not depend on the others while all weigh the same, so that a removal moves nothing else.
fn points(endpoints: &Endpoints) -> Vec<(u64, u32)> {
    let sharing = sharing(endpoints);
    let number = sharing.len() as u64;
    let all: u64 = sharing.iter().map(|(_, _, share)| u64::from(*share)).sum();
    let mut points: Vec<(u64, u32)> = sharing
        .iter()
        .flat_map(|&(index, hash, share)| {
            let own = (POINTS * number * u64::from(share)).div_ceil(all.max(1));
            (0..own).map(move |point| (mix(hash, point), index))
        })
        .collect();
    points.sort_unstable_by_key(|(hash, _)| *hash);
    points.dedup_by_key(|(hash, _)| *hash);
    points
}
