//! What is written.

use discovery::Client;
use discovery_core::{ErrorKind, HealthReport, LeaseGroup, MetaChange, Renewal, Status};
use discovery_testkit::{eventually, proxy::http::LoggedRequest};

use super::*;

fn post() -> Rule {
    Rule::on("POST".parse().unwrap(), WEB).reply(204, "")
}

fn put(path: &str) -> Rule {
    Rule::on("PUT".parse().unwrap(), path)
}

fn sent(server: &HttpProxy) -> Vec<Value> {
    let body =
        |request: &LoggedRequest| serde_json::from_slice::<Value>(&request.body).unwrap()["instance"].clone();
    let posts = server.requests_matching(WEB);
    posts
        .iter()
        .filter(|request| request.method == "POST")
        .map(body)
        .collect()
}

fn dirty(instance: &Value) -> u64 {
    instance["lastDirtyTimestamp"].as_str().unwrap().parse().unwrap()
}

fn renewal(health: HealthReport) -> Renewal {
    Renewal::new([(key(), health)])
}

fn group() -> LeaseGroup {
    LeaseGroup::new("apps/WEB/web-1")
}

#[tokio::test]
async fn u_10_issue_eureka_914_what_is_forgotten_is_registered_again_as_it_is_now() {
    let (server, backend) = scripted();
    server.rule(Rule::get(OWN).reply(404, ""));
    server.rule(post());
    server.rule(put(OWN).reply(404, ""));
    let client = Client::builder(backend).build().unwrap();
    let builder = Registration::builder("web", "192.0.2.1", 80).id("web-1");
    let registration = builder.ttl(Duration::from_secs(1)).build().unwrap();
    client.register(registration).await.unwrap();
    eventually("another registration", PATIENCE, async || sent(&server).len() > 1).await;
    let sent = sent(&server);
    assert!(dirty(&sent[1]) > dirty(&sent[0]));
    server.rule(Rule::on("DELETE".parse().unwrap(), OWN).reply(404, ""));
    client.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn u_11_time_only_grows_and_heartbeats_carry_it() {
    let (server, backend) = scripted();
    // A server whose copy is from the future: an older one would silently be ignored.
    let future = 9_000_000_000_000_u64;
    let mut known = record("web-1");
    known["lastDirtyTimestamp"] = json!(future.to_string());
    server.rule(Rule::get(OWN).reply(200, json!({ "instance": known }).to_string()));
    server.rule(post());
    server.rule(put(OWN).reply(200, ""));
    let mut last = future;
    for _ in 0..3 {
        backend.registry.register(&registration()).await.unwrap();
        let registered = dirty(sent(&server).last().unwrap());
        assert!(registered > last);
        last = registered;
        backend
            .registry
            .renew(&group(), &renewal(HealthReport::default()))
            .await
            .unwrap();
        let beat = server.requests_matching(OWN).pop().unwrap();
        assert_eq!(beat.query("lastDirtyTimestamp"), Some(last.to_string()));
        assert_eq!(beat.query("status").as_deref(), Some("UP"));
    }
}

#[tokio::test]
async fn u_13_metadata_is_registered_again_with_all_else_as_it_was() {
    let (server, backend) = scripted();
    let mut known = record("web-1");
    known["somebodyElses"] = json!("field");
    known["dataCenterInfo"]["metadata"] = json!({ "zone": "z1" });
    server.rule(Rule::get(OWN).reply(200, json!({ "instance": known }).to_string()));
    server.rule(post());
    let change = MetaChange::new().set("new", "1").remove("k");
    backend.registry.update_meta(&key(), &change).await.unwrap();
    let sent = sent(&server);
    assert_eq!(sent[0]["metadata"], json!({ "new": "1" }));
    assert_eq!(sent[0]["dataCenterInfo"], known["dataCenterInfo"]);
    assert_eq!(sent[0]["somebodyElses"], "field");
    assert!(dirty(&sent[0]) > 1_700_000_000_000);
    // Nothing to change: nothing to send.
    backend
        .registry
        .update_meta(&key(), &MetaChange::new().set("k", "v"))
        .await
        .unwrap();
    assert_eq!(super::writes::sent(&server).len(), 1);
    let ours = MetaChange::new().set("discovery-tags", "x");
    let refused = backend.registry.update_meta(&key(), &ours).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn u_19_what_is_gone_is_gone() {
    let (server, backend) = scripted();
    server.rule(Rule::on("DELETE".parse().unwrap(), OWN).reply(404, ""));
    backend.registry.deregister(&key()).await.unwrap();
    server.rule(put(OWN).reply(404, ""));
    let late = backend
        .registry
        .renew(&group(), &renewal(HealthReport::default()))
        .await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(sent(&server).is_empty(), "nothing registers it again by itself");
}

#[tokio::test]
async fn u_12_what_drains_is_never_in_service() {
    let (server, backend) = scripted();
    server.rule(Rule::get(OWN).reply(404, ""));
    server.rule(post());
    let held = server.rule(put(&format!("{OWN}/status")).reply(200, ""));
    let mut draining = registration();
    draining.health = HealthReport::new(Status::Passing).with_draining(true);
    backend.registry.register(&draining).await.unwrap();
    assert_eq!(sent(&server)[0]["status"], "STARTING");
    assert_eq!(held.uses(), 1);
}

#[tokio::test]
async fn u_32_a_page_in_answer_to_a_heartbeat_is_as_good_as_its_status() {
    let (server, backend) = scripted();
    let good = server.rule(put(OWN).reply(200, "<html>OK</html>"));
    backend
        .registry
        .renew(&group(), &renewal(HealthReport::default()))
        .await
        .unwrap();
    good.remove();
    server.rule(put(OWN).reply(404, "<html>gone</html>"));
    let gone = backend
        .registry
        .renew(&group(), &renewal(HealthReport::default()))
        .await;
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_server_that_cannot_be_changed_says_why() {
    let (server, backend) = scripted();
    server.rule(Rule::get(OWN).reply(404, ""));
    server.rule(Rule::on("POST".parse().unwrap(), WEB).reply(403, ""));
    let refused = backend.registry.register(&registration()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert!(refused.hint().unwrap().contains("CSRF"));
}
