//! What may happen to the file.

use std::{fs, path::Path, time::Duration};

use discovery::Client;
use discovery_core::{ConfigKey, ErrorKind, HealthReport, PutMode, Registration, Renewal, Result, Status};
use discovery_testkit::eventually;
use rusqlite::Connection;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tokio::time::Instant;

use crate::support::{Actor, PATIENCE, open, ports, registration, shows};

/// A disk of a megabyte. Only root can have one.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        let options = c"size=1m,mode=0700";
        mount(
            "discovery-test",
            at,
            "tmpfs",
            MountFlags::NODEV | MountFlags::NOSUID,
            Some(options),
        )
        .ok()?;
        Some(Self(at))
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // The folder's own end would tell.
        let _ = unmount(self.0, UnmountFlags::DETACH);
    }
}

pub(crate) async fn a_full_disk_ends_nobody() -> Result<()> {
    let dir = tempfile::tempdir().expect("a folder");
    let Some(disk) = Disk::mount(dir.path()) else {
        panic!("a small disk to fill could not be mounted");
    };
    let path = disk.0.join("x.db");
    let backend = open(&path)?;
    let short = Registration::builder("api", "127.0.0.1", 1)
        .ttl(Duration::from_secs(5))
        .build()?;
    let lease = backend.registry.register(&short).await?;
    let mut other = Actor::start(&format!("hold {} api 2 1", path.display()));
    other.line().await;
    fs::write(disk.0.join("ballast"), vec![1; 384 << 10]).expect("a file to delete later");
    let store = backend.config.clone().expect("a configuration store");
    let mut written = 0;
    let full = loop {
        let key = ConfigKey::new(format!("filler/{written}"))?;
        match store.put(&key, &[b'x'; 16 << 10], PutMode::Create).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), ErrorKind::Unavailable, "{full:?}");
    assert!(full.is_retryable() && full.hint().is_some(), "{full:?}");
    // What the failed change had taken of the disk serves smaller ones, for a while.
    let mut small = Vec::new();
    let full = loop {
        let port = 1000 + u16::try_from(small.len()).expect("an end");
        match backend.registry.register(&registration("small", port)).await {
            Ok(_) => small.push(port),
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), ErrorKind::Unavailable, "{full:?}");
    assert_eq!(ports(&backend, "small").await?, small);

    // Twice as long as the TTL: heartbeats and reads go on, and registering the same again.
    let same = Renewal::new([(lease.key.clone(), HealthReport::default())]);
    for _ in 0..20 {
        backend.registry.renew(&lease.group, &same).await?;
        assert_eq!(ports(&backend, "api").await?, [1, 2]);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(backend.registry.register(&short).await?, lease);
    let changed = Renewal::new([(
        lease.key.clone(),
        HealthReport::new(Status::Critical).with_output("x".repeat(64 << 10)),
    )]);
    let refused = backend.registry.renew(&lease.group, &changed).await;
    assert_eq!(
        refused.err().map(|error| error.kind()),
        Some(ErrorKind::Unavailable)
    );
    // One that ends is not shown, although its record cannot be removed.
    other.kill().await;
    shows(&backend, "api", &[1]).await;

    fs::remove_file(disk.0.join("ballast")).expect("room");
    let room = Duration::from_secs(10);
    eventually("room", room, || async {
        backend.registry.renew(&lease.group, &changed).await
    })
    .await;
    eventually("all of it", room, || async {
        backend.registry.register(&registration("api", 3)).await
    })
    .await;
    assert_eq!(ports(&backend, "api").await?, [1, 3]);
    for n in 0..written {
        let key = ConfigKey::new(format!("filler/{n}"))?;
        let kept = store.get(&key).await?.expect("what was written before");
        assert_eq!(kept.value.len(), 16 << 10);
    }
    drop((backend, store));
    drop(disk);
    Ok(())
}

pub(crate) async fn a_file_that_is_none_of_ours_is_told_and_kept() -> Result<()> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("x.db");
    let content = b"The only copy of somebody's notes. ".repeat(100);
    fs::write(&path, &content).expect("a file");
    let backend = open(&path)?;
    let error = backend.registry.status().await.expect_err("no database");
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error:?}");
    assert!(
        error.to_string().contains("x.db") && error.hint().is_some(),
        "{error:?}"
    );
    let refused = backend.registry.register(&registration("api", 1)).await;
    assert!(refused.is_err());
    assert_eq!(fs::read(&path).expect("the file"), content);
    // Once it is out of the way, all works.
    fs::rename(&path, dir.path().join("notes")).expect("another name");
    backend.registry.register(&registration("api", 1)).await?;
    assert_eq!(ports(&backend, "api").await?, [1]);
    assert_eq!(fs::read(dir.path().join("notes")).expect("the file"), content);
    Ok(())
}

/// Somebody deletes the file: what is wanted is registered again in the new one, and views heal.
pub(crate) async fn a_client_goes_on_in_a_new_file() -> Result<()> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("x.db");
    let client = Client::builder(open(&path)?).build()?;
    let wanted = Registration::builder("api", "127.0.0.1", 1)
        .ttl(Duration::from_secs(1))
        .build()?;
    let _registered = client.register(wanted).await?;
    let service = client.service("api")?;
    service.ready().await?;
    for name in ["x.db", "x.db-wal", "x.db-shm"] {
        fs::remove_file(dir.path().join(name)).expect("a file less");
    }
    let other = Actor::start(&format!("hold {} api 2 1", path.display()));
    eventually("both of them", PATIENCE, || async {
        let view = service.instances().await.map_err(|error| error.to_string())?;
        let mut ports: Vec<_> = view.instances.iter().map(|one| one.port).collect();
        ports.sort_unstable();
        if ports == [1, 2] {
            Ok(())
        } else {
            Err(format!("{view:?}"))
        }
    })
    .await;
    other.finish().await;
    client.shutdown(Duration::from_secs(5)).await
}

pub(crate) async fn a_cleaned_folder_of_locks_is_made_again() -> Result<()> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("x.db");
    let client = Client::builder(open(&path)?).build()?;
    let wanted = Registration::builder("api", "127.0.0.1", 1)
        .ttl(Duration::from_secs(1))
        .build()?;
    let _registered = client.register(wanted).await?;
    fs::remove_dir_all(dir.path().join("x.db-owners")).expect("a folder less");
    let mut other = Actor::start(&format!("hold {} api 2 1", path.display()));
    other.line().await;
    let backend = open(&path)?;
    shows(&backend, "api", &[1, 2]).await;
    drop(backend);
    other.finish().await;
    client.shutdown(Duration::from_secs(5)).await
}

/// Somebody is stopped in the middle of a change.
pub(crate) async fn a_change_under_way_is_waited_for_and_hinders_no_read() -> Result<()> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("x.db");
    let backend = open(&path)?;
    let lease = backend.registry.register(&registration("api", 1)).await?;
    let other = Connection::open(&path).expect("the database");
    other
        .execute_batch("BEGIN IMMEDIATE; DELETE FROM instances")
        .expect("a change under way");
    let began = Instant::now();
    let refused = backend
        .registry
        .register(&registration("api", 2))
        .await
        .expect_err("no turn");
    assert_eq!(refused.kind(), ErrorKind::Timeout, "{refused:?}");
    assert!(refused.is_retryable() && refused.hint().is_some(), "{refused:?}");
    assert!(began.elapsed() < PATIENCE, "after {:?}", began.elapsed());
    assert_eq!(ports(&backend, "api").await?, [1]);
    let heartbeat = Renewal::new([(lease.key, HealthReport::default())]);
    backend.registry.renew(&lease.group, &heartbeat).await?;
    other.execute_batch("ROLLBACK").expect("an end");
    backend.registry.register(&registration("api", 2)).await?;
    assert_eq!(ports(&backend, "api").await?, [1, 2]);
    Ok(())
}
