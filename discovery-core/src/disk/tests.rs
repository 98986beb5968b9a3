use super::*;
use crate::model::{Held, InstanceId, InstanceKey, ServiceName, Suspicion};

fn backend() -> BackendInfo {
    BackendInfo::new("consul", "127.0.0.1:8500")
}

fn query() -> Query {
    Query::service("api").unwrap()
}

fn instance(id: InstanceId) -> Instance {
    let key = InstanceKey::new("consul", ServiceName::new("api").unwrap(), id).with_node("node-1");
    Instance::builder(key, "192.0.2.1", 80)
        .tags(["v2"])
        .meta([("team", "größe")])
        .port("metrics", 9090, false)
        .build()
}

fn snapshot() -> Snapshot {
    let ids = ["a", "b"].map(|id| InstanceId::new(id).unwrap());
    Snapshot::live(query().target, ids.map(instance).to_vec()).with_cursor(crate::Cursor::new("index-42"))
}

/// A store in a directory of its own.
fn store() -> (tempfile::TempDir, SnapshotStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = SnapshotStore::new(dir.path().join("deep/er"), backend());
    (dir, store)
}

fn files(dir: &tempfile::TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.path().join("deep/er")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The file's body under a good header, after `change`.
fn rewrite(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let bytes = fs::read(path).unwrap();
    let mut body = serde_json::from_slice(checked(&bytes).unwrap()).unwrap();
    change(&mut body);
    let body = serde_json::to_vec(&body).unwrap();
    let mut file = format!("{MAGIC} {FORMAT} {:016x}\n", xxh3_64(&body)).into_bytes();
    file.extend(body);
    fs::write(path, file).unwrap();
}

#[tokio::test]
async fn what_was_saved_is_loaded_from_disk_with_its_age_and_without_a_cursor() {
    let (dir, store) = store();
    assert_eq!(store.load(&query()).await, None);
    let mut saved = snapshot();
    saved.freshness = Freshness::aged(Duration::from_secs(600));
    assert!(store.save(&query(), &saved).await);

    let loaded = SnapshotStore::new(dir.path().join("deep/er"), backend())
        .load(&query())
        .await
        .unwrap();
    assert_eq!(loaded.source, Source::Disk);
    assert_eq!(loaded.instances, saved.instances);
    assert_eq!(loaded.cursor, None);
    assert!(loaded.age() >= Duration::from_secs(599) && loaded.age() < Duration::from_secs(700));
    let text = fs::read_to_string(&files(&dir)[0]).unwrap();
    assert!(!text.contains("index-42"), "cursors are never persisted");
}

#[tokio::test]
async fn filters_do_not_matter_but_max_stale_and_scope_do() {
    let (_dir, store) = store();
    let mut saved = snapshot();
    saved.freshness = Freshness::aged(Duration::from_secs(600));
    assert!(store.save(&query().tag("v2"), &saved).await);
    assert!(store.load(&query().include_unhealthy()).await.is_some());
    let strict = query().max_stale(Duration::from_secs(500));
    assert_eq!(store.load(&strict).await, None);
    assert_eq!(store.load(&query().datacenter("dc2")).await, None);
    assert_eq!(store.load(&query().with_checks()).await, None);
    assert_eq!(store.load(&Query::all()).await, None);
}

#[tokio::test]
async fn another_registry_in_the_same_directory_finds_nothing() {
    let (dir, store) = store();
    assert!(store.save(&query(), &snapshot()).await);
    for other in [
        BackendInfo::new("consul", "127.0.0.1:9500"),
        BackendInfo::new("etcd", "127.0.0.1:8500"),
    ] {
        let other = SnapshotStore::new(dir.path().join("deep/er"), other);
        assert_eq!(other.load(&query()).await, None);
    }
}

#[tokio::test]
async fn only_good_answers_are_saved_and_an_authoritative_empty_one_is_good() {
    let (_dir, store) = store();
    let suspect = snapshot().with_evidence(Evidence::Suspect(Suspicion::NoLeader));
    let mut held = snapshot();
    held.held = Some(Held::new(Suspicion::MassRemoval, 1));
    for bad in [
        suspect,
        held,
        snapshot().with_source(Source::Stale),
        snapshot().with_source(Source::Disk),
    ] {
        assert!(!store.save(&query(), &bad).await);
    }
    assert_eq!(store.load(&query()).await, None);
    assert!(store.save(&query(), &snapshot()).await);
    let empty = Snapshot::live(query().target, Vec::<Instance>::new());
    assert!(store.save(&query(), &empty).await);
    assert_eq!(store.load(&query()).await.map(|s| s.instances.len()), Some(0));
}

#[tokio::test]
async fn no_damage_stops_a_start_and_the_next_save_repairs_it() {
    let (dir, store) = store();
    assert!(store.save(&query(), &snapshot()).await);
    let path = files(&dir).remove(0);
    let good = fs::read(&path).unwrap();
    let mut flipped = good.clone();
    let last = flipped.len() - 10;
    flipped[last] ^= 1;
    let old = [b"discovery-snapshot 0 ".as_slice(), &good[21..]].concat();
    let mut cases = vec![
        Vec::new(),
        b"\n".to_vec(),
        b"{}".to_vec(),
        vec![0xff; 1000],
        flipped,
        old,
    ];
    cases.extend((0..good.len()).step_by(41).map(|end| good[..end].to_vec()));
    for case in cases {
        fs::write(&path, &case).unwrap();
        assert_eq!(
            store.load(&query()).await,
            None,
            "{}",
            String::from_utf8_lossy(&case)
        );
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(store.load(&query()).await, None);
    fs::remove_dir(&path).unwrap();
    assert!(store.save(&query(), &snapshot()).await);
    assert!(store.load(&query()).await.is_some());
}

#[tokio::test]
async fn a_file_larger_than_any_we_write_is_not_read() {
    let (dir, store) = store();
    assert!(store.save(&query(), &snapshot()).await);
    let file = File::options().write(true).open(&files(&dir)[0]).unwrap();
    file.set_len(MAX_BYTES + 1).unwrap();
    assert_eq!(store.load(&query()).await, None);
}

#[tokio::test]
async fn a_moment_ahead_of_the_clock_is_as_good_as_new() {
    let (dir, store) = store();
    assert!(store.save(&query(), &snapshot()).await);
    rewrite(&files(&dir)[0], |body| {
        body["confirmed_at"]["secs_since_epoch"] = 99_999_999_999_u64.into();
    });
    let loaded = store
        .load(&query().max_stale(Duration::from_secs(60)))
        .await
        .unwrap();
    assert!(loaded.age() < Duration::from_secs(5));
}

/// prometheus#8438: one bad target drops a whole group.
#[tokio::test]
async fn issue_prometheus_8438_one_bad_instance_does_not_take_its_siblings_along() {
    let (_dir, store) = store();
    let mut instances = vec![instance(InstanceId::observed("bad/id"))];
    instances.push(instance(InstanceId::new("good").unwrap()));
    assert!(
        store
            .save(&query(), &Snapshot::live(query().target, instances))
            .await
    );
    let loaded = store.load(&query()).await.unwrap();
    assert_eq!(loaded.instances.len(), 1);
    assert_eq!(loaded.instances[0].key.id.as_str(), "good");
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_gone_without() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let store = SnapshotStore::new(file.join("below"), backend());
    for _ in 0..2 {
        assert!(!store.save(&query(), &snapshot()).await);
        assert!(store.0.failing.load(Ordering::Relaxed));
    }
    assert_eq!(store.load(&query()).await, None);
}

#[cfg(unix)]
#[tokio::test]
async fn files_and_directories_are_their_owners_alone_and_nothing_is_left_over() {
    use std::os::unix::fs::PermissionsExt;

    let (dir, store) = store();
    let snapshot = snapshot();
    for _ in 0..3 {
        assert!(store.save(&query(), &snapshot).await);
    }
    let files = files(&dir);
    assert_eq!(files.len(), 1, "{files:?}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&files[0]), 0o600);
    assert_eq!(mode(&dir.path().join("deep/er")), 0o700);
}
