//! U1: bytes and CPU of a client of ten thousand instances, of which one in a hundred changes a minute.

use std::{pin::pin, time::Duration};

use discovery_core::Query;
use discovery_eureka::{EurekaConfig, backend};
use discovery_testkit::{proxy::Proxy, server::Server};
use futures::StreamExt;
use tokio::time::sleep;

use super::{
    DELTA, FULL, OURS,
    fixture::{Fixture, Root, fetch, quiet, reqwest},
};
use crate::harness::{Cell, Plan, Report, Table, clock};

const INSTANCES: usize = 10_000;
/// A poll every thirty seconds.
const POLLS: f64 = 2.0;
/// What changes between two of them.
const CHURN: usize = INSTANCES / 100 / 2;
/// A server keeps changes for six of them.
const KEPT: usize = 6;

/// Nothing of it is optimised away.
fn looked(root: &Root<'_>) {
    std::hint::black_box(root);
}

/// Races them: one poll each in every round, after what changes between two.
pub(super) fn run(plan: &Plan, fixture: &Fixture, report: &mut Report) {
    let instances = if plan.short { INSTANCES / 10 } else { INSTANCES };
    let churn = CHURN * instances / INSTANCES;
    fixture.write(0..instances, 0);
    let way = {
        let _inside = fixture.runtime.enter();
        Proxy::start(fixture.eureka.endpoint()).expect("a proxy")
    };
    let (runtime, client) = (quiet(), reqwest());
    // The first registrations are changes, too, until the server forgets that.
    runtime.block_on(async { sleep(Duration::from_secs(20)).await });
    let mut config = EurekaConfig::at([way.addr().to_string()]);
    config.discovery.refresh_interval = Duration::from_millis(100);
    let watcher = backend(config).expect("a backend").watcher;
    let mut watch = pin!(watcher.watch(&Query::all(), None));
    runtime
        .block_on(watch.next())
        .expect("an event")
        .expect("instances");
    let url = |path: &str| format!("http://{}/eureka/{path}", way.addr());

    let ticks = clock::Ticks::now();
    let contenders = [OURS, DELTA, FULL];
    let cells = || contenders.map(|contender| Cell::new(contender, instances, 1));
    let (mut cpu, mut bytes) = (Vec::from(cells()), Vec::from(cells()));
    for round in 0..plan.rounds + KEPT {
        let from = instances / 2 + round % KEPT * churn;
        fixture.write(from..from + churn, round as u64 + 1);
        for (at, contender) in contenders.into_iter().enumerate() {
            let before = (clock::thread_cpu(), way.counters());
            runtime.block_on(async {
                match contender {
                    OURS => {
                        // What the poll tells: a batch of changes.
                        watch.next().await.expect("an event").expect("an answer");
                    }
                    DELTA => fetch(&client, url("apps/delta"), looked).await,
                    _ => fetch(&client, url("apps"), looked).await,
                }
            });
            let (spent, after) = (clock::thread_cpu() - before.0, way.counters());
            let moved = (after.bytes_up + after.bytes_down) - (before.1.bytes_up + before.1.bytes_down);
            // The first rounds fill what the server keeps.
            if round >= KEPT {
                cpu[at].samples.push(Some(spent * POLLS / 1e6));
                bytes[at].samples.push(Some(moved as f64 * POLLS / 1024.0));
            }
        }
    }
    let cpu = Table::new("eureka cpu", "ms/min", FULL, cpu, ticks);
    let bytes = Table::new("eureka bytes", "KiB/min", FULL, bytes, ticks);
    let (ours, full) = ((OURS, instances, 1), (FULL, instances, 1));
    report.goals([
        cpu.goal("U1", "CPU a minute / full fetches".to_owned(), 0.1, ours, full),
        bytes.goal("U1", "bytes a minute / full fetches".to_owned(), 0.1, ours, full),
        cpu.goal(
            "U1 far",
            "CPU a minute / bare delta poll".to_owned(),
            2.0,
            ours,
            (DELTA, instances, 1),
        ),
    ]);
    report.table(cpu);
    report.table(bytes);
}
