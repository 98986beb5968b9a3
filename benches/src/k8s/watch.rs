//! From a slice that is patched to a view, or a store, that has it.

use std::{sync::mpsc, thread, time::Duration};

use futures::StreamExt;
use kube::runtime::watcher::Event;

use super::{
    OURS, REFLECTOR,
    fixture::{FULL, Fixture, revision},
};
use crate::harness::{Cell, Plan, Report, Table, clock, median};

/// Changes of each service in one round.
const BLOCK: u64 = 8;
/// Between two changes.
const GAP: Duration = Duration::from_millis(20);
const DEADLINE: Duration = Duration::from_secs(20);

/// The revision a watcher has now, and when it had it.
type Seen = (u64, f64);

/// Our view, and one who subscribed to it.
fn view(fixture: &Fixture, name: &'static str) -> mpsc::Receiver<Seen> {
    let (sender, seen) = mpsc::channel();
    let place = fixture.place.clone();
    fixture.runtime.spawn(async move {
        let service = place.service(name).await;
        let mut subscription = service.subscribe();
        while let Ok(snapshot) = subscription.next().await {
            let Some(first) = snapshot.instances.iter().next() else {
                continue;
            };
            let zone = first.locality.zone.as_deref().expect("a zone");
            if sender.send((revision(zone), clock::wall())).is_err() {
                return;
            }
        }
    });
    seen
}

/// A reflector; its store has what the stream tells.
fn reflector(fixture: &Fixture, name: &'static str) -> mpsc::Receiver<Seen> {
    let (sender, seen) = mpsc::channel();
    let place = fixture.place.clone();
    fixture.runtime.spawn(async move {
        let (_store, mut stream) = place.reflector(name);
        while let Some(event) = stream.next().await {
            if let Ok(Event::Apply(slice) | Event::InitApply(slice)) = event {
                let zone = slice.endpoints[0].zone.as_deref().expect("a zone");
                if sender.send((revision(zone), clock::wall())).is_err() {
                    return;
                }
            }
        }
    });
    seen
}

/// Microseconds from the start of the write until it is seen.
fn change(
    fixture: &Fixture,
    client: &kube::Client,
    name: &str,
    seen: &mpsc::Receiver<Seen>,
    now: u64,
) -> f64 {
    let start = clock::wall();
    fixture.runtime.block_on(Fixture::change(client, name, now));
    loop {
        let (revision, at) = seen.recv_timeout(DEADLINE).expect("the change is seen");
        if revision == now {
            return (at - start) / 1e3;
        }
    }
}

/// Lets everybody come to rest before the next change.
#[expect(
    clippy::disallowed_methods,
    reason = "changes come at a pace; nothing is waited for"
)]
fn pause() {
    thread::sleep(GAP);
}

/// Races them: each contender's service is changed in turn.
pub(super) fn run(plan: &Plan, fixture: &Fixture, report: &mut Report) {
    let ticks = clock::Ticks::now();
    let client = fixture.runtime.block_on(async { fixture.place.kube() });
    for name in ["viewed", "reflected"] {
        fixture.runtime.block_on(Fixture::create(&client, name, 0));
    }
    let watchers = [
        (REFLECTOR, "reflected", reflector(fixture, "reflected")),
        (OURS, "viewed", view(fixture, "viewed")),
    ];
    let mut cells: Vec<Cell> = watchers
        .iter()
        .map(|(contender, ..)| Cell::new(contender, FULL, 1))
        .collect();
    for (_, _, seen) in &watchers {
        let (first, _) = seen.recv_timeout(DEADLINE).expect("a first answer");
        assert_eq!(first, 0);
    }
    let mut now = 0;
    for round in 0..=plan.rounds {
        let mut blocks = vec![Vec::new(); watchers.len()];
        for _ in 0..BLOCK {
            now += 1;
            for ((_, name, seen), block) in watchers.iter().zip(&mut blocks) {
                pause();
                block.push(change(fixture, &client, name, seen, now));
            }
        }
        // The first round warms up.
        if round > 0 {
            for (cell, block) in cells.iter_mut().zip(blocks) {
                cell.samples.push(median(block));
            }
        }
    }
    let table = Table::new("k8s watch", "us", REFLECTOR, cells, ticks);
    report.goals([table.goal(
        "k8s watch",
        "slice patched to view / kube reflector".to_owned(),
        1.1,
        (OURS, FULL, 1),
        (REFLECTOR, FULL, 1),
    )]);
    report.table(table);
}
