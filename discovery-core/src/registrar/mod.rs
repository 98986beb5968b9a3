//! The registration plane: what a program wants registered stays registered until it says otherwise.
//!
//! A [`Registrar`] holds *desired state*; backends only supply the primitives of [`ServiceRegistry`]. Two kinds of task do
//! the work:
//!
//! - Each registration has a *keeper* (`keeper.rs`). It alone sends what concerns this registration, one request after
//!   another: it registers, changes, reads the record back every TTL, registers again when the registry forgot it, and
//!   withdraws. It never gives up.
//! - Each lease group has a *heart* (`lease.rs`). It renews the lease every third of its TTL for all members, carrying the
//!   health they want shown. A withdrawal first leaves the group and waits for a renewal under way, so that no heartbeat
//!   can bring back what was deregistered.
//!
//! The program's own calls are tried per [`RegistrarConfig::retry`]; what happens in the background is tried for ever:
//!
//! | What fails | Tried again |
//! | --- | --- |
//! | a renewal within its TTL | full jitter under 250 ms … TTL/8, so that two more attempts start within the TTL |
//! | a renewal after its TTL | full jitter under TTL/8 … TTL/3 |
//! | registering again, deregistering | full jitter under 250 ms … 10 s |
//! | credentials or rights | at the usual beat within the TTL, then every 30 s to 45 s |
//!
//! Where somebody else overwrites the record with another address, it is written again, at most once per TTL: the last
//! writer does not win, and two programs that share an id by mistake see a warning, not a hot loop.

mod config;
mod inner;
mod keeper;
mod lease;
mod pace;
mod record;
mod shutdown;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use futures::future::join_all;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span};

pub use self::{
    config::RegistrarConfig,
    record::{RegistrationPhase, RegistrationState},
};
use self::{
    inner::unknown,
    lease::Group,
    record::{Command, Edit, Name, Record, lock},
};
use crate::{
    error::{Error, ErrorKind, Result},
    metrics,
    model::{HealthReport, InstanceId, InstanceKey, LeaseGroup, MetaChange, Registration, ServiceName},
    spi::{BackendInfo, Capabilities, ServiceRegistry},
    task::TaskGroup,
};

/// Requests of the background (registering again, reading back, withdrawing) under way at once. Renewals do not count.
const BACKGROUND: usize = 32;

/// Commands that may wait for one keeper.
const COMMANDS: usize = 16;

/// Warnings about degraded service come no closer together than this; what is left out is logged as `debug`.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Keeps registrations alive. Cheap to clone; dropping it changes nothing about what it keeps.
///
/// Registrations are addressed by service and id; [`find`](Self::find) answers the service of an id. Every method answers
/// [`ErrorKind::Closed`] after [`shutdown`](Self::shutdown).
///
/// # Cancel safety
/// Every method may be dropped at any time, and says what that leaves behind.
#[derive(Clone)]
pub struct Registrar(Arc<Inner>);

struct Inner {
    registry: Arc<dyn ServiceRegistry>,
    info: BackendInfo,
    can: Capabilities,
    config: RegistrarConfig,
    tasks: TaskGroup,
    records: Mutex<BTreeMap<Name, Arc<Record>>>,
    groups: Mutex<HashMap<LeaseGroup, Arc<Group>>>,
    background: Semaphore,
    warned: Mutex<Option<Instant>>,
    /// No further heartbeat, no further attempt.
    stop: CancellationToken,
}

impl Registrar {
    /// A registrar that keeps nothing yet.
    pub fn new(registry: Arc<dyn ServiceRegistry>, tasks: TaskGroup, config: RegistrarConfig) -> Self {
        Self(Arc::new(Inner {
            info: registry.info(),
            can: registry.capabilities(),
            registry,
            config,
            tasks,
            records: Mutex::default(),
            groups: Mutex::default(),
            background: Semaphore::new(BACKGROUND),
            warned: Mutex::default(),
            stop: CancellationToken::new(),
        }))
    }

    /// Registers, and keeps it registered until [`deregister`](Self::deregister) or [`shutdown`](Self::shutdown).
    ///
    /// Registering the same service and id again replaces what is wanted. Concurrent calls for one id are serialised; the
    /// last content wins.
    ///
    /// # Errors
    /// Whatever the registry last failed with. A first registration is then withdrawn: a record that may have been made all
    /// the same is deregistered in the background. A registration already kept stays: with the new content where the error
    /// is worth a retry (the background goes on), else with the old.
    ///
    /// # Cancel safety
    /// Dropped before it returns, a first registration is withdrawn, whatever the registry has seen of it. One already kept
    /// stays kept, with the new content if the registry accepts it.
    pub async fn register(&self, registration: Registration) -> Result<InstanceKey> {
        let started = Instant::now();
        let claim = self.0.claim(&registration)?;
        let edit = Edit::Content(Box::new(registration));
        let span = info_span!("discovery.register", backend = self.0.scheme(), key = %claim.0.state().key);
        let key = self.edit(&claim.0, edit).instrument(span).await?;
        claim.keep();
        metrics::registration_duration(self.0.scheme(), started.elapsed());
        Ok(key)
    }

    /// Changes metadata: of what is wanted first, then of the record, so that nothing later reverts it.
    ///
    /// # Errors
    /// `NotFound` when this client did not register it. An error worth a retry leaves the change wanted, and the background
    /// brings it about; any other takes it back.
    ///
    /// # Cancel safety
    /// Dropped, the change may or may not be made.
    pub async fn update_meta(
        &self,
        service: &ServiceName,
        id: &InstanceId,
        change: MetaChange,
    ) -> Result<()> {
        let record = self.0.record(service, id)?;
        self.edit(&record, Edit::Meta(change)).await.map(drop)
    }

    /// Shows this health: every heartbeat and every new registration carries it from now on.
    ///
    /// # Errors
    /// As for [`update_meta`](Self::update_meta).
    ///
    /// # Cancel safety
    /// Dropped, the health may or may not be changed.
    pub async fn report_health(
        &self,
        service: &ServiceName,
        id: &InstanceId,
        report: HealthReport,
    ) -> Result<()> {
        let record = self.0.record(service, id)?;
        self.edit(&record, Edit::Health(report)).await.map(drop)
    }

    /// Says that it is draining, waits for its clients to go elsewhere, and deregisters.
    ///
    /// Where the registry cannot show draining, it is deregistered first, and the wait follows. A report that fails for
    /// another reason does not shorten the wait: clients may see it by a later heartbeat.
    ///
    /// # Errors
    /// As for [`deregister`](Self::deregister).
    ///
    /// # Cancel safety
    /// Dropped while it waits, the registration stays, draining.
    pub async fn drain(&self, service: &ServiceName, id: &InstanceId, wait: Duration) -> Result<()> {
        let withdrawn = match self.retreat(service, id).await {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Closed) => {
                return Err(error);
            }
            answer => answer.unwrap_or(false),
        };
        self.pause(wait).await?;
        if withdrawn {
            return Ok(());
        }
        self.deregister(service, id).await
    }

    /// Drains everything at once, for the wait before [`shutdown`](Self::shutdown), which withdraws it. It takes exactly so
    /// long, however slow the registry is; with nothing registered, or nothing to be withdrawn, no time at all.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the registrations stay, draining.
    pub async fn drain_all(&self, wait: Duration) {
        let states = self.states();
        if states.is_empty() || !self.0.config.deregister_on_shutdown {
            return;
        }
        let told = join_all(states.iter().map(|state| async move {
            let (service, id) = (&state.key.service, &state.key.id);
            if let Err(error) = self.retreat(service, id).await {
                debug!(%service, %id, %error, "not shown as draining");
            }
        }));
        // Closed meanwhile, there is nothing to wait for.
        let _ = tokio::join!(timeout(wait, told), self.pause(wait));
    }

    /// Shows that it is draining or, where the registry cannot show that, withdraws it; answers whether it did that.
    async fn retreat(&self, service: &ServiceName, id: &InstanceId) -> Result<bool> {
        let record = self.0.record(service, id)?;
        let report = record.state().desired.health.clone().with_draining(true);
        match self.edit(&record, Edit::Health(report)).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                self.deregister(service, id).await?;
                Ok(true)
            }
            answer => answer.map(|_| false),
        }
    }

    async fn pause(&self, wait: Duration) -> Result<()> {
        tokio::select! {
            () = self.0.stop.cancelled() => Err(self.0.closed()),
            () = sleep(wait) => Ok(()),
        }
    }

    /// Withdraws a registration: it is wanted no more, heartbeats stop, the record goes. A record already gone is success.
    ///
    /// # Errors
    /// `NotFound` when this client did not register it. Any other means that the record may still be shown: it is not
    /// renewed any more, and withdrawing it goes on in the background until shutdown.
    ///
    /// # Cancel safety
    /// Dropped after its first poll, the withdrawal goes on in the background.
    pub async fn deregister(&self, service: &ServiceName, id: &InstanceId) -> Result<()> {
        let record = self.0.record(service, id)?;
        let span = info_span!("discovery.deregister", backend = self.0.scheme(), %service, %id);
        let attempt = |_| async {
            let answer = record.ask(|reply| Command::Withdraw { reply }).await;
            // The background may have withdrawn it between two attempts.
            answer.unwrap_or_else(|| {
                if self.0.is_closed() {
                    Err(self.0.closed())
                } else {
                    Ok(())
                }
            })
        };
        let result = self.0.config.retry.run(true, attempt).instrument(span).await;
        result.map_err(|error| {
            if error.kind() == ErrorKind::Closed {
                return error;
            }
            let ttl = record.state().lease.as_ref().and_then(|lease| lease.ttl);
            let fate = ttl.map_or_else(
                || "it does not expire by itself".to_owned(),
                |ttl| format!("it expires after its TTL of {ttl:?}"),
            );
            error.with_hint(format!(
                "the record is no longer renewed and {fate}; withdrawing it goes on in the background until shutdown"
            ))
        })
    }

    /// The service this client registered `id` for.
    ///
    /// # Errors
    /// `NotFound` when there is none, `InvalidInput` when there are several.
    pub fn find(&self, id: &InstanceId) -> Result<ServiceName> {
        let records = lock(&self.0.records);
        let mut services = records
            .keys()
            .filter(|(_, other)| other == id)
            .map(|(service, _)| service);
        match (services.next(), services.next()) {
            (Some(service), None) => Ok(service.clone()),
            (Some(one), Some(two)) => Err(Error::new(
                ErrorKind::InvalidInput,
                "several services have this id",
            )
            .with_context("id", id.as_str())
            .with_context("services", format!("{one}, {two}"))
            .with_hint("name the service as well")),
            (None, _) if self.0.is_closed() => Err(self.0.closed()),
            (None, _) => Err(unknown().with_context("id", id.as_str())),
        }
    }

    /// Every registration this client wants, or has not yet been able to withdraw, by service and id.
    pub fn states(&self) -> Vec<RegistrationState> {
        let records: Vec<_> = lock(&self.0.records).values().cloned().collect();
        records.iter().map(|record| record.snapshot()).collect()
    }

    async fn edit(&self, record: &Arc<Record>, edit: Edit) -> Result<InstanceKey> {
        let undo = Arc::new(OnceLock::new());
        let attempt = |_| async {
            let (edit, undo) = (edit.clone(), undo.clone());
            let answer = record.ask(|reply| Command::Edit { edit, undo, reply }).await;
            answer.unwrap_or_else(|| Err(self.0.unknown(&record.name)))
        };
        self.0.config.retry.run(true, attempt).await
    }
}

impl fmt::Debug for Registrar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
