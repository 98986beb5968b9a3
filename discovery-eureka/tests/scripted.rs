//! The rules that no real server can be made to show, on some that say what they are told to.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not know as such"
)]

use std::time::Duration;

use discovery_core::{
    Backend, Change, InstanceId, InstanceKey, Query, Registration, ServiceName, WatchEvent, WatchStream,
};
use discovery_eureka::{EurekaConfig, backend};
use discovery_testkit::proxy::http::{HttpProxy, Rule};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::time::timeout;

#[path = "scripted/reads.rs"]
mod reads;
#[path = "scripted/servers.rs"]
mod servers;
#[path = "scripted/writes.rs"]
mod writes;

const PATIENCE: Duration = Duration::from_secs(15);
const APPS: &str = "/eureka/apps";
const DELTA: &str = "/eureka/apps/delta";
const WEB: &str = "/eureka/apps/WEB";
const OWN: &str = "/eureka/apps/WEB/web-1";

/// A backend on these servers, quick.
fn on(servers: &[&HttpProxy], change: impl FnOnce(&mut EurekaConfig)) -> Backend {
    let mut config = EurekaConfig::at(servers.iter().map(|server| server.addr().to_string()));
    config.discovery.refresh_interval = Duration::from_millis(100);
    config.discovery.restart_grace = Duration::from_secs(2);
    config.server.read_timeout = Duration::from_secs(2);
    change(&mut config);
    backend(config).unwrap()
}

/// A server without an answer yet, and a backend on it.
fn scripted() -> (HttpProxy, Backend) {
    let server = HttpProxy::stub().unwrap();
    let backend = on(&[&server], |_| {});
    (server, backend)
}

fn record(id: &str) -> Value {
    json!({
        "instanceId": id, "app": "WEB", "hostName": "192.0.2.1", "ipAddr": "192.0.2.1", "status": "UP",
        "overriddenStatus": "UNKNOWN", "port": { "$": 80, "@enabled": "true" }, "vipAddress": "web",
        "dataCenterInfo": { "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn" },
        "metadata": { "k": "v" }, "lastDirtyTimestamp": "1700000000000", "actionType": "ADDED",
    })
}

/// The answer to `/apps` or `/apps/delta`.
fn applications(instances: &[Value], hashcode: &str) -> String {
    let application: Vec<_> = (!instances.is_empty())
        .then(|| json!({ "name": "WEB", "instance": instances }))
        .into_iter()
        .collect();
    json!({ "applications": { "versions__delta": "1", "apps__hashcode": hashcode, "application": application } })
        .to_string()
}

/// All there is: these, all of them up.
fn all(ids: &[&str]) -> Rule {
    let records: Vec<_> = ids.iter().map(|id| record(id)).collect();
    let hashcode = if ids.is_empty() {
        String::new()
    } else {
        format!("UP_{}_", ids.len())
    };
    Rule::get(APPS).reply(200, applications(&records, &hashcode))
}

/// Nothing changed, and there are so many.
fn quiet(count: usize) -> Rule {
    Rule::get(DELTA).reply(200, applications(&[], &format!("UP_{count}_")))
}

fn web() -> Query {
    Query::service("web").unwrap()
}

fn registration() -> Registration {
    let builder = Registration::builder("web", "192.0.2.1", 80).id("web-1");
    builder.build().unwrap()
}

fn key() -> InstanceKey {
    InstanceKey::new(
        "eureka",
        ServiceName::new("web").unwrap(),
        InstanceId::new("web-1").unwrap(),
    )
}

async fn event(watch: &mut WatchStream) -> WatchEvent {
    timeout(PATIENCE, watch.next())
        .await
        .expect("an event")
        .expect("an open watch")
        .unwrap()
}

/// The next event that is no confirmation.
async fn change(watch: &mut WatchStream) -> WatchEvent {
    loop {
        let event = event(watch).await;
        if event.change != Change::Confirmed {
            return event;
        }
    }
}

/// The ids a change shows, or names as gone.
fn ids(change: &Change) -> Vec<String> {
    let mut ids: Vec<_> = match change {
        Change::Reset(all) | Change::Upsert(all) => all.iter().map(|i| i.key.id.to_string()).collect(),
        Change::Remove(keys) => keys.iter().map(|key| key.id.to_string()).collect(),
        Change::Confirmed => Vec::new(),
    };
    ids.sort();
    ids
}
