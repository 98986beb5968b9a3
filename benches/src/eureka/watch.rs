//! U2: from a change to who watches has it, beside a bare poll of changes at the same interval.

use std::{sync::mpsc, time::Duration};

use discovery_core::{Change, Query};
use discovery_eureka::{EurekaConfig, backend};
use futures::StreamExt;
use tokio::time::sleep;

use super::{
    DELTA, OURS,
    fixture::{Fixture, fetch, reqwest},
};
use crate::harness::{Cell, Plan, Report, Table, clock};

const INTERVAL: Duration = Duration::from_millis(200);
/// Changes in one round: each comes at another moment between two polls.
const BLOCK: usize = 16;
const DEADLINE: Duration = Duration::from_secs(10);

type Seen = mpsc::Receiver<(u64, f64)>;

fn ours(fixture: &Fixture) -> Seen {
    let (sender, seen) = mpsc::channel();
    let mut config = EurekaConfig::at([fixture.eureka.url()]);
    config.discovery.refresh_interval = INTERVAL;
    let watcher = backend(config).expect("a backend").watcher;
    let mut watch = watcher.watch(&Query::service("app-0").expect("a name"), None);
    fixture.runtime.spawn(async move {
        // It ends with the server.
        while let Some(Ok(event)) = watch.next().await {
            let (Change::Reset(some) | Change::Upsert(some)) = event.change else {
                continue;
            };
            let revision = some.iter().find_map(|one| one.meta.get("revision")?.parse().ok());
            if revision.is_some_and(|revision| sender.send((revision, clock::wall())).is_err()) {
                return;
            }
        }
    });
    seen
}

fn bare(fixture: &Fixture) -> Seen {
    let (sender, seen) = mpsc::channel();
    let (client, url) = (reqwest(), format!("{}apps/delta", fixture.eureka.url()));
    fixture.runtime.spawn(async move {
        let mut last = None;
        loop {
            let revision = fetch(&client, url.clone(), |root| {
                let apps = root.applications.application.iter();
                let mut all = apps.flat_map(|app| &app.instance);
                all.find_map(|one| one.metadata.get("revision")?.parse().ok())
            })
            .await;
            if revision != last {
                last = revision;
                if sender
                    .send((revision.unwrap_or_default(), clock::wall()))
                    .is_err()
                {
                    return;
                }
            }
            sleep(INTERVAL).await;
        }
    });
    seen
}

/// Milliseconds until a revision is seen.
fn took(seen: &Seen, revision: u64, start: f64) -> f64 {
    loop {
        let (found, at) = seen.recv_timeout(DEADLINE).expect("the change is seen");
        if found == revision {
            return (at - start) / 1e6;
        }
    }
}

/// Races them: both wait for the same changes of one instance.
pub(super) fn run(plan: &Plan, fixture: &Fixture, report: &mut Report) {
    fixture.write([0], 0);
    let ticks = clock::Ticks::now();
    let watchers = [(OURS, ours(fixture)), (DELTA, bare(fixture))];
    let mut cells = Vec::from([OURS, DELTA].map(|contender| Cell::new(contender, 1, 1)));
    for (_, seen) in &watchers {
        took(seen, 0, 0.0);
    }
    let mut revision = 0;
    for _ in 0..plan.rounds {
        let mut sums = [0.0; 2];
        for _ in 0..BLOCK {
            revision += 1;
            // Any moment between two polls is as good as another.
            let pause =
                INTERVAL.mul_f64(f64::from(u32::try_from(revision * 37 % 100).unwrap_or_default()) / 100.0);
            fixture.runtime.block_on(async { sleep(pause).await });
            let start = clock::wall();
            fixture.write([0], revision);
            for (sum, (_, seen)) in sums.iter_mut().zip(&watchers) {
                *sum += took(seen, revision, start);
            }
        }
        for (cell, sum) in cells.iter_mut().zip(sums) {
            cell.samples.push(Some(sum / BLOCK as f64));
        }
    }
    let table = Table::new("eureka watch", "ms", DELTA, cells, ticks);
    report.goals([table.goal(
        "U2",
        "change to watch / bare delta poll".to_owned(),
        1.1,
        (OURS, 1, 1),
        (DELTA, 1, 1),
    )]);
    report.table(table);
}
