//! A part of the instances for each client, so that not everybody connects to everybody.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Endpoints, Verdict,
    hash::{mix, place},
};

/// The instances a client keeps to: those that bid highest for its name (gRPC A68's rank by hash). A change of the
/// membership changes as little of it as can be; over many clients every instance gets about the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Subset {
    /// What tells this client from its siblings, such as its host name or instance id.
    pub client: String,
    /// How many instances it keeps to; one at least.
    pub size: usize,
}

impl Subset {
    /// `size` instances for the client of this name.
    pub fn new(client: impl Into<String>, size: usize) -> Self {
        Self {
            client: client.into(),
            size,
        }
    }

    pub(super) fn narrow(&self, endpoints: &Endpoints, verdicts: &mut [Verdict]) {
        let client = xxh3_64(self.client.as_bytes());
        let mut ranks: Vec<(u64, usize)> = endpoints
            .instances()
            .iter()
            .zip(verdicts.iter())
            .enumerate()
            .filter(|(_, (_, verdict))| **verdict == Verdict::Used)
            .map(|(index, (instance, _))| (mix(client, place(instance)), index))
            .collect();
        ranks.sort_unstable_by(|a, b| b.cmp(a));
        for (_, index) in ranks.into_iter().skip(self.size.max(1)) {
            verdicts[index] = Verdict::OutsideSubset;
        }
    }
}
