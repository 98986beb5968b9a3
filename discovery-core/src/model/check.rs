//! Checks of an instance.

use std::time::Duration;

use super::registration::invalid;
use crate::error::Result;

/// How a check looks at an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckKind {
    /// GET this `http://` URL: 2xx passes, 429 warns, anything else is critical (as Consul's agent has it).
    Http {
        /// The URL.
        url: String,
    },
    /// Connect to this `host:port`.
    Tcp {
        /// The address.
        address: String,
    },
    /// Run this program: exit code 0 passes, 1 warns, any other is critical. Only registries that run checks themselves
    /// can; a client never runs programs.
    Script {
        /// The program and its arguments; no shell comes in between.
        args: Vec<String>,
    },
    /// Ask the standard gRPC health service: `SERVING` passes, anything else is critical. Only registries that run checks
    /// themselves can.
    Grpc {
        /// `host:port`, or `host:port/service` to ask for one service of the server.
        target: String,
        /// Whether to speak TLS.
        tls: bool,
    },
}

/// A check of an instance: what to look at and how often.
///
/// Run by the registry where it runs checks itself, else by the client that registered the instance.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// Its name, unique within the registration.
    pub name: String,
    /// What to look at.
    pub kind: CheckKind,
    /// The time between two looks.
    pub interval: Duration,
    /// How long a look may take.
    pub timeout: Duration,
    /// Have the registry drop the registration when the check has been critical for so long, where it can.
    pub deregister_after: Option<Duration>,
    /// What a program said of the interval and the timeout itself.
    said: Said,
}

/// Which of two settings were said, and not left to defaults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Said {
    interval: bool,
    timeout: bool,
}

impl Check {
    /// An HTTP check every 10 s with a timeout of 5 s.
    pub fn http(url: impl Into<String>) -> Self {
        Self::new("http", CheckKind::Http { url: url.into() })
    }

    /// A TCP check every 10 s with a timeout of 5 s.
    pub fn tcp(address: impl Into<String>) -> Self {
        Self::new(
            "tcp",
            CheckKind::Tcp {
                address: address.into(),
            },
        )
    }

    /// A check by a program, every 10 s with a timeout of 5 s; `args` are the program and its arguments.
    pub fn script<T: Into<String>>(args: impl IntoIterator<Item = T>) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        Self::new("script", CheckKind::Script { args })
    }

    /// A check by gRPC's health service at `host:port[/service]`, every 10 s with a timeout of 5 s.
    pub fn grpc(target: impl Into<String>, tls: bool) -> Self {
        Self::new(
            "grpc",
            CheckKind::Grpc {
                target: target.into(),
                tls,
            },
        )
    }

    fn new(name: &str, kind: CheckKind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            deregister_after: None,
            said: Said::default(),
        }
    }

    /// The same check under this name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The same check every `interval`.
    #[must_use]
    pub fn every(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self.said.interval = true;
        self
    }

    /// The same check with this timeout.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self.said.timeout = true;
        self
    }

    /// The same check with this interval and timeout where [`every`](Self::every) and [`timeout`](Self::timeout) have said
    /// nothing.
    #[must_use]
    pub fn or(mut self, interval: Duration, timeout: Duration) -> Self {
        if !self.said.interval {
            self.interval = interval;
        }
        if !self.said.timeout {
            self.timeout = timeout;
        }
        self
    }

    /// The same check, dropping the registration after so long critical.
    #[must_use]
    pub fn deregister_after(mut self, after: Duration) -> Self {
        self.deregister_after = Some(after);
        self
    }

    /// Refuses what could not be looked at.
    pub(super) fn validate(&self) -> Result<()> {
        if self.interval.is_zero() || self.timeout.is_zero() {
            return Err(invalid(
                "check",
                &self.name,
                "an interval and a timeout above zero",
            ));
        }
        validate_kind(&self.kind)
    }
}

/// What only a registry runs is looked at here; HTTP and TCP are, where the client runs them, by their probes.
fn validate_kind(kind: &CheckKind) -> Result<()> {
    match kind {
        CheckKind::Script { args } if args.first().is_none_or(|program| program.trim().is_empty()) => {
            Err(invalid("script", "", "the program to run, then its arguments"))
        }
        CheckKind::Grpc { target, .. } => {
            let authority = target.split_once('/').map_or(target.as_str(), |(host, _)| host);
            let (host, port) = authority.rsplit_once(':').unwrap_or_default();
            // Not even the shape of a URL: agents would take its scheme for a host.
            if host.is_empty() || port.parse::<u16>().is_err() || target.contains(char::is_whitespace) {
                return Err(invalid("grpc", target, "`host:port` or `host:port/service`"));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
