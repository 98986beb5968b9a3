//! Watching: what the poll that all share says of one service or all.

use std::{collections::VecDeque, sync::Arc};

use discovery_core::{Change, Instance, Query, Result, Target, WatchEvent, WatchStream, Watcher};
use futures::{StreamExt, future, stream};

use crate::{
    apps::Which,
    convert,
    poll::{Poll, View, watching},
    registry::check_scope,
};

/// The watcher of one client.
#[derive(Debug)]
pub(crate) struct EurekaWatcher(pub(crate) Arc<Poll>);

impl Watcher for EurekaWatcher {
    /// There are no cursors: one given is answered by a reset.
    fn watch(&self, query: &Query, _since: Option<discovery_core::Cursor>) -> WatchStream {
        if let Err(error) = check_scope(&query.scope) {
            return stream::once(future::ready(Err(watching(error)))).boxed();
        }
        let teller = Teller {
            poll: self.0.clone(),
            which: match &query.target {
                Target::All => Which::All,
                Target::Service(name) => Which::new(self.0.look_up(), name.as_str()),
            },
            with_checks: query.with_checks,
            told: None,
            queue: VecDeque::new(),
        };
        stream::try_unfold(teller, |mut teller| async move {
            let event = teller.next().await.map_err(watching)?;
            Ok(Some((event, teller)))
        })
        .boxed()
    }
}

/// Compares answers with what was told last: a return is not a change.
struct Teller {
    poll: Arc<Poll>,
    which: Which,
    with_checks: bool,
    told: Option<Arc<View>>,
    queue: VecDeque<WatchEvent>,
}

impl Teller {
    async fn next(&mut self) -> Result<WatchEvent> {
        if let Some(event) = self.queue.pop_front() {
            return Ok(event);
        }
        let view = self.poll.next(self.told.as_ref()).await?;
        let told = self.told.replace(view.clone());
        for change in self.changes(told.as_deref(), &view) {
            let event = WatchEvent::new(change).with_evidence(view.evidence);
            self.queue.push_back(event);
        }
        // There is one at least.
        Ok(self
            .queue
            .pop_front()
            .unwrap_or_else(|| WatchEvent::new(Change::Confirmed).with_evidence(view.evidence)))
    }

    fn changes(&self, told: Option<&View>, view: &View) -> Vec<Change> {
        let shown = |instances: Vec<Arc<Instance>>| {
            if self.with_checks {
                instances.iter().map(checked).collect()
            } else {
                instances
            }
        };
        let all = || shown(view.apps.select(&self.which).cloned().collect());
        let Some(told) = told else {
            return vec![Change::Reset(all())];
        };
        let difference = view.apps.since(&told.apps, &self.which);
        if difference.is_empty() && told.evidence == view.evidence {
            return Vec::new();
        }
        if view.replaces(told) && (!difference.removals.is_empty() || told.evidence != view.evidence) {
            return vec![Change::Reset(all())];
        }
        let mut changes = Vec::new();
        if !difference.removals.is_empty() {
            changes.push(Change::Remove(difference.removals));
        }
        if !difference.upserts.is_empty() {
            changes.push(Change::Upsert(shown(difference.upserts)));
        }
        changes
    }
}

/// The same instance with the one check there is.
pub(crate) fn checked(instance: &Arc<Instance>) -> Arc<Instance> {
    let mut instance = (**instance).clone();
    instance.checks = vec![convert::check(&instance)];
    Arc::new(instance)
}
