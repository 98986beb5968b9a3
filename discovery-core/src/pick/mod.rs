//! The pick plane: which instance next. No I/O, no locks, nothing awaited.
//!
//! Everything a pick needs is prepared when the membership changes and published as one pointer; a pick reads that
//! pointer and an index.

mod call;
mod load;
mod random;
mod reader;
mod round_robin;
mod service;
mod strategy;
mod view;
mod weighted_round_robin;

pub use call::{CallError, CallPolicy};
pub use load::{Load, Outcome, Picked};
pub use random::Random;
pub use reader::{Reader, Readers};
pub use round_robin::RoundRobin;
pub use service::{Service, Subscription};
pub use strategy::{Endpoints, PickContext, Picker, Strategy, strategy_named};
pub use view::View;
pub(crate) use view::{Prepared, State};
pub use weighted_round_robin::WeightedRoundRobin;
