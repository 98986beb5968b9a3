//! A scripted server for faults that no real one can show.

use std::time::Duration;

use discovery_core::Backend;
use discovery_testkit::proxy::http::{HttpProxy, Rule};
use serde_json::{Value, json};

use crate::{ConsulConfig, backend};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The path of the one service these tests ask for.
pub(crate) const WEB: &str = "/v1/health/service/web";

/// A server without an answer yet, and a backend on it.
pub(crate) fn scripted() -> (HttpProxy, Backend) {
    scripted_with(|config| config)
}

/// The same, configured further.
pub(crate) fn scripted_with(change: impl FnOnce(ConsulConfig) -> ConsulConfig) -> (HttpProxy, Backend) {
    let server = HttpProxy::stub().unwrap();
    let config = ConsulConfig::at(server.addr().to_string());
    let backend = backend(change(config)).unwrap();
    (server, backend)
}

/// An answer with these instances of `web` and this index.
pub(crate) fn web(rule: Rule, index: u64, ids: &[&str]) -> Rule {
    rule.reply(200, instances(ids).to_string())
        .set_header("x-consul-index", &index.to_string())
        .set_header("x-consul-knownleader", "true")
}

pub(crate) fn instances(ids: &[&str]) -> Value {
    ids.iter()
        .map(|id| {
            json!({
                "Node": { "Node": "n1", "Address": "192.0.2.1", "Datacenter": "dc1" },
                "Service": { "ID": id, "Service": "web", "Port": 80 },
                "Checks": [{ "Node": "n1", "CheckID": format!("{id}:ttl"), "Status": "passing" }],
            })
        })
        .collect()
}

/// What the agent says of itself.
pub(crate) fn agent_self(server: &HttpProxy, version: &str) {
    let body = json!({ "Config": { "NodeName": "n1", "Datacenter": "dc1", "Version": version } });
    server.rule(Rule::get("/v1/agent/self").reply(200, body.to_string()));
}
