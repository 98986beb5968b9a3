//! What a server makes of a registration and its changes.

use std::time::Duration;

use discovery_core::{HealthReport, LeaseGroup, MetaChange, Query, Renewal, Status};
use discovery_eureka::{LookUp, backend};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    Setup,
    support::{on, own, quick, raw, register, shows, stored, web},
};

pub(crate) async fn u_11_an_older_registration_is_ignored(setup: Setup) {
    let eureka = setup.started().await;
    let mut newer = raw("web-80", 90);
    newer["lastDirtyTimestamp"] = json!("9000000000000");
    let mut older = raw("web-80", 90);
    older["lastDirtyTimestamp"] = json!("1000");
    older["port"]["$"] = json!(81);
    eureka.register("WEB", &newer).await.unwrap();
    // It says yes, and keeps what it has.
    eureka.register("WEB", &older).await.unwrap();
    assert_eq!(stored(&eureka, "web-80").await["port"]["$"], 80);
    // Ours counts all the same.
    let backend = on(&eureka);
    let key = register(&backend, web(82).id("web-80")).await;
    assert_eq!(own(&backend, &key).await.port, 82);
}

pub(crate) async fn u_12_no_registration_ends_or_makes_maintenance(setup: Setup) {
    let eureka = setup.started().await;
    eureka.register("WEB", &raw("web-1", 90)).await.unwrap();
    let mut out = raw("web-1", 90);
    out["status"] = json!("OUT_OF_SERVICE");
    eureka.register("WEB", &out).await.unwrap();
    assert_eq!(
        stored(&eureka, "web-1").await["status"],
        "UP",
        "a plain registration does not"
    );

    // eureka#1398: what a report does is there, and can be taken back, time and again.
    let backend = on(&eureka);
    let key = register(&backend, web(80)).await;
    for _ in 0..2 {
        for (status, draining, word) in [
            (Status::Passing, true, "OUT_OF_SERVICE"),
            (Status::Critical, true, "OUT_OF_SERVICE"),
            (Status::Critical, false, "DOWN"),
            (Status::Starting, false, "STARTING"),
            (Status::Unknown, false, "DOWN"),
            (Status::Warning, false, "UP"),
            (Status::Passing, false, "UP"),
        ] {
            let report = HealthReport::new(status).with_draining(draining);
            backend.registry.report_health(&key, &report).await.unwrap();
            let found = own(&backend, &key).await;
            assert_eq!((found.status, found.draining), (status, draining));
            assert_eq!(stored(&eureka, "web-80").await["status"], word);
            // Neither a heartbeat nor another registration undoes it.
            let renewal = Renewal::new([(key.clone(), report.clone())]);
            let group = LeaseGroup::new("apps/WEB/web-80");
            backend.registry.renew(&group, &renewal).await.unwrap();
            let mut again = web(80).build().unwrap();
            again.health = report;
            backend.registry.register(&again).await.unwrap();
            assert_eq!(stored(&eureka, "web-80").await["status"], word);
        }
    }
    // Maintenance that somebody else asked for stays until a report ends it.
    let path = "/eureka/apps/WEB/web-80/status?value=OUT_OF_SERVICE";
    eureka.request("PUT".parse().unwrap(), path, None).await.unwrap();
    register(&backend, web(80)).await;
    assert!(own(&backend, &key).await.draining);
    // One that is made draining is never in service.
    let mut draining = web(81).build().unwrap();
    draining.health = HealthReport::new(Status::Passing).with_draining(true);
    let lease = backend.registry.register(&draining).await.unwrap();
    assert!(own(&backend, &lease.key).await.draining);
}

pub(crate) async fn u_13_metadata_set_aside_is_lost_with_the_next_registration(setup: Setup) {
    let eureka = setup.started().await;
    let backend = on(&eureka);
    let key = register(&backend, web(80).meta("a", "1")).await;
    let before = stored(&eureka, "web-80").await["lastDirtyTimestamp"].clone();
    let path = "/eureka/apps/WEB/web-80/metadata?aside=1";
    eureka.request("PUT".parse().unwrap(), path, None).await.unwrap();
    let found = stored(&eureka, "web-80").await;
    assert_eq!(
        (&found["metadata"]["aside"], &found["lastDirtyTimestamp"]),
        (&json!("1"), &before)
    );
    // Ours is part of the registration, and time moves on.
    let change = MetaChange::new().set("b", "2").remove("a");
    backend.registry.update_meta(&key, &change).await.unwrap();
    let found = stored(&eureka, "web-80").await;
    assert_eq!(
        (&found["metadata"]["b"], &found["metadata"]["a"]),
        (&json!("2"), &Value::Null)
    );
    assert_ne!(found["lastDirtyTimestamp"], before);
    eureka.register("WEB", &raw("web-80", 90)).await.unwrap();
    register(&backend, web(80)).await;
    assert!(own(&backend, &key).await.meta.is_empty());
}

pub(crate) async fn u_14_a_status_that_is_there_is_not_held(setup: Setup) {
    let eureka = setup.started().await;
    eureka.register("WEB", &raw("web-1", 90)).await.unwrap();
    let path = "/eureka/apps/WEB/web-1/status?value=UP";
    eureka.request("PUT".parse().unwrap(), path, None).await.unwrap();
    let found = stored(&eureka, "web-1").await;
    assert_eq!(found["overriddenStatus"], "UNKNOWN", "{found}");
}

pub(crate) async fn u_15_maintenance_taken_back_without_a_status_is_unknown(setup: Setup) {
    let eureka = setup.started().await;
    eureka.register("WEB", &raw("web-1", 90)).await.unwrap();
    let path = "/eureka/apps/WEB/web-1/status";
    let put = format!("{path}?value=OUT_OF_SERVICE");
    eureka.request("PUT".parse().unwrap(), &put, None).await.unwrap();
    eureka
        .request("DELETE".parse().unwrap(), path, None)
        .await
        .unwrap();
    assert_eq!(stored(&eureka, "web-1").await["status"], "UNKNOWN");
    // Ours names one.
    let backend = on(&eureka);
    let key = register(&backend, web(80)).await;
    for draining in [true, false] {
        let report = HealthReport::new(Status::Passing).with_draining(draining);
        backend.registry.report_health(&key, &report).await.unwrap();
    }
    assert_eq!(stored(&eureka, "web-80").await["status"], "UP");
    eureka.heartbeat("WEB", "web-1").await.unwrap_err();
    eureka.heartbeat("WEB", "web-80").await.unwrap();
}

pub(crate) async fn u_20_ones_own_record_is_read_past_the_cache(setup: Setup) {
    let late = Duration::from_secs(8);
    let eureka = setup.started_with(|builder| builder.read_only_cache(late)).await;
    let backend = on(&eureka);
    register(&backend, web(80)).await;
    // From here on the answer is in the cache.
    shows(&backend, "web", &[80]).await;
    let started = Instant::now();
    let key = register(&backend, web(81)).await;
    assert_eq!(own(&backend, &key).await.port, 81);
    backend.registry.deregister(&key).await.unwrap();
    assert_eq!(backend.registry.instance(&key).await.unwrap(), None);
    register(&backend, web(82)).await;
    let query = Query::service("web").unwrap();
    let cached = backend.registry.instances(&query).await.unwrap().instances.len();
    if started.elapsed() < late / 4 {
        assert!(cached <= 2, "the cache is late");
    }
    shows(&backend, "web", &[80, 82]).await;
}

/// What the codec counts on.
pub(crate) async fn u_1_u_4_what_a_server_sends(setup: Setup) {
    let eureka = setup.started().await;
    let backend = on(&eureka);
    register(&backend, web(80)).await;
    let found = stored(&eureka, "web-80").await;
    assert_eq!(found["port"], json!({ "$": 80, "@enabled": "true" }));
    assert!(found["lastDirtyTimestamp"].is_string() && found["isCoordinatingDiscoveryServer"].is_string());
    let gone = eureka
        .request("GET".parse().unwrap(), "/eureka/apps/NOBODY", None)
        .await
        .unwrap();
    assert_eq!(gone.status, 404, "an application nobody has");
    let all = eureka
        .request("GET".parse().unwrap(), "/eureka/apps", None)
        .await
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(all["applications"]["apps__hashcode"], "UP_1_");
}

pub(crate) async fn statuses_ports_urls_and_names(setup: Setup) {
    let eureka = setup.started().await;
    let mut config = quick([eureka.url()]);
    config.service_registration.secure = true;
    config.service_registration.vip = Some("www".to_owned());
    config.service_registration.home_page_path = Some("/".to_owned());
    config.service_registration.health_check_path = Some("/health".to_owned());
    config.server.zone = Some("z1".to_owned());
    config.discovery.look_up = LookUp::Vip;
    let by_vip = backend(config).unwrap();
    let key = register(&by_vip, web(8443)).await;
    let found = stored(&eureka, "web-8443").await;
    assert_eq!(found["securePort"], json!({ "$": 8443, "@enabled": "true" }));
    assert_eq!(found["port"]["@enabled"], "false");
    assert_eq!(found["homePageUrl"], "https://127.0.0.1:8443/");
    assert_eq!(found["secureHealthCheckUrl"], "https://127.0.0.1:8443/health");
    assert_eq!(
        (&found["vipAddress"], &found["secureVipAddress"]),
        (&json!("www"), &json!("www"))
    );
    let found = own(&by_vip, &key).await;
    assert_eq!((found.port, found.locality.zone.as_deref()), (8443, Some("z1")));
    shows(&by_vip, "www", &[8443]).await;
    shows(&by_vip, "web", &[]).await;
    shows(&on(&eureka), "WEB", &[8443]).await;
    let status = on(&eureka).registry.status().await.unwrap();
    assert!(
        status.details.iter().any(|(key, _)| key == "server"),
        "{status:?}"
    );
}
