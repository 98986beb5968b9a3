//! One range of keys: all of it at one revision, and then what changes, until the watch ends.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use discovery_core::{Cursor, Error, ErrorKind, Result};
use futures::{
    Stream, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep, sleep_until, timeout},
};
use tonic::{Status, Streaming};
use tracing::debug;

use crate::{
    client::{Client, Kind},
    error::{self, Fault},
    keys::Range,
    registry::page,
    wire::{Event, Header, KeyValue, WatchAsk, WatchCreate, WatchProgress, WatchRequest, WatchResponse},
};

const PATH: &str = "/etcdserverpb.Watch/Watch";
/// How often a new watch is asked how far it is, until it says so: it is only known to live once it has. Not at once, as
/// servers cancel a watch whose history is gone within 100 ms, and older ones tell progress before that (E-20).
const FIRST: Duration = Duration::from_millis(250);
/// Questions about progress that wait for the stream's attention.
const QUEUE: usize = 16;
/// How often a list is begun anew because its revision was compacted while it was read.
const LISTS: usize = 3;

/// A place in the history of one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) cluster: u64,
    pub(crate) revision: i64,
}

impl Place {
    pub(crate) fn cursor(self) -> Cursor {
        // Made for every change, which waits for it: the general formatter takes three times as long when it comes to it cold.
        let [mut cluster, mut revision] = [itoa::Buffer::new(), itoa::Buffer::new()];
        Cursor::new([cluster.format(self.cluster), ":", revision.format(self.revision)].concat())
    }

    /// The place after one of these events, the last of which ends here; nothing within a revision, as half of one is no
    /// place to resume from.
    pub(crate) fn after(self, events: &[Event], number: usize) -> Option<Self> {
        let revision = revision_of(&events[number]);
        match events.get(number + 1) {
            None => Some(self),
            Some(next) if revision_of(next) > revision => Some(Self { revision, ..self }),
            Some(_) => None,
        }
    }

    /// Reads a cursor; nothing where it is not one of ours.
    pub(crate) fn read(cursor: &Cursor) -> Option<Self> {
        let (cluster, revision) = cursor.as_str().split_once(':')?;
        Some(Self {
            cluster: cluster.parse().ok()?,
            revision: revision.parse().ok().filter(|revision| *revision > 0)?,
        })
    }
}

/// Every key of a range at one revision, page by page (E-13, E-24).
pub(crate) async fn list(client: &Client, range: &Range) -> Result<(Vec<KeyValue>, Place)> {
    let mut tries = 0;
    loop {
        match list_once(client, range).await {
            Err(failed) if failed.kind() == ErrorKind::WatchExpired && tries < LISTS => tries += 1,
            Err(failed) if failed.kind() == ErrorKind::WatchExpired => {
                return Err(error::error(
                    ErrorKind::Unavailable,
                    "the history is compacted faster than it can be read",
                )
                .with_source(failed));
            }
            listed => return listed,
        }
    }
}

async fn list_once(client: &Client, range: &Range) -> Result<(Vec<KeyValue>, Place)> {
    let mut limit = i64::from(client.config().discovery.page_size);
    let (mut from, mut place, mut all) = (range.from.clone(), None, Vec::new());
    loop {
        let revision = place.map_or(0, |place: Place| place.revision);
        let asked = client
            .call(Kind::Read, |client| {
                let (from, options) = (from.clone(), page(&range.end, limit, revision));
                async move { Client::kv(&client).get(from, Some(options)).await }
            })
            .await;
        let answer = match asked {
            // Large values: fewer at a time.
            Err(failed) if failed.kind() == ErrorKind::InvalidInput && limit > 1 => {
                debug!(limit, "a page was too large");
                limit = (limit / 4).max(1);
                continue;
            }
            asked => asked?,
        };
        let place = *place.get_or_insert({
            let header = answer.header().ok_or_else(no_header)?;
            Place {
                cluster: header.cluster_id(),
                revision: header.revision(),
            }
        });
        all.extend(answer.kvs().iter().map(KeyValue::from));
        let Some(last) = answer.kvs().last().filter(|_| answer.more()) else {
            return Ok((all, place));
        };
        from = last.key().to_vec();
        from.push(0);
    }
}

fn no_header() -> Error {
    error::error(ErrorKind::Protocol, "the server's answer has no header")
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// What a range's watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// This is all there is.
    All(Vec<KeyValue>, Place),
    /// This changed, in this order; the place is the one after all of it.
    Changed(Vec<Event>, Place),
    /// Nothing changed up to this place.
    Confirmed(Place),
}

/// One range as it changes; ends with the first failure.
pub(crate) struct Feed {
    client: Client,
    range: Range,
    /// Events tell what was there before.
    before: bool,
    state: State,
}

enum State {
    /// Towards the list, or the watch after it.
    Begins(BoxFuture<'static, Result<Begun>>),
    Open(Box<Open>),
    Fails(BoxFuture<'static, Error>),
    Ended,
}

enum Begun {
    Listed(Vec<KeyValue>, Place),
    Open(Box<Open>),
}

struct Open {
    requests: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
    member: usize,
    /// Goes off when it is asked next how far it is.
    ask_at: Pin<Box<Sleep>>,
    ask_every: Duration,
    tracker: Tracker,
}

impl Feed {
    /// A feed that starts with all there is, or with what changed since; events tell what was `before` where that is asked
    /// for. Does nothing before it is polled.
    pub(crate) fn new(client: Client, range: Range, since: Option<Place>, before: bool) -> Self {
        let mut feed = Self {
            client,
            range,
            before,
            state: State::Ended,
        };
        feed.state = since.map_or_else(|| feed.lists(), |place| feed.opens(place));
        feed
    }

    /// The watch of which these are the events.
    pub(crate) fn watch<E: Send + 'static>(
        mut self,
        mut events_of: impl FnMut(Told) -> Vec<E> + Send + 'static,
    ) -> BoxStream<'static, Result<E>> {
        let mut events = Vec::new().into_iter();
        let next = move |cx: &mut Context<'_>| {
            loop {
                if let Some(event) = events.next() {
                    return Poll::Ready(Some(Ok(event)));
                }
                match ready!(self.poll_next_unpin(cx)) {
                    Some(Ok(told)) => events = events_of(told).into_iter(),
                    Some(Err(failed)) => return Poll::Ready(Some(Err(failed.with_operation("watch")))),
                    None => return Poll::Ready(None),
                }
            }
        };
        stream::poll_fn(next).boxed()
    }

    fn lists(&self) -> State {
        let (client, range) = (self.client.clone(), self.range.clone());
        State::Begins(Box::pin(async move {
            let (kvs, place) = list(&client, &range).await?;
            Ok(Begun::Listed(kvs, place))
        }))
    }

    fn opens(&self, place: Place) -> State {
        let (client, range, before) = (self.client.clone(), self.range.clone(), self.before);
        State::Begins(Box::pin(async move {
            open(&client, &range, place, before).await.map(Begun::Open)
        }))
    }

    fn fails(&self, member: usize, fault: (Fault, Error)) -> State {
        let client = self.client.clone();
        State::Fails(Box::pin(async move { client.stream_failed(member, fault).await }))
    }
}

impl Stream for Feed {
    type Item = Result<Told>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Told>>> {
        loop {
            let (next, told) = match &mut self.state {
                State::Begins(begins) => match ready!(begins.as_mut().poll(cx)) {
                    Ok(Begun::Listed(kvs, place)) => (self.opens(place), Some(Ok(Told::All(kvs, place)))),
                    Ok(Begun::Open(open)) => (State::Open(open), None),
                    Err(failed) => (State::Ended, Some(Err(failed))),
                },
                State::Open(open) => match ready!(open.poll(cx)) {
                    Ok(told) => return Poll::Ready(Some(Ok(told))),
                    Err(fault) => {
                        let member = open.member;
                        (self.fails(member, fault), None)
                    }
                },
                State::Fails(fails) => (State::Ended, Some(Err(ready!(fails.as_mut().poll(cx))))),
                State::Ended => return Poll::Ready(None),
            };
            self.state = next;
            if told.is_some() {
                return Poll::Ready(told);
            }
        }
    }
}

impl Open {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Told, (Fault, Error)>> {
        loop {
            if let Poll::Ready(said) = self.answers.poll_next_unpin(cx) {
                let Some(told) = self.tracker.take(answer(said)?)? else {
                    continue;
                };
                if matches!(told, Told::Confirmed(_)) {
                    self.ask_at.as_mut().reset(Instant::now() + self.ask_every);
                }
                return Poll::Ready(Ok(told));
            }
            ready!(self.ask_at.as_mut().poll(cx));
            let ask = WatchRequest {
                ask: Some(WatchAsk::Progress(WatchProgress {})),
            };
            // A full queue is a server that reads nothing; the connection's own probe finds that out.
            let _ = self.requests.try_send(ask);
            // A watch that has yet to catch up does not answer.
            self.ask_at
                .as_mut()
                .reset(Instant::now() + FIRST.min(self.ask_every));
        }
    }
}

/// What the stream brought, if it goes on.
fn answer(said: Option<Result<WatchResponse, Status>>) -> Result<WatchResponse, (Fault, Error)> {
    match said {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(status)) => Err(error::of_status(status)),
        None => Err((
            Fault::Member,
            error::error(ErrorKind::Unavailable, "the server ended the watch"),
        )),
    }
}

/// Watches a range after a place.
async fn open(client: &Client, range: &Range, after: Place, before: bool) -> Result<Box<Open>> {
    let create = WatchCreate {
        key: range.from.clone(),
        range_end: range.end.clone(),
        // E-13: of what is told, all after this revision counts. Asked for from it on, as servers answer no question about
        // progress before the first revision asked for is there, and those before 3.5.18 lose deletions of a watch that
        // begins where the history does (E-27).
        start_revision: after.revision,
        progress_notify: true,
        // The server reads it anew for every event.
        prev_kv: before,
        fragment: true,
    };
    let create = WatchRequest {
        ask: Some(WatchAsk::Create(create)),
    };
    let requests = || {
        let (sender, mut requests) = mpsc::channel(QUEUE);
        // There is room: it is the first.
        let _ = sender.try_send(create.clone());
        (sender, stream::poll_fn(move |cx| requests.poll_recv(cx)))
    };
    let opened = client.stream::<_, _, WatchResponse>(PATH, requests);
    let (requests, mut answers, member) = opened.await?;
    // E-20: whether progress can be trusted depends on the member that tells it; one that does not say its version is
    // taken for old.
    let trusted = client
        .call(Kind::Read, |client| async move {
            client.maintenance_client().status().await
        })
        .await
        .is_ok_and(|status| tells_progress(status.version()));
    let mut tracker = Tracker::new(after, trusted);
    let limit = client.config().request_timeout;
    let first = match timeout(limit, answers.next()).await {
        Ok(said) => answer(said).and_then(|answer| tracker.take(answer)),
        Err(_) => Err((Fault::Member, error::late(limit))),
    };
    if let Err(fault) = first {
        return Err(client.stream_failed(member, fault).await);
    }
    let ask_every = confirm_every(client.config().discovery.confirm_interval);
    Ok(Box::new(Open {
        requests,
        answers,
        member,
        ask_at: Box::pin(sleep_until(Instant::now() + FIRST.min(ask_every))),
        ask_every,
        tracker,
    }))
}

/// Asked a little more often than promised.
fn confirm_every(promised: Duration) -> Duration {
    promised * 4 / 5
}

/// E-20: progress of older servers may overtake events.
fn tells_progress(version: &str) -> bool {
    let mut parts = version
        .split(['.', '-', '+'])
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    match (next(), next(), next()) {
        (3, 4, patch) => patch >= 31,
        (3, 5, patch) => patch >= 13,
        (major, minor, _) => (major, minor) > (3, 5),
    }
}

/// What is known of one watch: pure, so that every oddity of servers can be shown to it.
#[derive(Debug)]
struct Tracker {
    /// After the last event told, or the last progress that can be trusted.
    place: Place,
    /// The highest revision the server has shown, which never falls.
    highest: i64,
    /// The watch's id on its stream, once it has been created.
    id: Option<i64>,
    trusted: bool,
    /// Fragments of a message yet to be completed (E-23).
    fragments: Vec<Event>,
}

impl Tracker {
    fn new(place: Place, trusted: bool) -> Self {
        Self {
            place,
            highest: place.revision,
            id: None,
            trusted,
            fragments: Vec::new(),
        }
    }

    fn expired(text: &'static str) -> (Fault, Error) {
        (Fault::Answer, error::error(ErrorKind::WatchExpired, text))
    }

    fn take(&mut self, answer: WatchResponse) -> Result<Option<Told>, (Fault, Error)> {
        // E-14, E-15: the header of a cancellation means nothing.
        if answer.canceled {
            return Err(error::of_cancel(answer.compact_revision, &answer.cancel_reason));
        }
        let header = answer
            .header
            .as_ref()
            .ok_or_else(|| (Fault::Member, no_header()))?;
        self.check(header)?;
        if answer.created {
            self.id = Some(answer.watch_id);
            return Ok(None);
        }
        // E-21, E-26: progress may be about all watches of the stream; events are about ours.
        if answer.watch_id != -1 && Some(answer.watch_id) != self.id {
            return Ok(None);
        }
        if answer.events.is_empty() && !answer.fragment && self.fragments.is_empty() {
            if self.trusted {
                self.place.revision = self.place.revision.max(header.revision);
            }
            return Ok(Some(Told::Confirmed(self.place)));
        }
        self.fragments.extend(answer.events);
        if answer.fragment {
            return Ok(None);
        }
        let before = self.place.revision;
        // E-27: what was told already is not told again.
        let mut events = std::mem::take(&mut self.fragments);
        events.retain(|event| revision_of(event) > before);
        let Some(last) = events.iter().map(revision_of).max() else {
            return Ok(None);
        };
        self.place.revision = last;
        self.highest = self.highest.max(last);
        Ok(Some(Told::Changed(events, self.place)))
    }

    /// E-17: another cluster, or one restored from a backup, would be silent for ever about what it has forgotten.
    fn check(&mut self, header: &Header) -> Result<(), (Fault, Error)> {
        if header.cluster_id != self.place.cluster {
            return Err(Self::expired("this is another cluster"));
        }
        if header.revision < self.highest {
            // A member that lags behind the one that was read before catches up; only what it says when it is asked for
            // progress counts, and it says that of what it has sent.
            return Err(Self::expired("the cluster's revision went backwards"));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
