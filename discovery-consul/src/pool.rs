//! The connections: a pool for each kind of request, with certificates that may be replaced while running.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use discovery_core::{Result, tls};
use reqwest::redirect::Policy;
use rustls::ClientConfig;
use tokio::{sync::Semaphore, time::Instant};
use tracing::warn;

use crate::{address::Address, config::ConsulConfig, error};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(4);
/// Connections of look-ups, and of registrations, heartbeats and withdrawals.
const READS: usize = 24;
const WRITES: usize = 16;
/// How often it is looked whether the certificates were replaced, while requests go well.
const LOOK: Duration = Duration::from_secs(10);

/// All connections of a client.
pub(crate) struct Pools {
    pub(crate) polls: Pool,
    pub(crate) reads: Pool,
    pub(crate) writes: Pool,
    address: Address,
    /// Nothing for connections without TLS.
    files: Option<Mutex<Files>>,
}

/// The connections of one kind of request.
pub(crate) struct Pool {
    size: usize,
    pub(crate) slots: Semaphore,
    http: Mutex<reqwest::Client>,
}

/// The certificates, and when to look at them next.
struct Files {
    reloader: tls::Reloader,
    next: Instant,
}

impl Pools {
    /// Reads certificates, opens nothing yet.
    pub(crate) fn new(config: &ConsulConfig, address: Address) -> Result<Self> {
        let (files, security) = match &address {
            Address::Tcp { tls: true, .. } => {
                let (reloader, security) = tls::Reloader::new(config.tls.clone())
                    .map_err(|error| error.with_backend(error::SCHEME))?;
                let next = Instant::now() + LOOK;
                (Some(Mutex::new(Files { reloader, next })), security)
            }
            // Never used; without it, the builder would look for a process default and panic.
            _ => (None, tls::unused()?),
        };
        let pool = |size| Pool::new(size, &address, &security);
        Ok(Self {
            polls: pool(config.discovery.max_watches)?,
            reads: pool(READS)?,
            writes: pool(WRITES)?,
            address,
            files,
        })
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
        for pool in [&self.polls, &self.reads, &self.writes] {
            if let Err(error) = pool.replace(&self.address, &security) {
                warn!(%error, "no connections with the new certificates: the last ones are used");
                return false;
            }
        }
        true
    }
}

impl Pool {
    fn new(size: usize, address: &Address, security: &ClientConfig) -> Result<Self> {
        Ok(Self {
            size,
            slots: Semaphore::new(size),
            http: Mutex::new(connections(size, address, security)?),
        })
    }

    /// What new requests go out on.
    pub(crate) fn http(&self) -> reqwest::Client {
        self.http.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, address: &Address, security: &ClientConfig) -> Result<()> {
        let fresh = connections(self.size, address, security)?;
        *self.http.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }
}

fn connections(size: usize, address: &Address, security: &ClientConfig) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("system-control-discovery/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .no_proxy()
        // C-20. To a neighbour, packing and unpacking takes longer than sending.
        .gzip(!address.is_local())
        .connect_timeout(CONNECT)
        .tcp_keepalive(Duration::from_secs(15))
        .tcp_nodelay(true)
        .pool_max_idle_per_host(size)
        .tls_backend_preconfigured(security.clone());
    if let Address::Unix(path) = address {
        builder = builder.unix_socket(path.as_path());
    }
    builder.build().map_err(error::of_transport)
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
