//! The objects of one kind in one place, as they are and as they change: a list, and watches that follow it.

use std::{collections::VecDeque, time::Duration};

use bytes::{Buf as _, BytesMut};
use discovery_core::{Error, ErrorKind, Result};
use futures::stream::{self, BoxStream, StreamExt as _};
use http_body_util::BodyExt as _;
use kube::client::Body;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use crate::{
    call::{Call, Resource},
    client::Client,
    error,
    wire::{self, Object},
};

/// Objects a page. K-30: every page repeats the selectors.
const PAGE: u32 = 500;
/// How often a list is started again because its continuation expired.
const RESTARTS: u32 = 3;
/// A watch that lives shorter, without an event, is not worth opening again at once (K-25).
const SHORT: Duration = Duration::from_secs(1);
/// How many of those in a row end the feed.
const SHORT_ONES: u32 = 5;
/// How much longer than its own time a watch may be silent.
const SLACK: Duration = Duration::from_secs(5);
/// The longest line: an object is at most 1.5 MiB in etcd, and JSON is longer.
const LONGEST: usize = 16 << 20;

/// Which objects.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) resource: &'static Resource,
    pub(crate) namespace: Option<String>,
    pub(crate) labels: Option<String>,
    pub(crate) fields: Option<String>,
}

impl Scope {
    fn select(&self, call: Call) -> Call {
        call.query_opt("labelSelector", self.labels.as_deref())
            .query_opt("fieldSelector", self.fields.as_deref())
    }

    /// All of them, and the version of the list (K-19), from a quorum (K-27).
    pub(crate) async fn list<T: Object>(&self, client: &Client) -> Result<(Vec<T>, String)> {
        let (mut all, mut more, mut restarts) = (Vec::new(), String::new(), 0);
        loop {
            let mut call = self.select(Call::list(self.resource, self.namespace.as_deref()));
            call = call.query("limit", PAGE.to_string());
            if !more.is_empty() {
                call = call.query("continue", more.as_str());
            }
            match client.ask::<wire::List<T>>(&call, "a list").await {
                Ok(page) => {
                    all.extend(page.items);
                    more = page.metadata.more;
                    if more.is_empty() {
                        return Ok((all, page.metadata.resource_version));
                    }
                }
                // K-30: the rest the server offers instead would be of another moment.
                Err(error) if error.kind() == ErrorKind::WatchExpired && restarts < RESTARTS => {
                    (restarts, more) = (restarts + 1, String::new());
                    all.clear();
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// What a feed tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<T> {
    /// These are all; always first, and never again.
    All(Vec<T>),
    /// This is new or changed.
    Put(T),
    /// This is gone, or no longer selected (K-24).
    Gone(T),
    /// The server is there, and nothing else changed.
    Confirmed,
}

/// Follows the objects of `scope` until something fails. Lazy: nothing is sent before it is polled.
pub(crate) fn follow<T: Object>(
    client: Client,
    scope: Scope,
    watch: Duration,
) -> BoxStream<'static, Result<Step<T>>> {
    let feed = Feed {
        client,
        scope,
        watch,
        version: String::new(),
        short: 0,
        state: State::New,
        queue: VecDeque::new(),
    };
    stream::unfold(Some(feed), |feed| async {
        let mut feed = feed?;
        match feed.next().await {
            Ok(step) => Some((Ok(step), Some(feed))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct Feed<T> {
    client: Client,
    scope: Scope,
    /// How long the server keeps a watch open.
    watch: Duration,
    /// The version of the last event, opaque (K-19).
    version: String,
    /// How many watches in a row ended at once.
    short: u32,
    state: State,
    queue: VecDeque<Step<T>>,
}

enum State {
    New,
    Between,
    Open(Box<Open>),
}

struct Open {
    body: Body,
    lines: Lines,
    since: Instant,
    /// When a watch of which nothing was heard is given up.
    deadline: Instant,
    limit: Duration,
    /// Whether anything came.
    told: bool,
}

impl<T: Object> Feed<T> {
    async fn next(&mut self) -> Result<Step<T>> {
        loop {
            if let Some(step) = self.queue.pop_front() {
                return Ok(step);
            }
            match &mut self.state {
                State::New => {
                    let (all, version) = self.scope.list(&self.client).await?;
                    self.version = version;
                    self.state = State::Between;
                    return Ok(Step::All(all));
                }
                State::Between => match self.open().await {
                    Ok(open) => self.state = State::Open(Box::new(open)),
                    // The connection may have gone with the watch before: that is worth one more.
                    Err(failed) if self.short == 0 => self.again(failed).await?,
                    Err(failed) => return Err(failed),
                },
                State::Open(open) => match open.read().await {
                    Ok(true) => {
                        if let Err(failed) = self.take() {
                            self.again(failed).await?;
                        }
                    }
                    Ok(false) => self.ended().await?,
                    // K-31: what was cut in the middle of a line is asked for again.
                    Err(failed) if open.told && failed.kind() == ErrorKind::Unavailable => {
                        debug!(%failed, "a watch broke and is opened again");
                        self.state = State::Between;
                    }
                    Err(failed) => self.again(failed).await?,
                },
            }
        }
    }

    async fn open(&mut self) -> Result<Open> {
        // K-25: drawn, so that a fleet that started together does not come back together.
        let spread = self.watch.as_millis() / 10;
        let spread = Duration::from_millis(fastrand::u64(..=u64::try_from(spread).unwrap_or(0)));
        let seconds = self.watch.saturating_sub(spread).as_secs_f64().ceil();
        let limit = Duration::from_secs_f64(seconds) + SLACK;
        let call = self
            .scope
            .select(Call::watch(self.scope.resource, self.scope.namespace.as_deref()))
            .query("resourceVersion", self.version.as_str())
            .query("allowWatchBookmarks", "true")
            .query("timeoutSeconds", format!("{seconds:.0}"));
        let body = self.client.open(&call).await?;
        let since = Instant::now();
        Ok(Open {
            body,
            lines: Lines::default(),
            since,
            deadline: since + limit,
            limit,
            told: false,
        })
    }

    /// Takes the lines that are complete.
    fn take(&mut self) -> Result<()> {
        let State::Open(open) = &mut self.state else {
            return Ok(());
        };
        while let Some(line) = open.lines.next() {
            let event: wire::Event<'_> =
                serde_json::from_slice(&line).map_err(|failed| error::of_body(failed, "a watch event"))?;
            let object = event.object.get();
            let typed =
                || serde_json::from_str::<T>(object).map_err(|failed| error::of_body(failed, "an object"));
            if event.kind != "ERROR" {
                open.told = true;
                self.short = 0;
            }
            match event.kind.as_str() {
                "ADDED" | "MODIFIED" => {
                    let object = typed()?;
                    self.version.clone_from(&object.meta().resource_version);
                    self.queue.push_back(Step::Put(object));
                }
                "DELETED" => {
                    let object = typed()?;
                    self.version.clone_from(&object.meta().resource_version);
                    self.queue.push_back(Step::Gone(object));
                }
                // K-22: nothing else of it can be read.
                "BOOKMARK" => {
                    let mark: wire::Bookmark = serde_json::from_str(object)
                        .map_err(|failed| error::of_body(failed, "a bookmark"))?;
                    if !mark.metadata.resource_version.is_empty() {
                        self.version = mark.metadata.resource_version;
                    }
                    self.queue.push_back(Step::Confirmed);
                }
                "ERROR" => {
                    let told: wire::Status = serde_json::from_str(object)
                        .map_err(|failed| error::of_body(failed, "an error event"))?;
                    let call = Call::watch(self.scope.resource, self.scope.namespace.as_deref());
                    return Err(error::of_status(told.code, &told, None, call.asked()));
                }
                // K-23
                other => debug!(kind = other, "an unknown event of a watch is ignored"),
            }
        }
        Ok(())
    }

    /// The server ended the watch in order.
    async fn ended(&mut self) -> Result<()> {
        let State::Open(open) = &self.state else {
            return Ok(());
        };
        if open.told {
            self.short = 0;
        } else {
            if open.since.elapsed() < SHORT.min(self.watch / 2) {
                let at_once = error::error(ErrorKind::Unavailable, "the server ends every watch at once");
                self.again(at_once).await?;
            }
            self.probe().await?;
        }
        self.state = State::Between;
        self.queue.push_back(Step::Confirmed);
        Ok(())
    }

    /// K-21, K-25: opens the watch again where it was, after a pause that grows; what is of no use several times in a row ends
    /// the feed, and so does what no pause heals.
    async fn again(&mut self, failed: Error) -> Result<()> {
        self.short += 1;
        if failed.kind() != ErrorKind::Unavailable
            || failed.retry_after().is_some()
            || self.short > SHORT_ONES
        {
            return Err(failed);
        }
        debug!(%failed, "a watch was of no use and is opened again");
        sleep(SHORT.mul_f32(fastrand::f32()) * self.short).await;
        self.state = State::Between;
        Ok(())
    }

    /// K-26: a watch from a version the server has yet to reach is silent for ever; a list from it says so.
    async fn probe(&mut self) -> Result<()> {
        let call = self
            .scope
            .select(Call::list(self.scope.resource, self.scope.namespace.as_deref()))
            .query("resourceVersion", self.version.as_str())
            .query("resourceVersionMatch", "NotOlderThan")
            .query("limit", "1");
        self.client.send(&call).await?.ok(&call).map(drop)
    }
}

impl Open {
    /// Waits for more of the body; false at its end in order.
    async fn read(&mut self) -> Result<bool> {
        let frame = timeout_at(self.deadline, self.body.frame()).await.map_err(|_| {
            error::error(ErrorKind::Timeout, "the watch went silent")
                .with_context("silent_for", format!("{:?}", self.limit))
        })?;
        match frame {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.deadline = Instant::now() + self.limit;
                    self.lines.push(&data)?;
                }
                Ok(true)
            }
            Some(Err(failed)) => Err(error::of_transport(kube::Error::Service(failed.into()))),
            None if self.lines.is_empty() => Ok(false),
            None => Err(error::error(
                ErrorKind::Unavailable,
                "the watch ended within a line",
            )),
        }
    }
}

/// Puts lines together, however they are cut (K-31).
#[derive(Default)]
struct Lines {
    buffer: BytesMut,
    /// How much of the buffer is known to hold no end of a line.
    searched: usize,
}

impl Lines {
    fn push(&mut self, data: &[u8]) -> Result<()> {
        if self.buffer.len() + data.len() > LONGEST {
            return Err(too_long());
        }
        self.buffer.extend_from_slice(data);
        Ok(())
    }

    fn next(&mut self) -> Option<BytesMut> {
        loop {
            let rest = &self.buffer[self.searched..];
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                self.searched = self.buffer.len();
                return None;
            };
            let line = self.buffer.split_to(self.searched + end);
            self.buffer.advance(1);
            self.searched = 0;
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Some(line);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.buffer.iter().all(u8::is_ascii_whitespace)
    }
}

fn too_long() -> Error {
    error::error(ErrorKind::Protocol, "a line of the watch is too long")
        .with_context("limit", format!("{LONGEST} bytes"))
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
