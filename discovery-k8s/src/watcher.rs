//! Watches: the slices, Services and Leases of a query, merged as they change.

use std::{collections::VecDeque, time::Duration};

use discovery_core::{Change, Cursor, Query, Result, Target, WatchEvent, WatchStream, Watcher};
use futures::stream::{self, BoxStream, SelectAll, StreamExt as _};
use tokio::time::{Instant, sleep_until};

use crate::{
    feed::{Scope, Step, follow},
    merge::Merge,
    reader::Reader,
    slices::Id,
    wire::{EndpointSlice, Lease, Object, Service},
};

#[derive(Debug)]
pub(crate) struct K8sWatcher(pub(crate) Reader);

/// How long a watch may be without a confirmation, given how long the server keeps one open.
pub(crate) fn confirm_every(watch: Duration) -> Duration {
    watch + watch / 10 + Duration::from_secs(2)
}

impl Watcher for K8sWatcher {
    fn watch(&self, query: &Query, _since: Option<Cursor>) -> WatchStream {
        let start = Watching {
            reader: self.0.clone(),
            query: query.clone(),
            feeds: SelectAll::new(),
            heard: Vec::new(),
            unread: 0,
            namespaces: Vec::new(),
            follows_services: false,
            follows_leases: false,
            merge: self.0.merge(query),
            told: false,
            queue: VecDeque::new(),
        };
        stream::unfold(Some(start), |watching| async {
            let mut watching = watching?;
            match watching.next().await {
                Ok(event) => Some((Ok(event), Some(watching))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }
}

/// What a feed tells, whichever it is.
enum Told {
    Slice(Step<EndpointSlice>),
    Service(Step<Service>),
    Lease(Step<Lease>),
}

struct Watching {
    reader: Reader,
    query: Query,
    feeds: SelectAll<BoxStream<'static, (usize, Result<Told>)>>,
    /// Which feeds have been heard of since the last confirmation.
    heard: Vec<bool>,
    /// How many feeds have yet to tell all there is.
    unread: usize,
    namespaces: Vec<Option<String>>,
    follows_services: bool,
    follows_leases: bool,
    merge: Merge,
    /// Whether the view has been told.
    told: bool,
    queue: VecDeque<WatchEvent>,
}

impl Watching {
    async fn next(&mut self) -> Result<WatchEvent> {
        if self.heard.is_empty() {
            self.start().await?;
        }
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Ok(event);
            }
            let deadline = self.merge.deadline().filter(|_| self.told);
            let expiry = sleep_until(deadline.unwrap_or_else(Instant::now));
            tokio::select! {
                told = self.feeds.next() => {
                    // Feeds end by an error only.
                    if let Some((feed, told)) = told {
                        self.take(feed, told?);
                    }
                }
                () = expiry, if deadline.is_some() => self.merge.expire(),
            }
            self.tell();
        }
    }

    async fn start(&mut self) -> Result<()> {
        Reader::check(&self.query)?;
        self.namespaces = self.reader.namespaces(&self.query.scope).await?;
        let slices = self.reader.client.config().endpoints.enabled;
        for namespace in self.namespaces.clone().iter().filter(|_| slices) {
            let slices = self.reader.slices(namespace.as_deref(), &self.query.target);
            self.follow(slices, Told::Slice);
        }
        if self.query.target == Target::All || !slices {
            self.follow_services();
        }
        Ok(())
    }

    fn follow_services(&mut self) {
        self.follows_services = true;
        for namespace in self.namespaces.clone() {
            let services = self.reader.services(namespace.as_deref(), &self.query.target);
            self.follow(services, Told::Service);
        }
    }

    fn follow<T: Object>(&mut self, scope: Scope, tell: fn(Step<T>) -> Told) {
        let (client, feed) = (self.reader.client.clone(), self.heard.len());
        let watch = client.config().service_discovery.watch_timeout;
        self.heard.push(false);
        self.unread += 1;
        let steps = follow::<T>(client, scope, watch);
        self.feeds
            .push(steps.map(move |step| (feed, step.map(tell))).boxed());
    }

    fn take(&mut self, feed: usize, told: Told) {
        self.heard[feed] = true;
        let merge = &mut self.merge;
        match told {
            Told::Slice(Step::All(all)) => {
                self.unread -= 1;
                for slice in &all {
                    merge.put_slice(slice);
                }
            }
            Told::Slice(Step::Put(slice)) => merge.put_slice(&slice),
            Told::Slice(Step::Gone(slice)) => merge.remove_slice(&Id::of(&slice.metadata)),
            Told::Service(Step::All(all)) => {
                self.unread -= 1;
                for service in &all {
                    merge.put_service(service);
                }
            }
            Told::Service(Step::Put(service)) => merge.put_service(&service),
            Told::Service(Step::Gone(service)) => merge.remove_service(&Id::of(&service.metadata)),
            Told::Lease(Step::All(all)) => {
                self.unread -= 1;
                merge.all_leases(&all);
            }
            Told::Lease(Step::Put(lease)) => merge.put_lease(&lease),
            Told::Lease(Step::Gone(lease)) => merge.remove_lease(&Id::of(&lease.metadata)),
            Told::Slice(Step::Confirmed) | Told::Service(Step::Confirmed) | Told::Lease(Step::Confirmed) => {}
        }
        // What we registered needs no Service, and a cluster with nothing else no right to read any.
        if !self.follows_services && self.unread == 0 && self.merge.wants_services() {
            self.follow_services();
        }
        // Pods need no Leases: whoever watches only them needs no right to read any.
        if !self.follows_leases && self.merge.has_leased() {
            self.follows_leases = true;
            for namespace in self.namespaces.clone() {
                let leases = self.reader.leases(namespace.as_deref(), &self.query.target);
                self.follow(leases, Told::Lease);
            }
        }
    }

    /// Queues what there is to tell.
    fn tell(&mut self) {
        if !self.told {
            if self.unread == 0 {
                self.told = true;
                self.heard.fill(false);
                let all = self.merge.shown();
                self.queue.push_back(WatchEvent::new(Change::Reset(all)));
            }
            return;
        }
        let changes = self.merge.changes();
        if !changes.upserts.is_empty() {
            self.queue
                .push_back(WatchEvent::new(Change::Upsert(changes.upserts)));
        }
        if !changes.removals.is_empty() {
            self.queue
                .push_back(WatchEvent::new(Change::Remove(changes.removals)));
        }
        // Nothing is confirmed while one of the feeds is silent.
        if self.heard.iter().all(|heard| *heard) {
            self.heard.fill(false);
            if self.queue.is_empty() {
                self.queue.push_back(WatchEvent::new(Change::Confirmed));
            }
        }
    }
}

#[cfg(test)]
#[path = "watcher_tests.rs"]
mod tests;
