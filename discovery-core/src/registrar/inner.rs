//! What calls, keepers and hearts share.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tracing::{Instrument, info_span};

use super::{
    COMMANDS, Inner, WARN_EVERY,
    keeper::Keeper,
    record::{Claim, Name, Record, lock},
};
use crate::{
    error::{Error, ErrorKind, Result},
    model::{InstanceId, Registration, ServiceName},
};

impl Inner {
    pub(super) fn scheme(&self) -> &'static str {
        self.info.scheme
    }

    pub(super) fn is_closed(&self) -> bool {
        self.stop.is_cancelled() || self.tasks.cancelled().is_cancelled()
    }

    pub(super) fn closed(&self) -> Error {
        Error::new(ErrorKind::Closed, "the registrar was shut down").with_backend(self.scheme())
    }

    /// Why there is no such registration: there never was, or there will be none any more.
    pub(super) fn unknown(&self, (service, id): &Name) -> Error {
        if self.is_closed() {
            return self.closed();
        }
        unknown()
            .with_backend(self.scheme())
            .with_context("service", service.as_str())
            .with_context("id", id.as_str())
    }

    pub(super) fn record(&self, service: &ServiceName, id: &InstanceId) -> Result<Arc<Record>> {
        let name = (service.clone(), id.clone());
        let record = lock(&self.records).get(&name).cloned();
        record
            .filter(|_| !self.is_closed())
            .ok_or_else(|| self.unknown(&name))
    }

    /// Announces a `register` call: its record, with a keeper, which will not end before the claim does.
    pub(super) fn claim(self: &Arc<Self>, registration: &Registration) -> Result<Claim> {
        let mut records = lock(&self.records);
        if self.is_closed() {
            return Err(self.closed());
        }
        let name = (registration.service.clone(), registration.id.clone());
        let record = records.entry(name).or_insert_with(|| self.keep(registration));
        record.state().pending += 1;
        Ok(Claim(record.clone()))
    }

    /// A new record and its keeper.
    pub(super) fn keep(self: &Arc<Self>, registration: &Registration) -> Arc<Record> {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let record = Arc::new(Record::new(
            registration.clone(),
            self.info.source.clone(),
            commands,
        ));
        let (service, id) = &record.name;
        let span = info_span!(parent: None, "discovery.keep", backend = self.scheme(), %service, %id);
        let keeper = Keeper::new(self.clone(), record.clone(), inbox);
        let cancelled = self.tasks.cancelled().clone();
        self.tasks
            .spawn(async move { cancelled.run_until_cancelled(keeper.run()).await }.instrument(span));
        record
    }

    /// Drops a record that is wanted no more and answers whether it did: not while a `register` call claims it.
    pub(super) fn forget(&self, record: &Arc<Record>) -> bool {
        let mut records = lock(&self.records);
        let idle = record.state().pending == 0;
        if idle
            && records
                .get(&record.name)
                .is_some_and(|known| Arc::ptr_eq(known, record))
        {
            records.remove(&record.name);
        }
        idle
    }

    /// Sends one request, with a limit above the backend's own.
    pub(super) async fn request<T>(
        &self,
        operation: &'static str,
        limit: Duration,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let error = match timeout(limit, request).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => Error::new(ErrorKind::Timeout, "no answer in time")
                .with_context("after", format!("{limit:?}")),
        };
        Err(error.with_operation(operation).with_backend(self.scheme()))
    }

    /// Deregisters the record, once, and notes the success.
    pub(super) async fn deregister(&self, record: &Record) -> Result<()> {
        let key = record.state().key.clone();
        let request = self.registry.deregister(&key);
        match self
            .request("deregister", self.config.request_timeout, request)
            .await
        {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => {
                record.gone();
                Ok(())
            }
        }
    }

    /// Whether a warning may be logged now.
    pub(super) fn may_warn(&self) -> bool {
        let mut warned = lock(&self.warned);
        let now = Instant::now();
        let may = warned.is_none_or(|at| now - at >= WARN_EVERY);
        if may {
            *warned = Some(now);
        }
        may
    }
}

pub(super) fn unknown() -> Error {
    Error::new(ErrorKind::NotFound, "not registered by this client")
        .with_hint("register it first; what others registered is not ours to change")
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrar")
            .field("backend", &self.info)
            .field("registrations", &lock(&self.records).len())
            .finish_non_exhaustive()
    }
}
