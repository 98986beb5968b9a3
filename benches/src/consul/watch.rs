//! G9 and G10: from a change to the registry until who watches has it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Release},
        mpsc,
    },
    thread,
    time::Duration,
};

use super::{
    OURS, RAW, REQWEST,
    fixture::{Entry, Fixture, marker, ours, reqwest, service, write},
    raw::{Raw, find},
};
use crate::harness::{Cell, Plan, Report, Table, clock, median};

const MANY: usize = 100;
/// Changes of each service in one round.
const BLOCK: u64 = 8;
/// Between two changes of any service. Each comes again after four of them: a watch asks ten times a second at most.
const GAP: Duration = Duration::from_millis(27);
const DEADLINE: Duration = Duration::from_secs(10);

/// What a watch tells: the revision it has now, and when it had it.
type Seen = (u64, f64);

/// One who watches a service of its own.
struct Watcher {
    contender: &'static str,
    subscribers: usize,
    service: String,
    seen: mpsc::Receiver<Seen>,
}

fn query(service: &str, index: u64) -> String {
    format!("/v1/health/service/{service}?index={index}&wait=55000ms")
}

fn revision(text: &str) -> Option<u64> {
    text.strip_prefix("rev-")?.parse().ok()
}

/// A thread that blocks on a socket and looks for the marker.
fn raw(fixture: &Fixture, service: &str) -> mpsc::Receiver<Seen> {
    let (sender, seen) = mpsc::channel();
    let (endpoint, service) = (fixture.endpoint(), service.to_owned());
    thread::spawn(move || {
        let (mut raw, mut index) = (Raw::connect(endpoint), 0);
        // It ends with the server.
        while let Some((next, body)) = raw.watch(&query(&service, index)) {
            let at = find(body, b"rev-").expect("the marker");
            let text = std::str::from_utf8(&body[at..at + 12]).expect("text");
            let told = sender.send((revision(text).expect("a revision"), clock::wall()));
            index = next;
            if told.is_err() {
                return;
            }
        }
    });
    seen
}

/// The loop that one writes without a library.
fn bare(fixture: &Fixture, service: &str) -> mpsc::Receiver<Seen> {
    let (sender, seen) = mpsc::channel();
    let (endpoint, service, client) = (fixture.endpoint(), service.to_owned(), reqwest());
    fixture.runtime.spawn(async move {
        let mut index = 0;
        loop {
            let url = format!("http://{endpoint}{}", query(&service, index));
            let sent = client.get(url).send().await;
            // It ends with the server.
            let Some(answer) = sent.ok().filter(|answer| answer.status() == 200) else {
                return;
            };
            index = answer.headers()["x-consul-index"]
                .to_str()
                .expect("text")
                .parse()
                .expect("a number");
            let body = answer.bytes().await.expect("a body");
            let entries: Vec<Entry<'_>> = serde_json::from_slice(&body).expect("instances");
            let meta = entries[0].service.meta.as_ref().expect("metadata");
            let now = revision(&meta["revision"]).expect("a revision");
            if sender.send((now, clock::wall())).is_err() {
                return;
            }
        }
    });
    seen
}

/// Our view, and so many who subscribed to it; it tells when the last of them has seen a revision.
fn view(fixture: &Fixture, name: &str, subscribers: usize) -> mpsc::Receiver<Seen> {
    let (sender, seen) = mpsc::channel();
    let service = service(&fixture.runtime, ours(fixture.endpoint()), name);
    let count = Arc::<AtomicUsize>::default();
    for _ in 0..subscribers {
        let (mut subscription, sender, count) = (service.subscribe(), sender.clone(), count.clone());
        fixture.runtime.spawn(async move {
            while let Ok(snapshot) = subscription.next().await {
                let first = snapshot.instances.iter().next().expect("an instance");
                let now = revision(&first.meta["revision"]).expect("a revision");
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
    fn new(fixture: &Fixture, raw_writer: &mut Raw, contender: &'static str, subscribers: usize) -> Self {
        let name = contender.split(' ').next().unwrap_or_default();
        let service = format!("watched-{name}-{subscribers}");
        write(raw_writer, &service, 0, 0);
        let seen = match contender {
            RAW => raw(fixture, &service),
            REQWEST => bare(fixture, &service),
            _ => view(fixture, &service, subscribers),
        };
        let (revision, _) = seen.recv_timeout(DEADLINE).expect("a first answer");
        assert_eq!(revision, 0, "{}", marker(0));
        Self {
            contender,
            subscribers,
            service,
            seen,
        }
    }

    /// Microseconds from the start of the write until all have seen it.
    fn change(&self, raw_writer: &mut Raw, revision: u64) -> f64 {
        let start = clock::wall();
        write(raw_writer, &self.service, 0, revision);
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
    let mut writer = Raw::connect(fixture.endpoint());
    let watchers = [(RAW, 1), (REQWEST, 1), (OURS, 1), (OURS, MANY)]
        .map(|(contender, n)| Watcher::new(fixture, &mut writer, contender, n));
    let mut cells: Vec<Cell> = watchers
        .iter()
        .map(|watcher| Cell::new(watcher.contender, watcher.subscribers, 1))
        .collect();
    let mut revision = 0;
    for _ in 0..=plan.rounds {
        let mut blocks = vec![Vec::new(); watchers.len()];
        for _ in 0..BLOCK {
            revision += 1;
            for (watcher, block) in watchers.iter().zip(&mut blocks) {
                pause();
                block.push(watcher.change(&mut writer, revision));
            }
        }
        // The first round warms up.
        if revision > BLOCK {
            for (cell, block) in cells.iter_mut().zip(blocks) {
                cell.samples.push(median(block));
            }
        }
    }
    let table = Table::new("consul watch", "us", RAW, cells, ticks);
    let one = (OURS, 1, 1);
    report.goals([
        table.goal(
            "G9",
            "change to view / reqwest loop".to_owned(),
            1.05,
            one,
            (REQWEST, 1, 1),
        ),
        table.goal(
            "G9 far",
            "change to view / raw socket".to_owned(),
            1.10,
            one,
            (RAW, 1, 1),
        ),
        table.goal(
            "G10",
            format!("{MANY} subscribers / 1"),
            1.3,
            (OURS, MANY, 1),
            one,
        ),
    ]);
    report.table(table);
}
