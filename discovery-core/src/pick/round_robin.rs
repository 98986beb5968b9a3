//! One after the other.

use super::{Endpoints, PickContext, Picker, Strategy};

/// One after the other, from a random start, every handle at its own pace.
#[derive(Debug, Clone, Copy, Default)]
pub struct RoundRobin;

impl Strategy for RoundRobin {
    fn name(&self) -> &'static str {
        "round_robin"
    }

    fn prepare(&self, endpoints: &Endpoints) -> Box<dyn Picker> {
        Box::new(Rotation::of(endpoints.len()))
    }
}

/// Turns from zero to a length, again and again.
#[derive(Debug)]
pub(super) struct Rotation {
    len: usize,
}

impl Rotation {
    pub(super) fn of(len: usize) -> Self {
        Self { len }
    }
}

impl Picker for Rotation {
    #[inline]
    fn pick(&self, context: &mut PickContext) -> Option<usize> {
        let mut index = context.cursor;
        if index >= self.len {
            // The end of a round costs a comparison; only a start or a shrunken set costs a division.
            index = if index == self.len {
                0
            } else {
                index.checked_rem(self.len)?
            };
            if self.len == 0 {
                return None;
            }
        }
        context.cursor = index + 1;
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the start, no endpoint is ever more than one pick ahead of another.
        #[test]
        fn spreads_evenly_from_any_start(len in 1usize..200, picks in 0usize..1000, start: usize) {
            let picker = Rotation { len };
            let mut context = PickContext::at(start);
            let mut counts = vec![0usize; len];
            for _ in 0..picks {
                counts[picker.pick(&mut context).unwrap()] += 1;
            }
            let (min, max) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            prop_assert!(max - min <= 1);
        }

        #[test]
        fn nothing_to_choose_is_no_panic(start: usize) {
            prop_assert_eq!(Rotation { len: 0 }.pick(&mut PickContext::at(start)), None);
        }
    }
}
