//! Places of instances in the space of hashes, the same in every process.

use xxhash_rust::xxh3::xxh3_64;

use super::Endpoints;
use crate::model::Instance;

/// What an instance hashes to: by its id and address, which every process sees alike.
pub(super) fn place(instance: &Instance) -> u64 {
    xxh3_64(format!("{}\0{}", instance.key.id, instance.address()).as_bytes())
}

/// The endpoints that have a share: index, hash and share, in the order of their hashes and not of the view.
pub(super) fn sharing(endpoints: &Endpoints) -> Vec<(u32, u64, u32)> {
    let mut all: Vec<_> = (0u32..)
        .zip(endpoints.instances())
        .zip(endpoints.shares())
        .filter(|(_, share)| *share > 0)
        .map(|((index, instance), share)| (index, place(instance), share))
        .collect();
    all.sort_by(|a, b| {
        a.1.cmp(&b.1)
            .then_with(|| key(endpoints, a.0).cmp(&key(endpoints, b.0)))
    });
    all
}

fn key(endpoints: &Endpoints, index: u32) -> Option<&crate::model::InstanceKey> {
    endpoints
        .instances()
        .get(index as usize)
        .map(|instance| &instance.key)
}

/// One hash of two: the finaliser of splitmix64 over both.
#[inline]
pub(super) fn mix(a: u64, b: u64) -> u64 {
    let mut z = a ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
