//! The connections, with certificates that may be replaced while running.

use std::sync::{Mutex, PoisonError};

use discovery_core::{Result, tls};
use reqwest::redirect::Policy;
use rustls::ClientConfig;
use tokio::time::{Duration, Instant};
use tracing::warn;

use crate::{config::EurekaConfig, error};

/// How often it is looked whether the certificates were replaced, while requests go well.
const LOOK: Duration = Duration::from_secs(10);
/// Idle connections kept to one server.
const IDLE: usize = 16;

/// All connections of a client; U-35: those of heartbeats wait for no fetch.
pub(crate) struct Pools {
    config: EurekaConfig,
    http: Mutex<Both>,
    /// Nothing for connections without TLS.
    files: Option<Mutex<Files>>,
}

#[derive(Clone)]
struct Both {
    reads: reqwest::Client,
    writes: reqwest::Client,
}

/// The certificates, and when to look at them next.
struct Files {
    reloader: tls::Reloader,
    next: Instant,
}

impl Pools {
    /// Reads certificates, opens nothing yet.
    pub(crate) fn new(config: &EurekaConfig, tls: bool) -> Result<Self> {
        let (files, security) = if tls {
            let (reloader, security) =
                tls::Reloader::new(config.tls.clone()).map_err(|error| error.with_backend(error::SCHEME))?;
            let next = Instant::now() + LOOK;
            (Some(Mutex::new(Files { reloader, next })), security)
        } else {
            // Never used; without it, the builder would look for a process default and panic.
            (None, tls::unused()?)
        };
        Ok(Self {
            http: Mutex::new(Both::new(config, &security)?),
            config: config.clone(),
            files,
        })
    }

    /// What a new request goes out on.
    pub(crate) fn http(&self, write: bool) -> reqwest::Client {
        let both = self.http.lock().unwrap_or_else(PoisonError::into_inner);
        if write {
            both.writes.clone()
        } else {
            both.reads.clone()
        }
    }

    /// Looks whether the certificates were replaced, now or when it is time, and answers whether they were. New requests
    /// get new connections then; those under way end on theirs.
    pub(crate) fn renew(&self, now: bool) -> bool {
        let Some(files) = &self.files else {
            return false;
        };
        let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
        if !now && Instant::now() < files.next {
            return false;
        }
        files.next = Instant::now() + LOOK;
        let Some(security) = files.reloader.changed() else {
            return false;
        };
        match Both::new(&self.config, &security) {
            Ok(fresh) => {
                *self.http.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
                true
            }
            Err(error) => {
                warn!(%error, "no connections with the new certificates: the last ones are used");
                false
            }
        }
    }
}

impl Both {
    fn new(config: &EurekaConfig, security: &ClientConfig) -> Result<Self> {
        let connections = || {
            reqwest::Client::builder()
                .user_agent(concat!("system-control-discovery/", env!("CARGO_PKG_VERSION")))
                .redirect(Policy::none())
                .no_proxy()
                .gzip(true)
                .connect_timeout(config.server.connect_timeout)
                .read_timeout(config.server.read_timeout)
                .tcp_keepalive(Duration::from_secs(15))
                .tcp_nodelay(true)
                .pool_max_idle_per_host(IDLE)
                .tls_backend_preconfigured(security.clone())
                .build()
                .map_err(error::of_transport)
        };
        Ok(Self {
            reads: connections()?,
            writes: connections()?,
        })
    }
}
