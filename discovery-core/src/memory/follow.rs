//! Following a log: the one loop behind both kinds of watch.

use std::sync::Arc;

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    log::{Log, Place},
    records::after,
    store::{Shared, State},
};
use crate::{error::Result, model::Cursor};

/// What a watch reads and how it tells it.
pub(super) trait Feed: Send + 'static {
    type Entry;
    type Change;
    type Event: Send + 'static;

    /// The log it follows.
    fn log(state: &State) -> &Log<Self::Entry>;

    /// All there is.
    fn all(&self, state: &State) -> Self::Change;

    /// The first change it tells of these, if any, and how many entries that used up.
    fn first<'a>(&self, entries: impl Iterator<Item = &'a Self::Entry>) -> (u64, Option<Self::Change>);

    /// Nothing changed.
    fn confirmed() -> Self::Change;

    fn event(change: Self::Change, cursor: Cursor) -> Self::Event;
}

/// The events of `feed`: all there is, or what came after `since`, then changes as they happen and confirmations while
/// there are none. A resumed watch that missed nothing confirms that at once.
pub(super) fn follow<F: Feed>(
    shared: Arc<Shared>,
    feed: F,
    since: Option<Cursor>,
) -> BoxStream<'static, Result<F::Event>> {
    let start = Start { shared, feed, since };
    stream::try_unfold(At::Start(start), |at| async move {
        let mut follower = match at {
            At::Start(start) => start.open()?,
            At::Running(follower) => follower,
        };
        let event = follower.next().await?;
        Ok(Some((event, At::Running(follower))))
    })
    .boxed()
}

enum At<F> {
    Start(Start<F>),
    Running(Follower<F>),
}

/// A watch nobody has polled yet: it holds no place in the store.
struct Start<F> {
    shared: Arc<Shared>,
    feed: F,
    since: Option<Cursor>,
}

impl<F: Feed> Start<F> {
    fn open(self) -> Result<Follower<F>> {
        let place = self.since.as_ref().map(Place::of).transpose()?;
        Ok(Follower {
            wake: self.shared.subscribe(),
            shared: self.shared,
            feed: self.feed,
            place,
            confirm_at: Instant::now(),
        })
    }
}

struct Follower<F> {
    shared: Arc<Shared>,
    feed: F,
    wake: watch::Receiver<()>,
    /// What it has told so far; nothing yet where `None`.
    place: Option<Place>,
    /// When it is time to confirm.
    confirm_at: Instant,
}

impl<F: Feed> Follower<F> {
    async fn next(&mut self) -> Result<F::Event> {
        loop {
            let shared = self.shared.clone();
            let (change, wake_at) = shared.read(|state, now| self.look(state, now))?;
            if let (Some(change), Some(place)) = (change, self.place) {
                return Ok(F::event(change, place.cursor()));
            }
            // What happened since the look has marked the receiver already, so nothing is missed in between.
            tokio::select! {
                _ = self.wake.changed() => {}
                () = sleep_until(wake_at) => {}
            }
        }
    }

    /// What to tell now, if anything, and when to look again if nothing happens.
    fn look(&mut self, state: &State, now: Instant) -> Result<(Option<F::Change>, Instant)> {
        let log = F::log(state);
        let mut change = match self.place {
            None => {
                self.place = Some(log.end());
                Some(self.feed.all(state))
            }
            Some(place) => {
                let (used, change) = self.feed.first(log.after(place)?);
                self.place = Some(place.plus(used));
                change
            }
        };
        if change.is_none() && now >= self.confirm_at {
            change = Some(F::confirmed());
        }
        if change.is_some() {
            self.confirm_at = after(now, self.shared.config.confirm_interval);
        }
        let deadline = state.records.next_deadline().unwrap_or(self.confirm_at);
        Ok((change, deadline.min(self.confirm_at)))
    }
}
