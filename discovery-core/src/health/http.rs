//! What an HTTP endpoint says of itself.

use std::{pin::pin, sync::Arc};

use async_trait::async_trait;
use futures::future::{Either, select};
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, StatusCode,
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

/// GETs an `http://` URL: 2xx passes, 429 warns, anything else is critical, redirects too.
///
/// The output is the status line and the first 4 KiB of the body.
#[derive(Debug, Clone)]
pub struct HttpCheck {
    host: Arc<str>,
    port: u16,
    authority: Arc<str>,
    path: Arc<str>,
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
        })
    }
}

#[async_trait]
impl HealthCheck for HttpCheck {
    async fn check(&self, _: &Instance) -> Result<CheckOutcome> {
        let stream = match connect(&self.host, self.port).await? {
            Ok(stream) => stream,
            Err(outcome) => return Ok(outcome),
        };
        let request = Request::get(&*self.path)
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
            let exchange = pin!(async { Ok(outcome(sender.send_request(request).await?).await) });
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

/// What an answer says (rule H-1).
async fn outcome(response: Response<Incoming>) -> CheckOutcome {
    let code = response.status();
    let status = match code {
        code if code.is_success() => Status::Passing,
        StatusCode::TOO_MANY_REQUESTS => Status::Warning,
        _ => Status::Critical,
    };
    let body = start_of(response.into_body()).await;
    let output = if body.is_empty() {
        format!("HTTP {code}")
    } else {
        format!("HTTP {code}: {body}")
    };
    CheckOutcome::new(status, output)
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
