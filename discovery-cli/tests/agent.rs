//! The agent, from its start to its end.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use rustix::process::Signal;
use support::{Running, Stage, eventually};

fn definition(name: &str, port: u16, tag: &str) -> String {
    format!(
        "service_definition:\n  name: {name}\n  id: \"{name}-{{{{ .instance_id }}}}\"\n  address: 127.0.0.1\n  port: {port}\n  tags: [{tag}]\n"
    )
}

/// What `line` says stands behind `before`, up to a space.
fn after(line: &str, before: &str) -> String {
    let (_, rest) = line.split_once(before).unwrap();
    rest.split([' ', '/']).next().unwrap().to_owned()
}

fn get(address: &str, path: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    write!(connection, "GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

fn start(stage: &Stage) -> Running {
    stage.start(&[
        "agent",
        "--file",
        "services",
        "--set",
        "instance_id=1",
        "--dns",
        "127.0.0.1:0",
        "--metrics",
        "127.0.0.1:0",
    ])
}

#[test]
fn it_holds_serves_reloads_and_withdraws() {
    let stage = Stage::new();
    stage.write("services/api.yaml", &definition("api", 8080, "v1"));
    stage.write("services/web.yml", &definition("web", 8081, "v1"));
    stage.write("services/notes.txt", "not a definition");
    let mut agent = start(&stage);
    let dns = after(&agent.err.with("DNS at "), "DNS at ");
    let metrics = after(&agent.err.with("metrics at "), "http://");
    agent.err.with("registered ");
    agent.err.with("registered ");
    let found = stage.ok(&["find"]);
    assert!(found.contains("api-1") && found.contains("web-1"), "{found}");

    // The face has seen what the registry shows.
    let resolved = eventually("record", || {
        let ran = stage.run(&["debug", "dns", "api.service.discovery", "--server", &dns]);
        (ran.code == Some(0)).then_some(ran.out)
    });
    assert!(
        resolved.contains("SRV") && resolved.contains("8080") && resolved.contains("127.0.0.1"),
        "{resolved}"
    );
    let ran = stage.run(&["debug", "dns", "none.service.discovery", "--server", &dns]);
    assert_eq!(ran.code, Some(66), "{ran:?}");

    let answer = get(&metrics, "/metrics");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for line in [
        r#"registered_services_total{backend="local",datacenter=""} 2"#,
        r#"service_registration_duration_count{backend="local"} 2"#,
        r#"service_registration_duration_bucket{backend="local",le="+Inf"} 2"#,
    ] {
        assert!(answer.contains(line), "{line}: {answer}");
    }
    assert!(get(&metrics, "/").starts_with("HTTP/1.1 404"));

    // A mistake in one file changes nothing.
    stage.write("services/api.yaml", "service_definition:\n  nmae: api\n");
    fs::remove_file(stage.work().join("services/web.yml")).unwrap();
    agent.signal(Signal::HUP);
    agent.err.with("not reloaded, all stays as it is");
    agent.err.with("did you mean `name`");
    let found = stage.ok(&["find"]);
    assert!(found.contains("api-1") && found.contains("web-1"), "{found}");

    // Changed, gone, new.
    stage.write("services/api.yaml", &definition("api", 8080, "v2"));
    stage.write("services/db.yaml", &definition("db", 5432, "v1"));
    agent.signal(Signal::HUP);
    agent.err.with("withdrawn web-1");
    agent.err.with("reloaded: 1 new, 1 changed, 1 withdrawn");
    agent.err.with("registered ");
    agent.err.with("registered ");
    let found = stage.ok(&["find"]);
    assert!(
        found.contains("v2") && found.contains("db-1") && !found.contains("web-1"),
        "{found}"
    );

    assert_eq!(agent.end(Signal::TERM), Some(0));
    assert_eq!(stage.ok(&["find"]), "");
}

#[test]
fn a_mistake_at_the_start_ends_it_and_leaves_nothing() {
    let stage = Stage::new();
    stage.write("services/api.yaml", &definition("api", 8080, "v1"));
    stage.write("services/other.yaml", &definition("api", 8081, "v1"));
    let ran = stage.run(&["agent", "--file", "services", "--set", "instance_id=1"]);
    assert_eq!(ran.code, Some(64));
    assert!(ran.err.contains("two files define one id"), "{ran:?}");
    // gRPC checks are what only registries run.
    stage.write(
        "services/other.yaml",
        &(definition("web", 8081, "v1") + "  health_checks:\n    - name: x\n      grpc: \"127.0.0.1:1\"\n"),
    );
    let ran = stage.run(&["agent", "--file", "services", "--set", "instance_id=1"]);
    assert_eq!(ran.code, Some(65), "{ran:?}");
    assert_eq!(stage.ok(&["find"]), "");
}

#[test]
fn a_registry_that_is_down_is_waited_for() {
    let stage = Stage::new();
    let path = stage.write("services/api.yaml", &definition("api", 8080, "v1"));
    let mut agent = stage.start(&[
        "agent",
        "--file",
        path.to_str().unwrap(),
        "--backend",
        "consul",
        "--endpoint",
        "127.0.0.1:1",
    ]);
    agent.err.with("is not registered yet, and tried again");
    assert_eq!(agent.end(Signal::TERM), Some(0));
}
