//! On Eureka: registers with a heartbeat, watches, picks, takes itself out of service and back, and leaves nothing behind.
//!
//! `cargo run --example eureka --features eureka`; `DISCOVERY_URI` names another server than `eureka://127.0.0.1:8761`. Both
//! the server and a client usually act every 30 s: be patient, or ask more often with `?refresh_interval=1s`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it shows what it does")]

use std::{env, process::ExitCode, time::Duration};

use discovery::{Client, Error, ErrorKind, HealthReport, MetaChange, Registration, Result, Status};

#[tokio::main]
async fn main() -> ExitCode {
    let uri = env::var("DISCOVERY_URI").unwrap_or_else(|_| "eureka://127.0.0.1:8761".to_owned());
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
    // The application is called API there. A heartbeat goes out every third of the TTL.
    let registration = Registration::builder("api", "127.0.0.1", 8080)
        .tag("v2")
        .meta("version", "2.0.1")
        .ttl(Duration::from_secs(30))
        .build()?;
    let registered = client.register(registration).await?;
    println!("registered as {}", registered.key());

    // One poll of changes keeps this view up to date, and every other of this client; a pick asks nobody.
    let api = client.service("api")?;
    let mut changes = api.subscribe();
    while changes.next().await?.instances.is_empty() {}
    println!("picked {}", api.acquire()?.instance().address());

    // Out of service, and back, with metadata that says so.
    let maintenance = HealthReport::new(Status::Passing).with_draining(true);
    registered.report_health(maintenance).await?;
    while !changes.next().await?.instances.is_empty() {}
    println!("out of service: nothing to pick");
    registered
        .update_meta(MetaChange::new().set("maintained", "yes"))
        .await?;
    registered
        .report_health(HealthReport::new(Status::Passing))
        .await?;
    loop {
        let view = changes.next().await?;
        if let Some(instance) = view.instances.iter().next() {
            println!("back, maintained: {:?}", instance.meta.get("maintained"));
            return Ok(());
        }
    }
}

/// Says what went wrong and how to get what is missing.
fn failed(uri: &str, error: &Error) -> ExitCode {
    eprintln!("{uri}: {error}");
    match error.kind() {
        ErrorKind::Unsupported => eprintln!("run it with: cargo run --example eureka --features eureka"),
        ErrorKind::Unavailable | ErrorKind::Timeout => {
            eprintln!("start a Eureka server on port 8761, or name one in DISCOVERY_URI");
        }
        _ => {}
    }
    ExitCode::from(error.kind().exit_code())
}
