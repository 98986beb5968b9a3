//! The transport: one request function, with its deadline, credentials, size limit and choice of a server.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use discovery_core::{
    Error, ErrorKind, Result,
    config::{Secret, SecretSource},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Method, Response,
    header::{HeaderMap, LOCATION, RETRY_AFTER},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout};
use url::Url;

use crate::{
    address::{self, Address},
    config::EurekaConfig,
    error,
    pool::Pools,
    servers::Servers,
    wire, xml,
};

/// How long a request may take, all its tries together.
const DEADLINE: Duration = Duration::from_secs(12);
/// How long reading all there is may take, of ten thousand instances over a slow line.
const FETCH: Duration = Duration::from_secs(30);
/// The largest answer that is read.
const BODY_LIMIT: usize = 64 << 20;
/// U-31
const REDIRECTS: usize = 10;
/// A request given up on after so long says something of its server.
const SLOW: Duration = Duration::from_secs(1);

const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// One segment of a path, whatever it holds.
pub(crate) fn segment(text: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(text, SEGMENT)
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
    deadline: Duration,
    /// The one server to ask.
    only: Option<usize>,
}

impl Call {
    pub(crate) fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            query: Vec::new(),
            body: None,
            deadline: DEADLINE,
            only: None,
        }
    }

    pub(crate) fn get(path: String) -> Self {
        Self::new(Method::GET, path)
    }

    /// Reads much.
    pub(crate) fn fetch(path: &str) -> Self {
        let mut call = Self::get(path.to_owned());
        call.deadline = FETCH;
        call
    }

    /// Reads lists, with those of these remote regions.
    pub(crate) fn lists(path: &str, regions: &[String]) -> Self {
        let call = Self::fetch(path);
        if regions.is_empty() {
            return call;
        }
        call.query("regions", regions.join(","))
    }

    pub(crate) fn at(mut self, server: usize) -> Self {
        self.only = Some(server);
        self
    }

    pub(crate) fn query(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }

    pub(crate) fn instance(mut self, body: &Map<String, Value>) -> Self {
        self.body = Some(wire::registration(body).into_bytes());
        self
    }

    fn is_write(&self) -> bool {
        self.method != Method::GET
    }

    fn url(&self, base: &Url) -> Result<Url> {
        let mut url = base.join(&self.path).map_err(|failed| {
            error::error(ErrorKind::InvalidInput, "the request cannot be written").with_source(failed)
        })?;
        if !self.query.is_empty() {
            let pairs = self.query.iter().map(|(key, value)| (key, value));
            url.query_pairs_mut().extend_pairs(pairs);
        }
        Ok(url)
    }
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HeaderMap,
    body: Bytes,
    write: bool,
}

impl Answer {
    /// The answer if it is a success.
    pub(crate) fn ok(self) -> Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        Err(self.failure())
    }

    /// The answer if it is a success, nothing where the server does not know it. A page that says so is a proxy's.
    pub(crate) fn known(self, what: &'static str) -> Result<Option<Self>> {
        match self.status {
            404 if self.first() == Some(b'<') && !self.write => Err(error::page(what)),
            404 => Ok(None),
            _ => self.ok().map(Some),
        }
    }

    fn failure(&self) -> Error {
        let after = self.headers.get(RETRY_AFTER);
        let after = after
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        error::of_status(
            self.status,
            &String::from_utf8_lossy(&self.body),
            self.write,
            after,
        )
    }

    fn first(&self) -> Option<u8> {
        self.body.iter().copied().find(|byte| !byte.is_ascii_whitespace())
    }

    /// The body in JSON, whichever of the two it came in.
    pub(crate) fn json(&self, what: &'static str) -> Result<Cow<'_, [u8]>> {
        match self.first() {
            Some(b'{') => Ok(Cow::Borrowed(&self.body)),
            Some(b'<') => {
                let text = std::str::from_utf8(&self.body).map_err(|failed| error::of_body(failed, what))?;
                Ok(Cow::Owned(xml::to_json(text, what)?.to_string().into_bytes()))
            }
            _ => Err(error::page(what)),
        }
    }
}

/// A body as a type that borrows from it.
pub(crate) fn parse<'a, T: Deserialize<'a>>(json: &'a [u8], what: &'static str) -> Result<T> {
    serde_json::from_slice(json).map_err(|failed| error::of_body(failed, what))
}

/// Where user and password come from.
type Basic = (SecretSource, Option<SecretSource>);

/// A way to the servers; clones share its connections.
#[derive(Clone)]
pub(crate) struct Client(Arc<Inner>);

struct Inner {
    config: EurekaConfig,
    servers: Servers,
    basic: Option<Basic>,
    pools: Pools,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.display()).finish()
    }
}

impl Client {
    /// A way to the servers that `config` names; reads certificates, sends nothing.
    pub(crate) fn new(config: EurekaConfig) -> Result<Self> {
        config.validate()?;
        let all = address::servers(&config)?;
        let tls = all.iter().any(|server| server.base.scheme() == "https");
        Ok(Self(Arc::new(Inner {
            pools: Pools::new(&config, tls)?,
            basic: config.authentication.source()?,
            servers: Servers::new(all),
            config,
        })))
    }

    pub(crate) fn config(&self) -> &EurekaConfig {
        &self.0.config
    }

    pub(crate) fn servers(&self) -> &Servers {
        &self.0.servers
    }

    /// The addresses, for people.
    pub(crate) fn display(&self) -> String {
        let all: Vec<_> = self.0.servers.all.iter().map(Address::display).collect();
        all.join(",")
    }

    /// Sends a request to the best server, or to others while that fails, and answers what `read` makes of the answer, and
    /// whose it is. An answer that `read` cannot use is a failure of its server.
    ///
    /// # Cancel safety
    /// Cancel-safe: dropping it closes the connection; what a write did is unknown then.
    pub(crate) async fn send<T>(
        &self,
        call: &Call,
        read: impl Fn(Answer) -> Result<T> + Send + Sync,
    ) -> Result<(T, usize)>
    where
        T: Send,
    {
        let servers = &self.0.servers;
        let candidates = call.only.map_or_else(|| servers.candidates(), |only| vec![only]);
        let until = Instant::now() + call.deadline;
        let mut last = None;
        for server in candidates {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let trial = Trial::new(servers, server);
            let answer = timeout(left, self.renewed(call, server))
                .await
                .unwrap_or_else(|_| Err(error::late(call.deadline)));
            match answer.and_then(&read) {
                Err(failed) if error::is_servers_own(&failed) => {
                    trial.failed();
                    let name = servers.all[server].display();
                    last = Some(failed.with_context("server", name));
                }
                ended => {
                    trial.worked();
                    return ended.map(|found| (found, server));
                }
            }
        }
        Err(last.unwrap_or_else(|| error::late(call.deadline)))
    }

    async fn renewed(&self, call: &Call, server: usize) -> Result<Answer> {
        self.0.pools.renew(false);
        match self.once(call, server).await {
            // TLS failed, so nothing was done: perhaps it has other certificates now.
            Err(failed) if failed.kind() == ErrorKind::ConfigInvalid && self.0.pools.renew(true) => {
                self.once(call, server).await
            }
            answer => answer,
        }
    }

    /// U-31: follows where the server sends it, without credentials to others.
    async fn once(&self, call: &Call, server: usize) -> Result<Answer> {
        let address = &self.0.servers.all[server];
        let basic = self.basic(address)?;
        let mut url = call.url(&address.base)?;
        for _ in 0..=REDIRECTS {
            let shown = basic.as_ref().filter(|_| url.origin() == address.base.origin());
            let response = self.request(call, url.clone(), shown).await?;
            let to = response
                .headers()
                .get(LOCATION)
                .filter(|_| response.status() == 302);
            let to = to.and_then(|to| url.join(to.to_str().ok()?).ok());
            match to.filter(|to| call.method != Method::DELETE && matches!(to.scheme(), "http" | "https")) {
                Some(to) => url = to,
                None => return answer(response, call, basic.as_ref()).await,
            }
        }
        Err(error::error(
            ErrorKind::Protocol,
            "the server redirects without end",
        ))
    }

    fn basic(&self, address: &Address) -> Result<Option<(String, Secret)>> {
        if address.basic.is_some() {
            return Ok(address.basic.clone());
        }
        let Some((user, password)) = &self.0.basic else {
            return Ok(None);
        };
        let read = |source: &SecretSource| source.read().map_err(|error| error.with_backend(error::SCHEME));
        let password = password.as_ref().map(read).transpose()?;
        let password = password.unwrap_or_else(|| Secret::from(String::new()));
        Ok(Some((read(user)?.expose().to_owned(), password)))
    }

    async fn request(&self, call: &Call, url: Url, basic: Option<&(String, Secret)>) -> Result<Response> {
        let mut request = self
            .0
            .pools
            .http(call.is_write())
            .request(call.method.clone(), url)
            // Anything else is answered in XML.
            .header("accept", "application/json");
        if let Some((user, password)) = basic {
            request = request.basic_auth(user, Some(password.expose()));
        }
        if let Some(body) = &call.body {
            request = request
                .header("content-type", "application/json")
                .body(body.clone());
        }
        request.send().await.map_err(error::of_transport)
    }
}

async fn answer(mut response: Response, call: &Call, basic: Option<&(String, Secret)>) -> Result<Answer> {
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
    // A server that repeats the password must not have us log it.
    if let Some((_, password)) = basic
        && status >= 300
        && !password.expose().is_empty()
    {
        body = String::from_utf8_lossy(&body)
            .replace(password.expose(), "***")
            .into();
    }
    Ok(Answer {
        status,
        headers,
        body,
        write: call.is_write(),
    })
}

/// A try at one server. Given up on after a while, it counts as failed: a server that is silent must not be asked again and
/// again by callers with less patience than the transport.
struct Trial<'a> {
    servers: &'a Servers,
    server: usize,
    since: Option<Instant>,
}

impl<'a> Trial<'a> {
    fn new(servers: &'a Servers, server: usize) -> Self {
        let since = Some(Instant::now());
        Self {
            servers,
            server,
            since,
        }
    }

    fn worked(mut self) {
        self.since = None;
        self.servers.worked(self.server);
    }

    fn failed(mut self) {
        self.since = None;
        self.servers.failed(self.server);
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if self.since.is_some_and(|since| since.elapsed() >= SLOW) {
            self.servers.failed(self.server);
        }
    }
}
