use discovery_core::{Backend, Evidence, InstanceId, ServiceName, Suspicion};
use discovery_testkit::proxy::http::{HttpProxy, Rule};
use serde_json::{Value, json};

use super::*;
use crate::testing::{WEB, agent_self, instances, scripted, scripted_with, web};

const REGISTER: &str = "/v1/agent/service/register";
const UPDATE: &str = "/v1/agent/check/update/web-1%3Attl";
const OWN: &str = "/v1/agent/service/web-1";
const DEREGISTER: &str = "/v1/agent/service/deregister/web-1";
const MAINTENANCE: &str = "/v1/agent/service/maintenance/web-1";

fn registration() -> discovery_core::RegistrationBuilder {
    Registration::builder("web", "10.0.0.5", 8080).id("web-1")
}

fn key() -> InstanceKey {
    InstanceKey::new(
        "consul",
        ServiceName::new("web").unwrap(),
        InstanceId::new("web-1").unwrap(),
    )
}

/// An agent that takes everything.
fn willing() -> (HttpProxy, Backend) {
    let (server, backend) = scripted();
    agent_self(&server, "1.8.7");
    for path in [REGISTER, UPDATE, DEREGISTER, MAINTENANCE] {
        server.rule(Rule::any(path).reply(200, ""));
    }
    (server, backend)
}

fn has_it(server: &HttpProxy) {
    let record = json!({ "ID": "web-1", "Service": "web", "Port": 8080, "Meta": { "a": "1" }, "Tags": ["v1"],
        "Weights": { "Passing": 7, "Warning": 7 }, "ContentHash": "x", "Datacenter": "dc1" });
    server.rule(Rule::get(OWN).reply(200, record.to_string()));
}

async fn renew(backend: &Backend, health: HealthReport) -> Result<()> {
    let renewal = Renewal::new([(key(), health)]);
    backend.registry.renew(&LeaseGroup::new("web-1"), &renewal).await
}

#[tokio::test]
async fn c_24_c_25_c_26_registering_replaces_checks_and_beats_at_once() {
    let (server, backend) = willing();
    let lease = backend
        .registry
        .register(&registration().build().unwrap())
        .await
        .unwrap();
    assert_eq!(lease.key.to_string(), "consul/dc1/n1/web/web-1");
    assert_eq!(lease.ttl, Some(Duration::from_secs(30)));
    let registered = &server.requests_matching(REGISTER)[0];
    assert_eq!(
        registered.query("replace-existing-checks").as_deref(),
        Some("true")
    );
    let beat = &server.requests_matching(UPDATE)[0];
    assert!(beat.at >= registered.at);
    let body: Value = serde_json::from_slice(&beat.body).unwrap();
    assert_eq!(body, json!({ "Status": "passing", "Output": "" }));
}

#[tokio::test]
async fn an_id_of_another_service_is_not_taken_from_it() {
    let (server, backend) = willing();
    server.rule(Rule::get(OWN).reply(200, r#"{"ID":"web-1","Service":"db"}"#));
    server.rule(web(Rule::get(WEB), 1, &[]));
    let error = backend
        .registry
        .register(&registration().build().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    backend.registry.deregister(&key()).await.unwrap();
    assert!(server.requests_matching(REGISTER).is_empty() && server.requests_matching(DEREGISTER).is_empty());
}

#[tokio::test]
async fn c_22_an_unknown_id_is_deregistered_already_in_every_version() {
    for (status, text) in [
        (200, ""),
        (500, "Unknown service {\"web-1\" {}}"),
        (
            404,
            "Unknown service ID \"web-1\". Ensure that the service ID is passed, not the service name.",
        ),
    ] {
        let (server, backend) = scripted();
        agent_self(&server, "1.8.7");
        has_it(&server);
        server.rule(Rule::any(DEREGISTER).reply(status, text));
        backend.registry.deregister(&key()).await.unwrap();
        assert_eq!(server.requests_matching(DEREGISTER).len(), 1);
    }
}

#[tokio::test]
async fn c_23_a_heartbeat_of_an_unknown_check_means_register_again() {
    for (status, text) in [
        (500, "CheckID \"web-1:ttl\" does not have associated TTL"),
        (500, "Unknown check \"web-1:ttl\""),
        (
            404,
            "Unknown check ID \"web-1:ttl\". Ensure that the check ID is passed, not the check name.",
        ),
    ] {
        let (server, backend) = scripted();
        server.rule(Rule::any(UPDATE).reply(status, text));
        let error = renew(&backend, HealthReport::default()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.is_retryable()),
            (ErrorKind::NotFound, false),
            "{text}"
        );
    }
}

#[tokio::test]
async fn heartbeats_carry_the_status_that_is_wanted() {
    let (server, backend) = willing();
    for (status, text) in [
        (Status::Warning, "warning"),
        (Status::Starting, "critical"),
        (Status::Critical, "critical"),
        (Status::Passing, "passing"),
    ] {
        renew(&backend, HealthReport::new(status).with_output("because"))
            .await
            .unwrap();
        let body = server.requests_matching(UPDATE).pop().unwrap().body;
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body, json!({ "Status": text, "Output": "because" }));
    }
    assert!(
        server.requests_matching(MAINTENANCE).is_empty(),
        "somebody else's maintenance is left alone"
    );
}

#[tokio::test]
async fn draining_is_maintenance_and_a_lost_report_of_it_is_made_up_for() {
    let (server, backend) = willing();
    backend
        .registry
        .register(&registration().build().unwrap())
        .await
        .unwrap();
    let draining = HealthReport::default()
        .with_draining(true)
        .with_output("upgrade & more");
    backend.registry.report_health(&key(), &draining).await.unwrap();
    let request = server.requests_matching(MAINTENANCE).pop().unwrap();
    assert_eq!(request.query("enable").as_deref(), Some("true"));
    assert_eq!(request.query("reason").as_deref(), Some("upgrade & more"));
    renew(&backend, draining).await.unwrap();
    assert_eq!(
        server.requests_matching(MAINTENANCE).len(),
        1,
        "it is known to be so"
    );
    renew(&backend, HealthReport::default()).await.unwrap();
    let request = server.requests_matching(MAINTENANCE).pop().unwrap();
    assert_eq!(request.query("enable").as_deref(), Some("false"));
}

#[tokio::test]
async fn checks_that_the_agent_runs_decide_until_the_owner_reports() {
    let (server, backend) = willing();
    let starting = registration()
        .status(Status::Critical)
        .check(discovery_core::Check::tcp("10.0.0.5:8080"))
        .build()
        .unwrap();
    let last = || {
        let body = server.requests_matching(UPDATE).pop().unwrap().body;
        serde_json::from_slice::<Value>(&body).unwrap()["Status"].clone()
    };
    backend.registry.register(&starting).await.unwrap();
    assert_eq!(last(), "passing");
    renew(&backend, starting.health.clone()).await.unwrap();
    assert_eq!(last(), "passing");
    backend
        .registry
        .report_health(&key(), &starting.health)
        .await
        .unwrap();
    assert_eq!(last(), "critical");
    backend.registry.register(&starting).await.unwrap();
    assert_eq!(last(), "critical", "a report outlives a registration made again");
}

/// C-21
#[tokio::test]
async fn c_21_the_record_of_another_agent_is_an_error_that_names_it() {
    let (server, backend) = willing();
    let mut found = instances(&["web-1"]);
    found[0]["Node"]["Node"] = "n2".into();
    server.rule(Rule::get(WEB).reply(200, found.to_string()));
    for key in [key(), key().with_node("n2")] {
        let error = backend.registry.deregister(&key).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.context().any(|pair| pair == ("owner", "n2")), "{error}");
    }
    let foreign = key().with_node("n2");
    for error in [
        backend
            .registry
            .update_meta(&foreign, &MetaChange::new().set("k", "v"))
            .await
            .unwrap_err(),
        backend
            .registry
            .report_health(&foreign, &HealthReport::default())
            .await
            .unwrap_err(),
    ] {
        assert!(error.hint().is_some_and(|hint| hint.contains("n2")), "{error:?}");
    }
    assert!(
        server.requests_matching(DEREGISTER).is_empty()
            && server.requests_matching("/v1/catalog/deregister").is_empty()
    );
    assert!(
        backend.registry.instance(&foreign).await.unwrap().is_some(),
        "it can be read"
    );
}

#[tokio::test]
async fn c_21_a_record_that_nobody_has_is_deregistered_already() {
    let (server, backend) = willing();
    server.rule(web(Rule::get(WEB), 1, &[]));
    backend.registry.deregister(&key()).await.unwrap();
    backend.registry.deregister(&key().with_node("n2")).await.unwrap();
    assert!(server.requests_matching(DEREGISTER).is_empty());
}

#[tokio::test]
async fn c_26_changing_metadata_touches_no_check_and_writes_only_known_fields() {
    let (server, backend) = willing();
    has_it(&server);
    let change = MetaChange::new().set("b", "2").remove("a");
    backend.registry.update_meta(&key(), &change).await.unwrap();
    let request = server.requests_matching(REGISTER).pop().unwrap();
    assert_eq!(request.query("replace-existing-checks"), None);
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let expected = json!({ "ID": "web-1", "Name": "web", "Port": 8080, "Meta": { "b": "2" }, "Tags": ["v1"],
        "Weights": { "Passing": 7, "Warning": 7 } });
    assert_eq!(body, expected);
    let bad = MetaChange::new().set("a b", "2");
    assert_eq!(
        backend
            .registry
            .update_meta(&key(), &bad)
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::InvalidInput
    );
}

/// C-30: the agent holds it for 7 s without a leader, and then says yes.
#[tokio::test]
async fn c_30_a_registration_may_take_its_time() {
    let (server, backend) = scripted();
    agent_self(&server, "1.8.7");
    server.rule(
        Rule::any(REGISTER)
            .delay(Duration::from_millis(7200))
            .reply(200, ""),
    );
    server.rule(Rule::any(UPDATE).reply(200, ""));
    backend
        .registry
        .register(&registration().build().unwrap())
        .await
        .unwrap();
}

#[tokio::test]
async fn codes_of_local_health_are_data_unless_the_body_is_none() {
    let body = json!({ "AggregatedStatus": "critical", "Service": { "ID": "web-1", "Service": "web", "Port": 1 },
        "Checks": [{ "CheckID": "web-1:ttl", "Status": "critical", "Node": "n1" }] });
    let path = "/v1/agent/health/service/id/web-1";
    for status in [200, 429, 503] {
        let (server, backend) = willing();
        server.rule(Rule::get(path).reply(status, body.to_string()));
        let own = backend.registry.instance(&key()).await.unwrap().unwrap();
        assert_eq!(
            (own.status, own.key.node.as_deref()),
            (Status::Critical, Some("n1"))
        );
    }
    for (status, kind) in [(429, ErrorKind::RateLimited), (503, ErrorKind::Unavailable)] {
        let (server, backend) = willing();
        server.rule(Rule::get(path).reply(status, "too many"));
        assert_eq!(backend.registry.instance(&key()).await.unwrap_err().kind(), kind);
    }
}

/// Without `agent:read`, the node is known from the checks of what was registered.
#[tokio::test]
async fn the_least_policy_is_enough_to_register() {
    let (server, backend) = scripted_with(|config| config.token("t"));
    for path in [REGISTER, UPDATE] {
        server.rule(Rule::any(path).reply(200, ""));
    }
    server.rule(Rule::get("/v1/agent/self").reply(403, "Permission denied"));
    let health = json!({ "AggregatedStatus": "passing", "Service": { "ID": "web-1", "Service": "web" },
        "Checks": [{ "CheckID": "web-1:ttl", "Status": "passing", "Node": "n7" }] });
    server.rule(Rule::get("/v1/agent/health/service/id/web-1").reply(200, health.to_string()));
    server.rule(Rule::get("/v1/catalog/datacenters").reply(200, r#"["dc3"]"#));
    let lease = backend
        .registry
        .register(&registration().build().unwrap())
        .await
        .unwrap();
    assert_eq!(lease.key.to_string(), "consul/dc3/n7/web/web-1");
}

#[tokio::test]
async fn what_cannot_be_done_sends_nothing() {
    let (server, backend) = scripted_with(|mut config| {
        config.health_checks.enabled = false;
        config
    });
    let (registry, health) = (&backend.registry, HealthReport::default());
    let query = Query::service("web").unwrap().namespace("team");
    let kinds = [
        registry.release(&LeaseGroup::new("x")).await.unwrap_err().kind(),
        registry.report_health(&key(), &health).await.unwrap_err().kind(),
        renew(&backend, health).await.unwrap_err().kind(),
        registry.instances(&query).await.unwrap_err().kind(),
        registry.services(&query.scope).await.unwrap_err().kind(),
    ];
    assert!(
        kinds.iter().all(|kind| *kind == ErrorKind::Unsupported),
        "{kinds:?}"
    );
    assert!(server.requests_matching("*").is_empty());
    let can = registry.capabilities();
    assert_eq!(
        (can.lease, can.report_health, can.namespaces),
        (LeaseMode::None, false, false)
    );
}

#[tokio::test]
async fn scope_and_settings_become_parameters() {
    let (server, backend) = scripted_with(|mut config| {
        config.discovery.near = Some("_agent".into());
        config.discovery.filter = Some("Service.Meta.team == \"a b\"".into());
        config.discovery.node_meta = [("rack".to_owned(), "r1".to_owned())].into();
        config.discovery.consistency = crate::Consistency::Stale;
        config.datacenter("dc1")
    });
    server.rule(
        web(Rule::get(WEB), 1, &["a"])
            .set_header("x-consul-knownleader", "false")
            .set_header("x-consul-lastcontact", "60000"),
    );
    let query = Query::service("web").unwrap().datacenter("dc2");
    let snapshot = backend.registry.instances(&query).await.unwrap();
    assert_eq!(snapshot.evidence, Evidence::Suspect(Suspicion::NoLeader));
    let request = &server.requests_matching(WEB)[0];
    let get = |name: &str| request.query(name);
    assert_eq!(get("dc").as_deref(), Some("dc2"));
    assert_eq!(get("near").as_deref(), Some("_agent"));
    assert_eq!(get("filter").as_deref(), Some("Service.Meta.team == \"a b\""));
    assert_eq!(get("node-meta").as_deref(), Some("rack:r1"));
    assert!(get("stale").is_some() && get("consistent").is_none());
}

/// C-21, C-26: another program's record, at this agent.
#[tokio::test]
async fn c_26_the_health_of_somebody_elses_record_is_shown_without_touching_its_checks() {
    let (server, backend) = scripted();
    agent_self(&server, "1.8.7");
    server.rule(Rule::any(UPDATE).reply(404, "Unknown check ID \"web-1:ttl\""));
    server.rule(Rule::any(MAINTENANCE).reply(200, ""));
    let health = json!({ "AggregatedStatus": "warning", "Service": { "ID": "web-1", "Service": "web", "Port": 1 },
        "Checks": [{ "CheckID": "theirs", "Status": "warning", "Node": "n1" }] });
    server.rule(Rule::get("/v1/agent/health/service/id/web-1").reply(429, health.to_string()));
    let report = async |status| {
        let report = HealthReport::new(status).with_draining(true);
        backend.registry.report_health(&key(), &report).await
    };

    let error = report(Status::Passing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error.context().any(|pair| pair == ("status", "warning")),
        "{error}"
    );
    assert!(server.requests_matching(MAINTENANCE).is_empty());

    report(Status::Warning).await.unwrap();
    let request = server.requests_matching(MAINTENANCE).pop().unwrap();
    assert_eq!(request.query("enable").as_deref(), Some("true"));
    assert!(server.requests_matching(REGISTER).is_empty());
}

/// C-21: a key without a node is looked up in the catalogue.
#[tokio::test]
async fn c_21_changing_a_record_that_is_elsewhere_names_its_agent() {
    let (server, backend) = scripted();
    agent_self(&server, "1.22.0");
    let mut found = instances(&["web-1"]);
    found[0]["Node"]["Node"] = "n2".into();
    server.rule(Rule::get(WEB).reply(200, found.to_string()));
    server.rule(Rule::get(OWN).reply(404, "unknown service ID: web-1"));
    server.rule(Rule::get("/v1/agent/health/service/id/web-1").reply(404, "ServiceId web-1 not found"));
    server.rule(Rule::any(UPDATE).reply(404, "Unknown check ID \"web-1:ttl\""));
    let registry = &backend.registry;
    for error in [
        registry
            .update_meta(&key(), &MetaChange::new().set("k", "v"))
            .await
            .unwrap_err(),
        registry
            .report_health(&key(), &HealthReport::default())
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        assert!(error.context().any(|pair| pair == ("owner", "n2")), "{error}");
    }
    assert!(server.requests_matching(REGISTER).is_empty());
    server.clear_rules();
    agent_self(&server, "1.22.0");
    server.rule(web(Rule::get(WEB), 1, &[]));
    server.rule(Rule::get(OWN).reply(404, "unknown service ID: web-1"));
    let error = registry
        .update_meta(&key(), &MetaChange::new().set("k", "v"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// H-2
#[tokio::test]
async fn h_2_a_script_on_an_agent_that_runs_none_says_what_to_set() {
    let (server, backend) = scripted();
    agent_self(&server, "1.22.0");
    server.rule(Rule::any(REGISTER).reply(
        500,
        "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true",
    ));
    let scripted = registration()
        .check(discovery_core::Check::script(["true"]))
        .build()
        .unwrap();
    let error = backend.registry.register(&scripted).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.is_retryable()),
        (ErrorKind::Unsupported, false)
    );
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("enable_script_checks = true")),
        "{error:?}"
    );
}
