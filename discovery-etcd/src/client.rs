//! The way to the cluster: one request function, failover between members, and streams.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use discovery_core::{Error, ErrorKind, Result};
use etcd_client::Channel;
use futures::{FutureExt, Stream};
use http::uri::PathAndQuery;
use prost::Message;
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Streaming, client::Grpc};
use tonic_prost::ProstCodec;
use tower::util::BoxCloneSyncService;
use tracing::debug;

use crate::{
    auth::{Auth, NoToken},
    config::EtcdConfig,
    connect::{SharedToken, Way},
    error::{self, Fault},
};

/// The largest message read (E-24); no server sends larger ones for a page, nor fragments larger ones.
const LARGEST: usize = 16 << 20;
/// How long one member may take to answer a read while there are others to ask.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Whether a request may be repeated on another member when it is not known whether it was carried out (E-28).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
}

/// A client of one cluster; clones share everything.
#[derive(Clone)]
pub(crate) struct Client(Arc<Inner>);

struct Inner {
    config: EtcdConfig,
    members: Vec<Member>,
    /// The member in use: it stays while it serves (E-37).
    current: AtomicUsize,
    auth: Auth,
    token: SharedToken,
}

struct Member {
    tls: bool,
    authority: String,
    /// Made when first used, which is within a runtime.
    links: OnceLock<Links>,
}

#[derive(Clone)]
struct Links {
    way: Way,
    client: etcd_client::Client,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.display()).finish()
    }
}

impl Client {
    pub(crate) fn new(config: EtcdConfig) -> Result<Self> {
        let token = SharedToken::default();
        let members = config.members()?.into_iter().map(|(tls, authority)| Member {
            tls,
            authority,
            links: OnceLock::new(),
        });
        Ok(Self(Arc::new(Inner {
            members: members.collect(),
            current: AtomicUsize::new(0),
            auth: Auth::new(config.authentication.credentials()?, token.clone()),
            token,
            config,
        })))
    }

    pub(crate) fn config(&self) -> &EtcdConfig {
        &self.0.config
    }

    /// The members, for people.
    pub(crate) fn display(&self) -> String {
        let members: Vec<_> = self.0.members.iter().map(|member| &*member.authority).collect();
        members.join(",")
    }

    /// The member in use.
    pub(crate) fn current(&self) -> usize {
        self.0.current.load(Ordering::Relaxed)
    }

    /// Goes on to the next member, unless somebody has left `member` already.
    pub(crate) fn leave(&self, member: usize) {
        let next = (member + 1) % self.0.members.len();
        let left = self
            .0
            .current
            .compare_exchange(member, next, Ordering::Relaxed, Ordering::Relaxed);
        if left.is_ok() && next != member {
            debug!(
                from = self.0.members[member].authority,
                to = self.0.members[next].authority,
                "trying another member"
            );
        }
    }

    fn links(&self, member: usize) -> Result<Links> {
        let member = &self.0.members[member];
        if let Some(links) = member.links.get() {
            return Ok(links.clone());
        }
        let way = Way::new(
            &self.0.config,
            member.tls,
            &member.authority,
            self.0.token.clone(),
        )?;
        let channel = Channel::Custom(BoxCloneSyncService::new(way.clone()));
        // Without a user of its own it sends nothing.
        let client = etcd_client::Client::from_channel(channel, None).now_or_never();
        let client = client.and_then(Result::ok).ok_or_else(|| {
            error::error(
                ErrorKind::Unexpected,
                "a client without a user wants to authenticate",
            )
        })?;
        Ok(member.links.get_or_init(|| Links { way, client }).clone())
    }

    /// Sends one request, within the deadline for requests.
    pub(crate) async fn call<T, F, Fut>(&self, kind: Kind, send: F) -> Result<T>
    where
        F: Fn(etcd_client::Client) -> Fut,
        Fut: Future<Output = Result<T, etcd_client::Error>>,
    {
        let send = |links: Links| {
            let answer = send(links.client);
            async { answer.await.map_err(error::of_call) }
        };
        // Large: everything a request goes through.
        let attempts = Box::pin(self.attempts(kind, self.0.config.request_timeout, send));
        attempts.await.map(|(answer, _)| answer)
    }

    /// Tries members in turn, as far as `kind` allows, until one answers. Answers which.
    async fn attempts<T, F, Fut>(&self, kind: Kind, limit: Duration, send: F) -> Result<(T, usize)>
    where
        F: Fn(Links) -> Fut,
        Fut: Future<Output = Result<T, NoToken>>,
    {
        let until = Instant::now() + limit;
        let mut left = self.0.members.len();
        let mut renewed = false;
        loop {
            let number = self.current();
            let links = self.links(number)?;
            left -= 1;
            let patient = kind == Kind::Write || left == 0;
            let by = if patient {
                until
            } else {
                until.min(Instant::now() + PATIENCE)
            };
            let known = self.0.auth.current();
            let attempt = async {
                self.0.auth.ready(links.client.auth_client()).await?;
                send(links.clone()).await
            };
            let (fault, failed) = match timeout_at(by, attempt).await {
                Ok(Ok(answer)) => return Ok((answer, number)),
                Ok(Err(fault)) => fault,
                Err(_) => (Fault::Member, error::late(limit)),
            };
            match fault {
                Fault::Answer => return Err(failed),
                Fault::Token if renewed => return Err(failed),
                Fault::Token => {
                    renewed = true;
                    left += 1;
                    let known = known.or_else(|| self.0.auth.current());
                    let renew = self.0.auth.renew(known.as_ref(), links.client.auth_client());
                    match timeout_at(until, renew).await {
                        Ok(Ok(true)) => continue,
                        Ok(Ok(false)) => return Err(failed),
                        Ok(Err((_, failed))) => return Err(failed),
                        Err(_) => return Err(error::late(limit)),
                    }
                }
                Fault::NotSent | Fault::Member => self.leave(number),
            }
            let may = fault == Fault::NotSent || kind == Kind::Read;
            if !may || left == 0 || Instant::now() >= until {
                return Err(failed);
            }
        }
    }

    /// Opens a stream. One of its requests has to be there at once: a server answers nothing before (and tonic waits for it).
    /// `requests` makes them for each try, and what goes with them; answers that, and which member it is on.
    pub(crate) async fn stream<T, S, Resp>(
        &self,
        path: &'static str,
        requests: impl Fn() -> (T, S) + Sync,
    ) -> Result<(T, Streaming<Resp>, usize)>
    where
        T: Send,
        S: Stream<Item: Message> + Send + 'static,
        Resp: Message + Default + 'static,
    {
        let open = |links: Links| {
            let (with, requests) = requests();
            async move {
                let mut grpc = Grpc::new(links.way).max_decoding_message_size(LARGEST);
                grpc.ready()
                    .await
                    .map_err(|failed| error::of_status(tonic::Status::from_error(failed)))?;
                let codec = ProstCodec::<S::Item, Resp>::default();
                let answer = grpc
                    .streaming(Request::new(requests), PathAndQuery::from_static(path), codec)
                    .await
                    .map_err(error::of_status)?;
                Ok((with, answer.into_inner()))
            }
        };
        // Opening one changes nothing: it may be tried anywhere.
        let attempts = Box::pin(self.attempts(Kind::Read, self.0.config.request_timeout, open));
        let ((with, answers), member) = attempts.await?;
        Ok((with, answers, member))
    }

    /// What to make of a stream that failed: leaves the member where it is at fault; gets another token where that is what
    /// is wrong, so that opening it again works at once.
    pub(crate) async fn stream_failed(&self, member: usize, (fault, failed): (Fault, Error)) -> Error {
        match fault {
            Fault::Answer => failed,
            Fault::NotSent | Fault::Member => {
                self.leave(member);
                failed
            }
            Fault::Token => {
                let Ok(links) = self.links(member) else {
                    return failed;
                };
                let known = self.0.auth.current();
                let renew = self.0.auth.renew(known.as_ref(), links.client.auth_client());
                match tokio::time::timeout(self.0.config.request_timeout, renew).await {
                    Ok(Ok(true)) => {
                        error::error(ErrorKind::Unavailable, "the token expired, there is a new one")
                            .with_source(failed)
                    }
                    Ok(Ok(false)) => failed,
                    Ok(Err((_, failed))) => failed,
                    Err(_) => error::late(self.0.config.request_timeout),
                }
            }
        }
    }

    /// A client for keys whose answers may be large.
    pub(crate) fn kv(client: &etcd_client::Client) -> etcd_client::KvClient {
        client.kv_client().max_decoding_message_size(LARGEST)
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
