//! What lies between a client and a server, and what servers make of it.

use discovery_core::{Backend, Change, Evidence, MetaChange, Query, WatchStream};
use discovery_eureka::{LookUp, backend};
use discovery_testkit::{
    eventually,
    proxy::{
        Proxy,
        http::{HttpProxy, Rule},
    },
    server::Server,
};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    Setup,
    support::{PATIENCE, on, own, quick, raw, register, shows, stored, web},
};

fn by_way_of(way: std::net::SocketAddr) -> Backend {
    backend(quick([format!("http://{way}/eureka/")])).unwrap()
}

/// The next change that is no confirmation.
async fn change(watch: &mut WatchStream) -> Change {
    loop {
        let event = timeout(PATIENCE, watch.next()).await.expect("an event in time");
        let event = event.expect("an open watch").unwrap();
        assert_eq!(event.evidence, Evidence::Authoritative);
        if event.change != Change::Confirmed {
            return event.change;
        }
    }
}

fn ports(change: &Change) -> Vec<u16> {
    let (Change::Reset(some) | Change::Upsert(some)) = change else {
        panic!("{change:?}")
    };
    let mut ports: Vec<_> = some.iter().map(|instance| instance.port).collect();
    ports.sort_unstable();
    ports
}

/// A proxy drops `Accept`: the server answers everything in XML, and nothing is different.
pub(crate) async fn xml_says_the_same_as_json(setup: Setup) {
    let eureka = setup.started().await;
    let way = HttpProxy::start(eureka.endpoint()).unwrap();
    way.rule(Rule::any("*").hide_header("accept"));
    let (through, plain) = (by_way_of(way.addr()), on(&eureka));
    let dressed = web(80).meta("a", "<1> & \"2\"").tag("blue").weight(7);
    let dressed = register(
        &through,
        dressed.port("https", 8443, true).port("admin", 9, false),
    )
    .await;
    let bare = register(&through, web(81)).await;
    for key in [&dressed, &bare] {
        assert_eq!(own(&through, key).await, own(&plain, key).await);
    }
    let mut watch = through.watcher.watch(&Query::service("web").unwrap(), None);
    let mut seen = ports(&change(&mut watch).await);
    while seen != [80, 81] {
        seen.extend(ports(&change(&mut watch).await));
        seen.sort_unstable();
    }
    // Its records are read, changed and written back.
    for key in [&dressed, &bare] {
        let new = MetaChange::new().set("new", "1");
        through.registry.update_meta(key, &new).await.unwrap();
    }
    let metadata = stored(&eureka, "web-81").await["metadata"].clone();
    assert_eq!(metadata, json!({ "new": "1" }));
    assert_eq!(own(&plain, &dressed).await.meta["a"], "<1> & \"2\"");
    let mut changed = 0;
    while changed < 2 {
        changed += ports(&change(&mut watch).await).len();
    }
    let query = Query::all();
    eventually("the same list", PATIENCE, async || {
        let lists = [&through, &plain].map(|backend| backend.registry.instances(&query));
        let [xml, json] = lists;
        let (xml, json) = (xml.await.unwrap(), json.await.unwrap());
        xml.instances.len() == 2 && xml.instances == json.instances
    })
    .await;
    let mut asked = way.requests_matching("/eureka/apps*").into_iter();
    assert!(asked.all(|request| request.header("accept") == Some("application/json")));
}

/// Lists are asked for packed, and come so.
pub(crate) async fn lists_come_packed(setup: Setup) {
    let eureka = setup.started().await;
    stream::iter(0..200)
        .map(|n| {
            let record = raw(&format!("web-{n}"), 90);
            let eureka = &eureka;
            async move { eureka.register("WEB", &record).await }
        })
        .buffer_unordered(16)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    let way = Proxy::start(eureka.endpoint()).unwrap();
    let through = by_way_of(way.addr());
    eventually("all of them", PATIENCE, async || {
        let before = way.counters().bytes_down;
        let found = through.registry.instances(&Query::all()).await.unwrap();
        let moved = way.counters().bytes_down - before;
        let plain = eureka.request("GET".parse().unwrap(), "/eureka/apps", None);
        let plain = plain.await.unwrap().body.len() as u64;
        if found.instances.len() < 200 {
            return Err(format!("{} instances", found.instances.len()));
        }
        assert!(moved * 4 < plain, "{moved} bytes of {plain}");
        Ok(())
    })
    .await;
}

/// Changes that do not add up to what the server has: it is asked for everything, once, and shows what was missed.
pub(crate) async fn u_22_a_hash_that_does_not_fit_reads_everything_again(setup: Setup) {
    let eureka = setup.started().await;
    let way = HttpProxy::start(eureka.endpoint()).unwrap();
    let through = by_way_of(way.addr());
    register(&through, web(80)).await;
    shows(&through, "web", &[80]).await;
    let mut watch = through.watcher.watch(&Query::service("web").unwrap(), None);
    assert_eq!(ports(&change(&mut watch).await), [80]);
    // From here on the real changes do not come through.
    let wrong =
        json!({ "applications": { "versions__delta": "9", "apps__hashcode": "UP_99_", "application": [] } });
    let wrong = way.rule(Rule::get("/eureka/apps/delta").reply(200, wrong.to_string()));
    let before = way.requests_matching("/eureka/apps").len();
    register(&on(&eureka), web(81)).await;
    assert_eq!(ports(&change(&mut watch).await), [81]);
    let (full, asked) = (way.requests_matching("/eureka/apps").len() - before, wrong.uses());
    assert!(full as u64 <= asked, "{full} for {asked} answers that do not fit");
    // Once they fit, changes do.
    wrong.remove();
    register(&on(&eureka), web(82)).await;
    assert_eq!(ports(&change(&mut watch).await), [82]);
}

/// A server that knows another region shows its instances to who asks for that: in lists of one service, too.
pub(crate) async fn remote_regions_are_looked_in_where_they_are_asked_for(setup: Setup) {
    let far = setup.started().await;
    let url = far.url();
    let near = setup
        .started_with(|builder| {
            builder
                .property("eureka.server.remote-region-urls-with-name.far", url)
                .property("eureka.server.remote-region-registry-fetch-interval", "1")
                .property(
                    "eureka.server.disable-transparent-fallback-to-other-region",
                    "true",
                )
        })
        .await;
    register(&on(&far), web(81)).await;
    register(&on(&near), web(80)).await;
    let looking = |look_up| {
        let mut config = quick([near.url()]);
        config.discovery.regions = vec!["far".to_owned()];
        config.discovery.look_up = look_up;
        backend(config).unwrap()
    };
    for look_up in [LookUp::App, LookUp::Vip] {
        let both = looking(look_up);
        shows(&both, "web", &[80, 81]).await;
        let mut watch = both.watcher.watch(&Query::service("web").unwrap(), None);
        let mut seen = ports(&change(&mut watch).await);
        while seen != [80, 81] {
            seen.extend(ports(&change(&mut watch).await));
            seen.sort_unstable();
        }
    }
    // Who does not ask sees its own.
    shows(&on(&near), "web", &[80]).await;
    // What is new there is seen here.
    register(&on(&far), web(82)).await;
    shows(&looking(LookUp::App), "web", &[80, 81, 82]).await;
}

/// A server of Amazon's clients, and one with both ports.
pub(crate) async fn data_centres_and_both_ports(setup: Setup) {
    let eureka = setup.started().await;
    let mut config = quick([eureka.url()]);
    "Amazon".clone_into(&mut config.service_registration.data_center);
    config.service_registration.heartbeat_interval = Some(std::time::Duration::from_secs(2));
    config.service_registration.secure_vip = Some("web-tls".to_owned());
    let ours = backend(config.clone()).unwrap();
    let key = register(&ours, web(80).port("https", 8443, true)).await;
    let found = stored(&eureka, "web-80").await;
    assert_eq!(found["dataCenterInfo"]["name"], "Amazon");
    assert_eq!(
        (
            &found["leaseInfo"]["renewalIntervalInSecs"],
            &found["leaseInfo"]["durationInSecs"]
        ),
        (&json!(2), &json!(90))
    );
    assert_eq!(
        (&found["port"]["$"], &found["securePort"]["$"]),
        (&json!(80), &json!(8443))
    );
    assert_eq!(own(&ours, &key).await.port, 80);
    // By the secure VIP, at the secure port.
    config.discovery.look_up = LookUp::SecureVip;
    config.discovery.prefer_secure = true;
    let secure = backend(config).unwrap();
    shows(&secure, "web-tls", &[8443]).await;
    shows(&secure, "web", &[]).await;
}
