//! A proxy that understands HTTP/1: answers by rule, changed answers, and every request remembered.

mod log;
mod rule;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use discovery_core::{Result, TaskGroup};
use futures::stream;
use http_body_util::{BodyExt, Collected, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Request, Response, StatusCode, Uri,
    body::{Body, Frame, Incoming},
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, TRANSFER_ENCODING, UPGRADE},
    rt::Executor,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioIo,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

pub use self::{
    log::LoggedRequest,
    rule::{Rule, RuleHandle},
};
use self::{
    log::RequestLog,
    rule::{Answer, Edit, Rules},
};
use super::{ACCEPT_PAUSE, SHUTDOWN_DEADLINE, cannot_listen};
use crate::sync::lock;

/// The most that is read of a body that must be read whole.
const BODY_LIMIT: usize = 64 << 20;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxBody = UnsyncBoxBody<Bytes, io::Error>;

/// An HTTP/1 proxy on loopback, or without an upstream a server that only knows its rules.
///
/// What no rule matches is forwarded, its answer streamed. Where the upstream cannot be reached or cuts its answer, the
/// client's connection is closed: the proxy makes up no status of its own. A client that leaves ends its request upstream.
/// Each request has a connection of its own to the upstream, so that no stale one can fail it.
///
/// Dropping it ends its tasks soon; [`HttpProxy::shutdown`] waits for them.
#[derive(Debug)]
pub struct HttpProxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    tasks: TaskGroup,
}

#[derive(Debug)]
struct Shared {
    upstream: Option<SocketAddr>,
    client: Client<HttpConnector, Full<Bytes>>,
    rules: Arc<Rules>,
    log: Mutex<RequestLog>,
}

impl HttpProxy {
    /// A proxy on a free port of 127.0.0.1 that forwards to `upstream`.
    ///
    /// # Errors
    /// [`ConfigInvalid`](discovery_core::ErrorKind::ConfigInvalid) outside a tokio runtime, [`Unexpected`](discovery_core::ErrorKind::Unexpected) when there is no port to listen on.
    pub fn start(upstream: SocketAddr) -> Result<Self> {
        Self::listen(Some(upstream))
    }

    /// A server that answers by its rules and 404 to the rest.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn stub() -> Result<Self> {
        Self::listen(None)
    }

    fn listen(upstream: Option<SocketAddr>) -> Result<Self> {
        let tasks = TaskGroup::current()?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| {
                listener
                    .set_nonblocking(true)
                    .and_then(|()| TcpListener::from_std(listener))
            })
            .map_err(cannot_listen)?;
        let addr = listener.local_addr().map_err(cannot_listen)?;
        let shared = Arc::new(Shared {
            upstream,
            client: Client::builder(Owned(tasks.clone()))
                .pool_max_idle_per_host(0)
                .build_http(),
            rules: Arc::default(),
            log: Mutex::default(),
        });
        tasks.spawn(accept(listener, shared.clone(), tasks.clone()));
        Ok(Self { addr, shared, tasks })
    }

    /// Where clients connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Puts a rule in force, after those in force already.
    pub fn rule(&self, rule: Rule) -> RuleHandle {
        self.shared.rules.add(rule)
    }

    /// Takes every rule out of force.
    pub fn clear_rules(&self) {
        self.shared.rules.clear();
    }

    /// The requests whose path is `pattern`, or starts with it up to a `*` at its end, oldest first.
    pub fn requests_matching(&self, pattern: &str) -> Vec<LoggedRequest> {
        lock(&self.shared.log).matching(pattern).cloned().collect()
    }

    /// How many requests a second matched `pattern` over the last `window`.
    pub fn rate(&self, pattern: &str, window: Duration) -> f64 {
        lock(&self.shared.log).rate(pattern, window)
    }

    /// Asserts that no request held `secret`: for a server that must never be shown it (rules ).
    ///
    /// # Panics
    /// When one did (naming the place, not the secret), when `secret` is empty, and when requests fell out of the log
    /// (100,000).
    #[track_caller]
    pub fn assert_no_secret(&self, secret: &str) {
        assert!(!secret.is_empty(), "an empty secret is found everywhere");
        let found = lock(&self.shared.log).find(secret);
        if let Some(place) = found {
            panic!("a secret was sent: it is in {place}");
        }
    }

    /// Closes all connections, stops listening and waits for every task.
    ///
    /// # Errors
    /// [`Timeout`](discovery_core::ErrorKind::Timeout) when a task does not end within 30 s.
    ///
    /// # Cancel safety
    /// Cancel-safe: calling it again goes on waiting.
    pub async fn shutdown(&self) -> Result<()> {
        self.tasks.join(SHUTDOWN_DEADLINE).await
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

/// Runs the connections to the upstream in the proxy's own task group.
#[derive(Debug, Clone)]
struct Owned(TaskGroup);

impl<F> Executor<F> for Owned
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        let cancelled = self.0.cancelled().clone();
        self.0.spawn(cancelled.run_until_cancelled_owned(task));
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, tasks: TaskGroup) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = tasks.cancelled().cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let cancelled = tasks.cancelled().clone();
                tasks.spawn(cancelled.run_until_cancelled_owned(serve(stream, shared.clone())));
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request| shared.answer(request));
    // How a connection ended is for its client to notice.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl Shared {
    /// Answers one request; an error closes the connection.
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<BoxBody>, BoxError> {
        let at = Instant::now();
        let (head, body) = request.into_parts();
        let body = whole(body).await?;
        let logged = LoggedRequest {
            at,
            path_and_query: head
                .uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
            method: head.method,
            headers: head.headers,
            body,
        };
        lock(&self.log).push(logged.clone());
        let Some(rule) = self.rules.apply(&logged) else {
            return self.forward(logged).await;
        };
        if !rule.delay.is_zero() {
            sleep(rule.delay).await;
        }
        let mut response = match rule.answer {
            Answer::Forward => {
                let mut seen = logged;
                for name in &rule.hidden {
                    seen.headers.remove(name);
                }
                self.forward(seen).await?
            }
            Answer::Reply(status, body) => reply(status, body),
            Answer::Endless(piece) => {
                let pieces = stream::repeat_with(move || Ok(Frame::data(piece.clone())));
                Response::new(BodyExt::boxed_unsync(StreamBody::new(pieces)))
            }
        };
        for edit in rule.edits {
            response = edit.apply(response).await?;
        }
        Ok(response)
    }

    async fn forward(&self, request: LoggedRequest) -> Result<Response<BoxBody>, BoxError> {
        let Some(upstream) = self.upstream else {
            return Ok(reply(
                StatusCode::NOT_FOUND,
                Bytes::from_static(b"no rule for this"),
            ));
        };
        let uri = Uri::builder()
            .scheme("http")
            .authority(upstream.to_string())
            .path_and_query(request.path_and_query)
            .build()?;
        let mut onward = Request::new(Full::new(request.body));
        (*onward.method_mut(), *onward.uri_mut(), *onward.headers_mut()) =
            (request.method, uri, request.headers);
        strip_hop_by_hop(onward.headers_mut());
        let mut response = self.client.request(onward).await?;
        strip_hop_by_hop(response.headers_mut());
        Ok(response.map(|body| body.map_err(io::Error::other).boxed_unsync()))
    }
}

impl Edit {
    async fn apply(self, mut response: Response<BoxBody>) -> Result<Response<BoxBody>, BoxError> {
        match self {
            Self::Status(status) => *response.status_mut() = status,
            Self::SetHeader(name, value) => {
                response.headers_mut().insert(name, value);
            }
            Self::StripHeader(name) => {
                response.headers_mut().remove(name);
            }
            Self::Body(change) => {
                let (mut head, body) = response.into_parts();
                head.headers.remove(CONTENT_LENGTH);
                return Ok(match change(whole(body).await?) {
                    Ok(body) => Response::from_parts(head, full(body)),
                    Err(refusal) => reply(StatusCode::BAD_GATEWAY, refusal.into()),
                });
            }
        }
        Ok(response)
    }
}

async fn whole<B>(body: B) -> Result<Bytes, BoxError>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    Limited::new(body, BODY_LIMIT)
        .collect()
        .await
        .map(Collected::to_bytes)
}

fn reply(status: StatusCode, body: Bytes) -> Response<BoxBody> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response
}

fn full(body: Bytes) -> BoxBody {
    Full::new(body)
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// Removes what concerns one connection only: each side frames its messages itself.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    for name in [CONNECTION, KEEP_ALIVE, TRANSFER_ENCODING, UPGRADE, EXPECT] {
        headers.remove(name);
    }
}
