//! Where the agent listens: every way to write it.

use std::path::PathBuf;

use discovery_core::Result;
use url::{Host, Url};

use crate::config::{ConsulConfig, invalid};

/// Where the agent listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// `http` or `https`, host and port.
    Tcp { tls: bool, authority: String },
    /// A socket in the file system.
    Unix(PathBuf),
}

impl Address {
    /// Whether the agent is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        let Self::Tcp { authority, .. } = self else {
            return true;
        };
        match Url::parse(&format!("http://{authority}")).as_ref().map(Url::host) {
            Ok(Some(Host::Domain(name))) => name == "localhost",
            Ok(Some(Host::Ipv4(ip))) => ip.is_loopback(),
            Ok(Some(Host::Ipv6(ip))) => ip.is_loopback(),
            _ => false,
        }
    }
}

impl ConsulConfig {
    /// Where the agent listens.
    pub(crate) fn address(&self) -> Result<Address> {
        let text = self.server.address.trim();
        let bad = |fault: &str| {
            Err(invalid("server.address", fault).with_hint(
                "write one agent's `host:port`, `http://host:port`, `https://host:port` or `unix:///path`",
            ))
        };
        let path = text.strip_prefix("unix://").unwrap_or(text);
        if path.starts_with('/') {
            return Ok(Address::Unix(path.into()));
        }
        let (scheme, rest) = match text.split_once("://") {
            None => (None, text),
            Some(("http", rest)) => (Some(false), rest),
            Some(("https", rest)) => (Some(true), rest),
            Some(_) => return bad("an unknown scheme"),
        };
        let authority = rest.trim_end_matches('/');
        if authority.contains(',') {
            // Registration, heartbeat and withdrawal must reach the same agent.
            return bad("several agents");
        }
        if authority.contains('@') {
            return bad("a user or password, which belongs into `authentication`");
        }
        if authority.is_empty() || authority.contains(['/', '?', '#', ' ']) {
            return bad("not an address");
        }
        let tls = match (scheme, self.tls.enabled) {
            (Some(false), Some(true)) => return bad("`http://` although `tls.enabled` is true"),
            (Some(true), Some(false)) => return bad("`https://` although `tls.enabled` is false"),
            (Some(scheme), _) => scheme,
            (None, _) => self.tls.is_enabled(),
        };
        let url = Url::parse(&format!("http://{authority}"));
        let Ok(url) = url else {
            return bad("not an address");
        };
        // The parser drops 80, the scheme's own port.
        let has_port = url.port().is_some() || authority.ends_with(":80");
        let authority = match (has_port, tls) {
            (true, _) => authority.to_owned(),
            (false, false) => format!("{authority}:8500"),
            (false, true) => format!("{authority}:8501"),
        };
        Ok(Address::Tcp { tls, authority })
    }
}
