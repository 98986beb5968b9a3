//! Registrations, heartbeats and values.

use std::{collections::BTreeSet, time::Duration};

use discovery_consul::{ConsulConfig, backend};
use discovery_core::{
    Backend, Check, ConfigKey, ErrorKind, HealthReport, LeaseGroup, MetaChange, PutMode, Registration,
    Renewal, Result, Status,
};
use discovery_testkit::{
    capture::Capture,
    eventually,
    proxy::{
        Close, Proxy,
        http::{HttpProxy, Rule, RuleHandle},
    },
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    DEREGISTER, HEALTH, MAINTENANCE, OWN, PATIENCE, REGISTER, UPDATE, WEB, at, client, entry, key,
    registration, scripted_with, willing,
};

async fn renew(backend: &Backend) -> Result<()> {
    let renewal = Renewal::new([(key(), HealthReport::default())]);
    backend.registry.renew(&LeaseGroup::new("web-1"), &renewal).await
}

fn has_it(server: &HttpProxy, tags: &[&str]) {
    let record = json!({ "ID": "web-1", "Service": "web", "Port": 8080, "Meta": { "a": "1" }, "Tags": tags,
        "EnableTagOverride": true });
    server.rule(Rule::get(OWN).reply(200, record.to_string()));
}

/// The agent shows its record with this tag, edited in further ways.
fn shows(server: &HttpProxy, tag: &str) -> RuleHandle {
    let record = json!({ "AggregatedStatus": "critical",
        "Service": { "ID": "web-1", "Service": "web", "Address": "10.0.0.5", "Port": 8080, "Tags": [tag],
            "Meta": { "edited": "yes" }, "Weights": { "Passing": 9, "Warning": 9 } },
        "Checks": [{ "Node": "n1", "CheckID": "web-1:ttl", "Status": "critical" }] });
    server.rule(Rule::get(HEALTH).reply(200, record.to_string()))
}

fn bodies(server: &HttpProxy) -> Vec<Value> {
    let requests = server.requests_matching(REGISTER);
    requests
        .iter()
        .map(|request| serde_json::from_slice(&request.body).unwrap())
        .collect()
}

/// A followed redirect would turn a PUT into a GET, or write what somebody else named.
#[tokio::test]
async fn c_14_no_write_follows_a_redirect() {
    let elsewhere = HttpProxy::stub().unwrap();
    elsewhere.rule(Rule::any("*").reply(200, "true"));
    for status in [301, 302, 303, 307, 308] {
        let (server, backend) = scripted_with(|config| *config = config.clone().token("s3ntinel"));
        let away = format!("http://{}/v1/kv/other", elsewhere.addr());
        let redirect = server.rule(Rule::on(Method::PUT, "*").redirect(status, &away));
        super::agent(&server);
        has_it(&server, &[]);
        let (registry, values) = (&backend.registry, backend.config.clone().unwrap());
        let value = ConfigKey::new("a/b").unwrap();
        let errors = [
            registry
                .register(&registration().build().unwrap())
                .await
                .unwrap_err(),
            renew(&backend).await.unwrap_err(),
            registry
                .report_health(&key(), &HealthReport::default())
                .await
                .unwrap_err(),
            registry
                .update_meta(&key(), &MetaChange::new().set("k", "v"))
                .await
                .unwrap_err(),
            registry.deregister(&key()).await.unwrap_err(),
            values.put(&value, b"v", PutMode::Upsert).await.unwrap_err(),
            values.delete(&value, None).await.unwrap_err(),
        ];
        for error in &errors {
            assert_eq!(
                (error.kind(), error.is_retryable()),
                (ErrorKind::Protocol, false),
                "{error:?}"
            );
        }
        assert_eq!(redirect.uses(), 7, "each was sent, and once");
    }
    assert!(elsewhere.requests_matching("*").is_empty());
}

#[tokio::test]
async fn c_21_several_agents_are_no_address() {
    for address in ["127.0.0.1:8500,127.0.0.1:8501", "http://a:1,http://b:2"] {
        let error = backend(ConsulConfig::at(address)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{address}");
        assert!(
            error.hint().is_some_and(|hint| hint.contains("one agent")),
            "{error:?}"
        );
    }
}

/// One of a node would take every service of the node out; the catalogue's own routes would fight its agent.
#[tokio::test]
async fn c_28_no_check_is_written_but_within_its_service() {
    let (server, backend) = willing(|_| {});
    let registry = &backend.registry;
    let full = registration()
        .check(Check::tcp("10.0.0.5:8080"))
        .check(Check::http("http://10.0.0.5:8080/health"))
        .build()
        .unwrap();
    registry.register(&full).await.unwrap();
    has_it(&server, &[]);
    renew(&backend).await.unwrap();
    let draining = HealthReport::new(Status::Critical).with_draining(true);
    registry.report_health(&key(), &draining).await.unwrap();
    registry
        .update_meta(&key(), &MetaChange::new().set("k", "v"))
        .await
        .unwrap();
    registry.deregister(&key()).await.unwrap();
    let requests = server.requests_matching("*");
    let written: BTreeSet<_> = requests
        .iter()
        .filter(|request| request.method != Method::GET)
        .map(|request| request.path().to_owned())
        .collect();
    let allowed = [UPDATE, DEREGISTER, MAINTENANCE, REGISTER].map(str::to_owned);
    assert_eq!(written, BTreeSet::from(allowed));
    let body = bodies(&server).swap_remove(0);
    assert_eq!(body["ID"], "web-1");
    assert_eq!(body["Checks"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn c_29_heartbeats_come_every_third_of_the_ttl_with_jitter() {
    let (server, backend) = willing(|_| {});
    shows(&server, "ours");
    let client = client(backend);
    let ttl = Duration::from_secs(3);
    client
        .register(registration().ttl(ttl).build().unwrap())
        .await
        .unwrap();
    eventually("some heartbeats", Duration::from_secs(30), || async {
        server.requests_matching(UPDATE).len() > 7
    })
    .await;
    let beats = server.requests_matching(UPDATE);
    let gaps: Vec<_> = beats.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!(gaps.iter().all(|gap| *gap <= ttl / 2), "{gaps:?}");
    // But for the first, which comes anywhere within a third.
    assert!(gaps[1..].iter().all(|gap| *gap >= ttl / 5), "{gaps:?}");
    let steps: BTreeSet<_> = gaps[1..].iter().map(Duration::as_millis).collect();
    assert!(steps.len() > 2, "no jitter: {gaps:?}");
    client.shutdown(Duration::from_secs(5)).await.unwrap();
}

/// Nobody knows what a request did whose answer was lost; the same again does no harm.
#[tokio::test]
async fn c_30_a_registration_without_an_answer_is_repeated_as_it_was() {
    let server = HttpProxy::stub().unwrap();
    super::agent(&server);
    let way = Proxy::start(server.addr()).unwrap();
    let lost = server.rule(
        Rule::any(REGISTER)
            .times(1)
            .delay(Duration::from_secs(600))
            .reply(200, ""),
    );
    for path in [REGISTER, UPDATE, DEREGISTER] {
        server.rule(Rule::any(path).reply(200, ""));
    }
    let client = client(at(way.addr(), |_| {}));
    let cut = async {
        eventually("the request", PATIENCE, || async { lost.uses() == 1 }).await;
        way.cut(Close::Reset).await;
    };
    let (registered, ()) = tokio::join!(client.register(registration().build().unwrap()), cut);
    assert_eq!(registered.unwrap().id().as_str(), "web-1");
    let bodies = bodies(&server);
    assert!(
        bodies.len() == 2 && bodies[0] == bodies[1],
        "{} requests",
        bodies.len()
    );
}

#[tokio::test]
async fn c_31_a_value_that_consul_raises_is_warned_of() {
    let short = Duration::from_secs(30);
    let (capture, _guard) = Capture::scoped();
    let (_server, backend) = willing(|config| config.health_checks.deregister_after = short);
    assert!(capture.text().contains("consul.health_checks.deregister_after"));
    let check = Check::tcp("10.0.0.5:8080").deregister_after(short);
    let registration = registration().check(check).build().unwrap();
    backend.registry.register(&registration).await.unwrap();
    assert!(
        capture
            .text()
            .contains("Consul deregisters after a minute at the earliest")
    );
}

#[tokio::test]
async fn c_34_tags_given_in_the_catalogue_outlive_a_registration_made_again() {
    let (server, backend) = willing(|config| config.service_registration.enable_tag_override = true);
    let registry = &backend.registry;
    let v1 = registration().tag("v1").build().unwrap();
    registry.register(&v1).await.unwrap();
    // Somebody edits the catalogue; the agent does not know yet.
    has_it(&server, &["v1"]);
    let mut edited = entry("web-1", "passing", "passing");
    edited["Service"]["Tags"] = json!(["v1", "canary"]);
    let catalogue = server.rule(Rule::get(WEB).reply(200, json!([edited]).to_string()));
    registry.register(&v1).await.unwrap();
    registry
        .update_meta(&key(), &MetaChange::new().set("k", "v"))
        .await
        .unwrap();
    // Without the right to read the catalogue, the agent's record has to do.
    catalogue.remove();
    let denied = server.rule(Rule::get(WEB).reply(403, "Permission denied"));
    registry.register(&v1).await.unwrap();
    denied.remove();
    server.rule(Rule::get(WEB).reply(200, json!([edited]).to_string()));
    // Tags that are changed here win.
    let v2 = registration().tag("v2").build().unwrap();
    registry.register(&v2).await.unwrap();
    let tags: Vec<_> = bodies(&server).iter().map(|body| body["Tags"].clone()).collect();
    let both = json!(["v1", "canary"]);
    assert_eq!(
        tags,
        [json!(["v1"]), both.clone(), both, json!(["v1"]), json!(["v2"])]
    );

    // Without the override the tags of the registration are the tags.
    let (server, backend) = willing(|_| {});
    has_it(&server, &["v1", "canary"]);
    for _ in 0..2 {
        backend.registry.register(&v1).await.unwrap();
    }
    assert!(bodies(&server).iter().all(|body| body["Tags"] == json!(["v1"])));
    assert!(server.requests_matching(WEB).is_empty());
}

#[test]
fn c_35_an_address_that_consul_refuses_is_refused_at_once() {
    for address in ["0.0.0.0", "::", ""] {
        let error = Registration::builder("web", address, 80).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{address:?}");
        assert!(error.hint().is_some());
    }
}

#[tokio::test]
async fn c_36_a_name_that_dns_does_not_show_is_warned_of() {
    for (name, warns) in [
        ("web", false),
        ("Web-2", false),
        ("my_svc", true),
        ("my.svc", true),
        ("größe", true),
    ] {
        let (capture, _guard) = Capture::scoped();
        let (server, backend) = willing(|_| {});
        let registration = Registration::builder(name, "10.0.0.5", 8080)
            .id("web-1")
            .build()
            .unwrap();
        backend.registry.register(&registration).await.unwrap();
        assert_eq!(bodies(&server)[0]["Name"], name, "it is registered all the same");
        let warned = capture
            .text()
            .contains("DNS does not show a service of this name");
        assert_eq!(warned, warns, "{name}");
    }
}

/// The agent puts its own record back within a minute or so. Writing it again at every look would be a fight.
#[tokio::test]
async fn c_38_edits_of_others_are_left_to_the_agent() {
    let (server, backend) = willing(|_| {});
    let looks = shows(&server, "theirs");
    let client = client(backend);
    let ttl = Duration::from_secs(1);
    client
        .register(registration().tag("ours").ttl(ttl).build().unwrap())
        .await
        .unwrap();
    eventually("some looks", Duration::from_secs(30), || async {
        looks.uses() >= 4
    })
    .await;
    assert!(
        server.requests_matching(UPDATE).len() >= 4,
        "the heartbeat goes on"
    );
    assert_eq!(bodies(&server).len(), 1);
    client.shutdown(Duration::from_secs(5)).await.unwrap();
}
