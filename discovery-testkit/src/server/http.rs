//! Plain HTTP/1 for tests, a connection for each request; no part of what is tested.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use discovery_core::{Error, ErrorKind, Result};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{HeaderMap, Method, Request, StatusCode, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

/// How long one request may take: a write without a leader is held for 7 s, and then some.
const DEADLINE: Duration = Duration::from_secs(30);
/// The most that is read of an answer.
const BODY_LIMIT: usize = 64 << 20;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, whole.
    pub body: Bytes,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The answer, where its status is 2xx.
    pub(super) fn ok(&self) -> Result<&Self> {
        if self.status.is_success() {
            return Ok(self);
        }
        let said = format!("{}: {}", self.status, self.text());
        Err(Error::new(ErrorKind::Unexpected, said))
    }

    /// The body as JSON, null where it is empty.
    ///
    /// # Errors
    /// [`ErrorKind::Unexpected`] for any status but 2xx, with the body; [`ErrorKind::Protocol`] when it is no JSON.
    pub fn json(&self) -> Result<Value> {
        let reply = self.ok()?;
        if reply.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&reply.body)
            .map_err(|source| Error::new(ErrorKind::Protocol, "the answer is no JSON").with_source(source))
    }
}

/// Sends one request, with these headers, and reads its answer whole.
///
/// # Errors
/// [`ErrorKind::Unavailable`] when there is no answer, [`ErrorKind::Timeout`] when it takes more than 30 s.
pub(super) async fn send(
    addr: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&'static str, &str)],
    body: Bytes,
) -> Result<Reply> {
    let named = |error: Error| error.with_operation("test request").with_context("path", path);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, addr.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body)).map_err(|source| {
        named(Error::new(ErrorKind::InvalidInput, "no such request").with_source(source))
    })?;
    match timeout(DEADLINE, exchange(addr, request)).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(source)) => Err(named(
            Error::new(ErrorKind::Unavailable, "no answer").with_source(std::io::Error::other(source)),
        )),
        Err(_) => Err(named(Error::new(ErrorKind::Timeout, "no answer in time"))),
    }
}

async fn exchange(addr: SocketAddr, request: Request<Full<Bytes>>) -> Result<Reply, BoxError> {
    let stream = TcpStream::connect(addr).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, BODY_LIMIT).collect().await?.to_bytes();
        Ok(Reply {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    };
    // The connection is driven here, so that nothing is left running. Its own error reaches the exchange as well.
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        reply = &mut exchange => reply,
        _ = connection => exchange.await,
    }
}
