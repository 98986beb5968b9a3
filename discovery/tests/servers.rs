//! What a configuration file says, done on real servers. `DISCOVERY_CONSUL_OLD`, `DISCOVERY_CONSUL_NEW` and
//! `DISCOVERY_ETCD_NEW` name the programs; what cannot run is shown as ignored.

#![expect(
    clippy::unwrap_used,
    reason = "a test program: what is unexpected ends the case"
)]

use std::{path::PathBuf, pin::pin, process::ExitCode, time::Duration};

use discovery::{Client, ConfigChange, PutMode, Query, builder_from_config};
use discovery_testkit::{
    eventually,
    server::{
        Server,
        consul::{Age, Consul},
        etcd::{self, Etcd},
    },
};
use futures::StreamExt;
use libtest_mimic::{Arguments, Trial};
use tokio::{net::TcpListener, runtime::Runtime, time::timeout};

/// Never an assertion about speed.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for age in Age::ALL {
        let name = format!("consul::{}", age.name());
        trials.push(case(name, age.variable(), age.binary(), |binary| {
            on(on_consul(binary));
        }));
    }
    let age = etcd::Age::New;
    trials.push(case("etcd", age.variable(), age.binary(), |binary| {
        on(on_etcd(binary));
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn case(name: impl Into<String>, variable: &'static str, binary: Option<PathBuf>, run: fn(PathBuf)) -> Trial {
    let missing = binary.is_none();
    let trial = Trial::test(name, move || {
        run(binary.ok_or_else(|| format!("not run: {variable} is not set"))?);
        Ok(())
    });
    trial.with_ignored_flag(missing)
}

fn on(case: impl Future<Output = ()>) {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async { timeout(PATIENCE * 4, case).await.expect("an end in time") });
}

/// A client as a file of this text says.
fn client(text: &str) -> Client {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("discovery.yaml");
    std::fs::write(&path, text).unwrap();
    let builder = builder_from_config(&path).unwrap_or_else(|error| panic!("{error:#}"));
    builder.variable("version", "2.1.0").build().unwrap()
}

async fn on_consul(binary: PathBuf) {
    let consul = Consul::dev(binary).build().await.unwrap();
    consul.start().await.unwrap();
    // The agent looks at it as often as `high_availability` says.
    let looked_at = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (server, port) = (consul.endpoint(), looked_at.local_addr().unwrap().port());
    let client = client(&format!(
        r#"
consul:
  server: {{ address: "{server}" }}
  service_registration:
    auto_register: true
    deregister_on_exit: false
    tags: ["system-control"]
  health_checks: {{ interval: "1s", deregister_after: "60s" }}
high_availability:
  health_checks: {{ check_intervals: {{ standard_services: "1s" }} }}
service_definition:
  name: "api"
  id: "api-node-1"
  address: "127.0.0.1"
  port: {port}
  tags: ["{{{{ .version }}}}"]
  health_checks:
    - {{ name: "port", tcp: "127.0.0.1:{port}" }}
dynamic_configuration:
  consul_kv:
    enabled: true
    prefix: "config/system-control/"
    mappings: {{ database_url: "database/connection_string", feature_flags: "features/" }}
    polling: {{ enabled: true, interval: "1s" }}
"#
    ));
    let registered = client.declared().await.unwrap().unwrap();
    assert_eq!(registered.id().as_str(), "api-node-1");
    let service = consul.agent_services().await.unwrap()["api-node-1"].clone();
    assert_eq!(
        service["Tags"],
        serde_json::json!(["2.1.0", "system-control"]),
        "{service}"
    );
    // Ten seconds is what a check has by itself: four looks would take longer than this waits.
    timeout(Duration::from_secs(25), async {
        for _ in 0..4 {
            looked_at.accept().await.unwrap();
        }
    })
    .await
    .expect("looks every second");
    eventually("a healthy instance", PATIENCE, || async {
        let found = client.lookup(&Query::service("api").unwrap()).await;
        found.is_ok_and(|found| found.instances.len() == 1)
    })
    .await;

    let values = client.config().unwrap();
    values
        .put("database_url", b"postgres://", PutMode::Create)
        .await
        .unwrap();
    let raw = consul
        .get("/v1/kv/config/system-control/database/connection_string")
        .await
        .unwrap();
    assert_eq!(raw[0]["Key"], "config/system-control/database/connection_string");
    let mut watch = pin!(values.watch("feature_flags/"));
    let first = watch.next().await.unwrap().unwrap();
    assert_eq!(first.change, ConfigChange::Reset(Vec::new()));
    values
        .put("feature_flags/beta", b"on", PutMode::Create)
        .await
        .unwrap();
    let found = timeout(PATIENCE, async {
        loop {
            if let ConfigChange::Put(entry) = watch.next().await.unwrap().unwrap().change {
                break entry;
            }
        }
    });
    assert_eq!(found.await.expect("a change").key.as_str(), "feature_flags/beta");

    client.shutdown(Duration::from_secs(10)).await.unwrap();
    let left = consul.agent_services().await.unwrap();
    assert!(
        left.get("api-node-1").is_some(),
        "`deregister_on_exit` is false: {left}"
    );
}

async fn on_etcd(binary: PathBuf) {
    let etcd = Etcd::dev(binary).build().await.unwrap();
    etcd.start().await.unwrap();
    let client = client(&format!(
        r#"
etcd:
  endpoints: ["{}"]
  service_registration: {{ ttl: 30, refresh_interval: 1 }}
client: {{ auto_register: true }}
service_definition: {{ name: "api", address: "192.0.2.1", port: 1 }}
dynamic_configuration:
  etcd_kv: {{ enabled: true, prefix: "/settings/", watch: false }}
"#,
        etcd.endpoint()
    ));
    client.declared().await.unwrap().unwrap();
    let values = client.config().unwrap();
    values.put("a/b", b"1", PutMode::Create).await.unwrap();
    assert!(
        etcd.ctl(&["get", "/settings/a/b"])
            .await
            .unwrap()
            .contains("/settings/a/b")
    );
    client.shutdown(Duration::from_secs(10)).await.unwrap();
    assert!(
        !etcd
            .ctl(&["get", "--prefix", "/services/"])
            .await
            .unwrap()
            .contains("api")
    );
}
