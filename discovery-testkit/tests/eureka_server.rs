//! The launcher on real Eureka; `scripts/test` gets it. What cannot run is shown as ignored.
#![expect(
    clippy::unwrap_used,
    reason = "these are tests, without the harness that would say so"
)]

mod support;

use std::{path::PathBuf, time::Duration};

use discovery_core::ErrorKind;
use discovery_testkit::{
    eventually,
    server::{
        Server,
        eureka::{CLIENT, Eureka, SERVER, SpringClient},
    },
};
use libtest_mimic::Failed;
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(90);

type Case = (&'static str, fn(PathBuf) -> Result<(), Failed>);

macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        [$((stringify!($name), |jar| support::run($name(jar)))),+]
    };
}

fn main() {
    let cases: [Case; 3] = cases![
        serves_evicts_and_forgets,
        its_read_only_cache_is_late,
        peers_tell_each_other_until_they_are_cut_off,
    ];
    let mut trials =
        Vec::from(cases.map(|(name, case)| {
            support::trial(SERVER.name(), SERVER.variable(), SERVER.binary(), name, case)
        }));
    // Both jars are needed; the one that is missing is named.
    let server = SERVER.binary();
    let variable = if server.is_none() {
        SERVER.variable()
    } else {
        CLIENT.variable()
    };
    let client = CLIENT.binary().filter(|_| server.is_some());
    let case = move |client| {
        support::run(a_spring_service_registers_and_sees_others(
            server.unwrap_or_default(),
            client,
        ))
    };
    let name = "a_spring_service_registers_and_sees_others";
    trials.push(support::trial(CLIENT.name(), variable, client, name, case));
    support::conclude(trials);
}

fn web(id: &str, lease: u32) -> Value {
    json!({
        "instanceId": id,
        "hostName": "host.example",
        "app": "WEB",
        "ipAddr": "192.0.2.1",
        "status": "UP",
        "vipAddress": "web",
        "port": { "$": 80, "@enabled": "true" },
        "leaseInfo": { "renewalIntervalInSecs": 1, "durationInSecs": lease },
    })
}

async fn count(eureka: &Eureka) -> usize {
    eureka.instances("WEB").await.unwrap().len()
}

async fn serves_evicts_and_forgets(jar: PathBuf) {
    let eureka = Eureka::dev(jar).build().unwrap();
    let down = eureka.instances("WEB").await.unwrap_err();
    assert_eq!(down.kind(), ErrorKind::Unavailable, "{down}");
    eureka.start().await.unwrap();
    assert!(eureka.version().await.unwrap().contains('.'));
    assert_eq!(count(&eureka).await, 0);

    eureka.register("WEB", &web("web-1", 90)).await.unwrap();
    eureka.register("WEB", &web("web-2", 1)).await.unwrap();
    eureka.heartbeat("WEB", "web-1").await.unwrap();
    eureka.heartbeat("WEB", "web-9").await.unwrap_err();
    eventually("both", DEADLINE, async || count(&eureka).await == 2).await;
    eventually("the eviction of the silent one", DEADLINE, async || {
        count(&eureka).await == 1
    })
    .await;
    eureka.deregister("WEB", "web-1").await.unwrap();
    eventually("none", DEADLINE, async || count(&eureka).await == 0).await;

    eureka.register("WEB", &web("web-1", 90)).await.unwrap();
    eventually("one", DEADLINE, async || count(&eureka).await == 1).await;
    eureka.restart().await.unwrap();
    assert_eq!(count(&eureka).await, 0, "it keeps nothing");
    support::ends(&eureka, eureka.pid()).await;
}

async fn its_read_only_cache_is_late(jar: PathBuf) {
    let eureka = Eureka::dev(jar)
        .read_only_cache(Duration::from_secs(10))
        .build()
        .unwrap();
    eureka.start().await.unwrap();
    eureka.register("WEB", &web("web-1", 90)).await.unwrap();
    // From here on the answer is in the cache.
    eventually("one", DEADLINE, async || count(&eureka).await == 1).await;
    eureka.register("WEB", &web("web-2", 90)).await.unwrap();
    assert_eq!(count(&eureka).await, 1, "the cache is late");
    eventually("both", DEADLINE, async || count(&eureka).await == 2).await;
}

async fn peers_tell_each_other_until_they_are_cut_off(jar: PathBuf) {
    let pair = Eureka::dev(jar).pair().unwrap();
    pair.start().await.unwrap();
    let [first, second] = pair.peers();
    first.register("WEB", &web("web-1", 90)).await.unwrap();
    eventually("the other peer", DEADLINE, async || count(second).await == 1).await;
    pair.cut_off().await;
    second.register("WEB", &web("web-2", 90)).await.unwrap();
    eventually("its own", DEADLINE, async || count(second).await == 2).await;
    assert_eq!(count(first).await, 1, "they are cut off");
    pair.heal().unwrap();
    // A heartbeat that the other peer does not know makes it ask for the instance.
    eventually("the other peer", DEADLINE, async || {
        second.heartbeat("WEB", "web-2").await.unwrap();
        count(first).await == 2
    })
    .await;
    first.restart().await.unwrap();
    eventually("what the other knows", DEADLINE, async || count(first).await == 2).await;
    pair.stop().await.unwrap();
    assert!(pair.peers().iter().all(|peer| peer.pid().is_none()));
}

async fn a_spring_service_registers_and_sees_others(server: PathBuf, client: PathBuf) {
    let eureka = Eureka::dev(server).build().unwrap();
    eureka.start().await.unwrap();
    let spring = SpringClient::new(client, "greeter", eureka.url()).unwrap();
    spring.start().await.unwrap();
    let seen = eventually("its registration", DEADLINE, async || {
        let mut seen = eureka.instances("GREETER").await.unwrap();
        seen.pop().filter(|one| one["status"] == "UP")
    })
    .await;
    assert_eq!(seen["instanceId"], spring.instance_id());
    eureka.register("WEB", &web("web-1", 90)).await.unwrap();
    let seen = eventually("the other service", DEADLINE, async || {
        spring.instances("WEB").await.unwrap().pop()
    })
    .await;
    assert_eq!(
        (&seen["ipAddr"], &seen["port"]),
        (&json!("192.0.2.1"), &json!(80))
    );
    spring.set_status("DOWN").await.unwrap();
    eventually("its new status", DEADLINE, async || {
        eureka.instances("GREETER").await.unwrap()[0]["status"] == "DOWN"
    })
    .await;
    spring.stop().await.unwrap();
    eventually("its end", DEADLINE, async || {
        eureka.instances("GREETER").await.unwrap().is_empty()
    })
    .await;
}
