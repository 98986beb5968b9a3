//! How a balancer plugs in: prepare once per change, pick by index.

use std::{any::Any, fmt::Debug, sync::Arc};

use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    ConsistentHash, LeastConnections, Load, Maglev, P2c, PeakEwma, Random, Rendezvous, RoundRobin,
    WeightedRandom, WeightedRoundRobin,
};
use crate::{
    error::{Error, ErrorKind, Result},
    model::{Chunks, Instance, Instances},
};

/// The instances a picker chooses among, each with its load. Cloning copies two pointers.
#[derive(Debug, Clone, Default)]
pub struct Endpoints {
    pub(crate) instances: Instances,
    pub(crate) loads: Chunks<Arc<Load>>,
    /// Weights that stand in for the instances' own, while some of them start slowly.
    pub(crate) weights: Option<Arc<[u32]>>,
}

impl Endpoints {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.instances.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// The instance at `index` and its load.
    #[inline]
    pub fn get(&self, index: usize) -> Option<(&Arc<Instance>, &Arc<Load>)> {
        Some((self.instances.get(index)?, self.loads.get(index)?))
    }

    /// What share of the picks each should get, relative to the others: their weights as they count now.
    ///
    /// Zero keeps RFC 2782's meaning: it stays zero while another has weight, and all are one when all are zero.
    pub fn shares(&self) -> Vec<u32> {
        let mut shares: Vec<u32> = match &self.weights {
            Some(weights) => weights.to_vec(),
            None => self
                .instances
                .iter()
                .map(|instance| instance.weight.0.into())
                .collect(),
        };
        if shares.iter().all(|share| *share == 0) {
            shares.fill(1);
        }
        shares
    }

    /// The instances alone.
    pub fn instances(&self) -> &Instances {
        &self.instances
    }
}

/// What a pick carries from one call to the next: a cursor and random state of its own, so that two threads share nothing.
#[derive(Debug, Clone)]
pub struct PickContext {
    /// Where a rotating strategy stands.
    pub cursor: usize,
    /// Random numbers.
    pub rng: fastrand::Rng,
    /// What the caller's key hashes to ([`hash_key`]), where it gave one.
    pub key: Option<u64>,
}

impl PickContext {
    /// A context that starts at a random place, so that a fleet does not pick in step.
    pub fn new() -> Self {
        let mut rng = fastrand::Rng::new();
        Self {
            cursor: rng.usize(..1 << 32),
            rng,
            key: None,
        }
    }

    /// A context that starts at `cursor`.
    pub fn at(cursor: usize) -> Self {
        Self {
            cursor,
            rng: fastrand::Rng::new(),
            key: None,
        }
    }

    /// The key's hash; a random one where there is no key.
    #[inline]
    pub fn key_or_random(&mut self) -> u64 {
        self.key.unwrap_or_else(|| self.rng.u64(..))
    }
}

impl Default for PickContext {
    fn default() -> Self {
        Self::new()
    }
}

/// A way to balance: prepares a [`Picker`] whenever the membership changes.
pub trait Strategy: Send + Sync + Debug + 'static {
    /// Its name in code, YAML and Python.
    fn name(&self) -> &'static str;

    /// A picker for exactly these endpoints.
    fn prepare(&self, endpoints: &Endpoints) -> Box<dyn Picker>;
}

/// Chooses among the endpoints it was prepared for.
pub trait Picker: Any + Send + Sync + Debug {
    /// The index of the next endpoint; `None` when there is none to choose.
    fn pick(&self, context: &mut PickContext) -> Option<usize>;

    /// The same for who has read the clock already, which takes longer than most picks. Only what goes by the time differs.
    #[inline]
    fn pick_at(&self, context: &mut PickContext, _now: Instant) -> Option<usize> {
        self.pick(context)
    }
}

/// What a key hashes to: XXH3 with 64 bits, seed zero, the same in every process.
#[inline]
pub fn hash_key(key: impl AsRef<[u8]>) -> u64 {
    xxh3_64(key.as_ref())
}

/// The names [`strategy_named`] knows.
pub const STRATEGIES: [&str; 10] = [
    "round_robin",
    "weighted_round_robin",
    "random",
    "weighted_random",
    "least_connections",
    "p2c",
    "peak_ewma",
    "consistent_hash",
    "maglev",
    "rendezvous",
];

/// The strategy called `name` in code, YAML and Python.
///
/// # Errors
/// [`ErrorKind::ConfigInvalid`] naming those there are.
pub fn strategy_named(name: &str) -> Result<Arc<dyn Strategy>> {
    Ok(match name {
        "round_robin" => Arc::new(RoundRobin),
        "weighted_round_robin" => Arc::new(WeightedRoundRobin),
        "random" => Arc::new(Random),
        "weighted_random" => Arc::new(WeightedRandom),
        "least_connections" => Arc::new(LeastConnections),
        "p2c" => Arc::new(P2c),
        "peak_ewma" => Arc::new(PeakEwma),
        "consistent_hash" => Arc::new(ConsistentHash),
        "maglev" => Arc::new(Maglev),
        "rendezvous" => Arc::new(Rendezvous),
        _ => {
            return Err(Error::new(ErrorKind::ConfigInvalid, "unknown balancing strategy")
                .with_context("strategy", format!("{name:?}"))
                .with_hint(format!("use one of {}", STRATEGIES.join(", "))));
        }
    })
}
