//! Registers with a check, changes metadata, reports health, drains and withdraws.
//!
//! `cargo run --example register`

#![expect(clippy::print_stdout, reason = "it shows what it does")]

use std::time::Duration;

use discovery::{
    Check, Client, Error, ErrorKind, HealthReport, MetaChange, Query, Registration, Result, Status,
    pick::Subscription,
};
use tokio::{net::TcpListener, time::timeout};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_uri("memory://")?;
    // Who looks at everything, also at what is not healthy.
    let mut changes = client
        .query(&Query::service("api")?.include_unhealthy())?
        .subscribe();

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let registration = Registration::builder("api", "127.0.0.1", address.port())
        .tag("v2")
        .meta("version", "2.0.1")
        .ttl(Duration::from_secs(10))
        .check(Check::tcp(address.to_string()).every(Duration::from_secs(1)))
        .build()?;
    let registered = client.register(registration).await?;
    println!("registered as {}", registered.key());

    // The registry runs no checks itself, so this client does: passing once something listens.
    until(&mut changes, |i| i.status == Status::Passing).await?;

    registered
        .update_meta(MetaChange::new().set("version", "2.0.2").remove("beta"))
        .await?;
    until(&mut changes, |i| {
        i.meta.get("version").is_some_and(|v| v == "2.0.2")
    })
    .await?;

    registered
        .report_health(HealthReport::new(Status::Warning).with_output("disk 91 % full"))
        .await?;
    until(&mut changes, |i| i.status == Status::Warning).await?;

    // Out of new traffic first, then gone; `wait` is for what is still under way.
    let (drained, seen) = tokio::join!(
        registered.drain(Duration::from_millis(500)),
        until(&mut changes, |i| i.draining)
    );
    drained.and(seen)?;
    println!("withdrawn: {:?} left", client.status().await.registrations);
    // The end of a program: what it still has registered is drained likewise, then withdrawn.
    client
        .leave(Duration::from_secs(1), Duration::from_secs(5))
        .await?;
    Ok(())
}

/// Waits for a view whose only instance is as it should be, and shows it.
async fn until(changes: &mut Subscription, good: impl Fn(&discovery::Instance) -> bool) -> Result<()> {
    let wait = async {
        loop {
            let view = changes.next().await?;
            if let Some(i) = view.instances.iter().find(|instance| good(instance)) {
                println!("{} draining={} {:?}", i.status, i.draining, i.meta);
                return Ok(());
            }
        }
    };
    let late = Error::new(ErrorKind::Timeout, "the registry did not show it in time");
    timeout(Duration::from_secs(5), wait).await.unwrap_or(Err(late))
}
