//! Whether something listens.

use std::{io, sync::Arc};

use async_trait::async_trait;
use tokio::net::TcpStream;

use crate::{
    error::{Error, ErrorKind, Result},
    model::{CheckOutcome, Instance, Status},
    spi::HealthCheck,
};

/// Connects: who accepts passes, anything else is critical.
#[derive(Debug, Clone)]
pub struct TcpCheck {
    host: Arc<str>,
    port: u16,
}

impl TcpCheck {
    /// A check of this `host:port`; an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when it is none.
    pub fn new(address: &str) -> Result<Self> {
        parse(address).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "invalid address of a TCP check")
                .with_context("address", format!("{address:?}"))
                .with_hint("use `host:port`, such as 127.0.0.1:8080 or [::1]:8080")
        })
    }
}

fn parse(address: &str) -> Option<TcpCheck> {
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .filter(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok())?,
        None => host,
    };
    let plain = host
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
    let bare_ipv6 = host.contains(':') && !address.starts_with('[');
    let port = port.parse().ok().filter(|&port| port > 0)?;
    (!host.is_empty() && plain && !bare_ipv6).then(|| TcpCheck {
        host: host.into(),
        port,
    })
}

#[async_trait]
impl HealthCheck for TcpCheck {
    async fn check(&self, _: &Instance) -> Result<CheckOutcome> {
        Ok(match connect(&self.host, self.port).await? {
            Ok(_) => CheckOutcome::new(Status::Passing, "connected"),
            Err(outcome) => outcome,
        })
    }
}

/// A connection, or the critical outcome of a target that refused; an error when we are short of sockets ourselves.
pub(super) async fn connect(host: &str, port: u16) -> Result<Result<TcpStream, CheckOutcome>> {
    match TcpStream::connect((host, port)).await {
        Ok(stream) => Ok(Ok(stream)),
        Err(error) if is_ours(&error) => Err(Error::new(ErrorKind::Unavailable, "no socket to probe with")
            .with_operation("health_check")
            .with_source(error)),
        Err(error) => Ok(Err(CheckOutcome::new(
            Status::Critical,
            format!("cannot connect: {error}"),
        ))),
    }
}

/// Whether it tells of us and not of the target: no free descriptor (`ENFILE`, `EMFILE`) or no free port.
fn is_ours(error: &io::Error) -> bool {
    (cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24)))
        || error.kind() == io::ErrorKind::AddrNotAvailable
}
