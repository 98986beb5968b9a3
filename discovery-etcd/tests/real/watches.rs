//! Lists and watches: nothing is lost between them, by compaction, by a restored backup, or for being large.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use discovery_core::{Change, ConfigChange, Cursor, ErrorKind, WatchStream};
use discovery_etcd::backend;
use discovery_testkit::{
    eventually,
    proxy::{Close, Proxy},
    server::{Server, etcd::Etcd},
};
use etcd_client::{Txn, TxnOp};
use futures::StreamExt;
use tokio::time::{Instant, timeout};

use crate::support::{
    PATIENCE, Setup, api, at, client, config, lasting, of, plain, ports, query, shows, started, view_shows,
};

async fn next(watch: &mut WatchStream) -> discovery_core::Result<discovery_core::WatchEvent> {
    timeout(PATIENCE, watch.next()).await.unwrap().unwrap()
}

/// Has it forget its history up to now.
async fn compact(etcd: &Etcd) {
    etcd.ctl(&["put", "unrelated", "x"]).await.unwrap();
    let now = etcd.revision().await.unwrap();
    etcd.compact(now).await.unwrap();
}

pub(crate) async fn e_13_what_changes_between_list_and_watch_is_told(setup: Setup) {
    let etcd = setup.started().await;
    let (direct, way) = (of(&etcd), Proxy::start(etcd.endpoint()).unwrap());
    direct.registry.register(&lasting(1)).await.unwrap();
    let mut watch = at([way.addr()]).watcher.watch(&query(), None);
    let listed = next(&mut watch).await.unwrap();
    assert!(matches!(&listed.change, Change::Reset(all) if all.len() == 1));
    // It is lazy: the watch opens when the next event is asked for.
    let changed = direct.registry.register(&lasting(2)).await.unwrap();
    direct.registry.deregister(&changed.key).await.unwrap();
    let (added, removed) = (next(&mut watch).await.unwrap(), next(&mut watch).await.unwrap());
    assert!(matches!(&added.change, Change::Upsert(all) if all.len() == 1 && all[0].port == 2));
    assert!(matches!(&removed.change, Change::Remove(all) if all == &[changed.key]));
}

pub(crate) async fn e_15_compaction_while_away_loses_no_removal(setup: Setup) {
    let etcd = setup.started().await;
    let way = Proxy::start(etcd.endpoint()).unwrap();
    let (watched, direct) = (client(at([way.addr()])), of(&etcd));
    let mut kept = Vec::new();
    for port in 1..=3 {
        kept.push(direct.registry.register(&lasting(port)).await.unwrap());
    }
    view_shows(&watched, 3).await;
    way.refuse();
    way.cut(Close::Reset).await;
    direct.registry.deregister(&kept[0].key).await.unwrap();
    direct.registry.deregister(&kept[1].key).await.unwrap();
    compact(&etcd).await;
    way.heal().unwrap();
    view_shows(&watched, 1).await;

    // And what the raw watch says of a cursor that is gone.
    let now = direct.registry.instances(&query()).await.unwrap().cursor.unwrap();
    let (cluster, _) = now.as_str().split_once(':').unwrap();
    let old = Cursor::new(format!("{cluster}:1"));
    let failed = next(&mut direct.watcher.watch(&query(), Some(old)))
        .await
        .unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::WatchExpired);
    watched.shutdown(PATIENCE).await.unwrap();
}

pub(crate) async fn e_17_a_restored_backup_is_read_anew(setup: Setup) {
    let etcd = setup.started().await;
    let (watched, direct) = (client(of(&etcd)), of(&etcd));
    direct.registry.register(&lasting(1)).await.unwrap();
    let backup = etcd.dir().join("backup");
    etcd.save(&backup).await.unwrap();
    direct.registry.register(&lasting(2)).await.unwrap();
    direct.registry.register(&lasting(3)).await.unwrap();
    view_shows(&watched, 3).await;
    // Revisions go back: a watch from where it was would be silent until they are there again.
    etcd.restore(&backup).await.unwrap();
    view_shows(&watched, 1).await;
    let newest = of(&etcd);
    newest.registry.register(&lasting(4)).await.unwrap();
    view_shows(&watched, 2).await;
    watched.shutdown(PATIENCE).await.unwrap();
}

/// On an idle server too, which has nothing else to say.
pub(crate) async fn e_20_a_resumed_watch_confirms_at_once(setup: Setup) {
    let etcd = setup.started().await;
    let mut config = config([etcd.url()]);
    config.discovery.confirm_interval = Duration::from_secs(10);
    let direct = backend(config).unwrap();
    let listed = direct.registry.instances(&query()).await.unwrap();
    let resumed = Instant::now();
    let mut watch = direct.watcher.watch(&query(), listed.cursor.clone());
    let confirmed = next(&mut watch).await.unwrap();
    assert_eq!(
        (confirmed.change, confirmed.cursor),
        (Change::Confirmed, listed.cursor)
    );
    // Sooner than its pace, which it keeps from then on.
    assert!(
        resumed.elapsed() < Duration::from_secs(7),
        "{:?}",
        resumed.elapsed()
    );
    let confirmed = next(&mut watch).await.unwrap();
    assert_eq!(confirmed.change, Change::Confirmed);
    assert!(
        resumed.elapsed() > Duration::from_secs(7),
        "{:?}",
        resumed.elapsed()
    );
}

pub(crate) async fn e_23_e_25_a_large_transaction_is_told_whole(setup: Setup) {
    let etcd = started(setup.etcd().flag("--max-request-bytes=8000000")).await;
    let mut watch = of(&etcd).watcher.watch(&query(), None);
    next(&mut watch).await.unwrap();
    let (padding, mut puts) = ("x".repeat(30_000), Vec::new());
    for port in 1..=100 {
        let value = format!(r#"{{"address":"a","port":{port},"output":"{padding}"}}"#);
        puts.push(TxnOp::put(format!("/services/api/{port}"), value, None));
    }
    plain(&etcd).await.txn(Txn::new().and_then(puts)).await.unwrap();
    loop {
        match next(&mut watch).await.unwrap().change {
            Change::Upsert(all) => return assert_eq!(all.len(), 100, "one revision, told at once"),
            other => assert_eq!(other, Change::Confirmed),
        }
    }
}

pub(crate) async fn e_24_a_large_prefix_is_read_in_pages(setup: Setup) {
    let etcd = setup.started().await;
    let mut client = plain(&etcd).await;
    let padding = "x".repeat(200_000);
    for port in 1..=120 {
        let value = format!(r#"{{"address":"a","port":{port},"output":"{padding}"}}"#);
        let put = client.put(format!("/services/api/{port}"), value, None);
        put.await.unwrap();
    }
    // 24 MB: more than one message may have, whatever the number of keys.
    let all = ports(&of(&etcd)).await.unwrap();
    assert_eq!(all, (1..=120).collect::<Vec<_>>());
}

/// A list of values that takes many pages shows all of them as they were at one time, whatever is written meanwhile.
pub(crate) async fn values_are_listed_as_of_one_revision(setup: Setup) {
    const KEYS: usize = 100;
    let etcd = setup.started().await;
    let mut writer = plain(&etcd).await;
    let all = |value: u32| {
        let puts = (0..KEYS).map(|i| TxnOp::put(format!("/config/{i:03}"), value.to_string(), None));
        Txn::new().and_then(puts.collect::<Vec<_>>())
    };
    writer.txn(all(0)).await.unwrap();
    let mut config = config([etcd.url()]);
    config.discovery.page_size = 7;
    let store = backend(config).unwrap().config.unwrap();
    let mut seen = BTreeSet::new();
    let mut value = 0;
    // Until lists and writes have met often enough.
    while seen.len() < 10 {
        value += 1;
        let (listed, written) = tokio::join!(store.list(""), writer.txn(all(value)));
        written.unwrap();
        let listed = listed.unwrap();
        assert_eq!(listed.entries.len(), KEYS);
        let values: BTreeSet<_> = listed.entries.iter().map(|entry| entry.value.clone()).collect();
        assert_eq!(values.len(), 1, "{values:?}");
        let version = &listed.entries[0].version;
        assert!(listed.entries.iter().all(|entry| entry.version == *version));
        seen.extend(values);
    }
    // A watch begins with such a list as well, and tells of each transaction as a whole.
    let mut watch = store.watch("", None);
    let mut known = HashMap::new();
    value += 1;
    let mut written = false;
    while known
        .values()
        .any(|known| *known != value.to_string().into_bytes())
        || known.is_empty()
    {
        let event = timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
        match event.change {
            ConfigChange::Reset(entries) => {
                known = entries
                    .into_iter()
                    .map(|entry| (entry.key, entry.value.to_vec()))
                    .collect();
                assert_eq!(known.len(), KEYS);
            }
            ConfigChange::Put(entry) => drop(known.insert(entry.key, entry.value.to_vec())),
            _ => {}
        }
        if !std::mem::replace(&mut written, true) {
            writer.txn(all(value)).await.unwrap();
        }
    }
}

pub(crate) async fn subscribers_of_a_service_share_one_watch(setup: Setup) {
    let etcd = setup.started().await;
    let client = client(of(&etcd));
    let views: Vec<_> = (0..100).map(|_| client.query(&query()).unwrap()).collect();
    let mut changes: Vec<_> = views
        .iter()
        .map(discovery_core::pick::Service::subscribe)
        .collect();
    view_shows(&client, 0).await;
    client.register(api(1)).await.unwrap();
    for one in &mut changes {
        let seen = async { while one.next().await.unwrap().instances.len() != 1 {} };
        timeout(PATIENCE, seen).await.unwrap();
    }
    watchers(&etcd, 1).await;
    client.shutdown(PATIENCE).await.unwrap();
    shows(&of(&etcd), &[]).await;
    watchers(&etcd, 0).await;
}

/// Waits until the server counts so many watches.
async fn watchers(etcd: &Etcd, wanted: usize) {
    eventually(format!("{wanted} watches"), PATIENCE, || async {
        let metrics = etcd.metrics().await.unwrap();
        let mut lines = metrics.lines();
        let counted = lines.find_map(|line| line.strip_prefix("etcd_debugging_mvcc_watcher_total "));
        if counted == Some(&wanted.to_string()) {
            Ok(())
        } else {
            Err(format!("{counted:?}"))
        }
    })
    .await;
}
