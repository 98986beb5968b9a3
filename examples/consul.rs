//! On Consul: registers with a TTL check, watches, picks, reads and writes a value, and leaves nothing behind.
//!
//! `cargo run --example consul --features consul`; `DISCOVERY_URI` names another agent than `consul://127.0.0.1:8500`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it shows what it does")]

use std::{env, process::ExitCode, time::Duration};

use discovery::{Client, Error, ErrorKind, HealthReport, PutMode, Registration, Result, Status};

#[tokio::main]
async fn main() -> ExitCode {
    let uri = env::var("DISCOVERY_URI").unwrap_or_else(|_| "consul://127.0.0.1:8500".to_owned());
    let client = match Client::from_uri(&uri) {
        Ok(client) => client,
        Err(error) => return failed(&uri, &error),
    };
    let shown = show(&client).await;
    // Withdraws what is registered, also after a failure.
    let ended = client.shutdown(Duration::from_secs(5)).await;
    match shown.and(ended) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&uri, &error),
    }
}

async fn show(client: &Client) -> Result<()> {
    // The agent holds the instance for dead when no heartbeat came for so long; the client sends one every third of it.
    let registration = Registration::builder("api", "127.0.0.1", 8080)
        .tag("v2")
        .meta("version", "2.0.1")
        .ttl(Duration::from_secs(15))
        .build()?;
    let registered = client.register(registration).await?;
    println!("registered as {}", registered.key());

    // A blocking query keeps this view up to date; a pick asks nobody.
    let api = client.service("api")?;
    let mut changes = api.subscribe();
    while changes.next().await?.instances.is_empty() {}
    println!("picked {}", api.acquire()?.instance().address());

    // The next heartbeat carries it on; who watches sees it as soon as the agent does.
    let report = HealthReport::new(Status::Critical).with_output("out of disk");
    registered.report_health(report).await?;
    while !changes.next().await?.instances.is_empty() {}
    println!("critical: nothing to pick");

    // The key-value store, by compare and set.
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
        ErrorKind::Unsupported => eprintln!("run it with: cargo run --example consul --features consul"),
        ErrorKind::Unavailable | ErrorKind::Timeout => {
            eprintln!("start an agent with `consul agent -dev`, or name one in DISCOVERY_URI");
        }
        _ => {}
    }
    ExitCode::from(error.kind().exit_code())
}
