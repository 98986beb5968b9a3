//! The transport: one request function, with its deadline, token, size limit and share of the connections.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use discovery_core::{Error, ErrorKind, Result, config::Secret};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Method,
    header::{HeaderMap, HeaderValue, RETRY_AFTER},
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use url::form_urlencoded;

use crate::{
    address::Address,
    config::{Consistency, ConsulConfig},
    error,
    pool::{Pool, Pools},
    token::Token,
};

/// Default reads wait for 7 s for a leader, and so do writes: less would turn every election into time-outs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// How long a server holds a read while it looks for a leader (`rpc_hold_timeout`).
const HOLD: Duration = Duration::from_secs(7);
/// What the way there and back may take.
const SLACK: Duration = Duration::from_secs(3);
/// The largest answer that is read.
const BODY_LIMIT: usize = 32 << 20;
/// How often a watch under way looks whether its token was rotated.
const ROTATION: Duration = Duration::from_secs(10);

const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// One segment of a path, whatever it holds.
pub(crate) fn segment(text: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(text, SEGMENT)
}

/// What a request is for, which decides whose connections it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// A question that waits for news for so long.
    Poll(Duration),
    Read,
    Write,
    /// A write to the agent alone, with a deadline of its own.
    Heartbeat,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Call {
    method: Method,
    lane: Lane,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
}

impl Call {
    pub(crate) fn get(path: String) -> Self {
        Self::new(Method::GET, Lane::Read, path)
    }

    pub(crate) fn put(path: String) -> Self {
        Self::new(Method::PUT, Lane::Write, path)
    }

    pub(crate) fn heartbeat(path: String) -> Self {
        Self::new(Method::PUT, Lane::Heartbeat, path)
    }

    fn new(method: Method, lane: Lane, path: String) -> Self {
        Self {
            method,
            lane,
            path,
            query: Vec::new(),
            body: None,
        }
    }

    pub(crate) fn query(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }

    pub(crate) fn query_opt(self, key: &'static str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(key, value),
            None => self,
        }
    }

    /// Waits for an index other than `index`, for so long; C-6: with a unit, and never zero.
    pub(crate) fn blocking(mut self, index: u64, wait: Duration) -> Self {
        self.lane = Lane::Poll(wait);
        self.query("index", index.to_string())
            .query("wait", format!("{}ms", wait.as_millis().max(1)))
    }

    pub(crate) fn json(mut self, body: &impl serde::Serialize) -> Result<Self> {
        let body = serde_json::to_vec(body).map_err(|source| {
            error::error(ErrorKind::Unexpected, "a request cannot be written").with_source(source)
        })?;
        self.body = Some(body);
        Ok(self)
    }

    fn target(&self) -> String {
        if self.query.is_empty() {
            return self.path.clone();
        }
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(self.query.iter().map(|(key, value)| (key, value)))
            .finish();
        format!("{}?{query}", self.path)
    }
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The answer if it is a success.
    pub(crate) fn ok(self) -> Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        Err(self.failure())
    }

    /// What it means as a failure.
    pub(crate) fn failure(&self) -> Error {
        let after = self
            .headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        error::of_status(self.status, &String::from_utf8_lossy(&self.body), after)
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, what: &'static str) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|failed| error::of_body(failed, what))
    }
}

/// A way to one agent; clones share its connections.
#[derive(Clone)]
pub(crate) struct Client(Arc<Inner>);

struct Inner {
    config: ConsulConfig,
    base: String,
    display: String,
    token: Token,
    pools: Pools,
    /// How many watches there are, open or waiting for their turn.
    watches: AtomicUsize,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.0.display).finish()
    }
}

impl Client {
    /// A way to the agent that `config` names; reads certificates, sends nothing.
    pub(crate) fn new(config: ConsulConfig) -> Result<Self> {
        config.validate()?;
        let address = config.address()?;
        let (base, display) = match &address {
            Address::Unix(path) => ("http://localhost".to_owned(), path.display().to_string()),
            Address::Tcp { tls, authority } => (
                format!("{}://{authority}", if *tls { "https" } else { "http" }),
                authority.clone(),
            ),
        };
        let token = Token::new(config.authentication.source()?);
        Ok(Self(Arc::new(Inner {
            pools: Pools::new(&config, address)?,
            base,
            display,
            token,
            watches: AtomicUsize::new(0),
            config,
        })))
    }

    pub(crate) fn config(&self) -> &ConsulConfig {
        &self.0.config
    }

    /// The address, for people.
    pub(crate) fn display(&self) -> &str {
        &self.0.display
    }

    #[cfg(test)]
    pub(crate) fn pools(&self) -> &Pools {
        &self.0.pools
    }

    /// The token of a request that is sent now.
    pub(crate) fn token(&self) -> Result<Option<Secret>> {
        self.0.token.read()
    }

    pub(crate) fn has_token(&self) -> bool {
        self.0.token.is_some()
    }

    /// Notes that there is one more watch, for as long as the guard lives.
    pub(crate) fn watching(&self) -> Watching {
        self.0.watches.fetch_add(1, Ordering::Relaxed);
        Watching(self.clone())
    }

    /// How long a watch may wait for news: less where they have to take turns, so that each has one within `wait`.
    pub(crate) fn wait(&self) -> Duration {
        let discovery = &self.0.config.discovery;
        let watches = self.0.watches.load(Ordering::Relaxed);
        let turns = u32::try_from(watches.div_ceil(discovery.max_watches).max(1)).unwrap_or(u32::MAX);
        (discovery.wait / turns).max(Duration::from_secs(1))
    }

    /// The parameters of a read in this datacenter and namespace, the configured ones where there is none.
    pub(crate) fn scoped(&self, call: Call, datacenter: Option<&str>, namespace: Option<&str>) -> Call {
        let server = &self.0.config.server;
        call.query_opt("dc", datacenter.or(server.datacenter.as_deref()))
            .query_opt("ns", namespace.or(server.namespace.as_deref()))
            .query_opt("partition", server.partition.as_deref())
    }

    /// The namespace of a write at the agent.
    pub(crate) fn owned(&self, call: Call) -> Call {
        let server = &self.0.config.server;
        call.query_opt("ns", server.namespace.as_deref())
            .query_opt("partition", server.partition.as_deref())
    }

    /// The same read, with the consistency configured.
    pub(crate) fn consistency(&self, call: Call) -> Call {
        match self.0.config.discovery.consistency {
            Consistency::Default => call,
            Consistency::Stale => call.query("stale", ""),
            Consistency::Consistent => call.query("consistent", ""),
        }
    }

    /// Sends a request and answers whatever came back.
    ///
    /// A token that was rotated while the request was under way makes it start over with the new one.
    ///
    /// # Cancel safety
    /// Cancel-safe: dropping it closes the connection; what a write did is unknown then.
    pub(crate) async fn send(&self, call: &Call) -> Result<Answer> {
        let (pool, deadline) = match call.lane {
            // C-5: the server adds up to a sixteenth, and may hold the request without a leader.
            Lane::Poll(wait) => (&self.0.pools.polls, wait + wait / 16 + HOLD + SLACK),
            Lane::Read => (&self.0.pools.reads, DEADLINE),
            Lane::Write => (&self.0.pools.writes, DEADLINE),
            Lane::Heartbeat => (&self.0.pools.writes, self.0.config.health_checks.timeout),
        };
        // Watches queue for their turn longer than a request may take.
        let queue = match call.lane {
            Lane::Poll(_) => deadline.max(self.0.config.discovery.wait + HOLD + SLACK),
            _ => deadline,
        };
        let _slot = timeout(queue, pool.slots.acquire())
            .await
            .map_err(|_| error::late(queue).with_context("waiting_for", "a connection"))?
            .map_err(|_| error::error(ErrorKind::Closed, "the client is closed"))?;
        timeout(deadline, async {
            let mut token = self.0.token.read()?;
            self.0.pools.renew(false);
            loop {
                let answer = tokio::select! {
                    answer = self.once(pool, call, token.as_ref()) => match answer {
                        // TLS failed, so nothing was done: perhaps it has other certificates now.
                        Err(failed) if failed.kind() == ErrorKind::ConfigInvalid && self.0.pools.renew(true) => continue,
                        answer => answer?,
                    },
                    () = self.rotated(call.lane, token.as_ref()) => {
                        token = self.0.token.read()?;
                        continue;
                    }
                };
                if matches!(answer.status, 401 | 403) {
                    let now = self.0.token.read()?;
                    if now != token {
                        token = now;
                        continue;
                    }
                }
                return Ok(answer);
            }
        })
        .await
        .unwrap_or_else(|_| Err(error::late(deadline)))
    }

    /// Ends when the token is another; never for requests that end soon anyway.
    async fn rotated(&self, lane: Lane, token: Option<&Secret>) {
        if !matches!(lane, Lane::Poll(_)) || !self.0.token.may_change() {
            return std::future::pending().await;
        }
        let mut ticks = interval_at(Instant::now() + ROTATION, ROTATION);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.0.token.read().is_ok_and(|now| now.as_ref() != token) {
                return;
            }
        }
    }

    async fn once(&self, pool: &Pool, call: &Call, token: Option<&Secret>) -> Result<Answer> {
        let mut request = pool
            .http()
            .request(call.method.clone(), format!("{}{}", self.0.base, call.target()));
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(token.expose()).map_err(|_| {
                error::error(
                    ErrorKind::ConfigInvalid,
                    "the token holds characters no token can have",
                )
            })?;
            value.set_sensitive(true);
            request = request.header("x-consul-token", value);
        }
        if let Some(basic) = &self.0.config.authentication.http_password {
            let (user, password) = basic.expose().split_once(':').unwrap_or((basic.expose(), ""));
            request = request.basic_auth(user, Some(password));
        }
        if let Some(body) = &call.body {
            request = request
                .header("content-type", "application/json")
                .body(body.clone());
        }
        let mut response = request.send().await.map_err(error::of_transport)?;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(error::of_transport)? {
            if body.len() + chunk.len() > BODY_LIMIT {
                return Err(error::error(ErrorKind::Protocol, "the answer is too large")
                    .with_context("limit", format!("{} MiB", BODY_LIMIT >> 20)));
            }
            body.extend_from_slice(&chunk);
        }
        let (status, headers) = (response.status().as_u16(), std::mem::take(response.headers_mut()));
        let mut body = body.freeze();
        // A server that repeats the token must not have us log it.
        if let Some(token) = token
            && status >= 300
        {
            let text = String::from_utf8_lossy(&body).replace(token.expose(), "***");
            body = Bytes::from(text);
        }
        Ok(Answer {
            status,
            headers,
            body,
        })
    }
}

/// One watch more, as long as it lives.
#[derive(Debug)]
pub(crate) struct Watching(Client);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.0.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
