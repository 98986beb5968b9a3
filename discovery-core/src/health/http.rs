//! What an HTTP endpoint says of itself.

use std::{pin::pin, sync::Arc};

use async_trait::async_trait;
use futures::future::{Either, select};
use http_body_util::{BodyExt, Empty};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use url::{Host, Url};

use super::tcp::connect;
use crate::{
    error::{Error, ErrorKind, Result},
    model::{CheckOutcome, Instance, Status},
    spi::HealthCheck,
};

/// How much of a body goes into the output, in bytes.
const MAX_BODY: usize = 4096;

/// GETs an `http://` URL: 2xx passes, 429 warns, anything else is critical, redirects too; or as it is told to expect.
///
/// The output is the status line and the first 4 KiB of the body.
#[derive(Debug, Clone)]
pub struct HttpCheck {
    host: Arc<str>,
    port: u16,
    authority: Arc<str>,
    path: Arc<str>,
    method: Method,
    expected_status: Option<StatusCode>,
    expected_body: Option<Arc<str>>,
}

impl HttpCheck {
    /// A check of this URL.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when it is no `http` URL or holds credentials, [`ErrorKind::Unsupported`] for `https`.
    pub fn new(url: &str) -> Result<Self> {
        // The URL itself stays out of errors: it may hold a password.
        let invalid = |message: &'static str| {
            Error::new(ErrorKind::InvalidInput, message)
                .with_hint("use a URL such as http://127.0.0.1:8080/health")
        };
        let url =
            Url::parse(url).map_err(|source| invalid("invalid URL of an HTTP check").with_source(source))?;
        match url.scheme() {
            "http" => {}
            "https" => {
                return Err(
                    Error::new(ErrorKind::Unsupported, "HTTP checks over TLS are not supported")
                        .with_hint("check a plain `http://` port, or use a TCP check"),
                );
            }
            _ => return Err(invalid("the URL of an HTTP check must be `http://`")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("the URL of an HTTP check must not hold credentials"));
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            None => return Err(invalid("the URL of an HTTP check names no host")),
        };
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        Ok(Self {
            host: host.into(),
            port: url.port_or_known_default().unwrap_or(80),
            authority: url.authority().into(),
            path: path.into(),
            method: Method::GET,
            expected_status: None,
            expected_body: None,
        })
    }

    /// The same check with this method.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when it is none.
    pub fn method(mut self, method: &str) -> Result<Self> {
        self.method = method.parse().map_err(|source| {
            Error::new(ErrorKind::InvalidInput, "invalid method of an HTTP check")
                .with_context("method", format!("{method:?}"))
                .with_hint("use one such as GET or HEAD")
                .with_source(source)
        })?;
        Ok(self)
    }

    /// The same check, which passes with this status only, and is critical with any other.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when it is none.
    pub fn expect_status(mut self, status: u16) -> Result<Self> {
        let status = StatusCode::from_u16(status).map_err(|source| {
            Error::new(ErrorKind::InvalidInput, "invalid status of an HTTP check")
                .with_context("status", status.to_string())
                .with_hint("use one from 100 to 599")
                .with_source(source)
        })?;
        self.expected_status = Some(status);
        Ok(self)
    }

    /// The same check, which is critical unless the first 4 KiB of the body hold this text.
    #[must_use]
    pub fn expect_body(mut self, text: &str) -> Self {
        self.expected_body = Some(text.into());
        self
    }

    /// What an answer says (rule H-1).
    async fn outcome(&self, response: Response<Incoming>) -> CheckOutcome {
        let code = response.status();
        let mut status = match self.expected_status {
            Some(expected) if code == expected => Status::Passing,
            None if code.is_success() => Status::Passing,
            None if code == StatusCode::TOO_MANY_REQUESTS => Status::Warning,
            _ => Status::Critical,
        };
        let body = start_of(response.into_body()).await;
        let mut output = if body.is_empty() {
            format!("HTTP {code}")
        } else {
            format!("HTTP {code}: {body}")
        };
        if let Some(expected) = &self.expected_body
            && !body.contains(&**expected)
        {
            status = Status::Critical;
            output = format!("the body does not hold {expected:?}: {output}");
        }
        CheckOutcome::new(status, output)
    }
}

#[async_trait]
impl HealthCheck for HttpCheck {
    async fn check(&self, _: &Instance) -> Result<CheckOutcome> {
        let stream = match connect(&self.host, self.port).await? {
            Ok(stream) => stream,
            Err(outcome) => return Ok(outcome),
        };
        let request = Request::builder()
            .method(self.method.clone())
            .uri(&*self.path)
            .header(header::HOST, &*self.authority)
            .header(
                header::USER_AGENT,
                concat!("system-control-discovery/", env!("CARGO_PKG_VERSION")),
            )
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|source| {
                Error::new(ErrorKind::InvalidInput, "no request can be made of this URL").with_source(source)
            })?;
        let answer = async {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            let exchange = pin!(async { Ok(self.outcome(sender.send_request(request).await?).await) });
            // The connection is driven here, so that dropping the probe closes it.
            match select(exchange, pin!(connection)).await {
                Either::Left((outcome, _)) => outcome,
                Either::Right((_, exchange)) => exchange.await,
            }
        };
        Ok(answer.await.unwrap_or_else(|error: hyper::Error| {
            CheckOutcome::new(Status::Critical, format!("no HTTP answer: {error}"))
        }))
    }
}

/// The first [`MAX_BODY`] bytes of a body; what comes after a broken connection is not there.
async fn start_of(mut body: Incoming) -> String {
    let length = hyper::body::Body::size_hint(&body).exact();
    let mut start = Vec::new();
    while start.len() <= MAX_BODY
        && let Some(Ok(frame)) = body.frame().await
    {
        if let Some(data) = frame.data_ref() {
            let room = (MAX_BODY + 1).saturating_sub(start.len());
            start.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    if start.len() <= MAX_BODY {
        return String::from_utf8_lossy(&start).into_owned();
    }
    let kept = String::from_utf8_lossy(&start[..MAX_BODY]);
    match length {
        Some(length) => format!("{kept} ... (captured {MAX_BODY} of {length} bytes)"),
        None => format!("{kept} ... (captured the first {MAX_BODY} bytes)"),
    }
}
