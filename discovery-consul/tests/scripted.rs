//! The rules that no real server can be made to show, on one that says what it is told to.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not know as such"
)]

use std::{net::SocketAddr, time::Duration};

use discovery::Client;
use discovery_consul::{ConsulConfig, backend};
use discovery_core::{Backend, InstanceId, InstanceKey, Registration, RegistrationBuilder, ServiceName};
use discovery_testkit::proxy::http::{HttpProxy, Rule};
use serde_json::{Value, json};

#[path = "scripted/reads.rs"]
mod reads;
#[path = "scripted/writes.rs"]
mod writes;

const PATIENCE: Duration = Duration::from_secs(60);
const WEB: &str = "/v1/health/service/web";
const REGISTER: &str = "/v1/agent/service/register";
const UPDATE: &str = "/v1/agent/check/update/web-1%3Attl";
const OWN: &str = "/v1/agent/service/web-1";
const HEALTH: &str = "/v1/agent/health/service/id/web-1";
const DEREGISTER: &str = "/v1/agent/service/deregister/web-1";
const MAINTENANCE: &str = "/v1/agent/service/maintenance/web-1";

/// A server without an answer yet, and a backend on it.
fn scripted() -> (HttpProxy, Backend) {
    scripted_with(|_| {})
}

fn scripted_with(change: impl FnOnce(&mut ConsulConfig)) -> (HttpProxy, Backend) {
    let server = HttpProxy::stub().unwrap();
    let backend = at(server.addr(), change);
    (server, backend)
}

fn at(address: SocketAddr, change: impl FnOnce(&mut ConsulConfig)) -> Backend {
    let mut config = ConsulConfig::at(address.to_string());
    change(&mut config);
    backend(config).unwrap()
}

/// An agent that takes everything and knows nothing.
fn willing(change: impl FnOnce(&mut ConsulConfig)) -> (HttpProxy, Backend) {
    let (server, backend) = scripted_with(change);
    agent(&server);
    for path in [REGISTER, UPDATE, DEREGISTER, MAINTENANCE] {
        server.rule(Rule::any(path).reply(200, ""));
    }
    (server, backend)
}

/// What it says of itself.
fn agent(server: &HttpProxy) {
    let own = json!({ "Config": { "NodeName": "n1", "Datacenter": "dc1", "Version": "1.8.7" } });
    server.rule(Rule::get("/v1/agent/self").reply(200, own.to_string()));
}

fn client(backend: Backend) -> Client {
    Client::builder(backend)
        .timeout(Duration::from_secs(10))
        .linger(Duration::from_millis(100))
        .build()
        .unwrap()
}

/// An instance of `web` with one check of this status, on a node with another.
fn entry(id: &str, status: &str, node: &str) -> Value {
    json!({
        "Node": { "Node": "n1", "Address": "192.0.2.1", "Datacenter": "dc1" },
        "Service": { "ID": id, "Service": "web", "Port": 80 },
        "Checks": [
            { "Node": "n1", "CheckID": "serfHealth", "Status": node },
            { "Node": "n1", "CheckID": format!("{id}:ttl"), "Status": status },
        ],
    })
}

/// Answers with these instances of `web`, all well, and this index.
fn web(rule: Rule, index: u64, ids: &[&str]) -> Rule {
    let all: Value = ids.iter().map(|id| entry(id, "passing", "passing")).collect();
    rule.reply(200, all.to_string())
        .set_header("x-consul-index", &index.to_string())
        .set_header("x-consul-knownleader", "true")
}

/// A question that waits beyond this index, or one that does not wait.
fn beyond(index: Option<&'static str>) -> Rule {
    Rule::get(WEB).when(move |request| request.query("index").as_deref() == index)
}

/// No other question that waits is ever answered.
fn quiet(server: &HttpProxy) {
    server.rule(
        Rule::get("*")
            .when(|request| request.query("index").is_some())
            .delay(Duration::from_secs(600))
            .reply(200, "[]"),
    );
}

fn asked(server: &HttpProxy) -> Vec<Option<String>> {
    let requests = server.requests_matching(WEB);
    requests.iter().map(|request| request.query("index")).collect()
}

fn registration() -> RegistrationBuilder {
    Registration::builder("web", "10.0.0.5", 8080).id("web-1")
}

fn key() -> InstanceKey {
    InstanceKey::new(
        "consul",
        ServiceName::new("web").unwrap(),
        InstanceId::new("web-1").unwrap(),
    )
}
