//! The keeper of one registration: everything the registry is told of it, one request after another.

use std::{
    future::pending,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    sync::{SemaphorePermit, mpsc},
    time::{Instant, sleep_until},
};
use tracing::{debug, info, warn};

use super::{
    Inner, pace,
    record::{Command, Counted, Edit, Record},
};
use crate::{
    error::{Error, ErrorKind, Result},
    metrics,
    model::{Instance, InstanceKey, Lease, Registration},
    resilience::Backoff,
};

/// What a keeper does when its next moment comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// Nothing: the program's own `register` call drives the first attempts.
    Wait,
    /// Look whether the registry still has the record.
    ReadBack,
    /// Register it again.
    Assert,
    /// Deregister it.
    Withdraw,
}

/// The keeper of one registration.
///
/// Because one task sends everything, one request after another, nothing it sent earlier can undo what it sends later.
#[derive(Debug)]
pub(super) struct Keeper {
    inner: Arc<Inner>,
    record: Arc<Record>,
    commands: mpsc::Receiver<Command>,
    task: Task,
    due: Instant,
    backoff: Backoff,
}

impl Keeper {
    pub(super) fn new(inner: Arc<Inner>, record: Arc<Record>, commands: mpsc::Receiver<Command>) -> Self {
        Self {
            inner,
            record,
            commands,
            task: Task::Wait,
            due: Instant::now(),
            backoff: pace::backoff(),
        }
    }

    /// Keeps the registration until it is withdrawn or the registrar shuts down. A request under way is not cut short.
    pub(super) async fn run(mut self) {
        let (inner, record) = (self.inner.clone(), self.record.clone());
        while !inner.stop.is_cancelled() {
            let ended = tokio::select! {
                () = inner.stop.cancelled() => true,
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => true,
                },
                () = record.wake.notified() => self.look(),
                permit = turn(&inner, self.task, self.due) => {
                    let ended = self.act().await;
                    drop(permit);
                    ended
                }
            };
            if ended {
                return;
            }
        }
    }

    fn plan(&mut self, task: Task, due: Instant) {
        (self.task, self.due) = (task, due);
    }

    /// Plans to try `task` again after `error`.
    fn retry(&mut self, task: Task, error: &Error) {
        self.record.state().error = Some(error.clone());
        let delay = pace::after(error, &mut self.backoff);
        self.plan(task, Instant::now() + delay);
    }

    /// Obeys a command with one attempt. Answers whether the keeper's work is done.
    async fn obey(&mut self, command: Command) -> bool {
        match command {
            Command::Edit { edit, undo, reply } => {
                let _ = reply.send(self.edit(&edit, &undo).await);
                false
            }
            Command::Withdraw { reply } => {
                let result = self.withdraw().await;
                let ended = result.is_ok() && self.finish();
                let _ = reply.send(result);
                ended
            }
        }
    }

    /// Acts on the clock, with one attempt. Answers whether the keeper's work is done.
    async fn act(&mut self) -> bool {
        match self.task {
            Task::Wait => {}
            Task::ReadBack => self.read_back().await,
            Task::Assert => {
                if let Err(error) = self.assert().await {
                    self.degraded(&error, "not registered again yet: trying for ever");
                    self.retry(Task::Assert, &error);
                }
            }
            Task::Withdraw => return self.withdraw().await.is_ok() && self.finish(),
        }
        false
    }

    /// Looks at what others changed. Answers whether the keeper's work is done.
    fn look(&mut self) -> bool {
        let (abandoned, empty, lost) = {
            let state = self.record.state();
            let abandoned = state.pending == 0 && !state.kept && !state.withdrawing;
            (abandoned, state.lease.is_none() && !state.doubtful, state.lost)
        };
        if abandoned {
            if empty {
                return self.finish();
            }
            debug!("no caller saw it registered: withdrawing");
            self.unwant();
            self.plan(Task::Withdraw, Instant::now());
        } else if lost && self.task == Task::ReadBack {
            self.plan(Task::Assert, Instant::now());
        }
        false
    }

    /// Ends the keeper, unless a `register` call is about to need it.
    fn finish(&mut self) -> bool {
        let done = self.inner.forget(&self.record);
        if !done {
            self.record.state().withdrawing = false;
            self.plan(Task::Wait, Instant::now());
        }
        done
    }

    /// Changes what is wanted, tells the registry, and takes it back if the registry refuses for good.
    async fn edit(&mut self, edit: &Edit, undo: &OnceLock<Edit>) -> Result<InstanceKey> {
        let record = self.record.clone();
        let replaces = matches!(edit, Edit::Content(_));
        let known = {
            let mut state = record.state();
            let known = state.lease.is_some() && !state.withdrawing;
            if known || replaces {
                let health = state.desired.health.clone();
                let inverse = edit.apply(&mut state.desired);
                state.reported |= known && health != state.desired.health;
                state.withdrawing = false;
                let _ = undo.set(inverse);
            }
            known
        };
        if !known && !replaces {
            return Err(self.inner.unknown(&record.name));
        }
        let result = self.tell(edit).await;
        if let Err(error) = &result {
            if !known {
                // Not registered, or no longer: the caller tries again or gives up.
                record.state().error = Some(error.clone());
                self.plan(Task::Wait, Instant::now());
            } else if error.is_retryable() {
                self.retry(Task::Assert, error);
            } else if let Some(undo) = undo.get() {
                undo.apply(&mut record.state().desired);
            }
        }
        result
    }

    /// Tells the registry of a change, or of everything where it may not know the record.
    async fn tell(&mut self, edit: &Edit) -> Result<InstanceKey> {
        let record = self.record.clone();
        let (key, lost) = {
            let state = record.state();
            (state.key.clone(), state.lost)
        };
        let result = match edit {
            Edit::Content(_) => return self.assert().await,
            _ if lost => return self.assert().await,
            Edit::Meta(change) => {
                let request = self.inner.registry.update_meta(&key, change);
                self.inner.request("update_meta", self.limit(), request).await
            }
            Edit::Health(report) => {
                // A heartbeat that carries the old health must not arrive after the report.
                if let Some(group) = self.lease().and_then(|lease| self.inner.group(&lease.group)) {
                    group.settle().await;
                }
                let request = self.inner.registry.report_health(&key, report);
                self.inner.request("report_health", self.limit(), request).await
            }
        };
        match result {
            Ok(()) => Ok(key),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.lose(&error);
                self.assert().await
            }
            Err(error) => Err(error),
        }
    }

    /// Registers what is wanted, once.
    async fn assert(&mut self) -> Result<InstanceKey> {
        let record = self.record.clone();
        let desired = record.state().desired.clone();
        let request = self.inner.registry.register(&desired);
        match self.inner.request("register", self.limit(), request).await {
            Ok(lease) => Ok(self.registered(lease).await),
            Err(error) => {
                record.state().doubtful |= pace::may_have_happened(&error);
                Err(error)
            }
        }
    }

    async fn registered(&mut self, lease: Lease) -> InstanceKey {
        let (record, scheme) = (self.record.clone(), self.inner.scheme());
        let (previous, lost) = {
            let mut state = record.state();
            state.key = lease.key.clone();
            state.counted = Some(Counted::new(scheme, &lease.key));
            state.doubtful = false;
            let previous = state.lease.replace(lease.clone());
            (previous, std::mem::take(&mut state.lost))
        };
        record.confirm();
        self.backoff.reset();
        let read_back = lease.ttl.unwrap_or(self.inner.config.read_back);
        self.plan(Task::ReadBack, Instant::now() + pace::spaced(read_back));
        if let Some(old) = previous.as_ref().filter(|old| old.group != lease.group)
            && let Some(group) = self.inner.group(&old.group)
        {
            group.remove(&record.name);
        }
        if let Some(ttl) = lease.ttl {
            self.inner.join(&lease, ttl, &record);
        }
        if lost {
            metrics::reregistered(scheme);
            info!(key = %lease.key, "registered again");
        } else if previous.is_none() {
            info!(key = %lease.key, ttl = ?lease.ttl, "registered");
        } else {
            debug!(key = %lease.key, "registration replaced");
        }
        if previous.is_some() {
            self.repeat_health(&lease.key).await;
        }
        lease.key
    }

    /// Says the health once more where it has changed since the first registration: a registry may keep the old one when a
    /// record is registered again.
    async fn repeat_health(&mut self, key: &InstanceKey) {
        let report = {
            let state = self.record.state();
            state.reported.then(|| state.desired.health.clone())
        };
        let Some(report) = report.filter(|_| self.inner.can.report_health) else {
            return;
        };
        let request = self.inner.registry.report_health(key, &report);
        if let Err(error) = self.inner.request("report_health", self.limit(), request).await {
            debug!(%error, "health not reported after registering again");
            self.retry(Task::Assert, &error);
        }
    }

    /// Looks whether the registry still has the record, and has it as wanted. An error says nothing: the next look will.
    async fn read_back(&mut self) {
        let record = self.record.clone();
        let (key, desired, ttl) = {
            let state = record.state();
            let ttl = state.lease.as_ref().and_then(|lease| lease.ttl);
            (state.key.clone(), state.desired.clone(), ttl)
        };
        let read_back = ttl.unwrap_or(self.inner.config.read_back);
        self.plan(Task::ReadBack, Instant::now() + pace::spaced(read_back));
        let request = self.inner.registry.instance(&key);
        match self.inner.request("instance", self.limit(), request).await {
            Ok(Some(instance)) if is_ours(&instance, &desired) => {
                if ttl.is_none() {
                    record.confirm();
                }
            }
            Ok(Some(instance)) => {
                if self.inner.may_warn() {
                    warn!(%key, theirs = instance.address(), "somebody else wrote this record: writing ours again; \
                          two programs must not register one id");
                }
                self.plan(Task::Assert, Instant::now());
            }
            Ok(None) => {
                info!(%key, "the registry forgot it: registering again");
                let error = Error::new(ErrorKind::NotFound, "the registry no longer shows it")
                    .with_operation("instance")
                    .with_backend(self.inner.scheme());
                self.lose(&error);
                self.plan(Task::Assert, Instant::now());
            }
            Err(error) => debug!(%error, "read-back failed"),
        }
    }

    /// Deregisters it, once; where that fails, the attempt is repeated in the background.
    async fn withdraw(&mut self) -> Result<()> {
        let record = self.record.clone();
        self.unwant();
        // A heartbeat under way must not bring it back afterwards.
        if let Some(group) = self.lease().and_then(|lease| self.inner.group(&lease.group)) {
            group.remove(&record.name);
            group.settle().await;
        }
        let result = self.inner.deregister(&record).await;
        match &result {
            Ok(()) => info!("deregistered"),
            Err(error) => {
                self.degraded(error, "not deregistered yet: trying until shutdown");
                self.retry(Task::Withdraw, error);
            }
        }
        result
    }

    fn unwant(&self) {
        let mut state = self.record.state();
        (state.withdrawing, state.kept, state.lost) = (true, false, false);
        state.counted = None;
    }

    /// The registry does not know it: no heartbeat names it until it is registered again.
    fn lose(&self, error: &Error) {
        if let Some(group) = self.lease().and_then(|lease| self.inner.group(&lease.group)) {
            group.remove(&self.record.name);
        }
        self.record.lose(error);
    }

    fn lease(&self) -> Option<Lease> {
        self.record.state().lease.clone()
    }

    fn limit(&self) -> Duration {
        self.inner.config.request_timeout
    }

    fn degraded(&self, error: &Error, what: &'static str) {
        if self.inner.may_warn() {
            warn!(%error, "{what}");
        } else {
            debug!(%error, "{what}");
        }
    }
}

/// Waits until something is due, then until there is room for one more request of the background.
async fn turn(inner: &Inner, task: Task, due: Instant) -> Option<SemaphorePermit<'_>> {
    if task == Task::Wait {
        return pending().await;
    }
    sleep_until(due).await;
    // The semaphore is never closed.
    inner.background.acquire().await.ok()
}

/// Whether the record leads to where the registration wants it to.
fn is_ours(instance: &Instance, desired: &Registration) -> bool {
    instance.port == desired.port && instance.host == desired.address
}
