//! gRPC's health service over real connections to servers on loopback.

use std::time::Duration;

use discovery::{adapters::tonic::Channel, pick::Service};
use tokio::{io::AsyncReadExt as _, net::TcpListener, task::JoinSet};
use tonic::{Code, Status, transport::Server as Tonic, transport::server::TcpIncoming};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{PATIENCE, api, end, load, register};

const CHECK: &str = "/grpc.health.v1.Health/Check";

struct Server {
    port: u16,
    /// Ends with it.
    _task: JoinSet<()>,
}

/// A server of gRPC's health service.
fn server() -> Server {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = incoming.local_addr().unwrap().port();
    let (_, health) = tonic_health::server::health_reporter();
    let mut task = JoinSet::new();
    task.spawn(async move {
        Tonic::builder()
            .serve_with_incoming(health, incoming)
            .await
            .unwrap();
    });
    Server { port, _task: task }
}

/// One that dies with its first request on each connection.
async fn dying() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut task = JoinSet::new();
    task.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // The preface and the settings are 24 bytes and some; what comes after them is the request.
            let mut some = [0; 512];
            let mut seen = 0;
            while seen < 100 {
                match stream.read(&mut some).await {
                    Ok(n) if n > 0 => seen += n,
                    _ => break,
                }
            }
        }
    });
    Server { port, _task: task }
}

async fn check(channel: &Channel, service: &str) -> Result<(), Status> {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let call = HealthClient::new(channel.clone());
    let answer = tokio::time::timeout(PATIENCE, async {
        let mut call = call;
        call.check(request).await
    });
    answer.await.unwrap().map(drop)
}

async fn good(channel: &Channel, calls: usize) -> usize {
    let mut good = 0;
    for _ in 0..calls {
        good += usize::from(check(channel, "").await.is_ok());
    }
    good
}

fn all(service: &Service, ports: &[u16]) -> Vec<(u32, u64, u64)> {
    ports.iter().map(|port| load(service, *port)).collect()
}

#[tokio::test]
async fn calls_take_turns_and_codes_tell_how_they_went() {
    let (one, two) = (server(), server());
    let (client, service) = api(&[one.port, two.port]).await;
    let channel = Channel::new(client.service("api").unwrap());
    assert_eq!(good(&channel, 10).await, 10);
    assert_eq!(all(&service, &[one.port, two.port]), [(0, 5, 0); 2]);
    // Not to know a service is an answer.
    for _ in 0..2 {
        assert_eq!(
            check(&channel, "unknown").await.unwrap_err().code(),
            Code::NotFound
        );
    }
    assert_eq!(all(&service, &[one.port, two.port]), [(0, 6, 0); 2]);
    end(client).await;
}

#[tokio::test]
async fn a_stream_is_in_flight_until_it_ends() {
    let one = server();
    let (client, service) = api(&[one.port]).await;
    let mut health = HealthClient::new(Channel::new(client.service("api").unwrap()));
    let mut stream = health
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(stream.message().await.unwrap().is_some());
    assert_eq!(load(&service, one.port), (1, 0, 0));
    drop(stream);
    assert_eq!(
        load(&service, one.port),
        (0, 0, 0),
        "dropped before its end: no outcome"
    );
    end(client).await;
}

#[tokio::test]
async fn what_was_never_sent_goes_to_the_next() {
    let (one, closed) = (server(), server());
    let port = closed.port;
    drop(closed);
    let (client, service) = api(&[one.port, port]).await;
    let channel = Channel::new(client.service("api").unwrap());
    // Nobody is known to listen there until the task has ended.
    assert_eq!(good(&channel, 10).await, 10);
    let (_, succeeded, failed) = load(&service, port);
    assert!(succeeded + failed > 0, "{succeeded} {failed}");
    end(client).await;
}

#[tokio::test]
async fn what_was_sent_is_repeated_only_where_it_may_be() {
    let (one, broken) = (server(), dying().await);
    let (client, service) = api(&[one.port, broken.port]).await;
    let channel = Channel::new(client.service("api").unwrap());
    assert_eq!(good(&channel, 10).await, 5);
    assert_eq!(load(&service, broken.port), (0, 0, 5));
    let channel = channel.repeat(|method| method == CHECK);
    assert_eq!(good(&channel, 10).await, 10);
    end(client).await;
}

#[tokio::test]
async fn nobody_to_call_is_unavailable() {
    let (client, service) = api(&[]).await;
    let channel = Channel::new(service.clone());
    let status = check(&channel, "").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("no instance can be picked"), "{status}");
    // And goes on when somebody comes.
    let one = server();
    register(&client, one.port).await;
    super::shows(&service, 1).await;
    assert_eq!(good(&channel, 1).await, 1);
    client.shutdown(Duration::from_secs(10)).await.unwrap();
}
