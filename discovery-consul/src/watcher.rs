//! Watching by blocking queries.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use discovery_core::{
    Change, Cursor, Evidence, Instance, Query, Result, ServiceName, Suspicion, Target, WatchEvent,
    WatchStream, Watcher,
};
use futures::{
    FutureExt, StreamExt,
    future::{self, BoxFuture},
    stream,
};
use tokio::time::{Instant, sleep_until};

use crate::{
    decode::Decoder,
    poll::{Poll, Polled},
    reader::Reader,
};

/// The least time between two readings of all services.
const ROUND: Duration = Duration::from_secs(1);

/// The watcher of one agent.
#[derive(Debug)]
pub(crate) struct ConsulWatcher(pub(crate) Reader);

impl Watcher for ConsulWatcher {
    fn watch(&self, query: &Query, since: Option<Cursor>) -> WatchStream {
        if let Err(error) = self.0.check_scope(&query.scope) {
            return stream::once(future::ready(Err(error.with_operation("watch")))).boxed();
        }
        let since = since
            .and_then(|cursor| cursor.as_str().parse().ok())
            .unwrap_or_default();
        let (reader, query) = (self.0.clone(), query.clone());
        match query.target.clone() {
            Target::Service(name) => follow(move || ServiceWatch::new(reader, name, query, since)),
            Target::All => follow(move || AllWatch::new(reader, query, since)),
        }
    }
}

/// Where the answers of a watch come from.
trait Feed: Send + 'static {
    /// The next complete answer, its index and how far it can be trusted; nothing where it is only that nothing changed.
    fn next(&mut self) -> impl Future<Output = Result<Seen>> + Send;

    /// Whether the order of instances matters.
    fn keeps_order(&self) -> bool;
}

/// What an answer showed.
#[derive(Debug)]
struct Seen {
    /// All there is; nothing where that has not been looked at, as it has not changed.
    instances: Option<Vec<Arc<Instance>>>,
    evidence: Evidence,
    index: u64,
}

/// The events of a feed; it is made, and takes part in anything, when first polled.
fn follow<F: Feed>(make: impl FnOnce() -> F + Send + 'static) -> WatchStream {
    stream::once(async { Teller::new(make()) })
        .flat_map(|teller| {
            stream::try_unfold(teller, |mut teller| async move {
                let event = teller.next().await?;
                Ok(Some((event, teller)))
            })
        })
        .boxed()
}

/// Compares answers with what was told last: a return is not a change (C-4).
struct Teller<F> {
    feed: F,
    told: Option<(Vec<Arc<Instance>>, Evidence)>,
    queue: VecDeque<WatchEvent>,
}

impl<F: Feed> Teller<F> {
    fn new(feed: F) -> Self {
        Self {
            feed,
            told: None,
            queue: VecDeque::new(),
        }
    }

    async fn next(&mut self) -> Result<WatchEvent> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Ok(event);
            }
            let seen = self
                .feed
                .next()
                .await
                .map_err(|error| error.with_operation("watch"))?;
            self.take(seen);
        }
    }

    fn take(&mut self, seen: Seen) {
        let cursor = Cursor::new(seen.index.to_string());
        let evidence = seen.evidence;
        let event = |change| {
            WatchEvent::new(change)
                .with_cursor(cursor.clone())
                .with_evidence(evidence)
        };
        let Some(instances) = seen.instances else {
            let told = self.told.as_ref().map_or(evidence, |(_, told)| *told);
            self.queue.push_back(event(Change::Confirmed).with_evidence(told));
            return;
        };
        match &self.told {
            Some((told, before)) if *before == evidence && *told == instances => {
                self.queue.push_back(event(Change::Confirmed));
                return;
            }
            // Between two answers that nothing speaks against, changes are changes.
            Some((told, Evidence::Authoritative))
                if evidence == Evidence::Authoritative && !self.feed.keeps_order() =>
            {
                let (upserts, removals) = difference(told, &instances);
                if !upserts.is_empty() {
                    self.queue.push_back(event(Change::Upsert(upserts)));
                }
                if !removals.is_empty() {
                    self.queue.push_back(event(Change::Remove(removals)));
                }
            }
            _ => self.queue.push_back(event(Change::Reset(instances.clone()))),
        }
        self.told = Some((instances, evidence));
    }
}

/// What is new or changed, and what is gone; both lists are sorted by key.
fn difference(
    before: &[Arc<Instance>],
    now: &[Arc<Instance>],
) -> (Vec<Arc<Instance>>, Vec<discovery_core::InstanceKey>) {
    let (mut upserts, mut removals) = (Vec::new(), Vec::new());
    let mut rest = before.iter().peekable();
    for instance in now {
        while let Some(gone) = rest.next_if(|old| old.key < instance.key) {
            removals.push(gone.key.clone());
        }
        // One that is the same as before is the same pointer mostly, which is looked at first.
        let old = rest.next_if(|old| old.key == instance.key);
        if old != Some(instance) {
            upserts.push(instance.clone());
        }
    }
    removals.extend(rest.map(|gone| gone.key.clone()));
    (upserts, removals)
}

// === one service ===

struct ServiceWatch {
    reader: Reader,
    name: ServiceName,
    query: Query,
    poll: Poll,
    decoder: Decoder,
}

impl ServiceWatch {
    fn new(reader: Reader, name: ServiceName, query: Query, since: u64) -> Self {
        Self {
            poll: Poll::new(&reader.client, since, false),
            decoder: Decoder::new(query.with_checks),
            reader,
            name,
            query,
        }
    }
}

impl Feed for ServiceWatch {
    async fn next(&mut self) -> Result<Seen> {
        let (reader, name, scope) = (&self.reader, &self.name, &self.query.scope);
        let polled = self.poll.next(|| reader.service_call(name, scope)).await?;
        let (instances, evidence) = reader
            .instances_in(&polled.answer, &polled.meta, name, scope, &mut self.decoder)
            .await?;
        Ok(Seen {
            instances: Some(instances),
            evidence: or_regressed(evidence, polled.regressed),
            index: self.poll.pacer.seen(),
        })
    }

    fn keeps_order(&self) -> bool {
        self.reader.keeps_order()
    }
}

/// C-10: what comes with an index that went backwards is believed once it is confirmed.
fn or_regressed(evidence: Evidence, regressed: bool) -> Evidence {
    match evidence {
        Evidence::Authoritative if regressed => Evidence::Suspect(Suspicion::IndexRegressed),
        evidence => evidence,
    }
}

// === every service ===

/// Two blocking queries tell that something changed, on the names and records of services and on checks; then all
/// services are read, at most once a second. Sound for some hundred services; a change costs one read of each.
struct AllWatch {
    reader: Reader,
    query: Query,
    names: Trigger,
    checks: Trigger,
    /// When all may be read again.
    next_round: Instant,
    /// Something changed since the last round.
    dirty: bool,
    /// Which triggers came back since the last confirmation.
    back: (bool, bool),
    index: u64,
}

/// A blocking query, idle between two questions or under way.
struct Trigger {
    index: Option<u64>,
    under_way: BoxFuture<'static, (Poll, Result<Polled>)>,
}

impl Trigger {
    fn new(reader: &Reader, query: &Query, since: u64, checks: bool) -> Self {
        let poll = Poll::new(&reader.client, since, false);
        Self {
            index: None,
            under_way: Self::ask(poll, reader.clone(), query.clone(), checks),
        }
    }

    fn ask(
        mut poll: Poll,
        reader: Reader,
        query: Query,
        checks: bool,
    ) -> BoxFuture<'static, (Poll, Result<Polled>)> {
        async move {
            let call = || {
                if checks {
                    reader.checks_call(&query.scope)
                } else {
                    reader.names_call(&query.scope)
                }
            };
            let polled = poll.next(call).await;
            (poll, polled)
        }
        .boxed()
    }

    /// Takes an answer, asks again, and answers whether something changed and whether the index went backwards.
    fn took(
        &mut self,
        (poll, polled): (Poll, Result<Polled>),
        reader: &Reader,
        query: &Query,
        checks: bool,
    ) -> Result<(bool, bool)> {
        let polled = polled?;
        let changed = self.index != polled.meta.index || polled.meta.index.is_none();
        self.index = polled.meta.index;
        self.under_way = Self::ask(poll, reader.clone(), query.clone(), checks);
        Ok((changed, polled.regressed))
    }
}

impl AllWatch {
    fn new(reader: Reader, query: Query, since: u64) -> Self {
        Self {
            names: Trigger::new(&reader, &query, since, false),
            // Its index is of another table.
            checks: Trigger::new(&reader, &query, 0, true),
            reader,
            query,
            next_round: Instant::now(),
            dirty: true,
            back: (false, false),
            index: since,
        }
    }
}

impl Feed for AllWatch {
    async fn next(&mut self) -> Result<Seen> {
        let mut regressed = false;
        loop {
            // Reading before both triggers have an index would miss what happens in between.
            let armed = self.names.index.is_some() && self.checks.index.is_some();
            let blind = self.back.0 && self.back.1;
            tokio::select! {
                biased;
                polled = &mut self.names.under_way => {
                    let (changed, back) = self.names.took(polled, &self.reader, &self.query, false)?;
                    self.dirty |= changed;
                    regressed |= back;
                    self.back.0 = true;
                }
                polled = &mut self.checks.under_way => {
                    let (changed, back) = self.checks.took(polled, &self.reader, &self.query, true)?;
                    self.dirty |= changed;
                    regressed |= back;
                    self.back.1 = true;
                }
                () = sleep_until(self.next_round), if self.dirty && (armed || blind) => {
                    self.dirty = false;
                    self.back = (false, false);
                    self.next_round = Instant::now() + ROUND;
                    let (mut instances, evidence) = self.reader.all(&self.query).await?;
                    instances.sort_by(|a, b| a.key.cmp(&b.key));
                    self.index = self.names.index.unwrap_or(self.index);
                    return Ok(Seen {
                        instances: Some(instances),
                        evidence: or_regressed(evidence, regressed),
                        index: self.index,
                    });
                }
            }
            if !self.dirty && self.back == (true, true) {
                self.back = (false, false);
                return Ok(Seen {
                    instances: None,
                    evidence: Evidence::Authoritative,
                    index: self.index,
                });
            }
        }
    }

    fn keeps_order(&self) -> bool {
        false
    }
}

#[cfg(test)]
#[path = "watcher_tests.rs"]
mod tests;
