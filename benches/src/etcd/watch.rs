//! G16: from a put until who watches has it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Release},
        mpsc,
    },
    thread,
    time::Duration,
};

use etcd_client::{GetOptions, WatchOptions};
use serde::Deserialize;

use super::{
    CRATE, OURS,
    fixture::{Fixture, value},
};
use crate::{
    harness::{Cell, Plan, Report, Table, clock, median},
    upstream::service,
};

const MANY: usize = 100;
/// Changes of each service in one round.
const BLOCK: usize = 16;
/// Between two changes of any service.
const GAP: Duration = Duration::from_millis(5);
const DEADLINE: Duration = Duration::from_secs(10);

/// What a watch tells: the revision it has now, and when it had it.
type Seen = (u64, f64);

/// What a program needs of a value.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "decoding it is the work")]
struct Record {
    address: String,
    port: u16,
    tags: Vec<String>,
    meta: HashMap<String, String>,
}

/// One who watches a service of its own.
struct Watcher {
    contender: &'static str,
    subscribers: usize,
    key: String,
    seen: mpsc::Receiver<Seen>,
}

/// The loop that one writes on the crate: a map of instances, kept up to date.
fn bare(fixture: &Fixture, service: &str) -> mpsc::Receiver<Seen> {
    let (sender, seen) = mpsc::channel();
    let (prefix, opened) = (format!("/services/{service}/"), mpsc::channel());
    let client = fixture.runtime.block_on(fixture.client());
    let (ready, waits) = opened;
    fixture.runtime.spawn(async move {
        let mut client = client;
        let read = |value: &[u8]| serde_json::from_slice::<Record>(value).expect("a record");
        let options = GetOptions::new().with_prefix();
        let listed = client.get(prefix.as_str(), Some(options)).await.expect("a list");
        let mut instances: HashMap<Vec<u8>, Record> = HashMap::new();
        for kv in listed.kvs() {
            instances.insert(kv.key().to_vec(), read(kv.value()));
        }
        let from = listed.header().expect("a header").revision() + 1;
        let options = WatchOptions::new().with_prefix().with_start_revision(from);
        let mut watch = client.watch(prefix, Some(options)).await.expect("a watch");
        let _ = ready.send(());
        // It ends with the server.
        while let Ok(Some(answer)) = watch.message().await {
            for event in answer.events() {
                let kv = event.kv().expect("a key");
                let record = read(kv.value());
                let now = record.meta["revision"].parse().expect("a revision");
                instances.insert(kv.key().to_vec(), record);
                if sender.send((now, clock::wall())).is_err() {
                    return;
                }
            }
        }
    });
    waits.recv_timeout(DEADLINE).expect("a watch");
    seen
}

/// Our view, and so many who subscribed to it; it tells when the last of them has seen a revision.
fn view(fixture: &Fixture, name: &str, subscribers: usize) -> mpsc::Receiver<Seen> {
    let (sender, seen) = mpsc::channel();
    let service = service(&fixture.runtime, fixture.ours(), name);
    let count = Arc::<AtomicUsize>::default();
    for _ in 0..subscribers {
        let (mut subscription, sender, count) = (service.subscribe(), sender.clone(), count.clone());
        fixture.runtime.spawn(async move {
            while let Ok(snapshot) = subscription.next().await {
                let first = snapshot.instances.iter().next().expect("an instance");
                let now = first.meta["revision"].parse().expect("a revision");
                if count.fetch_add(1, AcqRel) + 1 == subscribers {
                    count.store(0, Release);
                    if sender.send((now, clock::wall())).is_err() {
                        return;
                    }
                }
            }
        });
    }
    seen
}

impl Watcher {
    fn new(fixture: &Fixture, contender: &'static str, subscribers: usize) -> Self {
        let service = format!("watched-{contender}-{subscribers}");
        let key = format!("/services/{service}/1");
        fixture.runtime.block_on(async {
            let mut client = fixture.client().await;
            client.put(key.as_str(), value(0), None).await.expect("a put");
        });
        let seen = match contender {
            CRATE => bare(fixture, &service),
            _ => view(fixture, &service, subscribers),
        };
        Self {
            contender,
            subscribers,
            key,
            seen,
        }
    }

    /// Microseconds from the start of the put until all have seen it.
    fn change(&self, fixture: &Fixture, writer: &mut etcd_client::KvClient, revision: u64) -> f64 {
        let (start, value) = (clock::wall(), value(revision));
        let put = writer.put(self.key.as_str(), value, None);
        fixture.runtime.block_on(put).expect("a put");
        loop {
            let (seen, at) = self.seen.recv_timeout(DEADLINE).expect("the change is seen");
            if seen == revision {
                return (at - start) / 1e3;
            }
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
    let mut writer = fixture.runtime.block_on(fixture.client()).kv_client();
    let watchers =
        [(CRATE, 1), (OURS, 1), (OURS, MANY)].map(|(contender, n)| Watcher::new(fixture, contender, n));
    let mut cells: Vec<Cell> = watchers
        .iter()
        .map(|watcher| Cell::new(watcher.contender, watcher.subscribers, 1))
        .collect();
    let mut revision: u64 = 0;
    for _ in 0..=plan.rounds {
        let mut blocks = vec![Vec::new(); watchers.len()];
        for turn in 0..BLOCK {
            revision += 1;
            // Who comes first changes: what ran before leaves the caches as it used them.
            for i in 0..watchers.len() {
                let i = (i + turn) % watchers.len();
                pause();
                blocks[i].push(watchers[i].change(fixture, &mut writer, revision));
            }
        }
        // The first round warms up.
        if revision > BLOCK as u64 {
            for (cell, block) in cells.iter_mut().zip(blocks) {
                cell.samples.push(median(block));
            }
        }
    }
    let table = Table::new("etcd watch", "us", CRATE, cells, ticks);
    let one = (OURS, 1, 1);
    report.goals([
        table.goal(
            "G16",
            "put to view / etcd-client watch".to_owned(),
            1.05,
            one,
            (CRATE, 1, 1),
        ),
        table.goal(
            "G16",
            format!("{MANY} subscribers / 1"),
            1.2,
            (OURS, MANY, 1),
            one,
        ),
    ]);
    report.table(table);
}
