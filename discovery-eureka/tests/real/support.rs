//! What cases are made of.

use std::time::Duration;

use discovery_core::{Backend, Instance, InstanceKey, Query, Registration, RegistrationBuilder};
use discovery_eureka::{EurekaConfig, backend};
use discovery_testkit::{
    eventually,
    server::{
        Server,
        eureka::{Eureka, EurekaBuilder},
    },
};
use serde_json::{Value, json};

use crate::Setup;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

impl Setup {
    /// A server, running.
    pub(crate) async fn started(&self) -> Eureka {
        self.started_with(|builder| builder).await
    }

    pub(crate) async fn started_with(&self, change: impl FnOnce(EurekaBuilder) -> EurekaBuilder) -> Eureka {
        let eureka = change(Eureka::dev(&self.jar)).build().unwrap();
        eureka.start().await.unwrap();
        // A server that has just started is slow to understand its first registration.
        eventually("a first registration", PATIENCE, async || {
            eureka.register("WEB", &raw("first", 90)).await
        })
        .await;
        eureka.deregister("WEB", "first").await.unwrap();
        eureka
    }
}

/// Settings that make minutes seconds.
pub(crate) fn quick(urls: impl IntoIterator<Item = String>) -> EurekaConfig {
    let mut config = EurekaConfig::at(urls);
    config.discovery.refresh_interval = Duration::from_millis(250);
    config.discovery.restart_grace = Duration::from_secs(20);
    config.server.read_timeout = Duration::from_secs(10);
    config
}

pub(crate) fn on(eureka: &Eureka) -> Backend {
    backend(quick([eureka.url()])).unwrap()
}

pub(crate) fn web(port: u16) -> RegistrationBuilder {
    Registration::builder("web", "127.0.0.1", port).id(format!("web-{port}"))
}

pub(crate) async fn register(backend: &Backend, builder: RegistrationBuilder) -> InstanceKey {
    let registration = builder.build().unwrap();
    backend.registry.register(&registration).await.unwrap().key
}

pub(crate) async fn own(backend: &Backend, key: &InstanceKey) -> Instance {
    backend.registry.instance(key).await.unwrap().expect("a record")
}

/// Waits until a service shows these ports.
pub(crate) async fn shows(backend: &Backend, service: &str, ports: &[u16]) {
    let query = Query::service(service).unwrap();
    eventually(
        format!("the ports {ports:?} of {service}"),
        PATIENCE,
        async || {
            let read = backend.registry.instances(&query).await;
            let read = read.map_err(|error| error.to_string())?;
            let mut found: Vec<_> = read.instances.iter().map(|i| i.port).collect();
            found.sort_unstable();
            if found == ports {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        },
    )
    .await;
}

/// A record as anybody could write it.
pub(crate) fn raw(id: &str, lease: u32) -> Value {
    json!({
        "instanceId": id, "hostName": "h1", "app": "WEB", "ipAddr": "192.0.2.1", "status": "UP", "vipAddress": "web",
        "port": { "$": 80, "@enabled": "true" },
        "leaseInfo": { "renewalIntervalInSecs": 1, "durationInSecs": lease },
    })
}

/// A record as its server has it, past every cache; `Null` where there is none.
pub(crate) async fn stored(eureka: &Eureka, id: &str) -> Value {
    let path = format!("/eureka/apps/WEB/{id}");
    let reply = eureka.request("GET".parse().unwrap(), &path, None).await.unwrap();
    if reply.status == 404 {
        return Value::Null;
    }
    reply.json().unwrap()["instance"].take()
}
