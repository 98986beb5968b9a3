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
#[derive(Debug, Clone, Copy)]
pub(super) struct Rotation {
    len: usize,
}

impl Rotation {
    pub(super) const fn of(len: usize) -> Self {
        Self { len }
    }
}

impl Picker for Rotation {
    #[inline]
    fn pick(&self, context: &mut PickContext) -> Option<usize> {
        let mut index = context.cursor;
        if index >= self.len {
            index = self.wrap(index)?;
        }
        context.cursor = index + 1;
        Some(index)
    }
}

impl Rotation {
    /// The end of a round costs a comparison; only a start or a shrunken set costs a division.
    #[inline]
    fn wrap(self, index: usize) -> Option<usize> {
        if index == self.len {
            (self.len > 0).then_some(0)
        } else {
            divide(index, self.len)
        }
    }
}

/// Out of line, so that a pick stays small enough to be compiled into its caller.
#[cold]
#[inline(never)]
fn divide(index: usize, len: usize) -> Option<usize> {
    index.checked_rem(len)
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
