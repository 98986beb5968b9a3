//! The `datacenter_federation:` block on real Consul datacenters, old and new, with DNS behind them, which die one after the
//! other while calls go on. `DISCOVERY_CONSUL_OLD` and `DISCOVERY_CONSUL_NEW` name the programs.

#![expect(
    clippy::unwrap_used,
    reason = "a test program: what is unexpected ends the case"
)]

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use discovery::{
    Client, Registration, TaskGroup,
    pick::{CallPolicy, Service},
};
use discovery_testkit::{
    eventually,
    server::{
        Server,
        consul::{Age, Consul},
    },
    try_eventually,
};
use libtest_mimic::{Arguments, Trial};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

/// How long the case may take.
const LIMIT: Duration = Duration::from_secs(300);
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut trials = Vec::new();
    for age in Age::ALL {
        let name = format!("{}::datacenters_die_and_calls_go_on", age.name());
        let (handle, binary) = (runtime.handle().clone(), age.binary());
        let missing = binary.is_none();
        let run = move || {
            let binary = binary.ok_or_else(|| format!("not run: {} is not set", age.variable()))?;
            let ended = catch_unwind(AssertUnwindSafe(|| {
                handle.block_on(async { timeout(LIMIT, die(binary)).await.expect("an end in time") });
            }));
            ended.map_err(|_| "see above".into())
        };
        trials.push(Trial::test(name, run).with_ignored_flag(missing));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// An agent that is a datacenter.
async fn datacenter(binary: &Path, name: &str) -> Consul {
    let consul = Consul::dev(binary)
        .datacenter(name)
        .persistent()
        .build()
        .await
        .unwrap();
    consul.start().await.unwrap();
    consul
}

/// An instance that takes calls, until aborted.
async fn instance(tasks: &TaskGroup, at: SocketAddr) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind(at).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async move {
        loop {
            drop(listener.accept().await);
        }
    };
    (port, tasks.spawn(serve))
}

async fn register(consul: &Consul, name: &str, port: u16) {
    let service =
        json!({ "Name": name, "ID": format!("{name}-{port}"), "Address": "127.0.0.1", "Port": port });
    consul.register(&service).await.unwrap();
}

/// A call; answers which source its instance came from.
async fn call(api: &Service) -> Result<String, String> {
    let policy = CallPolicy::default().attempts(2).timeout(Duration::from_secs(5));
    let answer = api.call(&policy, async |instance| {
        TcpStream::connect(instance.address()).await?;
        Ok::<_, std::io::Error>(instance.key.source.to_string())
    });
    answer.await.map_err(|error| error.to_string())
}

/// Calls until one is answered from `source`; answers the failures on the way.
async fn until(api: &Service, source: &str) -> usize {
    let failures = std::sync::atomic::AtomicUsize::new(0);
    let served = try_eventually(source, PATIENCE, || async {
        let called = call(api).await;
        if called.is_err() {
            failures.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        match called {
            Ok(served) if served == source => Ok(()),
            other => Err(format!("{other:?}, {:?}", api.view().snapshot())),
        }
    })
    .await;
    assert!(served.is_ok(), "{served:?}");
    failures.into_inner()
}

/// The file, with DNS as the last resort.
fn federation(one: SocketAddr, two: SocketAddr, dns: SocketAddr) -> String {
    format!(
        r#"
datacenter_federation:
  datacenters:
    dc1:
      primary: true
      consul_address: "{one}"
      wan_address: "127.0.0.1:8302"
    dc2:
      primary: false
      consul_address: "{two}"
  cross_dc_services:
    - name: "database"
      failover: ["dc1", "dc2"]
    - name: "api"
      load_balancing: "round_robin"
      datacenters: ["dc1", "dc2"]
failover:
  sources:
    - name: "dns"
      uri: "dns://{dns}?search=service.consul"
  max_outage: "1s"
  hold: "2s"
"#
    )
}

async fn die(binary: PathBuf) {
    let tasks = TaskGroup::current().unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let (one, two, three) = tokio::join!(
        datacenter(&binary, "dc1"),
        datacenter(&binary, "dc2"),
        datacenter(&binary, "dc3")
    );
    let (at_one, serving) = instance(&tasks, any).await;
    let (at_two, _serving) = instance(&tasks, any).await;
    let (at_three, _serving) = instance(&tasks, any).await;
    for (consul, port) in [(&one, at_one), (&two, at_two), (&three, at_three)] {
        register(consul, "database", port).await;
        register(consul, "api", port).await;
    }

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("federation.yaml");
    let text = federation(one.endpoint(), two.endpoint(), three.dns());
    std::fs::write(&path, text).unwrap();
    let client = Client::from_config(&path).unwrap();
    let (database, api) = (
        client.service("database").unwrap(),
        client.service("api").unwrap(),
    );
    assert_eq!(until(&database, "dc1").await, 0);
    eventually("both datacenters together", PATIENCE, || async {
        let mut sources = BTreeSet::new();
        for _ in 0..8 {
            sources.extend(call(&api).await);
        }
        sources.len() == 2
    })
    .await;

    // What is registered is registered in the primary.
    let own = Registration::builder("worker", "127.0.0.1", 1).build().unwrap();
    client.register(own).await.unwrap();
    assert_eq!(one.health("worker").await.unwrap().len(), 1);
    assert_eq!(two.health("worker").await.unwrap().len(), 0);

    // The first datacenter dies with all that is in it.
    one.kill().await.unwrap();
    serving.abort();
    until(&database, "dc2").await;
    until(&api, "dc2").await;
    // The second loses its registry alone: not one call fails on the way to DNS.
    two.kill().await.unwrap();
    assert_eq!(until(&database, "dns").await, 0);
    let doing = client.status().await.failovers;
    assert!(
        doing.iter().any(|one| one.service == "database" && one.tier == 2),
        "{doing:?}"
    );
    // The first is back, and what was registered there with it.
    let (_, _serving) = instance(&tasks, ([127, 0, 0, 1], at_one).into()).await;
    one.start().await.unwrap();
    assert_eq!(until(&database, "dc1").await, 0);
    eventually("its own registration again", PATIENCE, || async {
        one.health("worker").await.is_ok_and(|found| found.len() == 1)
    })
    .await;
    client.leave(Duration::from_millis(100), PATIENCE).await.unwrap();
    assert_eq!(one.health("worker").await.unwrap().len(), 0);
    tasks.cancel();
    for consul in [one, two, three] {
        consul.stop().await.unwrap();
    }
}
