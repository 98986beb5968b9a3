//! The watch plane: from a registry's raw changes to views.

mod polling;

pub use polling::{PollPace, PollingWatcher};
