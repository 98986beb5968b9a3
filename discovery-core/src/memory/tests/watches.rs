//! Watches: resets, changes, confirmations, resumption and expiry.

use tokio::time::Instant;

use super::*;
use crate::{
    TaskGroup,
    model::{Cursor, HealthReport, Status},
};

fn watch(backend: &Backend, since: Option<Cursor>) -> WatchStream {
    backend.watcher.watch(&Query::service("api").unwrap(), since)
}

#[tokio::test(start_paused = true)]
async fn tells_all_there_is_and_then_each_change_once() {
    let backend = MemoryStore::new().backend();
    let one = register(&backend, api(1).id("a")).await;
    let mut stream = watch(&backend, None);
    assert_eq!(sketch(&next(&mut stream).await), "=a");
    assert!(quiet(&mut stream));

    register(&backend, api(2).id("b")).await;
    register(&backend, api(3).id("c")).await;
    register(&backend, Registration::builder("other", "127.0.0.1", 4)).await;
    backend.registry.deregister(&one.key).await.unwrap();
    assert_eq!(sketch(&next(&mut stream).await), "+b c");
    assert_eq!(sketch(&next(&mut stream).await), "-a");
    assert!(quiet(&mut stream));
}

#[tokio::test(start_paused = true)]
async fn a_3_identical_content_is_told_to_nobody() {
    let backend = MemoryStore::new().backend();
    let lease = register(&backend, api(1)).await;
    let mut stream = watch(&backend, None);
    next(&mut stream).await;
    let registry = &backend.registry;
    register(&backend, api(1)).await;
    let report = HealthReport::default();
    let renewal = Renewal::new([(lease.key.clone(), report.clone())]);
    registry.renew(&lease.group, &renewal).await.unwrap();
    registry.report_health(&lease.key, &report).await.unwrap();
    // A line for people is shown to those who asked for checks only.
    let line = report.with_output("all is well");
    registry.report_health(&lease.key, &line).await.unwrap();
    assert!(quiet(&mut stream));

    let query = Query::service("api").unwrap().with_checks();
    let mut checks = backend.watcher.watch(&query, None);
    next(&mut checks).await;
    let line = line.with_output("as ever");
    registry.report_health(&lease.key, &line).await.unwrap();
    let Change::Upsert(some) = next(&mut checks).await.change else {
        panic!("no upsert");
    };
    assert_eq!(some[0].checks[0].output, "as ever");
    assert!(quiet(&mut stream));
}

#[tokio::test(start_paused = true)]
async fn expiry_wakes_a_watch_by_itself_at_the_very_moment() {
    let backend = MemoryStore::new().backend();
    let started = Instant::now();
    let short = register(&backend, api(1).id("short").ttl(2 * SECOND)).await;
    register(&backend, api(2).id("long").ttl(4 * SECOND)).await;
    let mut stream = watch(&backend, None);
    assert_eq!(sketch(&next(&mut stream).await), "=long short");
    assert_eq!(sketch(&next(&mut stream).await), "-short");
    assert_eq!(started.elapsed(), 2 * SECOND);
    assert_eq!(sketch(&next(&mut stream).await), "-long");
    assert_eq!(started.elapsed(), 4 * SECOND);
    assert!(backend.registry.instance(&short.key).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_lease_made_shorter_wakes_a_watch_asleep_for_longer() {
    let store = MemoryStore::with_config(MemoryConfig::default().confirm_interval(60 * SECOND)).unwrap();
    let backend = store.backend();
    register(&backend, api(1).id("a").ttl(50 * SECOND)).await;
    let mut stream = watch(&backend, None);
    next(&mut stream).await;
    let started = Instant::now();
    let (event, ()) = tokio::join!(next(&mut stream), async {
        // The same content for a shorter time: nothing to tell, but sooner to look.
        register(&backend, api(1).id("a").ttl(3 * SECOND)).await;
    });
    assert_eq!(sketch(&event), "-a");
    assert_eq!(started.elapsed(), 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_confirms_at_its_interval() {
    let backend = MemoryStore::new().backend();
    register(&backend, api(1).ttl(3600 * SECOND)).await;
    let mut stream = watch(&backend, None);
    next(&mut stream).await;
    let started = Instant::now();
    for n in 1..=3 {
        assert_eq!(sketch(&next(&mut stream).await), ".");
        assert_eq!(started.elapsed(), n * 5 * SECOND);
    }
    // The changes of others do not keep it from confirming.
    advance(4 * SECOND).await;
    register(&backend, Registration::builder("other", "127.0.0.1", 4)).await;
    assert!(quiet(&mut stream));
    assert_eq!(sketch(&next(&mut stream).await), ".");
    assert_eq!(started.elapsed(), 20 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_resumed_watch_tells_only_what_came_later() {
    let backend = MemoryStore::new().backend();
    register(&backend, api(1).id("a").ttl(60 * SECOND)).await;
    let mut stream = watch(&backend, None);
    let cursor = next(&mut stream).await.cursor;
    drop(stream);
    register(&backend, api(2).id("b")).await;
    advance(10 * SECOND).await;

    let mut stream = watch(&backend, cursor);
    assert_eq!(sketch(&next(&mut stream).await), "+b");
    let last = next(&mut stream).await;
    assert_eq!(sketch(&last), "-b");
    let mut stream = watch(&backend, last.cursor);
    assert_eq!(
        sketch(&next(&mut stream).await),
        ".",
        "nothing missed is confirmed at once"
    );
    assert!(quiet(&mut stream));

    // A look-up gives a place to go on from, too.
    let snapshot = backend.registry.instances(&Query::all()).await.unwrap();
    register(&backend, api(3).id("c")).await;
    assert_eq!(sketch(&next(&mut watch(&backend, snapshot.cursor)).await), "+c");
}

#[tokio::test(start_paused = true)]
async fn a_cursor_the_store_cannot_honour_is_expired() {
    let store = MemoryStore::with_config(MemoryConfig::default().log_capacity(2)).unwrap();
    let backend = store.backend();
    let start = next(&mut watch(&backend, None)).await.cursor;
    let expired = async |cursor: Option<Cursor>| {
        let mut stream = watch(&backend, cursor);
        let expired = kind(stream.next().await.unwrap()) == Some(ErrorKind::WatchExpired);
        expired && stream.next().await.is_none()
    };
    let other = next(&mut watch(&MemoryStore::new().backend(), None)).await.cursor;
    assert!(expired(other).await);
    assert!(expired(Some(Cursor::new("garbage"))).await);
    register(&backend, api(1)).await;
    register(&backend, api(2)).await;
    assert!(!expired(start.clone()).await);
    register(&backend, api(3)).await;
    assert!(expired(start).await, "fell out of the log");

    let last = next(&mut watch(&backend, None)).await.cursor;
    store.compact();
    assert!(
        !expired(last.clone()).await,
        "compaction is no loss to who has seen all"
    );
    register(&backend, api(4)).await;
    store.compact();
    assert!(expired(last).await);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_falls_behind_expires_and_one_that_keeps_up_does_not() {
    let store = MemoryStore::with_config(MemoryConfig::default().log_capacity(8)).unwrap();
    let backend = store.backend();
    let (mut slow, mut keen) = (watch(&backend, None), watch(&backend, None));
    next(&mut slow).await;
    next(&mut keen).await;
    for port in 1..=9 {
        register(&backend, api(port).id(format!("i{port}"))).await;
        assert_eq!(sketch(&next(&mut keen).await), format!("+i{port}"));
    }
    let error = slow.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WatchExpired);
    assert!(error.hint().is_some());
    assert!(slow.next().await.is_none());
    assert_eq!(store.watchers(), 1, "an expired watch is gone from the store");
}

/// A quiet service beside a busy one: the confirmations carry the place on, so that a resumption finds it.
#[tokio::test(start_paused = true)]
async fn confirmations_carry_the_cursor_past_what_others_change() {
    let store = MemoryStore::with_config(MemoryConfig::default().log_capacity(2)).unwrap();
    let backend = store.backend();
    let mut stream = watch(&backend, None);
    let mut cursor = next(&mut stream).await.cursor;
    for port in 1..=9 {
        register(&backend, Registration::builder("busy", "127.0.0.1", port)).await;
        let event = next(&mut stream).await;
        assert_eq!(sketch(&event), ".");
        cursor = event.cursor;
    }
    drop(stream);
    assert_eq!(sketch(&next(&mut watch(&backend, cursor)).await), ".");
}

#[tokio::test(start_paused = true)]
async fn a_record_lost_is_told_and_a_store_lost_expires_its_watches() {
    let store = MemoryStore::new();
    let backend = store.backend();
    let lease = register(&backend, api(1).id("a")).await;
    let mut stream = watch(&backend, None);
    next(&mut stream).await;
    store.forget(&lease.key);
    let event = next(&mut stream).await;
    assert_eq!(sketch(&event), "-a");

    let (lost, ()) = tokio::join!(stream.next(), async { store.forget_all() });
    assert_eq!(kind(lost.unwrap()), Some(ErrorKind::WatchExpired));
    assert_eq!(
        kind(watch(&backend, event.cursor).next().await.unwrap()),
        Some(ErrorKind::WatchExpired)
    );
    assert_eq!(sketch(&next(&mut watch(&backend, None)).await), "=");
}

#[tokio::test(start_paused = true)]
async fn a_10_a_watch_is_there_from_its_first_poll_to_its_drop() {
    let store = MemoryStore::new();
    let backend = store.backend();
    let mut streams: Vec<_> = (0..1000).map(|_| watch(&backend, None)).collect();
    assert_eq!(store.watchers(), 0);
    for stream in &mut streams {
        next(stream).await;
        assert!(quiet(stream));
    }
    assert_eq!(store.watchers(), 1000);
    drop(streams);
    assert_eq!(store.watchers(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_way_back_and_forth_is_told_in_full() {
    let backend = MemoryStore::new().backend();
    let lease = register(&backend, api(1).id("a")).await;
    let mut stream = watch(&backend, None);
    next(&mut stream).await;
    for status in [Status::Critical, Status::Passing] {
        let report = HealthReport::new(status);
        backend.registry.report_health(&lease.key, &report).await.unwrap();
    }
    for status in [Status::Critical, Status::Passing] {
        let Change::Upsert(some) = next(&mut stream).await.change else {
            panic!("no upsert");
        };
        assert_eq!((some.len(), some[0].status), (1, status));
    }
    assert!(quiet(&mut stream));
}

/// Writers on other threads: no wake-up may be lost between looking and waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_change_of_another_thread_is_missed() {
    let config = MemoryConfig::default().confirm_interval(3600 * SECOND);
    let store = MemoryStore::with_config(config.log_capacity(100_000)).unwrap();
    let backend = store.backend();
    let mut stream = watch(&backend, None);
    next(&mut stream).await;
    let tasks = TaskGroup::current().unwrap();
    for writer in 0..4_u16 {
        let backend = backend.clone();
        tasks.spawn(async move {
            for n in 1..=500 {
                let lease = register(&backend, api(writer * 1000 + n).ttl(3600 * SECOND)).await;
                if n % 2 == 0 {
                    backend.registry.deregister(&lease.key).await.unwrap();
                }
                tokio::task::yield_now().await;
            }
        });
    }
    let (mut added, mut removed) = (0, 0);
    let told = tokio::time::timeout(60 * SECOND, async {
        while (added, removed) != (2000, 1000) {
            match next(&mut stream).await.change {
                Change::Upsert(some) => added += some.len(),
                Change::Remove(keys) => removed += keys.len(),
                other => panic!("{other:?}"),
            }
        }
    });
    assert!(told.await.is_ok(), "stuck at {added} added, {removed} removed");
    tasks.join(10 * SECOND).await.unwrap();
    assert!(quiet(&mut stream));
}
