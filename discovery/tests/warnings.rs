//! What a configuration holds that does nothing is named in one warning. One test: what is logged is the process's.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not know as such"
)]

use discovery::{builder_from, loader};
use discovery_testkit::capture::Capture;

/// The lines that tell what of these blocks is not acted on.
fn warnings(text: &str, backend: &str) -> Vec<String> {
    let loaded = loader().yaml("discovery.yaml", text).unwrap();
    let (log, _guard) = Capture::scoped();
    let built = builder_from(&loaded, backend);
    assert!(built.is_ok(), "{:?}", built.err());
    let text = log.text();
    let lines = text.lines().filter(|line| line.contains("not acted on"));
    lines.map(str::to_owned).collect()
}

fn names_in_one(text: &str, backend: &str, names: &[&str]) {
    let all = warnings(text, backend);
    assert_eq!(all.len(), 1, "{all:#?}");
    for name in names {
        assert!(all[0].contains(name), "{name}: {all:#?}");
    }
}

#[tokio::test]
async fn what_does_nothing_is_named_in_one_warning() {
    let text = "
memory: {}
connect_intentions: []
sidecar_proxies: {}
acl_policies: {}
health_checks: { api: { checks: [{ name: a, type: script, script: x }] } }
discovery_metrics: { discovery: [{ name: mine, type: gauge }] }
dynamic_configuration: { consul_kv: { enabled: true }, etcd_kv: { enabled: true } }
service_definition: { name: api, address: 127.0.0.1, port: 1, connect: {} }
";
    let names = [
        "connect_intentions",
        "sidecar_proxies",
        "acl_policies",
        "health_checks: checks of type `script`",
        "discovery_metrics: metrics other than",
        "dynamic_configuration.consul_kv (",
        "dynamic_configuration.etcd_kv (",
        "service_definition.connect",
        "service_definition (nothing asks for it",
    ];
    names_in_one(text, "memory", &names);
    // What is acted on is in none.
    let acted_on = "
memory: {}
client: { auto_register: true }
service_definition: { name: api, address: 127.0.0.1, port: 1 }
health_checks: { api: { checks: [{ name: a, type: tcp, address: \"h:1\" }] } }
discovery_metrics: { discovery: [{ name: discovery_cache_hits_total, type: counter }] }
";
    assert_eq!(warnings(acted_on, "memory"), [""; 0]);

    #[cfg(feature = "consul")]
    {
        let consul = "
consul: { service_registration: { auto_register: true }, connect: { enabled: true } }
acl_policies: {}
";
        let missing = "auto_register (there is no `service_definition`)";
        names_in_one(consul, "consul", &["consul.connect", "acl_policies", missing]);
        let hook = "
consul: {}
dynamic_configuration: { consul_kv: { enabled: true, notifications: { enabled: true } } }
";
        names_in_one(hook, "consul", &["dynamic_configuration.consul_kv.notifications"]);
    }
}
