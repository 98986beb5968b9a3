//! A table of keys, evenly dealt out.

use super::{
    Endpoints, PickContext, Picker, Strategy,
    bounded::Bounded,
    hash::{mix, sharing},
};

/// How many places the table has: a prime, as the paper and Envoy have it.
const PLACES: u32 = 65_537;

/// A table that every key falls into, its places dealt out in turns in proportion to weights (Maglev, NSDI 2016), with
/// bounded load. A pick is one look, whatever the size; a removal moves a few keys more than it has to.
///
/// Fair to within a percent or two for up to some hundreds of instances; beyond some thousands, use `consistent_hash`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Maglev;

impl Strategy for Maglev {
    fn name(&self) -> &'static str {
        "maglev"
    }

    fn prepare(&self, endpoints: &Endpoints) -> Box<dyn Picker> {
        Box::new(Table {
            places: deal(&sharing(endpoints)),
            bounded: Bounded::of(endpoints),
        })
    }
}

#[derive(Debug)]
struct Table {
    places: Vec<u32>,
    bounded: Bounded,
}

impl Picker for Table {
    #[inline]
    fn pick(&self, context: &mut PickContext) -> Option<usize> {
        let key = context.key_or_random();
        let at = usize::try_from((u128::from(key) * self.places.len() as u128) >> 64).ok()?;
        let (before, after) = self.places.split_at_checked(at)?;
        self.bounded.first(after.iter().chain(before).copied())
    }
}

/// One who takes places: in an order of its own, as its turn comes.
struct Taker {
    index: u32,
    next: u32,
    skip: u32,
    /// What it has saved up of `heaviest`, which a place costs.
    credit: u64,
    share: u64,
}

fn deal(sharing: &[(u32, u64, u32)]) -> Vec<u32> {
    let place = |hash: u64, of: u64| u32::try_from(hash % of).unwrap_or(0);
    let mut takers: Vec<Taker> = sharing
        .iter()
        .map(|&(index, hash, share)| Taker {
            index,
            next: place(hash, PLACES.into()),
            skip: place(mix(hash, 1), u64::from(PLACES) - 1) + 1,
            credit: 0,
            share: share.into(),
        })
        .collect();
    let Some(heaviest) = takers.iter().map(|taker| taker.share).max() else {
        return Vec::new();
    };
    let mut places: Vec<u32> = vec![u32::MAX; PLACES as usize];
    let mut left = PLACES;
    loop {
        for taker in &mut takers {
            taker.credit += taker.share;
            if taker.credit < heaviest {
                continue;
            }
            taker.credit -= heaviest;
            // The skip and the size have no common divisor, so this comes by every place.
            loop {
                let at = taker.next;
                taker.next += taker.skip;
                if taker.next >= PLACES {
                    taker.next -= PLACES;
                }
                if let Some(place) = places.get_mut(at as usize)
                    && *place == u32::MAX
                {
                    *place = taker.index;
                    break;
                }
            }
            left -= 1;
            if left == 0 {
                return places;
            }
        }
    }
}
