//! Two registries, one of which steps in for the other: an outage is borne for a moment, then traffic moves over, and back
//! once the first has been good for a while.
//!
//! `cargo run --example failover`

#![expect(clippy::print_stdout, reason = "it shows what it does")]

use std::time::Duration;

use discovery::{
    Client, Error, ErrorKind, Registration, Result, Source, Sources, failover::FailoverPolicy,
    memory::MemoryStore, pick::Subscription,
};
use discovery_testkit::chaos::Chaos;
use tokio::time::timeout;

#[tokio::main]
async fn main() -> Result<()> {
    // Two datacenters, each with a registry; the test kit plays the outage of the first.
    let (here, there) = (MemoryStore::new(), MemoryStore::new());
    let (reached, outage) = Chaos::wrap(here.backend());
    let remote = Client::builder(there.backend()).build()?;
    remote
        .register(Registration::builder("api", "127.0.0.1", 9001).build()?)
        .await?;

    // The limits are short here; 30 seconds each unless set.
    let policy = FailoverPolicy::default()
        .max_outage(Duration::from_millis(500))
        .hold(Duration::from_secs(1));
    let sources = Sources::new("here").then("there", there.backend()).policy(policy);
    let client = Client::builder(reached).sources(sources).build()?;
    // Writes go to the first source alone.
    let registered = client
        .register(Registration::builder("api", "127.0.0.1", 8001).build()?)
        .await?;
    println!("registered {}", registered.key());

    let api = client.service("api")?;
    let mut changes = api.subscribe();
    until(&mut changes, "here", Source::Live).await?;

    outage.cut(ErrorKind::Unavailable);
    println!("-- the registry here goes away: its last good view is used, and says so");
    until(&mut changes, "here", Source::Stale).await?;
    println!("-- it stays away: the other steps in");
    until(&mut changes, "there", Source::Live).await?;
    println!("   a call goes to {}", api.acquire()?.address());
    for state in client.status().await.failovers {
        println!(
            "   {} is served by {} (tier {})",
            state.service,
            state.using.join(", "),
            state.tier
        );
    }

    outage.heal();
    println!("-- it is back: after a time of probation it serves again");
    until(&mut changes, "here", Source::Live).await?;
    println!("   a call goes to {}", api.acquire()?.address());

    remote.shutdown(Duration::from_secs(5)).await?;
    client.shutdown(Duration::from_secs(5)).await
}

/// Waits for a view with instances of this source, and shows it.
async fn until(changes: &mut Subscription, wanted: &str, how: Source) -> Result<()> {
    let wait = async {
        loop {
            let view = changes.next().await?;
            let shown = |source: &str| view.instances.iter().any(|one| &*one.key.source == source);
            if view.source == how && shown(wanted) {
                println!("   {} from {wanted}, {how}", view.instances.len());
                return Ok(());
            }
        }
    };
    let late = Error::new(ErrorKind::Timeout, "it did not happen in time");
    timeout(Duration::from_secs(40), wait).await.unwrap_or(Err(late))
}
