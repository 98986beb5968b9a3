//! The watch plane: a raw watch made endless, a guard that weighs what it says, and polling for registries that cannot
//! tell by themselves.

mod guard;
mod polling;
mod recover;
mod values;

pub(crate) use guard::{Guard, Verdict};
pub use polling::{PollPace, PollingWatcher};
pub use recover::{Recover, Recovered, Resumable};
pub use values::poll_values;
