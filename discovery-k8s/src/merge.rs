//! The instances that slices, Services and Leases make together, kept as those change.
//!
//! An endpoint may stand in two slices while a controller moves it, or in one slice per family: it is one instance, and gone
//! only when it stands in none (K-3).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use discovery_core::{Instance, InstanceKey, Status};
use tokio::time::Instant;

use crate::{
    convert::{self, Dress, Rules},
    lease::Beats,
    slices::{Fold, Id, Lives, said},
    wire,
};
/// What changed since it was last asked for.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Changes {
    pub(crate) upserts: Vec<Arc<Instance>>,
    pub(crate) removals: Vec<InstanceKey>,
}

/// All that is known, and what of it is shown.
#[derive(Debug)]
pub(crate) struct Merge {
    rules: Rules,
    endpoints: bool,
    beats: Beats,
    slices: HashMap<Id, Fold>,
    services: HashMap<Id, Dress>,
    /// None until they are known: before, nothing expires.
    leases: Option<HashMap<Id, String>>,
    /// Leases that are over.
    over: HashSet<Id>,
    entries: HashMap<InstanceKey, Entry>,
    tallies: HashMap<Id, Tally>,
    touched: HashSet<InstanceKey>,
    /// When a Lease may be over that is not yet.
    next: Option<Instant>,
    turn: u64,
}

/// An instance, wherever it stands.
#[derive(Debug, Default)]
struct Entry {
    candidates: Vec<Candidate>,
    /// The one chosen, before the rule for services without anything ready.
    chosen: Option<Arc<Instance>>,
    shown: Option<Arc<Instance>>,
}

#[derive(Debug)]
struct Candidate {
    /// The slice, or the Service that stands for itself.
    from: Id,
    rank: u8,
    lease: Option<Id>,
    turn: u64,
    instance: Arc<Instance>,
}

/// How a service is doing (K-2).
#[derive(Debug, Default)]
struct Tally {
    available: usize,
    /// Those that still serve while they terminate, and are not ours.
    leaving: HashSet<InstanceKey>,
}

impl Merge {
    pub(crate) fn new(rules: Rules, endpoints: bool, beats: Beats) -> Self {
        Self {
            rules,
            endpoints,
            beats,
            slices: HashMap::new(),
            services: HashMap::new(),
            leases: None,
            over: HashSet::new(),
            entries: HashMap::new(),
            tallies: HashMap::new(),
            touched: HashSet::new(),
            next: None,
            turn: 0,
        }
    }

    /// Whether there is an instance that lives by a Lease.
    pub(crate) fn has_leased(&self) -> bool {
        self.slices.values().any(|slice| slice.lives.is_some())
    }

    /// Whether a Service may have something to add: to what others wrote, or where there are no slices at all.
    pub(crate) fn wants_services(&self) -> bool {
        self.slices.is_empty() || self.slices.values().any(|slice| slice.lives.is_none())
    }

    pub(crate) fn put_slice(&mut self, slice: &wire::EndpointSlice) {
        let id = Id::of(&slice.metadata);
        let Some(fold) = convert::slice(slice, &self.rules) else {
            self.remove_slice(&id);
            return;
        };
        self.turn += 1;
        let before = self.slices.remove(&id);
        let lease = fold.lives.as_ref().map(|lives| lives.lease.clone());
        let now: HashSet<_> = fold.instances.iter().map(|instance| &instance.key).collect();
        for instance in before.iter().flat_map(|fold| &fold.instances) {
            if !now.contains(&instance.key) {
                self.drop_candidate(&instance.key, &id);
            }
        }
        for instance in &fold.instances {
            self.put_candidate(Candidate {
                from: id.clone(),
                rank: fold.rank,
                lease: lease.clone(),
                turn: self.turn,
                instance: instance.clone(),
            });
        }
        if let Some(lives) = &fold.lives {
            self.soon(lives);
        }
        self.slices.insert(id, fold);
    }

    pub(crate) fn remove_slice(&mut self, id: &Id) {
        if let Some(fold) = self.slices.remove(id) {
            for instance in &fold.instances {
                self.drop_candidate(&instance.key, id);
            }
        }
    }

    pub(crate) fn put_service(&mut self, service: &wire::Service) {
        let id = Id::of(&service.metadata);
        let dress = self.rules.dress(&service.metadata);
        let stands = convert::service(service, self.endpoints, &self.rules);
        self.turn += 1;
        self.drop_stand_in(&id, stands.as_ref().map(|instance| &instance.key));
        if let Some(instance) = stands {
            self.put_candidate(Candidate {
                from: stand_in(&id),
                rank: 9,
                lease: None,
                turn: self.turn,
                instance,
            });
        }
        let before = self.services.insert(id.clone(), dress);
        if before.unwrap_or_default() != self.services[&id] {
            self.touch_service(&id);
        }
    }

    pub(crate) fn remove_service(&mut self, id: &Id) {
        self.drop_stand_in(id, None);
        if self.services.remove(id).is_some_and(|dress| !dress.is_plain()) {
            self.touch_service(id);
        }
    }

    /// Takes all Leases, once they are needed.
    pub(crate) fn all_leases(&mut self, leases: &[wire::Lease]) {
        let known = leases.iter().map(|lease| (Id::of(&lease.metadata), said(lease)));
        self.leases.get_or_insert_default().extend(known);
        self.expire();
    }

    pub(crate) fn put_lease(&mut self, lease: &wire::Lease) {
        let (id, said) = (Id::of(&lease.metadata), said(lease));
        self.beats.saw(&id, &said);
        self.leases.get_or_insert_default().insert(id.clone(), said);
        if self.over.remove(&id) {
            self.touch_slice(&id);
            // Its end is to be looked for again.
            self.next = Some(Instant::now());
        }
    }

    /// A Lease that is deleted is over, whatever became of the slice.
    pub(crate) fn remove_lease(&mut self, id: &Id) {
        let known = self.leases.as_mut().and_then(|leases| leases.remove(id));
        if known.is_some() && self.over.insert(id.clone()) {
            self.touch_slice(id);
        }
    }

    /// When [`Self::expire`] is worth calling.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.leases.as_ref().and(self.next)
    }

    /// Hides what has outlived its Lease.
    pub(crate) fn expire(&mut self) {
        let Some(leases) = &self.leases else { return };
        let now = Instant::now();
        let (mut over, mut next) = (Vec::new(), None::<Instant>);
        for (id, fold) in &self.slices {
            let Some(lives) = &fold.lives else { continue };
            if self.over.contains(&lives.lease) {
                continue;
            }
            let since = match leases.get(&lives.lease) {
                Some(said) => self.beats.saw(&lives.lease, said),
                None => self.beats.missed(&lives.lease),
            };
            let end = since + lives.ttl;
            if end <= now {
                over.push((id.clone(), lives.lease.clone()));
            } else {
                next = Some(next.map_or(end, |known| known.min(end)));
            }
        }
        self.next = next;
        for (slice, lease) in over {
            self.over.insert(lease);
            self.touch_slice(&slice);
        }
    }

    /// What changed since the last call.
    pub(crate) fn changes(&mut self) -> Changes {
        let mut flipped = Vec::new();
        for key in self.touched.clone() {
            self.choose(&key, &mut flipped);
        }
        self.touched.extend(flipped);
        let mut changes = Changes::default();
        for key in std::mem::take(&mut self.touched) {
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            let spare = || {
                let tally = self.tallies.get(&service_of(&key));
                tally.is_some_and(|tally| tally.available == 0 && tally.leaving.contains(&key))
            };
            let now = match &entry.chosen {
                // K-2: nothing is ready, so what still serves has to do.
                Some(chosen) if chosen.draining && spare() => {
                    let mut instance = (**chosen).clone();
                    instance.draining = false;
                    instance.status = Status::Warning;
                    Some(Arc::new(instance))
                }
                chosen => chosen.clone(),
            };
            if now != entry.shown {
                match &now {
                    Some(instance) => changes.upserts.push(instance.clone()),
                    None => changes.removals.push(key.clone()),
                }
                entry.shown = now;
            }
            if entry.candidates.is_empty() {
                self.entries.remove(&key);
            }
        }
        changes.upserts.sort_by(|a, b| a.key.cmp(&b.key));
        changes.removals.sort();
        changes
    }

    /// All that is shown, sorted by key.
    pub(crate) fn shown(&mut self) -> Vec<Arc<Instance>> {
        self.changes();
        let mut all: Vec<_> = self
            .entries
            .values()
            .filter_map(|entry| entry.shown.clone())
            .collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all
    }

    /// Chooses among the candidates of one key, and keeps count.
    fn choose(&mut self, key: &InstanceKey, flipped: &mut Vec<InstanceKey>) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        // The family wanted, then whoever is ready, then the latest word.
        let best = entry
            .candidates
            .iter()
            .filter(|candidate| candidate.lease.as_ref().is_none_or(|id| !self.over.contains(id)))
            .min_by_key(|candidate| {
                let ready = candidate.instance.is_available();
                (candidate.rank, !ready, u64::MAX - candidate.turn)
            });
        let chosen = best.map(|candidate| match self.services.get(&service_of(key)) {
            Some(dress) if !dress.is_plain() => {
                let mut instance = (*candidate.instance).clone();
                dress.put_on(&mut instance);
                Arc::new(instance)
            }
            _ => candidate.instance.clone(),
        });
        let foreign = best.is_some_and(|candidate| candidate.lease.is_none());
        let before = entry.chosen.take();
        let available =
            |instance: &Option<Arc<Instance>>| instance.as_ref().is_some_and(|i| i.is_available());
        let (was, is) = (available(&before), available(&chosen));
        let leaving = chosen
            .as_ref()
            .is_some_and(|i| i.draining && i.status.is_serving() && foreign);
        entry.chosen = chosen;
        let tally = self.tallies.entry(service_of(key)).or_default();
        let some = tally.available > 0;
        tally.available = tally.available + usize::from(is) - usize::from(was);
        if leaving {
            tally.leaving.insert(key.clone());
        } else {
            tally.leaving.remove(key);
        }
        if some != (tally.available > 0) {
            flipped.extend(tally.leaving.iter().cloned());
        }
        if tally.available == 0 && tally.leaving.is_empty() {
            self.tallies.remove(&service_of(key));
        }
    }

    fn put_candidate(&mut self, candidate: Candidate) {
        let key = candidate.instance.key.clone();
        let candidates = &mut self.entries.entry(key.clone()).or_default().candidates;
        match candidates.iter_mut().find(|known| known.from == candidate.from) {
            Some(known) => *known = candidate,
            None => candidates.push(candidate),
        }
        self.touched.insert(key);
    }

    fn drop_candidate(&mut self, key: &InstanceKey, from: &Id) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.candidates.retain(|known| known.from != *from);
            self.touched.insert(key.clone());
        }
    }

    /// Drops the instance a Service was, unless it is still this one.
    fn drop_stand_in(&mut self, id: &Id, but: Option<&InstanceKey>) {
        let from = stand_in(id);
        let gone: Vec<_> = self
            .entries
            .iter()
            .filter(|(key, entry)| Some(*key) != but && entry.candidates.iter().any(|c| c.from == from))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.drop_candidate(&key, &from);
        }
    }

    fn touch_service(&mut self, id: &Id) {
        let of_it = self.slices.values().filter(|fold| fold.service == *id);
        let keys = of_it.flat_map(|fold| fold.instances.iter().map(|instance| instance.key.clone()));
        self.touched.extend(keys);
    }

    fn touch_slice(&mut self, id: &Id) {
        if let Some(fold) = self.slices.get(id) {
            self.touched.extend(fold.instances.iter().map(|i| i.key.clone()));
        }
    }

    /// Looks for the end of a new instance in time.
    fn soon(&mut self, lives: &Lives) {
        let end = Instant::now() + lives.ttl;
        self.next = Some(self.next.map_or(end, |known| known.min(end)));
    }
}

/// A Service that stands for itself, told from a slice of the same name.
fn stand_in(service: &Id) -> Id {
    Id::new(&service.namespace, &format!("service/{}", service.name))
}

fn service_of(key: &InstanceKey) -> Id {
    Id {
        namespace: key.namespace.clone().unwrap_or_default(),
        name: key.service.as_str().into(),
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
