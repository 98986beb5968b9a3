//! Commands that stay: what they tell, and how they end.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::process::Stdio;

use rustix::process::Signal;
use support::{Ran, Stage};

const API: [&str; 6] = ["register", "api", "--address", "127.0.0.1", "--port", "8080"];

#[test]
fn a_watch_tells_every_change_with_time_and_reason_and_ends_by_ctrl_c() {
    let stage = Stage::new();
    stage.ok(&API);
    let mut watch = stage.start(&["watch", "api", "--follow"]);
    let line = watch.out.with("appeared");
    assert!(
        line.ends_with("api-127.0.0.1-8080 127.0.0.1:8080 passing (there at the start)"),
        "{line}"
    );
    assert!(
        line.starts_with("20") && line.contains('T') && line.contains("Z "),
        "{line}"
    );
    stage.ok(&[
        "register",
        "api",
        "--address",
        "127.0.0.1",
        "--port",
        "8081",
        "--id",
        "two",
    ]);
    watch.out.with("appeared two 127.0.0.1:8081 passing (registered)");
    stage.ok(&[
        "health-update",
        "api",
        "--service-id",
        "two",
        "--status",
        "critical",
        "--output",
        "out of disk",
    ]);
    let line = watch.out.with("changed");
    assert!(
        line.contains("two 127.0.0.1:8081 critical (status passing → critical"),
        "{line}"
    );
    stage.ok(&[
        "register",
        "api",
        "--address",
        "127.0.0.1",
        "--port",
        "8082",
        "--id",
        "two",
    ]);
    let line = watch.out.with("changed");
    assert!(line.contains("address 127.0.0.1:8081 → 127.0.0.1:8082"), "{line}");
    stage.ok(&["deregister", "api", "--service-id", "two"]);
    watch
        .out
        .with("gone     two 127.0.0.1:8082 critical (no longer in the registry)");
    assert_eq!(watch.end(Signal::INT), Some(0));
    assert_eq!(watch.out.rest(), Vec::<String>::new());
}

#[test]
fn a_watch_of_a_value_tells_what_is_below_it_too() {
    let stage = Stage::new();
    stage.ok(&["config", "set", "features", "1"]);
    let mut watch = stage.start(&["config", "watch", "features", "--follow"]);
    watch.out.with("set      features = 1");
    stage.ok(&["config", "set", "features2", "no"]);
    stage.ok(&["config", "set", "features/dark", "on"]);
    watch.out.with("set      features/dark = on");
    stage.ok(&["config", "delete", "features"]);
    watch.out.with("deleted  features");
    assert_eq!(watch.end(Signal::TERM), Some(0));
}

#[test]
fn a_watch_ends_when_nobody_reads_it_though_nothing_changes() {
    let stage = Stage::new();
    stage.ok(&API);
    for line in [
        "sysctl discovery watch api --follow | head -n 1",
        "sysctl discovery watch api --follow --format json | head -n 1",
        "sysctl discovery config watch none --follow | true",
    ] {
        let ran = Ran::of(&stage.shell(line).output().unwrap());
        assert_eq!(ran.code, Some(0), "{line}: {ran:?}");
        assert!(!ran.err.contains("error"), "{line}: {ran:?}");
    }
}

#[test]
fn what_is_kept_alive_is_withdrawn_at_the_end() {
    let stage = Stage::new();
    for signal in [Signal::INT, Signal::TERM] {
        let mut kept = stage.start(&[&API[..], &["--keep-alive"]].concat());
        kept.out.with("registered api-127.0.0.1-8080 of api");
        kept.err.with("kept alive");
        assert!(stage.ok(&["find", "api"]).contains("passing"));
        assert_eq!(kept.end(signal), Some(0), "{signal:?}");
        assert_eq!(kept.err.rest(), ["withdrawn"]);
        assert_eq!(stage.ok(&["find", "api"]), "");
    }
    // Killed, it leaves nothing either: its process is what it lives by.
    let mut kept = stage.start(&[&API[..], &["--keep-alive"]].concat());
    kept.err.with("kept alive");
    kept.signal(Signal::KILL);
    kept.wait();
    assert_eq!(stage.ok(&["find", "api"]), "");
}

#[test]
fn a_question_that_is_interrupted_ends_with_130() {
    let stage = Stage::new();
    // Somebody who takes the connection and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let mut asked = stage.start(&[
        "list",
        "--backend",
        "consul",
        "--endpoint",
        &address,
        "--timeout",
        "5m",
    ]);
    let connection = silent.accept().unwrap();
    assert_eq!(asked.end(Signal::INT), Some(130));
    drop(connection);
}

#[test]
fn nobody_there_to_read_an_answer_is_no_error() {
    let stage = Stage::new();
    stage.ok(&API);
    let mut child = stage
        .command(&["find", "api", "--format", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
