//! On etcd: registers twice by one lease, watches, picks, reads and writes a value, and leaves nothing behind.
//!
//! `cargo run --example etcd --features etcd`; `DISCOVERY_URI` names other members than `etcd://127.0.0.1:2379`, best all
//! of a cluster: `etcd://a:2379,b:2379,c:2379`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it shows what it does")]

use std::{env, process::ExitCode, time::Duration};

use discovery::{Client, Error, ErrorKind, MetaChange, PutMode, Registration, Result};

#[tokio::main]
async fn main() -> ExitCode {
    let uri = env::var("DISCOVERY_URI").unwrap_or_else(|_| "etcd://127.0.0.1:2379".to_owned());
    let client = match Client::from_uri(&uri) {
        Ok(client) => client,
        Err(error) => return failed(&uri, &error),
    };
    let shown = show(&client).await;
    // Revokes the lease, and all that lives by it, also after a failure.
    let ended = client.shutdown(Duration::from_secs(5)).await;
    match shown.and(ended) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&uri, &error),
    }
}

async fn show(client: &Client) -> Result<()> {
    // One lease for both, kept alive by one heartbeat; each is a key below /services/.
    let first = Registration::builder("hello", "127.0.0.1", 8081).build()?;
    let first = client.register(first).await?;
    let second = Registration::builder("hello", "127.0.0.1", 8082).build()?;
    let second = client.register(second).await?;
    println!("registered as {} and {}", first.id(), second.id());

    // A watch keeps this view up to date; a pick asks nobody.
    let hello = client.service("hello")?;
    let mut changes = hello.subscribe();
    while changes.next().await?.instances.len() < 2 {}
    println!("picked {}", hello.acquire()?.instance().address());

    // Changed by compare and swap; the record stays under its lease.
    first.update_meta(MetaChange::new().set("version", "2")).await?;
    loop {
        let view = changes.next().await?;
        let mut updated = view
            .instances
            .iter()
            .filter(|one| one.meta.contains_key("version"));
        if let Some(one) = updated.next() {
            println!("{} has version {}", one.key.id, one.meta["version"]);
            break;
        }
    }
    // Its key goes, the lease stays with the other.
    second.deregister().await?;
    while changes.next().await?.instances.len() > 1 {}
    println!("one is left");

    // Values below /config/, by compare and set.
    let values = client.config()?;
    let key = "discovery-example/rate_limit";
    let version = values.put(key, "100", PutMode::Upsert).await?;
    let version = values.put(key, "200", PutMode::IfVersion(version)).await?;
    if let Some(entry) = values.get(key).await? {
        println!("{key} = {}", String::from_utf8_lossy(&entry.value));
    }
    values.delete(key, Some(version)).await.map(drop)
}

/// Says what went wrong and how to get what is missing.
fn failed(uri: &str, error: &Error) -> ExitCode {
    eprintln!("{uri}: {error}");
    match error.kind() {
        ErrorKind::Unsupported => eprintln!("run it with: cargo run --example etcd --features etcd"),
        ErrorKind::Unavailable | ErrorKind::Timeout => {
            eprintln!("start etcd, or name its members in DISCOVERY_URI");
        }
        _ => {}
    }
    ExitCode::from(error.kind().exit_code())
}
