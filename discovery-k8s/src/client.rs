//! Transport: one request function, over kube's client, which knows kubeconfigs, plug-ins and rotating tokens.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use discovery_core::{ErrorKind, Result};
use http::{Response, header};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde::de::DeserializeOwned;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};
use tracing::info;

use crate::{
    call::Call,
    cluster::{connect, settings},
    config::K8sConfig,
    error, wire,
};

/// How long one request may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// the largest answer, a page of a list.
const LARGEST: usize = 64 << 20;
/// The least time between two readings of the credentials.
const REREAD: Duration = Duration::from_secs(1);
/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
    retry_after: Option<Duration>,
}

impl Answer {
    /// What the server says when it says no.
    pub(crate) fn told(&self) -> wire::Status {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| wire::Status {
            message: String::from_utf8_lossy(&self.body).into_owned(),
            ..wire::Status::default()
        })
    }

    /// The answer, if it is a success.
    pub(crate) fn ok(self, call: &Call) -> Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        Err(error::of_status(
            self.status,
            &self.told(),
            self.retry_after,
            call.asked(),
        ))
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, what: &'static str) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|failed| error::of_body(failed, what))
    }
}

/// A client made from its settings, and what they said.
#[derive(Clone)]
struct Made {
    client: kube::Client,
    namespace: Arc<str>,
    at: Instant,
}

/// The way to an apiserver; clones share it.
#[derive(Clone)]
pub(crate) struct Client(Arc<Inner>);

struct Inner {
    config: K8sConfig,
    made: Mutex<Option<Made>>,
    /// Held while a client is made.
    turn: Arc<Mutex<()>>,
    display: OnceLock<String>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.display()).finish()
    }
}

impl Client {
    /// Checks the settings; nothing is read or sent yet.
    pub(crate) fn new(config: K8sConfig) -> Result<Self> {
        config.validate()?;
        let display = OnceLock::new();
        if let Some(server) = &config.cluster_config.server {
            display.get_or_init(|| server.clone());
        }
        Ok(Self(Arc::new(Inner {
            config,
            made: Mutex::default(),
            turn: Arc::default(),
            display,
        })))
    }

    pub(crate) fn config(&self) -> &K8sConfig {
        &self.0.config
    }

    /// The server's address for people, once it is known.
    pub(crate) fn display(&self) -> String {
        let known = self.0.display.get().cloned();
        known.unwrap_or_else(|| "kubeconfig".to_owned())
    }

    /// The namespace of the context or pod.
    pub(crate) async fn own_namespace(&self) -> Result<Arc<str>> {
        Ok(self.made(None).await?.namespace)
    }

    /// The client in use; a new one from settings read again where the one of `stale` has been refused.
    async fn made(&self, stale: Option<Instant>) -> Result<Made> {
        let mut made = self.0.made.lock().await;
        match &*made {
            Some(known) if stale.is_none_or(|at| known.at != at) => Ok(known.clone()),
            Some(known) if known.at.elapsed() < REREAD => Ok(known.clone()),
            known => {
                if known.is_some() {
                    info!("the credentials are read again");
                }
                let settings = settings(&self.0.config).await?;
                let namespace = settings.default_namespace.as_str().into();
                self.0.display.get_or_init(|| settings.cluster_url.to_string());
                let client = connect(settings, &self.0.turn).await?;
                let new = Made {
                    client,
                    namespace,
                    at: Instant::now(),
                };
                Ok(made.insert(new).clone())
            }
        }
    }

    /// Sends a request; what is refused for its credentials is sent once more with credentials read again (K-18).
    async fn answer(&self, call: &Call, until: Instant, deadline: Duration) -> Result<Response<Body>> {
        let mut stale = None;
        loop {
            let work = async {
                let made = self.made(stale).await?;
                let answer = made.client.send(call.request()?).await;
                Ok((made.at, answer))
            };
            let (at, answer) = timeout_at(until, work)
                .await
                .unwrap_or_else(|_| Err(error::late(deadline)))?;
            let again = stale.is_none() && at.elapsed() >= REREAD;
            match answer {
                Ok(answer) if answer.status() == 401 && again => stale = Some(at),
                Ok(answer) => return Ok(answer),
                Err(failed) => {
                    let failed = error::of_transport(failed);
                    // The authority may have been replaced as well.
                    let refused = matches!(
                        failed.kind(),
                        ErrorKind::ConfigInvalid | ErrorKind::Unauthenticated
                    );
                    if !(refused && again) {
                        return Err(failed);
                    }
                    stale = Some(at);
                }
            }
        }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Cancel safety
    /// Cancel-safe for reads; a dropped write may or may not have happened.
    pub(crate) async fn send(&self, call: &Call) -> Result<Answer> {
        let until = Instant::now() + DEADLINE;
        let answer = self.answer(call, until, DEADLINE).await?;
        read(answer, until).await
    }

    /// Sends a request that must succeed and reads what it answers.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, call: &Call, what: &'static str) -> Result<T> {
        self.send(call).await?.ok(call)?.json(what)
    }

    /// Deletes and answers whether it was there; what was created again in between is left alone.
    pub(crate) async fn delete(&self, call: &Call) -> Result<bool> {
        let answer = self.send(call).await?;
        match answer.status {
            404 | 409 => Ok(false),
            _ => answer.ok(call).map(|_| true),
        }
    }

    /// Opens a watch.
    pub(crate) async fn open(&self, call: &Call) -> Result<Body> {
        let until = Instant::now() + DEADLINE;
        let answer = self.answer(call, until, DEADLINE).await?;
        if answer.status() == 200 {
            return Ok(answer.into_body());
        }
        let answer = read(answer, until).await?;
        let status = answer.status;
        Err(answer.ok(call).err().unwrap_or_else(|| {
            error::error(ErrorKind::Protocol, "a watch that is none")
                .with_context("status", status.to_string())
        }))
    }

    /// What the server says of itself, and how long that took.
    pub(crate) async fn version(&self) -> Result<(String, Duration)> {
        let started = Instant::now();
        let version: wire::Version = self.ask(&Call::version(), "a version").await?;
        Ok((version.git_version, started.elapsed()))
    }
}

async fn read(answer: Response<Body>, until: Instant) -> Result<Answer> {
    let (parts, mut body) = answer.into_parts();
    let retry_after = parts
        .headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let mut whole = BytesMut::new();
    loop {
        let frame = timeout_at(until, body.frame())
            .await
            .map_err(|_| error::late(DEADLINE))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|failed| error::of_transport(kube::Error::Service(failed.into())))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > LARGEST {
            return Err(error::error(ErrorKind::Protocol, "the answer is too large")
                .with_context("limit", format!("{LARGEST} bytes")));
        }
        whole.extend_from_slice(&data);
    }
    Ok(Answer {
        status: parts.status.as_u16(),
        body: whole.freeze(),
        retry_after,
    })
}
#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
