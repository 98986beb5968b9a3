//! The method: thread CPU time, interleaved rounds, ratios taken round by round.

pub mod clock;
mod race;
mod report;

pub use race::{Batch, Contender, batch, race};
pub use report::{At, Cell, Goal, Report, Table, median};

/// How long a run takes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Rounds in which every contender runs once.
    pub rounds: usize,
    /// About how many nanoseconds of CPU one batch takes.
    pub batch_nanos: f64,
    /// Leaves out the largest sizes.
    pub short: bool,
}

impl Plan {
    /// Enough rounds for ratios that hold.
    pub fn full() -> Self {
        Self {
            rounds: 21,
            batch_nanos: 4e6,
            short: false,
        }
    }

    /// A look in passing, for CI.
    pub fn short() -> Self {
        Self {
            rounds: 7,
            batch_nanos: 2e6,
            short: true,
        }
    }

    /// Those of `sizes` that this plan measures: in a short run all but the last.
    pub fn sizes(&self, sizes: &'static [usize]) -> &'static [usize] {
        let left_out = usize::from(self.short && sizes.len() > 1);
        &sizes[..sizes.len() - left_out]
    }
}
