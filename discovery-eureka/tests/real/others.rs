//! Programs written with other clients.

use std::{process::Stdio, time::Duration};

use discovery::Client;
use discovery_core::{HealthReport, Status, pick::Service};
use discovery_testkit::{
    eventually,
    server::{Server, eureka::SpringClient},
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};

use crate::{
    Setup,
    support::{PATIENCE, on, shows, web},
};

/// Names an interpreter with `py-eureka-client`.
pub(crate) const PYTHON: &str = "DISCOVERY_PYTHON_EUREKA";

async fn ready(service: &Service) -> discovery_core::Snapshot {
    eventually("an instance", PATIENCE, async || {
        let view = service.instances().await.ok()?;
        (view.instances.len() == 1).then_some(view)
    })
    .await
}

pub(crate) async fn a_spring_service_and_we_see_each_other(setup: Setup) {
    let eureka = setup.started().await;
    let spring = SpringClient::new(&setup.other, "greeter", eureka.url()).unwrap();
    let client = Client::builder(on(&eureka)).build().unwrap();
    let ours = web(8080)
        .meta("version", "2")
        .tag("blue")
        .ttl(Duration::from_secs(3));
    let registered = client.register(ours.build().unwrap()).await.unwrap();
    spring.start().await.unwrap();

    let greeter = client.service("greeter").unwrap();
    let view = ready(&greeter).await;
    let found = view.instances.iter().next().unwrap();
    assert_eq!(found.port, spring.endpoint().port());
    assert_eq!(found.key.id.as_str(), spring.instance_id());
    assert_eq!(found.key.service.as_str(), "greeter");

    let seen = eventually("ours, in Spring's view", PATIENCE, async || {
        spring.instances("WEB").await.unwrap().pop()
    })
    .await;
    assert_eq!((&seen["port"], &seen["status"]), (&8080.into(), &"UP".into()));
    assert_eq!(
        (&seen["vipAddress"], &seen["metadata"]["version"]),
        (&"web".into(), &"2".into())
    );
    // Both ways, what changes is seen.
    spring.set_status("DOWN").await.unwrap();
    eventually("its status", PATIENCE, async || {
        greeter
            .instances()
            .await
            .is_ok_and(|view| view.instances.is_empty())
    })
    .await;
    let maintenance = HealthReport::new(Status::Passing).with_draining(true);
    registered.report_health(maintenance).await.unwrap();
    eventually("our maintenance", PATIENCE, async || {
        let seen = spring.instances("WEB").await.unwrap().pop();
        seen.is_some_and(|seen| seen["status"] == "OUT_OF_SERVICE")
    })
    .await;
    client.shutdown(PATIENCE).await.unwrap();
    eventually("our end", PATIENCE, async || {
        spring.instances("WEB").await.unwrap().is_empty()
    })
    .await;
    spring.stop().await.unwrap();
}

pub(crate) async fn py_eureka_client_and_we_see_each_other(setup: Setup) {
    let eureka = setup.started().await;
    let backend = on(&eureka);
    let client = Client::builder(on(&eureka)).build().unwrap();
    let ours = web(8080).meta("version", "2").ttl(Duration::from_secs(3));
    client.register(ours.build().unwrap()).await.unwrap();
    shows(&backend, "web", &[8080]).await;
    let mut python = Command::new(&setup.other)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/client.py"))
        .args([&eureka.url(), "snake", "9999", "web"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(python.stdout.take().unwrap()).lines();
    let seen = timeout(PATIENCE, async {
        loop {
            let line = lines.next_line().await.unwrap().expect("a line");
            match serde_json::from_str(&line) {
                Ok(Value::Array(mut found)) if !found.is_empty() => break found.remove(0),
                _ => {}
            }
        }
    });
    let seen = seen.await.expect("ours, in its view");
    assert_eq!((&seen["id"], &seen["port"]), (&"web-8080".into(), &8080.into()));
    assert_eq!(
        (&seen["metadata"]["version"], &seen["vip"]),
        (&"2".into(), &"web".into())
    );

    let view = ready(&client.service("snake").unwrap()).await;
    let found = view.instances.iter().next().unwrap();
    assert_eq!((found.port, found.status), (9999, Status::Passing));
    assert_eq!(found.meta["language"], "python");
    drop(python.stdin.take());
    let ended = timeout(PATIENCE, python.wait()).await.expect("an end").unwrap();
    assert!(ended.success(), "{ended}");
    shows(&backend, "snake", &[]).await;
    client.shutdown(PATIENCE).await.unwrap();
}
