//! How a balancer plugs in: prepare once per change, pick by index.

use std::{any::Any, fmt::Debug, sync::Arc};

use super::{Load, Random, RoundRobin, WeightedRoundRobin};
use crate::{
    error::{Error, ErrorKind, Result},
    model::{Chunks, Instance, Instances},
};

/// The instances a picker chooses among, each with its load. Cloning copies two pointers.
#[derive(Debug, Clone, Default)]
pub struct Endpoints {
    pub(crate) instances: Instances,
    pub(crate) loads: Chunks<Arc<Load>>,
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
}

impl PickContext {
    /// A context that starts at a random place, so that a fleet does not pick in step.
    pub fn new() -> Self {
        let mut rng = fastrand::Rng::new();
        Self {
            cursor: rng.usize(..1 << 32),
            rng,
        }
    }

    /// A context that starts at `cursor`.
    pub fn at(cursor: usize) -> Self {
        Self {
            cursor,
            rng: fastrand::Rng::new(),
        }
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
}

/// The strategies this release has.
const STRATEGIES: [&str; 3] = ["round_robin", "weighted_round_robin", "random"];

/// The strategy called `name` in code, YAML and Python.
///
/// # Errors
/// [`ErrorKind::ConfigInvalid`] naming those there are.
pub fn strategy_named(name: &str) -> Result<Arc<dyn Strategy>> {
    match name {
        "round_robin" => Ok(Arc::new(RoundRobin)),
        "weighted_round_robin" => Ok(Arc::new(WeightedRoundRobin)),
        "random" => Ok(Arc::new(Random)),
        _ => Err(Error::new(ErrorKind::ConfigInvalid, "unknown balancing strategy")
            .with_context("strategy", format!("{name:?}"))
            .with_hint(format!("use one of {}", STRATEGIES.join(", ")))),
    }
}
