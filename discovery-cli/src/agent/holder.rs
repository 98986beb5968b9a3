//! Registrations as they are wanted now.

use std::{collections::BTreeMap, future::pending, io, time::Duration};

use discovery::{Client, Error, ErrorKind, InstanceId, Registration, Result, resilience::Backoff};
use tokio::task::{AbortHandle, JoinSet};

use super::Definitions;
use crate::{fault::Fault, show};

/// How long a registration that failed waits until it is tried again: at first, and at last.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Holds what is wanted: a task for each registration that is not made yet, the client for those that are.
pub(super) struct Holder {
    client: Client,
    wanted: BTreeMap<InstanceId, (Registration, Option<AbortHandle>)>,
    making: JoinSet<(InstanceId, Result<()>)>,
    /// Whether what was wanted at the start has been made: a mistake ends the agent until then, and no longer.
    started: bool,
}

impl Holder {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            wanted: BTreeMap::new(),
            making: JoinSet::new(),
            started: false,
        }
    }

    /// Makes what is held what is wanted: registers what is new or changed, and withdraws what is gone.
    pub(super) async fn hold(&mut self, definitions: Definitions) -> io::Result<()> {
        let mut wanted = definitions.0;
        let (mut new, mut changed, mut gone) = (0, 0, Vec::new());
        for (id, (held, making)) in &self.wanted {
            let now = wanted.get(id).map(|(registration, _)| registration);
            if now == Some(held) {
                wanted.remove(id);
                continue;
            }
            if let Some(making) = making {
                making.abort();
            }
            // One of another service is another registration: the old one goes first.
            if now.is_none_or(|now| now.service != held.service) {
                gone.push(id.clone());
            } else {
                changed += 1;
            }
        }
        for id in &gone {
            self.wanted.remove(id);
            match self.client.deregister(id).await {
                Ok(()) => show::note(&format!("withdrawn {id}"))?,
                // It was never made.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => show::note(&format!("{id} is being withdrawn: {error:#}"))?,
            }
        }
        for (id, (registration, _)) in wanted {
            if !self.wanted.contains_key(&id) {
                new += 1;
            }
            let making = make(self.client.clone(), registration.clone());
            let named = id.clone();
            let task = self.making.spawn(async move { (named, making.await) });
            self.wanted.insert(id, (registration, Some(task)));
        }
        if self.started {
            show::note(&format!(
                "reloaded: {new} new, {changed} changed, {} withdrawn",
                gone.len()
            ))?;
        }
        Ok(())
    }

    /// Waits until another registration is made.
    ///
    /// # Errors
    /// At the start, what can never be made.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<(), Fault> {
        let Some(made) = self.making.join_next().await else {
            self.started = true;
            return pending().await;
        };
        // One that was called off has nothing to tell.
        let Ok((id, made)) = made else {
            return Ok(());
        };
        match made {
            Ok(()) => {
                if let Some((registration, making)) = self.wanted.get_mut(&id) {
                    *making = None;
                    show::note(&format!("registered {id} of {}", registration.service))?;
                }
            }
            Err(error) if !self.started => return Err(error.with_context("id", id.to_string()).into()),
            Err(error) => {
                // The next reload tries it again.
                self.wanted.remove(&id);
                show::note(&format!("{id} cannot be registered: {error:#}"))?;
            }
        }
        self.started |= self.making.is_empty();
        Ok(())
    }

    /// Nothing is made any more.
    pub(super) async fn end(&mut self) {
        self.making.shutdown().await;
    }
}

/// Registers, again and again while the registry is not there.
async fn make(client: Client, registration: Registration) -> Result<()> {
    let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
    let mut told = false;
    loop {
        let failed: Error = match client.register(registration.clone()).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_retryable() => error,
            Err(error) => return Err(error),
        };
        if !std::mem::replace(&mut told, true) {
            // Nobody may be there to read it.
            let _ = show::note(&format!(
                "{} is not registered yet, and tried again: {failed:#}",
                registration.id
            ));
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}
