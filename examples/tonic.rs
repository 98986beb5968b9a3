//! A tonic channel over a live view: a gRPC server is killed under load, and no call fails.
//!
//! `cargo run --example tonic --features tonic`

#![expect(clippy::print_stdout, reason = "it shows what it does")]

#[path = "adapters/fleet.rs"]
mod fleet;

use std::time::Duration;

use discovery::adapters::tonic::Channel;
use fleet::{Done, Fleet};
use futures::stream::{self, BoxStream};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_client::HealthClient,
    health_server::{Health, HealthServer},
};

#[tokio::main]
async fn main() -> Done {
    let fleet = Fleet::start(serve).await?;
    // What was never sent goes to the next server in any case; this method may also be called twice.
    let channel =
        Channel::new(fleet.client.service("api")?).repeat(|method| method == "/grpc.health.v1.Health/Check");
    let client = HealthClient::new(channel);
    fleet
        .survive(move || {
            let mut client = client.clone();
            async move {
                let answer = client.check(HealthCheckRequest::default()).await?;
                let port = answer.metadata().get("port").and_then(|port| port.to_str().ok());
                port.and_then(|port| port.parse().ok())
                    .ok_or_else(|| Status::internal("no port in the answer"))
            }
        })
        .await
}

/// gRPC's own health service, which here tells the port it is served on, after a moment's work.
struct Port(u16);

#[tonic::async_trait]
impl Health for Port {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let mut answer = Response::new(HealthCheckResponse::default());
        answer.metadata_mut().insert("port", self.0.into());
        Ok(answer)
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(Box::pin(stream::empty())))
    }
}

async fn serve(listener: TcpListener) {
    let port = listener.local_addr().map_or(0, |here| here.port());
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let served = Server::builder()
        .serve_with_incoming(HealthServer::new(Port(port)), incoming)
        .await;
    if let Err(error) = served {
        println!("{port}: {error}");
    }
}
