//! What the tests of strategies share.

use std::sync::Arc;

use super::{Endpoints, PickContext, Picker};
use crate::model::{Instance, InstanceId, InstanceKey, Locality, ServiceName};

/// Instances `0`, `1`, … of these weights.
pub(super) fn endpoints(weights: &[u16]) -> Endpoints {
    of(weights.iter().enumerate().map(|(i, weight)| instance(i, *weight)))
}

pub(super) fn of(instances: impl IntoIterator<Item = Instance>) -> Endpoints {
    let mut endpoints = Endpoints::default();
    for instance in instances {
        endpoints.instances.0.push(Arc::new(instance));
        endpoints.loads.push(Arc::default());
    }
    endpoints
}

pub(super) fn instance(id: usize, weight: u16) -> Instance {
    Instance::builder(key(id), "127.0.0.1", 80).weight(weight).build()
}

/// Instance `id` in `zone` of datacenter `dc`.
pub(super) fn placed(id: usize, dc: &str, zone: &str) -> Instance {
    let locality = Locality::new(Some(dc.into()), Some(zone.into()), None);
    Instance::builder(key(id), "127.0.0.1", 80)
        .locality(locality)
        .build()
}

fn key(id: usize) -> InstanceKey {
    InstanceKey::new(
        "test",
        ServiceName::observed("api"),
        InstanceId::observed(id.to_string()),
    )
}

pub(super) fn seeded(seed: u64) -> PickContext {
    PickContext {
        cursor: 0,
        rng: fastrand::Rng::with_seed(seed),
        key: None,
    }
}

/// How often each of `n` is picked.
pub(super) fn counts(picker: &dyn Picker, n: usize, picks: usize) -> Vec<u32> {
    let mut context = seeded(7);
    let mut counts = vec![0; n];
    for _ in 0..picks {
        counts[picker.pick(&mut context).expect("one of them")] += 1;
    }
    counts
}
