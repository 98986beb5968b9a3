//! Several processes on one file.

use std::time::Duration;

use discovery_core::{Change, ConfigKey, Query, Result, Status};
use discovery_testkit::eventually;
use futures::{StreamExt, future::join_all};
use rusqlite::Connection;
use rustix::process::{Signal, kill_process};
use tokio::time::{Instant, timeout};

use crate::{
    child::DETACHED,
    support::{Actor, PATIENCE, micros, open, ports, registration, shows},
};

/// A quarter of the changes at least: what a busy machine adds is not this library's.
pub(crate) async fn a_change_is_seen_within_100_ms() -> Result<()> {
    const CHANGES: u16 = 60;
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("x.db");
    let backend = open(&path)?;
    let mut watch = backend.watcher.watch(&Query::service("api")?, None);
    watch.next().await.expect("a first event")?;
    let mut other = Actor::start(&format!("pulse {} api {CHANGES}", path.display()));
    assert_eq!(other.line().await, "ready");
    let mut took = Vec::new();
    while took.len() < usize::from(CHANGES) {
        let event = timeout(PATIENCE, watch.next())
            .await
            .expect("an event")
            .expect("a watch")?;
        let seen = micros();
        if let Change::Upsert(some) = event.change {
            for _ in some {
                let made: i64 = other.line().await.parse().expect("a time");
                took.push((seen - made).max(0) / 1000);
            }
        }
    }
    took.sort_unstable();
    let (quarter, half, most) = (took[took.len() / 4], took[took.len() / 2], took[took.len() - 1]);
    assert!(
        quarter <= 100,
        "a quarter of them within {quarter} ms, half within {half} ms, all within {most} ms"
    );
    #[expect(clippy::print_stderr, reason = "a figure for people")]
    {
        eprintln!("changes of another process: half of them seen within {half} ms, all within {most} ms");
    }
    other.finish().await;
    Ok(())
}

pub(crate) async fn a_killed_process_takes_its_instances_along() -> Result<()> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("x.db");
    let backend = open(&path)?;
    let mut one = Actor::start(&format!("hold {} api 1 3", path.display()));
    let mut two = Actor::start(&format!("hold {} api 11 2", path.display()));
    one.line().await;
    two.line().await;
    let mut watch = backend.watcher.watch(&Query::service("api")?, None);
    let first = watch.next().await.expect("a first event")?;
    assert!(
        matches!(&first.change, Change::Reset(all) if all.len() == 5),
        "{first:?}"
    );
    one.kill().await;
    let mut gone = 0;
    while gone < 3 {
        let event = timeout(PATIENCE, watch.next())
            .await
            .expect("an event")
            .expect("a watch")?;
        match event.change {
            Change::Remove(keys) => gone += keys.len(),
            Change::Confirmed => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ports(&backend, "api").await?, [11, 12]);
    // One that ends as it should takes its instances along as well.
    two.finish().await;
    shows(&backend, "api", &[]).await;
    Ok(())
}

/// A lock needs no heartbeat: a process that does not run is not one that has ended.
pub(crate) async fn a_stopped_process_is_not_expired() -> Result<()> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("x.db");
    let backend = open(&path)?;
    let mut one = Actor::start(&format!("hold {} api 1 1", path.display()));
    one.line().await;
    kill_process(one.pid(), Signal::STOP).expect("a stopped process");
    let until = Instant::now() + Duration::from_secs(2);
    eventually("the end of two seconds", PATIENCE, || async {
        assert_eq!(ports(&backend, "api").await.expect("an answer"), [1]);
        Instant::now() > until
    })
    .await;
    kill_process(one.pid(), Signal::CONT).expect("a process that goes on");
    one.finish().await;
    shows(&backend, "api", &[]).await;
    Ok(())
}

pub(crate) async fn killed_in_the_midst_of_changes_loses_nothing() -> Result<()> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("x.db");
    let backend = open(&path)?;
    let mut held = Vec::new();
    for round in 1..=8_u16 {
        let mut churn = Actor::start(&format!("churn {} busy", path.display()));
        churn.line().await;
        // What was registered before stays, and work goes on meanwhile.
        backend.registry.register(&registration("api", round)).await?;
        held.push(round);
        eventually("changes", PATIENCE, || async {
            ports(&backend, "busy").await.is_ok_and(|ports| !ports.is_empty())
        })
        .await;
        churn.kill().await;
        shows(&backend, "busy", &[]).await;
        assert_eq!(ports(&backend, "api").await?, held);
    }
    let sound: String = Connection::open(&path)
        .and_then(|connection| connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)))
        .expect("an answer");
    assert_eq!(sound, "ok");
    Ok(())
}

pub(crate) async fn of_two_that_fight_over_an_id_one_is_shown() -> Result<()> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("x.db");
    let backend = open(&path)?;
    let role = |port: u16| format!("fight {} api {port}", path.display());
    let mut fighters = [Actor::start(&role(1)), Actor::start(&role(2))];
    for fighter in &mut fighters {
        fighter.line().await;
    }
    let query = Query::service("api")?;
    let mut seen = std::collections::BTreeSet::new();
    let started = Instant::now();
    // A busy machine may give one of them no turn for a while; they fight as long as somebody looks.
    while started.elapsed() < Duration::from_millis(1500) || (seen.len() < 2 && started.elapsed() < PATIENCE)
    {
        let snapshot = backend.registry.instances(&query).await?;
        let found: Vec<_> = snapshot.instances.iter().collect();
        assert!(found.len() <= 1, "{found:?}");
        for one in found {
            assert_eq!(
                one.meta.get("port"),
                Some(&one.port.to_string()),
                "half of each: {one:?}"
            );
            seen.insert(one.port);
        }
    }
    assert_eq!(seen.len(), 2, "both had their turns: {seen:?}");
    for fighter in &mut fighters {
        fighter.tell("enough").await;
        assert_eq!(fighter.line().await, "fought");
    }
    // The end of the one that lost changes nothing; that of the one that won ends it.
    let [shown] = ports(&backend, "api").await?[..] else {
        panic!("one instance")
    };
    let [first, second] = fighters;
    let (winner, loser) = if shown == 1 {
        (first, second)
    } else {
        (second, first)
    };
    loser.finish().await;
    assert_eq!(ports(&backend, "api").await?, [shown]);
    winner.finish().await;
    shows(&backend, "api", &[]).await;
    Ok(())
}

pub(crate) async fn twenty_processes_of_fifty() -> Result<()> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("x.db");
    let backend = open(&path)?;
    let started = Instant::now();
    let mut actors: Vec<_> = (0..20_u16)
        .map(|n| Actor::start(&format!("hold {} api {} 50", path.display(), 1000 + n * 50)))
        .collect();
    for line in join_all(actors.iter_mut().map(Actor::line)).await {
        assert_eq!(line, "registered");
    }
    let took = started.elapsed();
    let all: Vec<_> = (1000..2000).collect();
    assert_eq!(ports(&backend, "api").await?, all);
    #[expect(clippy::print_stderr, reason = "a figure for people")]
    {
        eprintln!("20 processes started and made 50 registrations each within {took:?}");
    }
    join_all(actors.iter_mut().map(Actor::kill)).await;
    shows(&backend, "api", &[]).await;
    Ok(())
}

pub(crate) async fn what_is_detached_outlives_its_process() -> Result<()> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("x.db");
    let backend = open(&path)?;
    let started = Instant::now();
    Actor::start(&format!("detach {} api", path.display()))
        .finish()
        .await;
    let found = backend
        .registry
        .instances(&Query::service("api")?)
        .await?
        .instances;
    let shown: Vec<_> = found.iter().map(|one| (one.port, one.status)).collect();
    assert_eq!(shown, [(1, Status::Passing), (2, Status::Warning)]);
    shows(&backend, "api", &[1]).await;
    assert!(
        started.elapsed() > DETACHED * 9 / 10,
        "after {:?}",
        started.elapsed()
    );
    // Whoever comes later may withdraw it.
    let key = found.iter().next().expect("one").key.clone();
    backend.registry.deregister(&key).await?;
    assert!(ports(&backend, "api").await?.is_empty());
    Ok(())
}

/// As a command registers without a TTL: it is over at once, and the registration lasts until somebody withdraws it.
pub(crate) async fn what_a_command_registers_lasts_until_deregistered() -> Result<()> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("x.db");
    Actor::start(&format!("leave {} api", path.display()))
        .finish()
        .await;
    let mut killed = Actor::start(&format!("hold {} api 2 1", path.display()));
    killed.line().await;
    killed.kill().await;
    let backend = open(&path)?;
    shows(&backend, "api", &[1]).await;
    let found = backend
        .registry
        .instances(&Query::service("api")?)
        .await?
        .instances;
    let key = found.iter().next().expect("one").key.clone();
    // Nothing has to renew it, and nothing ends it, not even that nobody has the file open any more.
    drop(backend);
    let backend = open(&path)?;
    assert_eq!(ports(&backend, "api").await?, [1]);
    backend.registry.deregister(&key).await?;
    assert!(ports(&backend, "api").await?.is_empty());
    Ok(())
}

pub(crate) async fn counting_by_compare_and_set_loses_nothing() -> Result<()> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("x.db");
    let backend = open(&path)?;
    let counters = (0..4).map(|_| Actor::start(&format!("count {} number 50", path.display())));
    join_all(counters.map(Actor::finish).collect::<Vec<_>>()).await;
    let store = backend.config.clone().expect("a configuration store");
    let counted = store.get(&ConfigKey::new("number")?).await?.expect("a number");
    assert_eq!(&*counted.value, b"200");
    Ok(())
}
