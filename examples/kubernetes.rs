//! On Kubernetes: registers this program, which is no pod of the service, and follows a service.
//!
//! `DISCOVERY_URI=k8s:// cargo run --example kubernetes --features k8s` takes the kubeconfig in use, or the pod's service
//! account. `ADDRESS` is what others reach this program at (in a pod: its IP). `SECONDS` ends it after so long.

#![expect(clippy::print_stdout, reason = "it shows what it does")]

use std::{env, time::Duration};

use discovery::{Client, Query, Registration, Result};
use tokio::time::timeout;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let uri = env::var("DISCOVERY_URI").unwrap_or_default();
    if !(uri.starts_with("k8s:") || uri.starts_with("kubernetes:")) {
        println!(
            "set DISCOVERY_URI to k8s:// (kubeconfig or pod), or to k8s://host:6443?token_file=…&ca_file=…"
        );
        return Ok(());
    }
    let seconds = env::var("SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(60);
    let address = env::var("ADDRESS").unwrap_or_else(|_| "192.0.2.10".to_owned());
    let client = Client::from_uri(&uri)?;
    println!(
        "cluster {}",
        client
            .status()
            .await
            .registry
            .map_or_else(|e| e.to_string(), |s| format!("{:?}", s.version))
    );

    // A Service without selector, an EndpointSlice and a Lease: they go when this program does, also without a word.
    let registration = Registration::builder("legacy-billing", address, 8080)
        .meta("version", "2.0.1")
        .ttl(Duration::from_secs(15))
        .build()?;
    let registered = client.register(registration).await?;
    println!("registered {}", registered.key());

    let mut changes = client.query(&Query::service("legacy-billing")?)?.subscribe();
    let follow = async {
        loop {
            let view = changes.next().await?;
            let all: Vec<_> = view.instances.iter().map(|instance| instance.address()).collect();
            println!("{} instances ({}): {}", all.len(), view.source, all.join(", "));
        }
    };
    let ended: Result<Result<()>, _> = timeout(Duration::from_secs(seconds), follow).await;
    client.shutdown(Duration::from_secs(5)).await?;
    ended.unwrap_or(Ok(())).map_err(Into::into)
}
