//! The pick plane: which instance next. No I/O, no locks, nothing awaited.
//!
//! Everything a pick needs is prepared when the membership changes and published as one pointer; a pick reads that
//! pointer and an index.

mod alias;
mod balancing;
mod bounded;
mod call;
mod circuit;
mod consistent_hash;
mod explain;
#[cfg(test)]
mod fixture;
mod hash;
mod least_connections;
mod load;
mod locality;
mod maglev;
mod outlier;
mod p2c;
mod peak_ewma;
mod random;
mod reader;
mod rendezvous;
mod round_robin;
mod service;
mod slow_start;
mod strategy;
mod subset;
mod tournament;
mod view;
mod weighted_random;
mod weighted_round_robin;

pub use balancing::Balancing;
pub use call::{Attempts, CallError, CallPolicy};
pub use consistent_hash::ConsistentHash;
pub use explain::{Explained, Verdict};
pub use least_connections::LeastConnections;
pub use load::{Load, Outcome, Picked};
pub use locality::Locality;
pub use maglev::Maglev;
pub(crate) use outlier::Outliers;
pub use outlier::{FailurePercentage, Outlier, SuccessRate};
pub use p2c::P2c;
pub use peak_ewma::PeakEwma;
pub use random::Random;
pub use reader::{Reader, Readers};
pub use rendezvous::Rendezvous;
pub use round_robin::RoundRobin;
pub use service::{Service, Subscription};
pub use slow_start::SlowStart;
pub use strategy::{Endpoints, PickContext, Picker, STRATEGIES, Strategy, hash_key, strategy_named};
pub use subset::Subset;
pub use view::View;
pub(crate) use view::{Prepared, State, heals};
pub use weighted_random::WeightedRandom;
pub use weighted_round_robin::WeightedRoundRobin;

#[cfg(test)]
mod balancing_tests;
#[cfg(test)]
mod outlier_tests;
#[cfg(test)]
mod service_tests;
#[cfg(test)]
mod tests;
