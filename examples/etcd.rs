//! Registers at etcd, watches, changes metadata and withdraws; without `ETCDCTL_ENDPOINTS` it says what to set.
//!
//! `ETCDCTL_ENDPOINTS=127.0.0.1:2379 cargo run --example etcd --features etcd`

#![expect(clippy::print_stdout, reason = "it shows what it does")]

use std::time::Duration;

use discovery::{Client, MetaChange, Registration, Result};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Ok(endpoints) = std::env::var("ETCDCTL_ENDPOINTS") else {
        println!("set ETCDCTL_ENDPOINTS, and build with --features etcd");
        return Ok(());
    };
    // One of several members is enough to start with; all of them are better.
    let client = Client::from_uri(&format!("etcd://{endpoints}?ttl=5"))?;
    let status = client.status().await;
    println!("connected: {status:?}");

    // One lease for both: it is kept alive until shutdown, which revokes it.
    let first = client
        .register(Registration::builder("hello-etcd", "127.0.0.1", 8081).build()?)
        .await?;
    client
        .register(Registration::builder("hello-etcd", "127.0.0.1", 8082).build()?)
        .await?;
    println!("registered as {}", first.key());

    let mut changes = client.service("hello-etcd")?.subscribe();
    first.update_meta(MetaChange::new().set("version", "2")).await?;
    loop {
        let seen = tokio::time::timeout(Duration::from_secs(10), changes.next()).await??;
        println!("{} instances", seen.instances.len());
        if seen.instances.len() == 2 && seen.instances.iter().any(|i| i.meta.contains_key("version")) {
            break;
        }
    }
    client.shutdown(Duration::from_secs(5)).await?;
    println!("withdrawn");
    Ok(())
}
