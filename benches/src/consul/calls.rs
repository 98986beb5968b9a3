//! G12 and G19: one uncached look-up, one heartbeat, after the other.

use std::{net::SocketAddr, time::Duration};

use discovery_core::{
    HealthReport, InstanceId, InstanceKey, LeaseGroup, Query, Renewal, ServiceName, Status,
};
use tokio::runtime::Runtime;

use super::{
    OURS, RAW, REQWEST,
    fixture::{Entry, Fixture, ours, quiet, reqwest, write},
    raw::Raw,
};
use crate::harness::{Cell, Plan, Report, Table, clock, median};

const INSTANCES: usize = 10;
/// Calls in a row of one contender; a sample is their median. Short turns, so that no one contender meets all of what
/// else the machine does.
const BLOCK: usize = 40;
const TURNS: usize = 4;

/// One call of one contender.
type Once<'a> = Box<dyn FnMut() + 'a>;

/// Runs blocks of all contenders in turn; answers wall time and CPU time of the calling thread.
fn race(plan: &Plan, contenders: &mut [(&'static str, Once<'_>)], n: usize) -> [Vec<Cell>; 2] {
    let cells = || contenders.iter().map(|(name, _)| Cell::new(name, n, 1)).collect();
    let [mut walls, mut cpus]: [Vec<Cell>; 2] = [cells(), cells()];
    for round in 0..=plan.rounds {
        let mut took = vec![Vec::new(); contenders.len()];
        let mut used = vec![0.0; contenders.len()];
        for turn in 0..TURNS {
            for i in 0..contenders.len() {
                // Nobody always follows the same one.
                let i = (i + turn + round) % contenders.len();
                let once = &mut contenders[i].1;
                once();
                let cpu = clock::thread_cpu();
                for _ in 0..BLOCK {
                    let start = clock::wall();
                    once();
                    took[i].push((clock::wall() - start) / 1e3);
                }
                used[i] += (clock::thread_cpu() - cpu) / 1e3;
            }
        }
        // The first round warms up.
        if round == 0 {
            continue;
        }
        for (i, took) in took.into_iter().enumerate() {
            walls[i].samples.push(median(took));
            cpus[i].samples.push(Some(used[i] / (TURNS * BLOCK) as f64));
        }
    }
    [walls, cpus]
}

/// Races them.
pub(super) fn run(plan: &Plan, fixture: &Fixture, report: &mut Report) {
    let runtime = quiet();
    lookups(plan, fixture.endpoint(), &runtime, report);
    heartbeats(plan, fixture.endpoint(), &runtime, report);
}

fn lookups(plan: &Plan, endpoint: SocketAddr, runtime: &Runtime, report: &mut Report) {
    let ticks = clock::Ticks::now();
    let mut raw = Raw::connect(endpoint);
    for i in 0..INSTANCES {
        write(&mut raw, "looked-up", i, 0);
    }
    let path = "/v1/health/service/looked-up";
    let (backend, query) = (ours(endpoint), Query::service("looked-up").expect("a name"));
    let (client, url) = (reqwest(), format!("http://{endpoint}{path}"));
    let mut contenders: Vec<(&'static str, Once<'_>)> = vec![
        (
            RAW,
            Box::new(|| {
                std::hint::black_box(raw.get(path));
            }),
        ),
        (
            REQWEST,
            Box::new(|| {
                runtime.block_on(async {
                    let answer = client.get(&url).send().await.expect("an answer");
                    let body = answer.bytes().await.expect("a body");
                    let entries: Vec<Entry<'_>> = serde_json::from_slice(&body).expect("instances");
                    assert_eq!(entries.len(), INSTANCES);
                    std::hint::black_box(&entries);
                });
            }),
        ),
        (
            OURS,
            Box::new(|| {
                let seen = runtime
                    .block_on(backend.registry.instances(&query))
                    .expect("an answer");
                assert_eq!(seen.instances.len(), INSTANCES);
                std::hint::black_box(&seen);
            }),
        ),
    ];
    let [walls, cpus] = race(plan, &mut contenders, INSTANCES);
    let table = Table::new("look-up wall", "us", RAW, walls, ticks);
    let at = |name| (name, INSTANCES, 1);
    report.goals([table.goal(
        "G12",
        "uncached look-up / reqwest + serde".to_owned(),
        1.10,
        at(OURS),
        at(REQWEST),
    )]);
    report.table(table);
    report.table(Table::new("look-up cpu", "us", RAW, cpus, ticks));
}

fn heartbeats(plan: &Plan, endpoint: SocketAddr, runtime: &Runtime, report: &mut Report) {
    let ticks = clock::Ticks::now();
    let mut raw = Raw::connect(endpoint);
    let service = serde_json::json!({
        "ID": "beating", "Name": "beating", "Port": 80,
        "Check": { "CheckID": "beating:ttl", "TTL": "600s" },
    });
    raw.put("/v1/agent/service/register", service.to_string().as_bytes());
    let (path, body) = (
        "/v1/agent/check/update/beating%3Attl",
        r#"{"Status":"passing","Output":""}"#,
    );
    let backend = ours(endpoint);
    let key = InstanceKey::new(
        "consul",
        ServiceName::observed("beating"),
        InstanceId::observed("beating"),
    );
    let group = LeaseGroup::new("beating");
    let renewal = Renewal::new([(key, HealthReport::new(Status::Passing))]);
    let (client, url) = (reqwest(), format!("http://{endpoint}{path}"));
    let mut contenders: Vec<(&'static str, Once<'_>)> = vec![
        (RAW, Box::new(|| raw.put(path, body.as_bytes()))),
        (
            REQWEST,
            Box::new(|| {
                runtime.block_on(async {
                    let request = client
                        .put(&url)
                        .timeout(Duration::from_secs(10))
                        .header("content-type", "application/json")
                        .body(body);
                    let answer = request.send().await.expect("an answer");
                    assert_eq!(answer.status(), 200);
                    std::hint::black_box(answer.bytes().await.expect("a body"));
                });
            }),
        ),
        (
            OURS,
            Box::new(|| {
                let renewed = backend.registry.renew(&group, &renewal);
                runtime.block_on(renewed).expect("a heartbeat");
            }),
        ),
    ];
    let [walls, cpus] = race(plan, &mut contenders, 1);
    let table = Table::new("beat wall", "us", RAW, walls, ticks);
    let goal = table.goal(
        "G19",
        "time of a heartbeat / reqwest".to_owned(),
        1.0 / 0.9,
        (OURS, 1, 1),
        (REQWEST, 1, 1),
    );
    report.goals([goal]);
    report.table(table);
    report.table(Table::new("beat cpu", "us", RAW, cpus, ticks));
}
