//! Configuration values beside the services: write, compare and set, watch.
//!
//! `cargo run --example config_values`

#![expect(clippy::print_stdout, reason = "it shows what it does")]

use std::{pin::pin, time::Duration};

use discovery::{Client, ConfigChange, ConfigEvent, ErrorKind, PutMode, Result};
use futures::StreamExt;

#[tokio::main]
async fn main() -> Result<()> {
    let client = Client::from_uri("memory://")?;
    let values = client.config()?;
    // Nothing is asked before the first `next`, whose answer is all there is; what follows is what changed.
    let mut changes = pin!(values.watch("app/"));
    show(changes.next().await)?;

    let first = values.put("app/rate_limit", "100", PutMode::Create).await?;
    println!("created app/rate_limit at version {}", first.as_str());

    // Compare and set: it succeeds only while the key still has the version we read.
    let second = values
        .put("app/rate_limit", "200", PutMode::IfVersion(first.clone()))
        .await?;
    match values
        .put("app/rate_limit", "999", PutMode::IfVersion(first))
        .await
    {
        Err(error) if error.kind() == ErrorKind::Conflict => println!("refused: {error}"),
        other => return other.map(drop),
    }

    if let Some(entry) = values.get("app/rate_limit").await? {
        println!("{} = {}", entry.key, String::from_utf8_lossy(&entry.value));
    }
    values.delete("app/rate_limit", Some(second)).await?;

    for _ in 0..3 {
        show(changes.next().await)?;
    }
    client.shutdown(Duration::from_secs(5)).await
}

/// Shows a change; an outage would be an error between two of them.
fn show(event: Option<Result<ConfigEvent>>) -> Result<()> {
    match event.transpose()?.map(|event| event.change) {
        Some(ConfigChange::Reset(entries)) => println!("watch: {} entries", entries.len()),
        Some(ConfigChange::Put(entry)) => {
            println!("watch: {} = {}", entry.key, String::from_utf8_lossy(&entry.value));
        }
        Some(ConfigChange::Delete(key)) => println!("watch: {key} deleted"),
        Some(ConfigChange::Confirmed) | None => {}
    }
    Ok(())
}
