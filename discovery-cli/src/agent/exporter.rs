//! Metrics for Prometheus.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use discovery::{Error, ErrorKind, Result, TaskGroup};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// How many requests are answered at a time.
const AT_ONCE: usize = 16;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Seconds, for everything that is measured: from a heartbeat on loopback to a deadline.
const BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Answers `GET /metrics` with everything this program has counted since.
pub(super) struct Exporter {
    addr: SocketAddr,
    tasks: TaskGroup,
}

impl Exporter {
    /// Starts to count, and to answer.
    pub(super) async fn start(address: SocketAddr) -> Result<Self> {
        let broken =
            |source| Error::new(ErrorKind::Unexpected, "metrics cannot be recorded").with_source(source);
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_duration".to_owned()), &BUCKETS)
            .map_err(broken)?
            .build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder)
            .map_err(|_| Error::new(ErrorKind::Unexpected, "metrics are recorded already"))?;
        let unheard = |source| {
            Error::new(ErrorKind::Unavailable, "cannot listen")
                .with_context("address", address.to_string())
                .with_hint("is the address of this host, and the port free?")
                .with_source(source)
        };
        let listener = TcpListener::bind(address).await.map_err(unheard)?;
        let addr = listener.local_addr().map_err(unheard)?;
        let tasks = TaskGroup::current()?;
        tasks.serve(listener, AT_ONCE, move |connection| {
            let answer = timeout(PATIENCE, answer(connection, handle.clone()));
            // Whoever asks badly or goes away gets no answer.
            async move { drop(answer.await) }
        });
        Ok(Self { addr, tasks })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) async fn end(self) {
        // It is over either way.
        let _ = self.tasks.join(Duration::from_secs(1)).await;
    }
}

async fn answer(connection: TcpStream, handle: PrometheusHandle) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let handle = handle.clone();
        async move {
            let mut response = if request.uri().path() == "/metrics" {
                handle.run_upkeep();
                Response::new(handle.render())
            } else {
                let mut response = Response::new("metrics are at /metrics\n".to_owned());
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            };
            response.headers_mut().insert(CONTENT_TYPE, TEXT);
            Ok::<_, Infallible>(response)
        }
    });
    http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(connection), service)
        .await
}
