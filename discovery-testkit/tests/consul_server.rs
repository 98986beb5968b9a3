//! The launcher on real Consul, old and new; `scripts/test` gets them. What cannot run is shown as ignored.
#![expect(
    clippy::unwrap_used,
    reason = "these are tests, without the harness that would say so"
)]

use std::{path::PathBuf, time::Duration};

use discovery_core::ErrorKind;
use discovery_testkit::{
    eventually,
    server::{
        Server,
        consul::{Age, Consul},
    },
};
use hyper::Method;
use libtest_mimic::{Arguments, Failed, Trial};
use rustix::process::{Pid, test_kill_process};
use serde_json::{Value, json};
use tokio::process::Command;

const DEADLINE: Duration = Duration::from_secs(90);

type Case = (&'static str, fn(Age, PathBuf) -> Result<(), Failed>);

macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        [$((stringify!($name), |age, binary| run($name(age, binary)))),+]
    };
}

fn main() {
    let cases: [Case; 9] = cases![
        serves_and_says_its_version,
        restarted_empty_it_forgets,
        restarted_in_place_it_remembers,
        acl_denies_all_but_what_a_token_allows,
        tls_asks_for_a_certificate,
        scripts_are_run_when_allowed,
        catalogue_nodes_come_and_go,
        two_datacenters_answer_for_each_other,
        a_cluster_survives_the_loss_of_its_leader,
    ];
    let trials = Age::ALL.into_iter().flat_map(|age| {
        cases.map(|(name, case)| {
            let binary = age.binary();
            let ignored = binary.is_none();
            let missing = format!("not run: {} is not set; scripts/servers gets one", age.variable());
            let name = if ignored {
                format!("{}: {name} ({missing})", age.name())
            } else {
                format!("{}: {name}", age.name())
            };
            Trial::test(name, move || case(age, binary.ok_or(missing)?)).with_ignored_flag(ignored)
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}

fn run(case: impl Future<Output = ()>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(case);
    Ok(())
}

fn web() -> Value {
    json!({ "ID": "web 1/a", "Name": "web", "Address": "192.0.2.1", "Port": 80 })
}

/// Waits until the catalogue has so many instances of `web`, and gives them.
async fn wait_for_web(consul: &Consul, count: usize) -> Vec<Value> {
    eventually(format!("{count} instances"), DEADLINE, || async {
        match consul.health("web").await {
            Ok(found) if found.len() == count => Ok(found),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

async fn serves_and_says_its_version(age: Age, binary: PathBuf) {
    let consul = Consul::dev(binary)
        .connections_per_client(50)
        .build()
        .await
        .unwrap();
    let down = consul.get("/v1/status/leader").await.unwrap_err();
    assert_eq!(down.kind(), ErrorKind::Unavailable, "{down}");
    consul.start().await.unwrap();
    let version = consul.version().await.unwrap();
    assert_eq!(version.starts_with("1.8."), age == Age::Old, "{version}");

    consul.register(&web()).await.unwrap();
    let found = wait_for_web(&consul, 1).await;
    assert_eq!(found[0]["Service"]["ID"], "web 1/a");
    assert_eq!(found[0]["Node"]["Node"], consul.node());
    consul.deregister("web 1/a").await.unwrap();
    wait_for_web(&consul, 0).await;
    assert_eq!(consul.agent_services().await.unwrap(), json!({}));

    let pid = i32::try_from(consul.pid().unwrap()).ok().and_then(Pid::from_raw);
    test_kill_process(pid.unwrap()).unwrap();
    consul.stop().await.unwrap();
    test_kill_process(pid.unwrap()).unwrap_err();
}

async fn restarted_empty_it_forgets(_: Age, binary: PathBuf) {
    for builder in [Consul::dev(&binary), Consul::dev(&binary).persistent()] {
        let consul = builder.build().await.unwrap();
        consul.start().await.unwrap();
        consul.register(&web()).await.unwrap();
        wait_for_web(&consul, 1).await;
        consul.restart_empty().await.unwrap();
        assert!(consul.health("web").await.unwrap().is_empty());
        assert_eq!(consul.agent_services().await.unwrap(), json!({}));
    }
}

async fn restarted_in_place_it_remembers(_: Age, binary: PathBuf) {
    let consul = Consul::dev(binary).persistent().build().await.unwrap();
    consul.start().await.unwrap();
    consul.register(&web()).await.unwrap();
    wait_for_web(&consul, 1).await;
    consul.kill().await.unwrap();
    consul.start().await.unwrap();
    wait_for_web(&consul, 1).await;
}

async fn acl_denies_all_but_what_a_token_allows(_: Age, binary: PathBuf) {
    let consul = Consul::dev(binary).acl().build().await.unwrap();
    consul.start().await.unwrap();
    assert!(!format!("{consul:?}").contains(consul.management_token().unwrap().expose()));
    consul.register(&web()).await.unwrap();
    wait_for_web(&consul, 1).await;

    let rules = r#"service "web" { policy = "write" } node_prefix "" { policy = "read" }"#;
    consul.create_policy("web", rules).await.unwrap();
    let token = consul.create_token(&["web"]).await.unwrap();
    let register = async |name: &str, token| {
        let body = json!({ "Name": name });
        let asked = consul.request(Method::PUT, "/v1/agent/service/register", token, Some(&body));
        asked.await.unwrap().status.as_u16()
    };
    let seen = async |token| {
        let asked = consul
            .request(Method::GET, "/v1/health/service/web", token, None)
            .await
            .unwrap();
        asked.json().unwrap().as_array().unwrap().len()
    };
    assert_eq!(register("web", None).await, 403);
    assert_eq!(register("db", Some(&token.secret)).await, 403);
    assert_eq!(register("web", Some(&token.secret)).await, 200);
    assert_eq!(seen(None).await, 0, "denied reads look empty");
    eventually("both instances under the token", DEADLINE, async || {
        seen(Some(&token.secret)).await == 2
    })
    .await;

    consul.revoke_token(&token).await.unwrap();
    eventually("the token's end", DEADLINE, async || {
        register("web", Some(&token.secret)).await == 403
    })
    .await;
}

async fn tls_asks_for_a_certificate(_: Age, binary: PathBuf) {
    let consul = Consul::dev(&binary).mutual_tls().build().await.unwrap();
    consul.start().await.unwrap();
    let files = consul.certificates().unwrap();
    let address = format!("-http-addr=https://{}", consul.https().unwrap());
    let ask = async |with_certificate: bool| {
        let mut command = Command::new(&binary);
        command
            .args(["catalog", "nodes"])
            .arg(&address)
            .arg("-ca-file")
            .arg(files.ca());
        if with_certificate {
            command.arg("-client-cert").arg(files.client_cert());
            command.arg("-client-key").arg(files.client_key());
        }
        command.output().await.unwrap()
    };
    let answer = ask(true).await;
    assert!(
        String::from_utf8_lossy(&answer.stdout).contains(consul.node()),
        "{answer:?}"
    );
    assert!(!ask(false).await.status.success(), "no certificate, no answer");
}

async fn scripts_are_run_when_allowed(_: Age, binary: PathBuf) {
    let mut service = web();
    service["Check"] = json!({ "CheckID": "true", "Args": ["true"], "Interval": "1s" });
    let refusing = Consul::dev(&binary).build().await.unwrap();
    refusing.start().await.unwrap();
    let refused = refusing.register(&service).await.unwrap_err();
    assert!(refused.message().contains("Scripts are disabled"), "{refused}");

    let consul = Consul::dev(&binary).script_checks().build().await.unwrap();
    consul.start().await.unwrap();
    consul.register(&service).await.unwrap();
    eventually("a passing check", DEADLINE, || async {
        let found = consul.health("web").await.unwrap();
        let checks = found.iter().flat_map(|one| one["Checks"].as_array().unwrap());
        let status = checks
            .filter(|check| check["CheckID"] == "true")
            .map(|check| check["Status"].clone());
        let status: Vec<Value> = status.collect();
        if status == ["passing"] {
            Ok(())
        } else {
            Err(format!("{status:?}"))
        }
    })
    .await;
}

async fn catalogue_nodes_come_and_go(_: Age, binary: PathBuf) {
    let consul = Consul::dev(binary).build().await.unwrap();
    consul.start().await.unwrap();
    let node =
        json!({ "Node": "outside", "Address": "192.0.2.9", "Service": { "Service": "web", "Port": 80 } });
    consul.register_node(&node).await.unwrap();
    assert_eq!(wait_for_web(&consul, 1).await[0]["Node"]["Node"], "outside");
    consul.deregister_node("outside").await.unwrap();
    wait_for_web(&consul, 0).await;
}

async fn two_datacenters_answer_for_each_other(_: Age, binary: PathBuf) {
    let here = Consul::dev(&binary).build().await.unwrap();
    let there = Consul::dev(&binary).datacenter("dc2").build().await.unwrap();
    here.start().await.unwrap();
    there.start().await.unwrap();
    here.join_wan(&there).await.unwrap();
    eventually("the other datacenter", DEADLINE, || async {
        match here.get("/v1/catalog/nodes?dc=dc2").await {
            Ok(nodes) if nodes[0]["Node"] == there.node() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

async fn a_cluster_survives_the_loss_of_its_leader(_: Age, binary: PathBuf) {
    let cluster = Consul::dev(binary).acl().cluster().await.unwrap();
    cluster.start().await.unwrap();
    let first = eventually("a leader", DEADLINE, || cluster.leader()).await;
    first.kill().await.unwrap();
    let second = eventually("another leader", DEADLINE, || cluster.leader()).await;
    assert_ne!(second.node(), first.node());
    eventually("a write", DEADLINE, async || {
        second.put("/v1/kv/a", &json!(1)).await
    })
    .await;

    // Two of three lost: no write, and no answer that asks the leader.
    let third = cluster
        .members()
        .iter()
        .find(|one| one.pid().is_some() && one.node() != second.node());
    second.kill().await.unwrap();
    let refused = third.unwrap().put("/v1/kv/a", &json!(2)).await.unwrap_err();
    assert!(refused.message().starts_with("500"), "{refused}");

    cluster.start().await.unwrap();
    let leader = eventually("a leader of all", DEADLINE, || cluster.leader()).await;
    let members = leader.get("/v1/agent/members").await.unwrap();
    assert_eq!(members.as_array().unwrap().len(), 3);
    let kept = leader.get("/v1/kv/a?raw").await.unwrap();
    assert_eq!(kept, json!(1), "nothing was lost");
    cluster.stop().await.unwrap();
}
