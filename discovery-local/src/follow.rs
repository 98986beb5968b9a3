//! Following the log: the one loop behind both kinds of watch.

use std::{collections::VecDeque, sync::Arc};

use discovery_core::{Cursor, Result};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use rusqlite::Connection;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    config::LocalConfig,
    log::{self, Entry, Place, Scope},
    store::Store,
    worker::Ended,
};

/// What a watch reads and how it tells it.
pub(crate) trait Feed: Clone + Send + 'static {
    type Change: Send + 'static;
    type Event: Send + 'static;

    /// Which changes it reads.
    fn scope(&self) -> Scope;

    /// All there is.
    fn all(&self, connection: &Connection, ended: &Ended) -> Result<Self::Change>;

    /// Takes the first change it tells out of these, which are not empty, if there is one.
    fn first(&self, entries: &mut VecDeque<(i64, Entry)>) -> Option<Self::Change>;

    /// Nothing changed.
    fn confirmed() -> Self::Change;

    fn event(change: Self::Change, cursor: Cursor) -> Self::Event;
}

/// The events of `feed`: all there is, or what came after `since`, then changes as they happen and confirmations while
/// there are none. A resumed watch that missed nothing confirms that at once.
pub(crate) fn follow<F: Feed>(
    store: Arc<Store>,
    config: LocalConfig,
    feed: F,
    since: Option<Cursor>,
) -> BoxStream<'static, Result<F::Event>> {
    // A watch nobody has polled yet holds no place in the store.
    let start = (store, config, feed, since);
    stream::try_unfold((Some(start), None), |(start, follower)| async move {
        let mut follower = match (start, follower) {
            (Some((store, config, feed, since)), _) => Follower::open(store, config, feed, since.as_ref())?,
            (None, Some(follower)) => follower,
            (None, None) => return Ok(None),
        };
        let event = follower.next().await?;
        Ok(Some((event, (None, Some(follower)))))
    })
    .boxed()
}

struct Follower<F> {
    store: Arc<Store>,
    config: LocalConfig,
    feed: F,
    wake: watch::Receiver<()>,
    /// What has been read so far; nothing yet where `None`.
    place: Option<Place>,
    /// What was read and not told yet.
    unread: VecDeque<(i64, Entry)>,
    /// When it is time to confirm.
    confirm_at: Instant,
}

impl<F: Feed> Follower<F> {
    fn open(store: Arc<Store>, config: LocalConfig, feed: F, since: Option<&Cursor>) -> Result<Self> {
        let place = since.map(Place::of).transpose()?;
        Ok(Self {
            wake: store.subscribe(),
            store,
            config,
            feed,
            place,
            unread: VecDeque::new(),
            confirm_at: Instant::now(),
        })
    }

    async fn next(&mut self) -> Result<F::Event> {
        loop {
            if let Some(event) = self.tell() {
                return Ok(event);
            }
            // What happens from here on wakes it again, so nothing is missed between reading and sleeping.
            self.wake.mark_unchanged();
            let Some(place) = self.place.clone() else {
                return self.start().await;
            };
            let scope = self.feed.scope();
            let read = move |worker: &mut crate::worker::Worker| {
                worker.read(|connection, _| log::after(connection, &place, &scope))
            };
            let (entries, place) = self.store.run("watch", self.config.timeout, read).await?;
            self.unread.extend(entries);
            self.place = Some(place.clone());
            if !self.unread.is_empty() {
                continue;
            }
            if Instant::now() >= self.confirm_at {
                return Ok(self.event(F::confirmed(), &place));
            }
            tokio::select! {
                _ = self.wake.changed() => {}
                () = sleep_until(self.confirm_at) => {}
            }
        }
    }

    async fn start(&mut self) -> Result<F::Event> {
        let feed = self.feed.clone();
        let all = move |worker: &mut crate::worker::Worker| {
            worker.read(|connection, ended| Ok((feed.all(connection, ended)?, Place::end(connection)?)))
        };
        let (all, place) = self.store.run("watch", self.config.timeout, all).await?;
        self.place = Some(place.clone());
        Ok(self.event(all, &place))
    }

    /// The next change of what has been read.
    fn tell(&mut self) -> Option<F::Event> {
        while !self.unread.is_empty() {
            let last = self.unread.back().map(|(revision, _)| *revision)?;
            let change = self.feed.first(&mut self.unread);
            let read = self.place.clone()?;
            let told = match self.unread.front() {
                // The next one is still to be told.
                Some((next, _)) => read.at(next - 1),
                None => read.at(read.revision.max(last)),
            };
            if let Some(change) = change {
                return Some(self.event(change, &told));
            }
        }
        None
    }

    fn event(&mut self, change: F::Change, place: &Place) -> F::Event {
        self.confirm_at = Instant::now() + self.config.confirm_interval;
        F::event(change, place.cursor())
    }
}
