//! A client as a file says, every setting with where it came from, and what a mistake looks like.
//!
//! `cargo run --example from_config`; try it with `DISCOVERY_CLIENT_TIMEOUT=1s` in the environment, too.

#![expect(clippy::print_stdout, reason = "it shows what it does")]

use std::{fs, path::Path, time::Duration};

use discovery::{Client, Registration, explain};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/discovery.yaml"));
    println!("in force:");
    for setting in explain(path)? {
        // Shorter to read: where this file is, is known.
        println!(
            "  {}",
            setting
                .to_string()
                .replace(&path.display().to_string(), "discovery.yaml")
        );
    }

    let client = Client::from_config(path)?;
    client
        .register(Registration::builder("api", "127.0.0.1", 8080).build()?)
        .await?;
    println!("registered with {}", client.info().scheme);
    client.shutdown(Duration::from_secs(5)).await?;

    // The same file with a slip of the pen.
    let broken = fs::read_to_string(path)?.replace("timeout:", "timeuot:");
    let dir = tempfile::tempdir()?;
    let copy = dir.path().join("broken.yaml");
    fs::write(&copy, broken)?;
    let Err(error) = Client::from_config(&copy) else {
        return Err("a broken file was accepted".into());
    };
    println!(
        "\n{}: {error}\nhint: {}",
        error.kind(),
        error.hint().unwrap_or("-")
    );
    Ok(())
}
