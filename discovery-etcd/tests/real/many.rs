//! Many of everything.

use std::{collections::BTreeMap, time::Duration};

use discovery_testkit::{
    eventually,
    proxy::{Close, Proxy},
    server::Server,
};
use etcd_client::{Txn, TxnOp};

use crate::support::{PATIENCE, Setup, at, client, plain, query, view_shows};

const ALL: u32 = 10_000;
/// Ten seconds of a hundred a second.
const CHANGES: u32 = 1000;

fn put(i: u32, step: u32) -> TxnOp {
    let port = i % 60_000 + 1;
    let value = format!(r#"{{"address":"10.0.0.1","port":{port},"meta":{{"step":"{step}"}}}}"#);
    TxnOp::put(format!("/services/api/i{i:05}"), value, None)
}

/// The memory this process has, in MB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() >> 10
}

/// Each third a change, a removal, an addition; the way is cut twice meanwhile.
pub(crate) async fn ten_thousand_under_churn_lose_nothing(setup: Setup) {
    let etcd = setup.started().await;
    let mut writer = plain(&etcd).await;
    for chunk in (0..ALL).collect::<Vec<_>>().chunks(100) {
        let puts: Vec<_> = chunk.iter().map(|i| put(*i, 0)).collect();
        writer.txn(Txn::new().and_then(puts)).await.unwrap();
    }
    let way = Proxy::start(etcd.endpoint()).unwrap();
    let watched = client(at([way.addr()]));
    view_shows(&watched, ALL as usize).await;
    let view = watched.query(&query()).unwrap();
    let mut truth: BTreeMap<String, u32> = (0..ALL).map(|i| (format!("i{i:05}"), 0)).collect();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let mut warm = 0;
    for step in 1..=CHANGES {
        ticks.tick().await;
        let i = scattered(step) % (ALL + 500);
        let key = format!("i{i:05}");
        if step % 3 == 0 {
            writer.delete(format!("/services/api/{key}"), None).await.unwrap();
            truth.remove(&key);
        } else {
            writer.txn(Txn::new().and_then([put(i, step)])).await.unwrap();
            truth.insert(key, step);
        }
        if step % 400 == 100 {
            way.cut(Close::Reset).await;
        }
        if step == CHANGES / 2 {
            warm = resident();
        }
    }
    eventually("the truth", PATIENCE, || async {
        let found = view.instances().await.map_err(|failed| failed.to_string())?;
        let found: BTreeMap<String, u32> = found
            .instances
            .iter()
            .map(|instance| {
                (
                    instance.key.id.to_string(),
                    instance.meta["step"].parse().unwrap(),
                )
            })
            .collect();
        if found == truth {
            Ok(())
        } else {
            Err(format!("{} instead of {}", found.len(), truth.len()))
        }
    })
    .await;
    let grown = resident().saturating_sub(warm);
    assert!(grown < 32, "grown by {grown} MB from {warm}");
    watched.shutdown(PATIENCE).await.unwrap();
}

/// Numbers that look random and are the same in every run.
fn scattered(step: u32) -> u32 {
    step.wrapping_mul(2_654_435_761).rotate_left(13)
}
