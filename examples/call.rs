//! Calls a service: the next instance when one fails, outcomes reported, and readers for threads that pick a lot.
//!
//! `cargo run --example call`

#![expect(clippy::print_stdout, reason = "it shows what it does")]

use std::{collections::BTreeMap, sync::Arc, thread, time::Duration};

use discovery::{
    Client, Instance, Registration, Result,
    pick::{CallPolicy, Outcome, Readers},
};

#[tokio::main]
async fn main() -> Result<()> {
    let client = Client::from_uri("memory://")?;
    for port in [8001, 8002, 8003] {
        client
            .register(Registration::builder("api", "127.0.0.1", port).build()?)
            .await?;
    }
    let api = client.service("api")?;
    let mut changes = api.subscribe();
    while changes.next().await?.instances.len() < 3 {}

    // `call` picks, times and reports; a failure or a timeout goes on to an instance not tried yet.
    let policy = CallPolicy::default().attempts(3).timeout(Duration::from_secs(1));
    for _ in 0..3 {
        let answer = api.call(&policy, fetch).await;
        println!(
            "call: {}",
            answer.unwrap_or_else(|error| format!("failed: {error}"))
        );
    }

    // `acquire` leaves the call to you: it counts as in flight until it is reported or dropped.
    for _ in 0..3 {
        let picked = api.acquire()?;
        let (instance, load) = (picked.instance().clone(), picked.load());
        println!(
            "{}: {} ok, {} failed",
            instance.address(),
            load.succeeded(),
            load.failed()
        );
        match fetch(instance).await {
            Ok(_) => picked.report(Outcome::Success),
            Err(_) => picked.report(Outcome::Failure),
        }
    }

    // A reader is the fastest way: no lock, nothing shared, nothing counted. One set per thread.
    let of_thread = client.clone();
    let thread = thread::spawn(move || {
        let mut readers = Readers::new();
        let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
        for _ in 0..3000 {
            if let Some(instance) = readers.pick_or_open("api", |name| of_thread.service(name))? {
                *counts.entry(instance.port).or_default() += 1;
            }
        }
        Ok(counts)
    });
    let counts: Result<_> = thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    println!("a thread picked {:?}", counts?);
    client.shutdown(Duration::from_secs(5)).await
}

/// Stands for a request; one of the instances is broken.
async fn fetch(instance: Arc<Instance>) -> std::io::Result<String> {
    match instance.port {
        8002 => Err(std::io::ErrorKind::ConnectionRefused.into()),
        port => Ok(format!("hello from {port}")),
    }
}
