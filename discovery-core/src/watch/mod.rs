//! The watch plane: a raw watch made endless, and a guard that weighs what it says.

mod guard;
mod recover;

pub(crate) use guard::{Guard, Verdict};
pub use recover::{Recover, Recovered, Resumable};
