//! A balanced `tower::Service`: a server is killed under load, and no call fails.
//!
//! `cargo run --example tower --features tower`

#![expect(clippy::print_stdout, reason = "it shows what it does")]

#[path = "adapters/fleet.rs"]
mod fleet;

use std::{io, time::Duration};

use discovery::adapters::tower::Balanced;
use fleet::{Done, Fleet};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tower::{ServiceExt, service_fn};

#[tokio::main]
async fn main() -> Done {
    let fleet = Fleet::start(serve).await?;
    let api = Balanced::new(fleet.client.service("api")?, |instance| {
        let address = instance.address();
        service_fn(move |question: String| ask(address.clone(), question))
    })
    // A question may be asked twice.
    .repeat(2, |question| Some(question.clone()));
    fleet
        .survive(move || {
            let api = api.clone();
            async move { api.oneshot("who are you?".to_owned()).await }
        })
        .await
}

/// One line there, one line back.
async fn ask(address: String, question: String) -> io::Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("{question}\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    answer
        .trim()
        .parse()
        .map_err(|_| io::ErrorKind::UnexpectedEof.into())
}

/// Answers each line with the port it listens on, after a moment's work.
async fn serve(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, to)) = listener.accept().await {
        let port = listener.local_addr().map_or(to.port(), |here| here.port());
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut question = String::new();
            stream.read_line(&mut question).await?;
            tokio::time::sleep(Duration::from_millis(2)).await;
            stream.write_all(format!("{port}\n").as_bytes()).await
        });
    }
}
