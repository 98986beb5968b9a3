//! One registration: what the program wants of it and what the registry last said.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};

use super::pace;
use crate::{
    error::{Error, Result},
    metrics,
    model::{HealthReport, InstanceId, InstanceKey, Lease, MetaChange, Registration, ServiceName},
};

/// What a registration is called within one registrar.
pub(super) type Name = (ServiceName, InstanceId);

/// Locks, whatever a panicking holder left behind: every critical section here leaves its data whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A change of what is wanted.
#[derive(Debug, Clone)]
pub(super) enum Edit {
    /// All of it.
    Content(Box<Registration>),
    /// The metadata.
    Meta(MetaChange),
    /// The health.
    Health(HealthReport),
}

impl Edit {
    /// Applies the change and answers what takes exactly it back.
    pub(super) fn apply(&self, desired: &mut Registration) -> Self {
        match self {
            Self::Content(registration) => {
                Self::Content(Box::new(std::mem::replace(desired, (**registration).clone())))
            }
            Self::Health(report) => Self::Health(std::mem::replace(&mut desired.health, report.clone())),
            Self::Meta(change) => {
                let inverse = inverse(change, &desired.meta);
                change.apply(&mut desired.meta);
                Self::Meta(inverse)
            }
        }
    }
}

fn inverse(change: &MetaChange, meta: &BTreeMap<String, String>) -> MetaChange {
    let touched = change.set.keys().chain(&change.remove);
    touched.fold(MetaChange::new(), |inverse, key| match meta.get(key) {
        Some(value) => inverse.set(key, value),
        None => inverse.remove(key),
    })
}

/// What a program asks of a registration. Each is one attempt; the caller repeats it.
#[derive(Debug)]
pub(super) enum Command {
    /// Change what is wanted, then tell the registry.
    Edit {
        edit: Edit,
        /// What takes it back, from the first attempt of several.
        undo: Arc<OnceLock<Edit>>,
        reply: oneshot::Sender<Result<InstanceKey>>,
    },
    /// Want it no more, then tell the registry.
    Withdraw { reply: oneshot::Sender<Result<()>> },
}

/// How a registration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RegistrationPhase {
    /// The registry has not taken it yet.
    Registering,
    /// The registry has it.
    Registered,
    /// The registry had it, heartbeats fail now, and its TTL has not passed.
    Renewing,
    /// The registry forgot it, or its TTL passed without contact; it is being registered again.
    Lost,
    /// The registry refuses the credentials or their rights; tried again slowly.
    Denied,
    /// It was deregistered and the registry has not confirmed that yet.
    Withdrawing,
}

impl RegistrationPhase {
    /// The lower-case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registering => "registering",
            Self::Registered => "registered",
            Self::Renewing => "renewing",
            Self::Lost => "lost",
            Self::Denied => "denied",
            Self::Withdrawing => "withdrawing",
        }
    }
}

/// A registration as a [`Registrar`](super::Registrar) sees it; for status pages and command lines.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RegistrationState {
    /// Its key, complete once the registry has taken it.
    pub key: InstanceKey,
    /// The health the program wants shown.
    pub health: HealthReport,
    /// How it stands.
    pub phase: RegistrationPhase,
    /// How long the record outlives its last heartbeat; `None` where it lives until deregistered.
    pub ttl: Option<Duration>,
    /// How long ago the registry last confirmed it.
    pub confirmed: Option<Duration>,
    /// What went wrong since.
    pub last_error: Option<Error>,
}

/// One more in the gauge of registered services, until dropped.
#[derive(Debug)]
pub(super) struct Counted {
    backend: &'static str,
    datacenter: String,
}

impl Counted {
    pub(super) fn new(backend: &'static str, key: &InstanceKey) -> Self {
        let datacenter = key.datacenter.as_deref().unwrap_or_default().to_owned();
        metrics::registered(backend, &datacenter, 1.0);
        Self { backend, datacenter }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::registered(self.backend, &self.datacenter, -1.0);
    }
}

/// All that is known of a registration.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, noted by different tasks"
)]
pub(super) struct State {
    pub(super) desired: Registration,
    /// Its health was changed after it was first registered, and a registry may keep an old one on re-registration.
    pub(super) reported: bool,
    /// As complete as known.
    pub(super) key: InstanceKey,
    /// The last lease; none before the first and after withdrawal.
    pub(super) lease: Option<Lease>,
    /// An attempt that failed may have left a record.
    pub(super) doubtful: bool,
    /// A `register` has returned success: it is kept until deregistered.
    pub(super) kept: bool,
    /// `register` calls under way.
    pub(super) pending: usize,
    pub(super) withdrawing: bool,
    /// The registry forgot it.
    pub(super) lost: bool,
    pub(super) confirmed: Option<Instant>,
    pub(super) error: Option<Error>,
    pub(super) counted: Option<Counted>,
}

impl State {
    fn phase(&self) -> RegistrationPhase {
        let Some(lease) = &self.lease else {
            return if self.withdrawing {
                RegistrationPhase::Withdrawing
            } else {
                RegistrationPhase::Registering
            };
        };
        let lapsed = || {
            lease
                .ttl
                .zip(self.confirmed)
                .is_some_and(|(ttl, at)| at.elapsed() > ttl)
        };
        match &self.error {
            _ if self.withdrawing => RegistrationPhase::Withdrawing,
            Some(error) if pace::is_denied(error) => RegistrationPhase::Denied,
            _ if self.lost => RegistrationPhase::Lost,
            Some(_) if lapsed() => RegistrationPhase::Lost,
            Some(_) => RegistrationPhase::Renewing,
            None => RegistrationPhase::Registered,
        }
    }
}

/// A registration, shared by the program's calls, its keeper and the heart of its lease group.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) name: Name,
    pub(super) commands: mpsc::Sender<Command>,
    /// Tells the keeper to look at the state again.
    pub(super) wake: Notify,
    state: Mutex<State>,
}

impl Record {
    pub(super) fn new(desired: Registration, source: Arc<str>, commands: mpsc::Sender<Command>) -> Self {
        let name = (desired.service.clone(), desired.id.clone());
        let key = InstanceKey::new(source, name.0.clone(), name.1.clone());
        Self {
            name,
            commands,
            wake: Notify::new(),
            state: Mutex::new(State {
                desired,
                reported: false,
                key,
                lease: None,
                doubtful: false,
                kept: false,
                pending: 0,
                withdrawing: false,
                lost: false,
                confirmed: None,
                error: None,
                counted: None,
            }),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn snapshot(&self) -> RegistrationState {
        let state = self.state();
        RegistrationState {
            key: state.key.clone(),
            health: state.desired.health.clone(),
            phase: state.phase(),
            ttl: state.lease.as_ref().and_then(|lease| lease.ttl),
            confirmed: state.confirmed.map(|at| at.elapsed()),
            last_error: state.error.clone(),
        }
    }

    /// The registry has just confirmed it.
    pub(super) fn confirm(&self) {
        let mut state = self.state();
        state.confirmed = Some(Instant::now());
        state.error = None;
    }

    /// The registry no longer knows it: the keeper will register it again.
    pub(super) fn lose(&self, error: &Error) {
        {
            let mut state = self.state();
            if state.withdrawing || state.lease.is_none() {
                return;
            }
            state.lost = true;
            state.counted = None;
            state.error = Some(error.clone());
        }
        self.wake.notify_one();
    }

    /// The registry no longer has it, and should not.
    pub(super) fn gone(&self) {
        let mut state = self.state();
        (state.lease, state.confirmed, state.error, state.counted) = (None, None, None, None);
        state.doubtful = false;
    }

    /// Sends a command and awaits its answer; `None` when the keeper ended first.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing about a command already taken.
    pub(super) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command,
    ) -> Option<Result<T>> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// One `register` call under way. The last one to end, none of them having succeeded, withdraws the intent, also when its
/// future is dropped.
#[derive(Debug)]
pub(super) struct Claim(pub(super) Arc<Record>);

impl Claim {
    /// The caller will know of the success: kept from now on.
    pub(super) fn keep(self) {
        let mut state = self.0.state();
        state.kept |= !state.withdrawing;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.state().pending -= 1;
        self.0.wake.notify_one();
    }
}
