use std::os::unix::fs::PermissionsExt;

use super::*;

fn refused(path: &Path) -> Error {
    let error = open(path).unwrap_err();
    assert!(error.hint().is_some(), "{error:?}");
    error
}

#[test]
fn a_file_that_is_none_of_ours_is_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("short", b"x".to_vec()),
        ("line", b"this is no database".to_vec()),
        ("long", b"garbage ".repeat(4096)),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, &content).unwrap();
        let error = refused(&path);
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{name}: {error:?}");
        assert_eq!(fs::read(&path).unwrap(), content, "{name}");
    }
}

#[test]
fn a_database_of_another_program_is_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other.db");
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE log (line TEXT)").unwrap();
    drop(other);
    let before = fs::read(&path).unwrap();
    let error = refused(&path);
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error:?}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_newer_schema_is_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("newer.db");
    let newer = open(&path).unwrap();
    newer.pragma_update(None, "user_version", VERSION + 1).unwrap();
    drop(newer);
    let error = refused(&path);
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error:?}");
    assert!(error.to_string().contains("newer version"), "{error}");
    let kept = Connection::open(&path).unwrap();
    let version: i32 = kept
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    assert_eq!(version, VERSION + 1);
}

#[test]
fn what_it_makes_is_the_users_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/x.db");
    prepare(&path).unwrap();
    let _open = open(&path).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for folder in ["a", "a/b"] {
        assert_eq!(mode(&dir.path().join(folder)), 0o700, "{folder}");
    }
    for file in ["x.db", "x.db-wal", "x.db-shm"] {
        assert_eq!(mode(&dir.path().join("a/b").join(file)), 0o600, "{file}");
    }
}

#[test]
fn network_file_systems_are_refused_by_name() {
    for (number, name) in NETWORK {
        let error = refuse_network(*number, Path::new("/mnt")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        assert!(error.to_string().contains(name), "{error}");
        assert!(error.hint().is_some());
    }
    for local in [0xef53, 0x0102_1994, 0x5846_5342, 0x9123_683e, 0x794c_7630] {
        assert!(refuse_network(local, Path::new("/")).is_ok(), "{local:x}");
    }
}
