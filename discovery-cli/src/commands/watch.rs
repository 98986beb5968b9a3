//! `watch`.

use std::{collections::BTreeMap, sync::Arc};

use discovery::{Instance, InstanceKey, Query, Result, Snapshot};

use crate::{
    args::{Global, Watch},
    commands::with,
    fault::Fault,
    show::{self, Change},
};

pub(super) async fn watch(global: &Global, told: &Watch) -> Result<(), Fault> {
    let query = Query::service(&told.name)?.include_unhealthy();
    with(global, async |client| {
        let service = client.query(&query)?;
        service.ready().await?;
        let mut subscription = service.subscribe();
        let mut before = BTreeMap::new();
        loop {
            let snapshot = subscription.next().await?;
            if !told.follow {
                let now: Vec<_> = snapshot.instances.iter().map(|one| (**one).clone()).collect();
                return Ok(show::instances(global.format, &now)?);
            }
            for change in changes(&mut before, &snapshot) {
                show::change(global.format, &change)?;
            }
        }
    })
    .await
}

/// What is different now; `before` becomes what is there now.
fn changes(before: &mut BTreeMap<InstanceKey, Arc<Instance>>, now: &Snapshot) -> Vec<Change> {
    let now: BTreeMap<_, _> = now
        .instances
        .iter()
        .map(|instance| (instance.key.clone(), instance.clone()))
        .collect();
    let mut all = Vec::new();
    for (key, instance) in &now {
        match before.get(key) {
            None => all.push(Change::new("appeared", instance, String::new())),
            Some(old) if old != instance => {
                all.push(Change::new("changed", instance, difference(old, instance)));
            }
            Some(_) => {}
        }
    }
    for (key, gone) in &*before {
        if !now.contains_key(key) {
            all.push(Change::new("gone", gone, String::new()));
        }
    }
    *before = now;
    all
}

/// Which parts of an instance are different, and how where that is short.
fn difference(old: &Instance, new: &Instance) -> String {
    let mut parts = Vec::new();
    if old.status != new.status {
        parts.push(format!("status {} → {}", old.status, new.status));
    }
    if old.draining != new.draining {
        parts.push(
            if new.draining {
                "draining"
            } else {
                "no longer draining"
            }
            .to_owned(),
        );
    }
    if old.address() != new.address() {
        parts.push(format!("address {} → {}", old.address(), new.address()));
    }
    if old.weight != new.weight {
        parts.push(format!("weight {} → {}", old.weight, new.weight));
    }
    for (name, same) in [
        ("tags", old.tags == new.tags),
        ("meta", old.meta == new.meta),
        ("ports", old.ports == new.ports),
    ] {
        if !same {
            parts.push(name.to_owned());
        }
    }
    parts.join(", ")
}
