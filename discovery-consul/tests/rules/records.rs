//! Registrations and values.

use std::{path::PathBuf, time::Duration};

use discovery::Client;
use discovery_consul::{ConsulConfig, backend};
use discovery_core::{
    Check, ConfigKey, ErrorKind, HealthReport, PutMode, Query, Registration, Renewal, Status,
};
use discovery_testkit::{
    eventually,
    proxy::http::{HttpProxy, Rule},
    server::{
        Server,
        consul::{Age, Consul},
    },
};
use serde_json::json;
use tokio::time::sleep;

use super::{PATIENCE, all, beat, dev, on, show, web};

pub(super) async fn c_14_keys_that_servers_take_for_others_are_refused(age: Age, binary: PathBuf) {
    let consul = dev(binary).await;
    let sent = consul
        .request(reqwest::Method::PUT, "/v1/kv/a%2F%2Fb", None, Some(&json!(1)))
        .await
        .unwrap();
    // The server means another key: the old one says so, the new one writes it without a word.
    match age {
        Age::Old => assert_eq!(sent.status.as_u16(), 301),
        Age::New => assert_eq!(consul.get("/v1/kv/?keys").await.unwrap(), json!(["a/b"])),
    }
    consul
        .request(reqwest::Method::DELETE, "/v1/kv/a/b", None, None)
        .await
        .unwrap();
    let values = on(&consul).config.unwrap();
    for key in ["a//b", "a/./b", "a/../b", "/a", " a", "a "] {
        let key = ConfigKey::observed(key);
        let error = values.put(&key, b"x", PutMode::Upsert).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{key}");
    }
}

pub(super) async fn c_15_any_name_round_trips(_: Age, binary: PathBuf) {
    let consul = dev(binary).await;
    let backend = on(&consul);
    // A slash separates keys elsewhere: the model refuses it for every registry.
    let odd = "b c?d#e%f+g&h=ä";
    let registration = Registration::builder(odd, "10.0.0.5", 8080)
        .id(odd)
        .build()
        .unwrap();
    let lease = backend.registry.register(&registration).await.unwrap();
    let query = Query::service(odd).unwrap();
    eventually("it by its name", PATIENCE, || async {
        let found = backend.registry.instances(&query).await.unwrap();
        found.instances.len() == 1 && found.instances.iter().all(|one| one.key == lease.key)
    })
    .await;
    beat(&backend, &lease, HealthReport::new(Status::Warning)).await;
    let own = backend.registry.instance(&lease.key).await.unwrap().unwrap();
    assert_eq!(own.status, Status::Warning, "its check is its own");
    backend.registry.deregister(&lease.key).await.unwrap();
    assert_eq!(consul.agent_services().await.unwrap(), json!({}));
}

pub(super) async fn c_21_a_record_of_another_agent_is_left_alone_and_its_owner_named(
    _: Age,
    binary: PathBuf,
) {
    let cluster = Consul::dev(binary).cluster().await.unwrap();
    cluster.start().await.unwrap();
    let [owner, other, _] = cluster.members();
    let lease = on(owner)
        .registry
        .register(&web("web-1").build().unwrap())
        .await
        .unwrap();
    let wrong = on(other);
    show(&wrong, &[("web-1", Status::Passing)]).await;
    let mut nodeless = lease.key.clone();
    nodeless.node = None;
    for key in [&lease.key, &nodeless] {
        let error = wrong.registry.deregister(key).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        assert!(
            error.context().any(|pair| pair == ("owner", owner.node())),
            "{error:?}"
        );
    }
    // Its heartbeat, sent to the wrong agent, is told that there is nothing.
    let renewal = Renewal::new([(lease.key.clone(), HealthReport::default())]);
    let error = wrong.registry.renew(&lease.group, &renewal).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    show(&wrong, &[("web-1", Status::Passing)]).await;
    on(owner).registry.deregister(&lease.key).await.unwrap();
    show(&wrong, &[]).await;
}

pub(super) async fn c_24_a_registration_is_passing_at_once(_: Age, binary: PathBuf) {
    let consul = dev(binary).await;
    // What Consul does with a check of no status.
    consul
        .register(&json!({ "ID": "raw", "Name": "web", "Port": 1, "Check": { "TTL": "30s" } }))
        .await
        .unwrap();
    let backend = on(&consul);
    show(&backend, &[("raw", Status::Critical)]).await;
    for n in 0..20 {
        let lease = backend
            .registry
            .register(&web(&format!("web-{n}")).build().unwrap())
            .await
            .unwrap();
        let own = backend.registry.instance(&lease.key).await.unwrap().unwrap();
        assert_eq!(own.status, Status::Passing, "as soon as it is registered");
    }
}

pub(super) async fn c_27_c_28_two_instances_of_an_agent_share_no_check(_: Age, binary: PathBuf) {
    let consul = dev(binary).await;
    let backend = on(&consul);
    let registration = |id: &str| {
        web(id)
            .check(Check::tcp(consul.endpoint().to_string()))
            .build()
            .unwrap()
    };
    let first = backend.registry.register(&registration("web-1")).await.unwrap();
    backend.registry.register(&registration("web-2")).await.unwrap();
    let checks = consul.get("/v1/agent/checks").await.unwrap();
    let checks = checks.as_object().unwrap().clone();
    assert_eq!(checks.len(), 4, "{checks:?}");
    for (id, check) in &checks {
        let service = check["ServiceID"].as_str().unwrap();
        assert!(
            !service.is_empty() && id.starts_with(&format!("{service}:")),
            "{id} of {service}"
        );
    }
    let ill = HealthReport::new(Status::Critical);
    backend.registry.report_health(&first.key, &ill).await.unwrap();
    show(
        &backend,
        &[("web-1", Status::Critical), ("web-2", Status::Passing)],
    )
    .await;
    backend.registry.deregister(&first.key).await.unwrap();
    show(&backend, &[("web-2", Status::Passing)]).await;
}

/// As the whole library does it: nobody ever sees it critical.
pub(super) async fn c_29_one_lost_heartbeat_of_three_costs_nothing(_: Age, binary: PathBuf) {
    let consul = dev(binary).await;
    let proxy = HttpProxy::start(consul.endpoint()).unwrap();
    let count = std::sync::atomic::AtomicUsize::new(0);
    let lost = proxy.rule(
        Rule::any("/v1/agent/check/update/*")
            .when(move |_| count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 3 == 2)
            .reply(500, "rpc error making call: EOF"),
    );
    let client = Client::builder(backend(ConsulConfig::at(proxy.addr().to_string())).unwrap())
        .build()
        .unwrap();
    let ttl = Duration::from_secs(3);
    client
        .register(web("web-1").ttl(ttl).build().unwrap())
        .await
        .unwrap();
    let direct = on(&consul);
    show(&direct, &[("web-1", Status::Passing)]).await;
    eventually("four lost heartbeats", PATIENCE, || async {
        assert_eq!(all(&direct).await["web-1"].status, Status::Passing);
        lost.uses() >= 4
    })
    .await;
    client.shutdown(Duration::from_secs(5)).await.unwrap();
    show(&direct, &[]).await;
}

/// What others write into the catalogue for a record of this agent.
async fn edit_tags(consul: &Consul, tags: &[&str]) {
    let mut shown = consul.health("web").await.unwrap().swap_remove(0);
    let mut service = shown["Service"].take();
    service["Tags"] = json!(tags);
    for field in ["CreateIndex", "ModifyIndex", "PeerName"] {
        service.as_object_mut().unwrap().remove(field);
    }
    let edit = json!({ "Node": shown["Node"]["Node"], "Address": "127.0.0.1", "SkipNodeUpdate": true, "Service": service });
    consul.register_node(&edit).await.unwrap();
}

pub(super) async fn c_34_tags_edited_in_the_catalogue_win(_: Age, binary: PathBuf) {
    let consul = dev(binary).await;
    let mut config = ConsulConfig::at(consul.endpoint().to_string());
    config.service_registration.enable_tag_override = true;
    let backend = backend(config).unwrap();
    let v1 = web("web-1").tag("v1").build().unwrap();
    let lease = backend.registry.register(&v1).await.unwrap();
    show(&backend, &[("web-1", Status::Passing)]).await;
    let tags = || async { all(&backend).await["web-1"].tags.clone() };
    edit_tags(&consul, &["v1", "canary"]).await;
    assert_eq!(tags().await, ["v1", "canary"]);
    for _ in 0..3 {
        backend.registry.register(&v1).await.unwrap();
        beat(&backend, &lease, HealthReport::default()).await;
    }
    let change = discovery_core::MetaChange::new().set("version", "2");
    backend.registry.update_meta(&lease.key, &change).await.unwrap();
    eventually("the change", PATIENCE, || async {
        all(&backend).await["web-1"].meta.contains_key("version")
    })
    .await;
    assert_eq!(tags().await, ["v1", "canary"]);
    // Tags changed by the owner are the owner's.
    let v2 = web("web-1").tag("v2").build().unwrap();
    backend.registry.register(&v2).await.unwrap();
    eventually("the owner's tags", PATIENCE, || async { tags().await == ["v2"] }).await;
}

pub(super) async fn c_36_a_name_that_dns_does_not_show_is_found_all_the_same(_: Age, binary: PathBuf) {
    let consul = dev(binary).await;
    let backend = on(&consul);
    let registration = Registration::builder("my_svc α", "10.0.0.5", 8080)
        .build()
        .unwrap();
    let lease = backend.registry.register(&registration).await.unwrap();
    let query = Query::service("my_svc α").unwrap();
    eventually("it by its name", PATIENCE, || async {
        let found = backend.registry.instances(&query).await.unwrap();
        found.instances.iter().any(|one| one.key == lease.key)
    })
    .await;
}

/// Slow: Consul waits a minute at the least, and looks every thirty seconds.
pub(super) async fn c_31_what_was_reaped_is_registered_again(_: Age, binary: PathBuf) {
    let consul = dev(binary).await;
    let mut config = ConsulConfig::at(consul.endpoint().to_string());
    config.health_checks.deregister_after = Duration::from_secs(1);
    let backend = backend(config).unwrap();
    let registration = web("web-1").ttl(Duration::from_secs(1)).build().unwrap();
    let lease = backend.registry.register(&registration).await.unwrap();
    show(&backend, &[("web-1", Status::Critical)]).await;
    sleep(Duration::from_secs(40)).await;
    show(&backend, &[("web-1", Status::Critical)]).await;
    eventually("the reaper", Duration::from_secs(120), || async {
        all(&backend).await.is_empty()
    })
    .await;
    let renewal = Renewal::new([(lease.key.clone(), HealthReport::default())]);
    let error = backend.registry.renew(&lease.group, &renewal).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert_eq!(backend.registry.register(&registration).await.unwrap(), lease);
    let own = backend.registry.instance(&lease.key).await.unwrap().unwrap();
    assert_eq!(own.status, Status::Passing);
}

/// Slow: the agent compares its records with the catalogue about once a minute. The library writes nothing meanwhile.
pub(super) async fn c_38_the_agent_puts_its_record_back(_: Age, binary: PathBuf) {
    let consul = dev(binary).await;
    let proxy = HttpProxy::start(consul.endpoint()).unwrap();
    let client = Client::builder(backend(ConsulConfig::at(proxy.addr().to_string())).unwrap())
        .build()
        .unwrap();
    let ours = web("web-1")
        .tag("ours")
        .ttl(Duration::from_secs(3))
        .build()
        .unwrap();
    client.register(ours).await.unwrap();
    let direct = on(&consul);
    show(&direct, &[("web-1", Status::Passing)]).await;
    edit_tags(&consul, &["theirs"]).await;
    assert_eq!(all(&direct).await["web-1"].tags, ["theirs"]);
    eventually("the agent's own tags", Duration::from_secs(200), || async {
        all(&direct).await["web-1"].tags == ["ours"]
    })
    .await;
    assert_eq!(proxy.requests_matching("/v1/agent/service/register").len(), 1);
    client.shutdown(Duration::from_secs(5)).await.unwrap();
}
