//! Instances nearby first, others as far as those are not enough.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Endpoints, Verdict};
use crate::model::Instance;

/// Where this client runs, and from when on that matters.
///
/// Instances of its zone come first, then those of its datacenter, then all others. A tier whose healthy instances, times
/// the overprovisioning, are not all it has passes what it lacks to the next (Envoy's priorities and figures).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Locality {
    /// Its datacenter or region; where unset, only zones are compared.
    pub datacenter: Option<String>,
    /// Its zone.
    pub zone: Option<String>,
    /// In percent: 140 spills when fewer than 71.4 % are healthy.
    pub overprovisioning: u32,
    /// With fewer instances than this, all are alike.
    pub minimum_size: usize,
}

impl Default for Locality {
    /// Nowhere: no instance is nearer than another.
    fn default() -> Self {
        Self::new(None, None)
    }
}

impl Locality {
    /// In this zone of this datacenter.
    pub fn new(datacenter: Option<&str>, zone: Option<&str>) -> Self {
        Self {
            datacenter: datacenter.map(str::to_owned),
            zone: zone.map(str::to_owned),
            overprovisioning: 140,
            minimum_size: 6,
        }
    }

    /// The same with this overprovisioning, in percent.
    #[must_use]
    pub fn overprovisioning(mut self, percent: u32) -> Self {
        self.overprovisioning = percent;
        self
    }

    /// The same for sets of this size on.
    #[must_use]
    pub fn minimum_size(mut self, size: usize) -> Self {
        self.minimum_size = size;
        self
    }

    /// How far away: 0 in the zone, 1 in the datacenter, 2 elsewhere.
    fn distance(&self, instance: &Instance) -> usize {
        let same = |own: &Option<String>, other: &Option<Arc<str>>| {
            own.is_some() && own.as_deref() == other.as_deref()
        };
        let at = &instance.locality;
        let here = self.datacenter.is_none() || same(&self.datacenter, &at.datacenter);
        match (here, same(&self.zone, &at.zone)) {
            (true, true) => 0,
            (true, false) if self.datacenter.is_some() => 1,
            _ => 2,
        }
    }
}

/// Endpoints that are alike, and which part of 2³² draws falls below their end.
#[derive(Debug)]
pub(super) struct Tier {
    pub(super) below: u64,
    pub(super) places: Arc<[u32]>,
}

const ALL: u64 = 1 << 32;

/// The tiers of those that take part; those that get nothing now are marked.
pub(super) fn tiers(
    locality: Option<&Locality>,
    endpoints: &Endpoints,
    verdicts: &mut [Verdict],
) -> Vec<Tier> {
    let used = |verdict: &Verdict| verdict.is_used();
    let places: Vec<u32> = (0u32..)
        .zip(verdicts.iter())
        .filter(|(_, verdict)| used(verdict))
        .map(|(i, _)| i)
        .collect();
    let whole = |places: Vec<u32>| {
        vec![Tier {
            below: ALL,
            places: places.into(),
        }]
    };
    let Some(locality) = locality.filter(|locality| places.len() >= locality.minimum_size) else {
        return whole(places);
    };
    let mut near: [Vec<u32>; 3] = Default::default();
    // Of each tier: how many take part, and how many would if they were well.
    let mut known = [0u64; 3];
    for ((index, instance), verdict) in (0u32..).zip(endpoints.instances()).zip(verdicts.iter()) {
        let distance = locality.distance(instance);
        if used(verdict) {
            near[distance].push(index);
        }
        known[distance] +=
            u64::from(used(verdict) || matches!(verdict, Verdict::Unhealthy | Verdict::Ejected));
    }
    let health = |distance: usize| {
        let well = near[distance].len() as u64;
        let whole = u128::from(known[distance]) * 100;
        (u128::from(ALL) * u128::from(well) * u128::from(locality.overprovisioning))
            .checked_div(whole)
            .map_or(0, |health| u64::try_from(health).unwrap_or(ALL).min(ALL))
    };
    let healths = [health(0), health(1), health(2)];
    let total: u64 = healths.iter().sum::<u64>().min(ALL);
    if total == 0 {
        return whole(places);
    }
    let (mut taken, mut tiers) = (0, Vec::new());
    for (places, health) in near.into_iter().zip(healths) {
        // Where all together are not enough, each gets its part of what there is.
        let share = health.min(total - taken);
        taken += share;
        if share > 0 {
            tiers.push(Tier {
                below: u64::try_from(u128::from(taken) * u128::from(ALL) / u128::from(total)).unwrap_or(ALL),
                places: places.into(),
            });
        } else {
            for place in places {
                verdicts[place as usize] = Verdict::TooFar;
            }
        }
    }
    tiers
}
