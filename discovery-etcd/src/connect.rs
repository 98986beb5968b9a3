//! The way to one member: a connection that is made when it is needed and again when it broke.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, RwLock},
    task::{Context, Poll},
    time::Duration,
};

use discovery_core::{Result, config::TlsConfig, tls};
use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue, Uri};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tonic::{
    body::Body,
    transport::{Channel, Endpoint},
};
use tower::{BoxError, Service, service_fn};

use crate::{
    config::{EtcdConfig, invalid},
    error,
};

/// The call that needs no token, and takes none.
const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";
const TOKEN: HeaderName = HeaderName::from_static("token");
/// Without it a member that lost its cluster accepts watches and stays silent for ever (E-18).
const HAS_LEADER: HeaderName = HeaderName::from_static("hasleader");

/// No connection was made: nothing can have been sent.
#[derive(Debug)]
pub(crate) struct NotConnected(io::Error);

impl fmt::Display for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for NotConnected {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.get_ref().map(|inner| inner as _)
    }
}

impl From<io::Error> for NotConnected {
    fn from(failed: io::Error) -> Self {
        Self(failed)
    }
}

trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

type Io = TokioIo<Pin<Box<dyn Stream>>>;

/// The token in force, shared by the ways to all members.
pub(crate) type SharedToken = Arc<RwLock<Option<HeaderValue>>>;

/// What requests to one member go through: it adds the token, and asks for a member that has a leader.
#[derive(Clone)]
pub(crate) struct Way {
    channel: Channel,
    token: SharedToken,
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way").finish_non_exhaustive()
    }
}

impl Way {
    /// A way to this member. Connects when first used; needs a runtime.
    pub(crate) fn new(config: &EtcdConfig, tls: bool, authority: &str, token: SharedToken) -> Result<Self> {
        let url = format!("{}://{authority}", if tls { "https" } else { "http" });
        let endpoint = Endpoint::from_shared(url)
            .map_err(|failed| invalid("endpoints", "not an address").with_source(failed))?
            .http2_keep_alive_interval(config.keep_alive_interval)
            .keep_alive_timeout(config.keep_alive_timeout)
            // Servers take probes of idle connections for abuse (E-19).
            .keep_alive_while_idle(false);
        let tls = tls.then(|| Arc::new(config.tls.clone()));
        let dial = config.dial_timeout;
        let connector = service_fn(move |uri: Uri| connect(uri, tls.clone(), dial));
        Ok(Self {
            channel: endpoint.connect_with_connector_lazy(connector),
            token,
        })
    }
}

async fn connect(uri: Uri, tls: Option<Arc<TlsConfig>>, dial: Duration) -> Result<Io, NotConnected> {
    timeout(dial, dialled(uri, tls))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(NotConnected::from)
}

async fn dialled(uri: Uri, tls: Option<Arc<TlsConfig>>) -> io::Result<Io> {
    let host = uri.host().unwrap_or_default();
    let host = host
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(host);
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(2379))).await?;
    stream.set_nodelay(true)?;
    let stream: Pin<Box<dyn Stream>> = match tls {
        None => Box::pin(stream),
        Some(block) => {
            // Read for every connection, so that certificates can be replaced while the process runs.
            let read = tokio::task::spawn_blocking(move || tls::client_config(&block));
            let mut config = read.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
            config.alpn_protocols = vec![b"h2".to_vec()];
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            Box::pin(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
        }
    };
    Ok(TokioIo::new(stream))
}

impl Service<http::Request<Body>> for Way {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.channel.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let token = self.token.read().ok().and_then(|token| token.clone());
        if let Some(token) = token.filter(|_| request.uri().path() != AUTHENTICATE) {
            request.headers_mut().insert(TOKEN, token);
        }
        request
            .headers_mut()
            .insert(HAS_LEADER, HeaderValue::from_static("true"));
        let answer = self.channel.call(request);
        Box::pin(async move { answer.await.map_err(Into::into) })
    }
}

/// A token as a header that is never shown.
pub(crate) fn header(token: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(token).map_err(|_| {
        error::error(
            discovery_core::ErrorKind::Protocol,
            "the server's token is no header",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}
