//! Health checks.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use discovery_core::{Check, HealthReport, Instance, Query, Status};
use discovery_testkit::{
    eventually,
    proxy::http::{HttpProxy, Rule},
    server::{
        Server,
        consul::{Age, Consul},
        etcd::{self, Etcd},
    },
};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::{
    net::UdpSocket,
    time::{sleep, timeout},
};

use super::{PATIENCE, all, beat, dev, on, show, web};

const TICK: Duration = Duration::from_secs(1);

pub(super) async fn h_1_what_an_http_endpoint_answers_is_what_is_shown(_: Age, binary: PathBuf) {
    let consul = dev(binary).await;
    let backend = on(&consul);
    let endpoint = HttpProxy::stub().unwrap();
    endpoint.rule(Rule::any("/fine").reply(204, ""));
    endpoint.rule(Rule::any("/busy").reply(429, "later"));
    endpoint.rule(Rule::any("/broken").reply(500, "x".repeat(5000)));
    endpoint.rule(Rule::any("/absent").reply(404, ""));
    endpoint.rule(Rule::any("/moved").redirect(302, "/fine"));
    endpoint.rule(Rule::any("/slow").delay(Duration::from_secs(600)).reply(200, ""));
    endpoint.rule(Rule::any("/often").reply(200, ""));
    for path in ["fine", "busy", "broken", "absent", "moved", "slow", "often"] {
        let every = if path == "often" {
            Duration::from_millis(100)
        } else {
            TICK
        };
        let check = Check::http(format!("http://{}/{path}", endpoint.addr()))
            .every(every)
            .timeout(Duration::from_millis(500));
        let registration = web(path).check(check).build().unwrap();
        backend.registry.register(&registration).await.unwrap();
    }
    let wanted = [
        ("fine", Status::Passing),
        ("busy", Status::Warning),
        ("broken", Status::Critical),
        ("absent", Status::Critical),
        ("moved", Status::Passing),
        ("slow", Status::Critical),
        ("often", Status::Passing),
    ];
    show(&backend, &wanted).await;
    let output = all(&backend).await["broken"]
        .checks
        .iter()
        .find(|check| check.name == "http")
        .unwrap()
        .output
        .clone();
    let kept = output.matches('x').count();
    assert_eq!(kept, 4096, "of a body of 5000 bytes");
    eventually("some looks", PATIENCE, || async {
        endpoint.requests_matching("/often").len() > 5
    })
    .await;
    let often = endpoint.requests_matching("/often");
    // All of them together: a busy machine may see one late and the next in time.
    let took = often[5].at - often[0].at;
    assert!(
        took > Duration::from_secs(4),
        "a second is the least: five in {took:?}"
    );
}

/// The library registers TCP, script and gRPC checks; the others may be there by other hands.
pub(super) async fn h_2_what_other_checks_say_is_what_is_shown(age: Age, binary: PathBuf) {
    let consul = Consul::dev(binary).script_checks().build().await.unwrap();
    consul.start().await.unwrap();
    let backend = on(&consul);
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    // etcd answers questions about its health by gRPC.
    let binary = etcd::Age::New.binary().expect("a path in DISCOVERY_ETCD_NEW");
    let serving = Etcd::dev(binary).build().await.unwrap();
    serving.start().await.unwrap();
    let exit = |code: u8| Check::script(["sh".to_owned(), "-c".to_owned(), format!("exit {code}")]);
    let grpc = |target: SocketAddr, service: &str| Check::grpc(format!("{target}{service}"), false);
    let mut wanted = Vec::new();
    for (id, check, status) in [
        (
            "tcp-open",
            Check::tcp(consul.endpoint().to_string()),
            Status::Passing,
        ),
        ("tcp-closed", Check::tcp(closed.to_string()), Status::Critical),
        ("exit-0", exit(0), Status::Passing),
        ("exit-1", exit(1), Status::Warning),
        ("exit-2", exit(2), Status::Critical),
        ("grpc-serving", grpc(serving.endpoint(), ""), Status::Passing),
        (
            "grpc-unknown",
            grpc(serving.endpoint(), "/absent"),
            Status::Critical,
        ),
        ("grpc-none", grpc(closed, ""), Status::Critical),
    ] {
        let registration = web(id).check(check.every(TICK)).build().unwrap();
        backend.registry.register(&registration).await.unwrap();
        wanted.push((id, status));
    }
    let mut others = vec![
        (
            "alias-open",
            json!({ "AliasService": "tcp-open" }),
            Status::Passing,
        ),
        (
            "alias-closed",
            json!({ "AliasService": "tcp-closed" }),
            Status::Critical,
        ),
    ];
    // 1.8 knows neither. Without TLS, which H2PING defaults to, there is nothing to ping. A UDP check waits for an answer
    // for ever: silence leaves the status it began with.
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let answering = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    if age == Age::New {
        let udp = |at: SocketAddr| json!({ "UDP": at.to_string(), "Interval": "1s", "Timeout": "500ms" });
        others.push((
            "udp-answering",
            udp(answering.local_addr().unwrap()),
            Status::Passing,
        ));
        others.push(("udp-silent", udp(silent.local_addr().unwrap()), Status::Critical));
        others.push(("udp-closed", udp(closed), Status::Critical));
        let h2 = json!({ "H2PING": consul.endpoint().to_string(), "Interval": "1s" });
        others.push(("h2-plain", h2, Status::Critical));
    }
    for (id, check, status) in others {
        let service = json!({ "ID": id, "Name": "web", "Port": 1, "Check": check });
        consul.register(&service).await.unwrap();
        wanted.push((id, status));
    }
    let answer = async {
        loop {
            let (_, asker) = answering.recv_from(&mut [0; 64]).await.unwrap();
            answering.send_to(b"here", asker).await.unwrap();
        }
    };
    tokio::select! {
        () = answer => {}
        () = show(&backend, &wanted) => {}
    }
}

pub(super) async fn h_3_h_4_counted_results_are_shown_as_the_server_counts(age: Age, binary: PathBuf) {
    let consul = dev(binary).await;
    let backend = on(&consul);
    let endpoint = HttpProxy::stub().unwrap();
    let fine = endpoint.rule(Rule::any("*").reply(200, ""));
    let check = |more: Value| {
        let mut check = json!({ "CheckID": "counted", "HTTP": format!("http://{}/", endpoint.addr()), "Interval": "1s",
            "SuccessBeforePassing": 6, "FailuresBeforeCritical": 8 });
        check
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({ "ID": "web-1", "Name": "web", "Port": 1, "Check": check })
    };
    let warning = json!({ "FailuresBeforeWarning": 3 });
    match age {
        Age::New => {
            let bad = check(json!({ "FailuresBeforeWarning": 9 }));
            let error = consul.register(&bad).await.unwrap_err();
            assert!(error.message().starts_with("400"), "{error}");
            consul.register(&check(warning)).await.unwrap();
        }
        Age::Old => {
            // C-32: what it does not know, it refuses.
            let error = consul.register(&check(warning)).await.unwrap_err();
            assert!(error.message().contains("unknown field"), "{error}");
            consul.register(&check(json!({}))).await.unwrap();
        }
    }
    let looks = |after: usize| {
        let endpoint = &endpoint;
        async move {
            eventually("looks", PATIENCE, || async {
                endpoint.requests_matching("*").len() >= after
            })
            .await;
        }
    };
    let status = || async { all(&backend).await["web-1"].status };
    // Counters start at their threshold: the first result counts at once.
    show(&backend, &[("web-1", Status::Passing)]).await;
    let counted = endpoint.requests_matching("*").len();
    assert!(counted < 6, "{counted} looks");

    fine.remove();
    let first = endpoint.requests_matching("*").len();
    endpoint.rule(Rule::any("*").reply(500, ""));
    looks(first + 1).await;
    let shown = status().await;
    let seen = endpoint.requests_matching("*").len() - first;
    assert!(
        shown == Status::Passing || seen >= 3,
        "below every threshold nothing changes: {shown} after {seen} failures"
    );
    if age == Age::New {
        show(&backend, &[("web-1", Status::Warning)]).await;
        let seen = endpoint.requests_matching("*").len() - first;
        assert!(seen >= 3, "a warning after {seen} failures");
    }
    show(&backend, &[("web-1", Status::Critical)]).await;
    let seen = endpoint.requests_matching("*").len() - first;
    assert!(seen >= 8, "critical after {seen} failures");

    // Warnings count as successes.
    endpoint.clear_rules();
    let first = endpoint.requests_matching("*").len();
    endpoint.rule(Rule::any("*").reply(429, ""));
    show(&backend, &[("web-1", Status::Warning)]).await;
    let seen = endpoint.requests_matching("*").len() - first;
    assert!(seen >= 6, "a warning after {seen} results");
}

pub(super) async fn h_5_a_heartbeat_of_any_status_holds_off_the_ttl(_: Age, binary: PathBuf) {
    let consul = dev(binary).await;
    let backend = on(&consul);
    let ttl = Duration::from_secs(3);
    let registration = |id: &str| web(id).ttl(ttl).build().unwrap();
    let lease = backend.registry.register(&registration("web-1")).await.unwrap();
    backend.registry.register(&registration("silent")).await.unwrap();
    let output = |all: &BTreeMap<String, Instance>, id: &str| {
        all.get(id)
            .and_then(|one| one.checks.iter().find(|check| check.name == "heartbeat").cloned())
            .map(|check| check.output)
            .unwrap_or_default()
    };
    let ill = HealthReport::new(Status::Critical).with_output("ill");
    beat(&backend, &lease, ill.clone()).await;
    eventually("the end of the silent one", PATIENCE, || async {
        beat(&backend, &lease, ill.clone()).await;
        sleep(Duration::from_millis(500)).await;
        let all = all(&backend).await;
        // It would say so if its time had run out, and it is critical as the owner says.
        assert!(!output(&all, "web-1").contains("TTL expired"), "{all:?}");
        output(&all, "silent").contains("TTL expired")
    })
    .await;
    show(
        &backend,
        &[("web-1", Status::Critical), ("silent", Status::Critical)],
    )
    .await;
    assert_eq!(output(&all(&backend).await, "web-1"), "ill");
}

pub(super) async fn h_6_an_output_alone_wakes_nobody(_: Age, binary: PathBuf) {
    let consul = dev(binary).await;
    let backend = on(&consul);
    let lease = backend
        .registry
        .register(&web("web-1").build().unwrap())
        .await
        .unwrap();
    show(&backend, &[("web-1", Status::Passing)]).await;
    let query = Query::service("web").unwrap().with_checks();
    let mut stream = backend.watcher.watch(&query, None);
    stream.next().await.unwrap().unwrap();
    let quiet = async {
        for n in 0..10 {
            beat(
                &backend,
                &lease,
                HealthReport::default().with_output(format!("beat {n}")),
            )
            .await;
            sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        event = stream.next() => panic!("{event:?}"),
        () = quiet => {}
    }
    let output = |one: &Instance| {
        one.checks
            .iter()
            .map(|check| check.output.clone())
            .collect::<String>()
    };
    let own = backend.registry.instance(&lease.key).await.unwrap().unwrap();
    assert!(output(&own).contains("beat 9"), "its agent knows: {own:?}");
    let found = all(&backend).await;
    assert!(
        !output(&found["web-1"]).contains("beat 9"),
        "the catalogue does not yet: {found:?}"
    );
    // A status is told at once, with its output.
    beat(
        &backend,
        &lease,
        HealthReport::new(Status::Warning).with_output("beat 10"),
    )
    .await;
    let event = timeout(PATIENCE, stream.next()).await.unwrap().unwrap().unwrap();
    assert!(format!("{event:?}").contains("beat 10"), "{event:?}");
}

pub(super) async fn h_7_a_lost_node_takes_its_instances_out(_: Age, binary: PathBuf) {
    let cluster = Consul::dev(binary).cluster().await.unwrap();
    cluster.start().await.unwrap();
    let leader = eventually("a leader", PATIENCE, || cluster.leader()).await;
    let lost = cluster
        .members()
        .iter()
        .find(|one| one.node() != leader.node())
        .unwrap();
    on(lost)
        .registry
        .register(&web("web-1").ttl(Duration::from_secs(600)).build().unwrap())
        .await
        .unwrap();
    on(leader)
        .registry
        .register(&web("web-2").build().unwrap())
        .await
        .unwrap();
    let backend = on(leader);
    show(
        &backend,
        &[("web-1", Status::Passing), ("web-2", Status::Passing)],
    )
    .await;
    lost.kill().await.unwrap();
    eventually("the loss", Duration::from_secs(90), || async {
        all(&backend).await["web-1"].status == Status::Critical
    })
    .await;
    assert_eq!(all(&backend).await["web-2"].status, Status::Passing);
}
