//! Adapters over a live view of a `memory` registry.

#![cfg(any(feature = "reqwest-middleware", feature = "tonic", feature = "tower"))]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not know as such"
)]

use std::time::Duration;

use discovery::{Client, Registration, memory::MemoryStore, pick::Service};
use discovery_testkit::eventually;

#[cfg(feature = "reqwest-middleware")]
mod reqwest_middleware;
#[cfg(feature = "tonic")]
mod tonic;
#[cfg(feature = "tower")]
mod tower;

const PATIENCE: Duration = Duration::from_secs(60);

/// A client that has registered `api` on these ports, and a handle that shows them all.
async fn api(ports: &[u16]) -> (Client, Service) {
    let client = Client::builder(MemoryStore::new().backend()).build().unwrap();
    for port in ports {
        register(&client, *port).await;
    }
    let service = client.service("api").unwrap();
    shows(&service, ports.len()).await;
    (client, service)
}

async fn register(client: &Client, port: u16) -> discovery::Registered {
    let registration = Registration::builder("api", "127.0.0.1", port).build().unwrap();
    client.register(registration).await.unwrap()
}

/// Waits until the view shows so many.
async fn shows(service: &Service, instances: usize) {
    eventually(format!("{instances} instances"), PATIENCE, || async {
        let seen = service.instances().await.map_err(|error| error.to_string())?;
        let here = seen.instances.len();
        if here == instances {
            Ok(())
        } else {
            Err(here.to_string())
        }
    })
    .await;
}

/// Calls of the instance on `port`: in flight, succeeded, failed.
fn load(service: &Service, port: u16) -> (u32, u64, u64) {
    let all = service.view().snapshot().unwrap();
    let all = service.explain(&all);
    let one = all.iter().find(|one| one.instance.port == port).unwrap();
    (one.in_flight, one.succeeded, one.failed)
}

async fn end(client: Client) {
    client.shutdown(Duration::from_secs(10)).await.unwrap();
}
