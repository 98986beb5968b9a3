//! reqwest by the names of services: a server is killed under load, and no call fails.
//!
//! `cargo run --example reqwest_middleware --features reqwest-middleware`

#![expect(clippy::print_stdout, reason = "it shows what it does")]

#[path = "adapters/fleet.rs"]
mod fleet;

use std::{error::Error, io, time::Duration};

use discovery::{adapters::reqwest_middleware::ByName, tls};
use fleet::{Done, Fleet};
use reqwest_middleware::ClientBuilder;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

#[tokio::main]
async fn main() -> Done {
    let fleet = Fleet::start(serve).await?;
    let plain = reqwest::Client::builder()
        // No TLS is spoken here.
        .tls_backend_preconfigured(tls::unused()?)
        .timeout(Duration::from_secs(5))
        .build()?;
    let http = ClientBuilder::new(plain).with(ByName::new(&fleet.client)).build();
    fleet
        .survive(move || {
            let http = http.clone();
            async move {
                let answer = http.get("http://api/port").send().await?.error_for_status()?;
                Ok::<u16, Box<dyn Error + Send + Sync>>(answer.text().await?.parse()?)
            }
        })
        .await
}

/// Answers each request with the port it listens on, after a moment's work.
async fn serve(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(answer(stream));
    }
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    let port = stream.local_addr()?.port().to_string();
    let mut head = Vec::new();
    loop {
        head.push(stream.read_u8().await?);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            tokio::time::sleep(Duration::from_millis(2)).await;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{port}", port.len());
            stream.write_all(answer.as_bytes()).await?;
        }
    }
}
