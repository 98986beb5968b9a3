//! What goes around a strategy: who takes part in it now, and with what weight.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    Endpoints, Locality, Outlier, PickContext, Picker, SlowStart, Strategy, Subset, Verdict, WeightedRandom,
    WeightedRoundRobin,
    locality::{self, Tier},
};
use crate::model::Instance;

/// What goes around every strategy of a client. Nothing does unless set.
///
/// In this order: the filter, the subset, health and ejections (with the panic threshold), slow start, locality.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Balancing {
    /// Only instances that carry all of these tags.
    pub tags: Vec<String>,
    /// Only instances whose metadata has all of these values.
    pub meta: BTreeMap<String, String>,
    /// A part of the instances, the same for as long as the membership allows.
    pub subset: Option<Subset>,
    /// Instances nearby first.
    pub locality: Option<Locality>,
    /// New instances get little at first.
    pub slow_start: Option<SlowStart>,
    /// Instances that fail are left out for a while.
    pub outlier: Option<Outlier>,
    /// In percent: when fewer than so many are healthy and not ejected, all are used, for the rest would drown. Zero
    /// never does so. Those that drain stay out in any case.
    pub panic_below: u8,
    /// The most calls in flight at one instance that `acquire` and `call` allow; no limit unless set.
    pub max_in_flight: Option<u32>,
    /// The view holds instances that do not serve too: they are left out of picks.
    #[serde(skip)]
    unhealthy_too: bool,
}

impl Default for Balancing {
    /// Nothing around a strategy; a panic threshold of 50 % (Envoy's) for when something is.
    fn default() -> Self {
        Self {
            tags: Vec::new(),
            meta: BTreeMap::new(),
            subset: None,
            locality: None,
            slow_start: None,
            outlier: None,
            panic_below: 50,
            max_in_flight: None,
            unhealthy_too: false,
        }
    }
}

impl Balancing {
    /// Only instances that carry `tag` too.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Only instances whose metadata says so too.
    #[must_use]
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.meta.insert(key.into(), value.into());
        self
    }

    /// Only this part of the instances.
    #[must_use]
    pub fn subset(mut self, subset: Subset) -> Self {
        self.subset = Some(subset);
        self
    }

    /// Instances nearby first.
    #[must_use]
    pub fn locality(mut self, locality: Locality) -> Self {
        self.locality = Some(locality);
        self
    }

    /// New instances get little at first.
    #[must_use]
    pub fn slow_start(mut self, slow_start: SlowStart) -> Self {
        self.slow_start = Some(slow_start);
        self
    }

    /// Instances that fail are left out for a while.
    #[must_use]
    pub fn outlier(mut self, outlier: Outlier) -> Self {
        self.outlier = Some(outlier);
        self
    }

    /// The panic threshold in percent.
    #[must_use]
    pub fn panic_below(mut self, percent: u8) -> Self {
        self.panic_below = percent;
        self
    }

    /// At most so many calls in flight at one instance.
    #[must_use]
    pub fn max_in_flight(mut self, most: u32) -> Self {
        self.max_in_flight = Some(most);
        self
    }

    /// The same for a view that holds instances that do not serve too.
    pub(crate) fn among_all(&self) -> Self {
        Self {
            unhealthy_too: true,
            ..self.clone()
        }
    }

    fn narrows(&self) -> bool {
        let Self {
            tags,
            meta,
            subset,
            locality,
            slow_start,
            outlier,
            unhealthy_too,
            panic_below: _,
            max_in_flight: _,
        } = self;
        !tags.is_empty()
            || !meta.is_empty()
            || subset.is_some()
            || locality.is_some()
            || slow_start.is_some()
            || outlier.is_some()
            || *unhealthy_too
    }

    fn keeps(&self, instance: &Instance) -> bool {
        instance.has_tags(&self.tags)
            && self
                .meta
                .iter()
                .all(|(key, value)| instance.meta.get(key) == Some(value))
    }

    /// The picker of `strategy` among those that take part now.
    pub(crate) fn prepare(&self, strategy: &dyn Strategy, endpoints: &Endpoints) -> Around {
        if !self.narrows() {
            return Around {
                picker: strategy.prepare(endpoints),
                verdicts: None,
                panicking: false,
                next: None,
            };
        }
        let now = Instant::now();
        let (mut verdicts, panicking) = self.judge(endpoints);
        let mut slowed = None;
        if let Some(slow_start) = &self.slow_start {
            // These two take no notice of weights; while some start slowly, their siblings that do stand in.
            let unweighted = matches!(strategy.name(), "round_robin" | "random");
            slowed = slow_start.weights(endpoints, unweighted, now);
        }
        let strategy: &dyn Strategy = match (slowed.is_some(), strategy.name()) {
            (true, "round_robin") => &WeightedRoundRobin,
            (true, "random") => &WeightedRandom,
            _ => strategy,
        };
        let next = slowed
            .as_ref()
            .and(self.slow_start.as_ref())
            .map(|slow_start| now + slow_start.step());
        let tiers = locality::tiers(self.locality.as_ref(), endpoints, &mut verdicts);
        let picker = arrange(strategy, endpoints, slowed.as_deref(), &tiers);
        Around {
            picker,
            verdicts: Some(verdicts),
            panicking,
            next,
        }
    }

    /// Who takes part, and whether that is in panic.
    fn judge(&self, endpoints: &Endpoints) -> (Vec<Verdict>, bool) {
        let mut verdicts: Vec<Verdict> = endpoints
            .instances()
            .iter()
            .map(|instance| {
                if self.keeps(instance) {
                    Verdict::Used
                } else {
                    Verdict::Filtered
                }
            })
            .collect();
        if let Some(subset) = &self.subset {
            subset.narrow(endpoints, &mut verdicts);
        }
        let (mut known, mut well) = (0, 0);
        for (index, verdict) in verdicts.iter_mut().enumerate() {
            let (Verdict::Used, Some((instance, load))) = (*verdict, endpoints.get(index)) else {
                continue;
            };
            known += 1;
            *verdict = if instance.draining {
                Verdict::Draining
            } else if !instance.status.is_serving() {
                Verdict::Unhealthy
            } else if load.is_ejected() {
                Verdict::Ejected
            } else {
                well += 1;
                Verdict::Used
            };
        }
        let panicking = well < known && well * 100 < known * usize::from(self.panic_below);
        if panicking {
            for verdict in &mut verdicts {
                if matches!(verdict, Verdict::Unhealthy | Verdict::Ejected) {
                    *verdict = Verdict::UsedInPanic;
                }
            }
        }
        (verdicts, panicking)
    }
}

/// A picker among those that take part, and why the others do not.
#[derive(Debug)]
pub(crate) struct Around {
    pub(crate) picker: Box<dyn Picker>,
    /// `None` where all do.
    pub(crate) verdicts: Option<Vec<Verdict>>,
    pub(crate) panicking: bool,
    /// When this should be prepared again though nothing changes.
    pub(crate) next: Option<Instant>,
}

/// Prepares `strategy` for each tier, and puts a choice of tiers before them.
fn arrange(
    strategy: &dyn Strategy,
    endpoints: &Endpoints,
    weights: Option<&[u32]>,
    tiers: &[Tier],
) -> Box<dyn Picker> {
    let mut pickers: Vec<Part> = tiers
        .iter()
        .map(|tier| Part {
            below: tier.below,
            inner: strategy.prepare(&part(endpoints, weights, &tier.places)),
            places: (tier.places.len() < endpoints.len()).then(|| tier.places.clone()),
        })
        .collect();
    if let (
        [_],
        Some(Part {
            inner, places: None, ..
        }),
    ) = (tiers, pickers.pop_if(|part| part.places.is_none()))
    {
        // All take part alike: nothing is put before the strategy.
        return inner;
    }
    Box::new(Parts(pickers))
}

fn part(endpoints: &Endpoints, weights: Option<&[u32]>, places: &[u32]) -> Endpoints {
    let at = |place: &u32| *place as usize;
    let weights = weights.map(|weights| {
        places
            .iter()
            .filter_map(|place| weights.get(at(place)))
            .copied()
            .collect()
    });
    if places.len() == endpoints.len() {
        return Endpoints {
            weights,
            ..endpoints.clone()
        };
    }
    let (mut instances, mut loads) = (Vec::new(), Vec::new());
    for (instance, load) in places.iter().filter_map(|place| endpoints.get(at(place))) {
        instances.push(instance.clone());
        loads.push(load.clone());
    }
    Endpoints {
        instances: crate::model::Instances(instances.into_iter().collect()),
        loads: loads.into_iter().collect(),
        weights,
    }
}

/// A tier of endpoints: `places` of the view.
#[derive(Debug)]
struct Part {
    below: u64,
    inner: Box<dyn Picker>,
    places: Option<Arc<[u32]>>,
}

#[derive(Debug)]
struct Parts(Vec<Part>);

impl Parts {
    fn part(&self, context: &mut PickContext) -> Option<&Part> {
        match &*self.0 {
            [] => None,
            [only] => Some(only),
            [.., last] => {
                // By the key where there is one, so that it keeps to its tier.
                let drawn = match context.key {
                    Some(key) => super::hash::mix(key, u64::MAX) >> 32,
                    None => context.rng.u64(..) >> 32,
                };
                Some(self.0.iter().find(|part| drawn < part.below).unwrap_or(last))
            }
        }
    }
}

impl Part {
    /// The place in the view of the one at `index` here.
    fn place(&self, index: usize) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(index).map(|place| *place as usize),
            None => Some(index),
        }
    }
}

impl Picker for Parts {
    fn pick(&self, context: &mut PickContext) -> Option<usize> {
        let part = self.part(context)?;
        part.place(part.inner.pick(context)?)
    }

    fn pick_at(&self, context: &mut PickContext, now: Instant) -> Option<usize> {
        let part = self.part(context)?;
        part.place(part.inner.pick_at(context, now)?)
    }
}
