//! Answers of several sources as one.

use std::sync::Arc;

use crate::{
    model::{Freshness, Held, Instances, Snapshot, Source, Target},
    pick::{Endpoints, Prepared},
};

/// What the views of several sources show together; of a single one, exactly that.
pub(super) fn views(target: &Target, views: &[Arc<Prepared>]) -> (Snapshot, Endpoints, usize) {
    let filtered = views.iter().map(|view| view.filtered).sum();
    if let [only] = views {
        return (only.snapshot.clone(), only.endpoints.clone(), filtered);
    }
    let all = || views.iter().map(|view| &view.endpoints);
    let endpoints = Endpoints {
        instances: Instances(all().flat_map(|one| one.instances.iter()).cloned().collect()),
        loads: all().flat_map(|one| one.loads.iter()).cloned().collect(),
        weights: None,
    };
    let parts: Vec<_> = views.iter().map(|view| &view.snapshot).collect();
    let mut snapshot = snapshots(target, &parts);
    snapshot.instances = endpoints.instances.clone();
    (snapshot, endpoints, filtered)
}

/// Several answers as one: no fresher than the oldest, no surer than the least sure.
pub(super) fn snapshots(target: &Target, parts: &[&Snapshot]) -> Snapshot {
    if let [only] = parts {
        return (*only).clone();
    }
    let instances: Instances = Instances(
        parts
            .iter()
            .flat_map(|part| part.instances.iter())
            .cloned()
            .collect(),
    );
    let mut all = Snapshot::live(target.clone(), instances);
    all.source = parts
        .iter()
        .map(|part| part.source)
        .max_by_key(|source| match source {
            Source::Live => 0,
            Source::Cache => 1,
            Source::Stale => 2,
            Source::Disk => 3,
        })
        .unwrap_or(Source::Stale);
    all.freshness = Freshness::oldest(parts.iter().map(|part| part.freshness.clone()));
    all.evidence = parts
        .iter()
        .map(|part| part.evidence)
        .find(|evidence| evidence.suspicion().is_some())
        .unwrap_or_default();
    all.held = parts
        .iter()
        .filter_map(|part| part.held)
        .reduce(|one, other| Held::new(one.reason, one.instances + other.instances));
    all.valid_for = parts.iter().filter_map(|part| part.valid_for).min();
    all
}
