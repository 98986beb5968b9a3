//! The registration that a configuration declares, made as soon as its client starts.

use std::time::Duration;

use discovery_core::{Error, ErrorKind, InstanceId, InstanceKey, Registration, Result, resilience::Backoff};
use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

use crate::{Client, client::WeakClient};

/// The first and the longest ceiling of the delay between two rounds of attempts.
const DELAYS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// How a registration at the start stands: nothing until its first attempts have ended.
type Standing = Option<Result<InstanceKey>>;

/// The registration of a client that is made at its start.
#[derive(Debug)]
pub(crate) struct Startup {
    registration: Registration,
    standing: watch::Sender<Standing>,
}

impl Startup {
    pub(crate) fn new(registration: Registration) -> Self {
        Self {
            registration,
            standing: watch::Sender::new(None),
        }
    }

    pub(crate) fn id(&self) -> &InstanceId {
        &self.registration.id
    }

    /// Waits for the end of the first attempts, and answers how it stands.
    pub(crate) async fn standing(&self) -> Result<InstanceKey> {
        let mut standing = self.standing.subscribe();
        let ended = standing.wait_for(Option::is_some).await;
        let ended = ended.ok().and_then(|standing| (*standing).clone());
        // The sender lives in `self`, so there is one.
        ended.unwrap_or_else(|| Err(Error::new(ErrorKind::Closed, "the client was shut down")))
    }
}

/// Registers what `client` declares, in the background: for ever, unless it makes no sense or the client is closed.
pub(crate) fn start(client: &Client) {
    let (tasks, weak) = (client.tasks().clone(), client.downgrade());
    let cancelled = tasks.cancelled().clone();
    tasks.spawn(async move { cancelled.run_until_cancelled(keep_trying(weak)).await });
}

async fn keep_trying(client: WeakClient) {
    let mut backoff = Backoff::new(DELAYS.0, DELAYS.1);
    loop {
        // Between attempts nothing keeps a client going that nobody uses.
        let Some(client) = client.upgrade() else { return };
        let Some(startup) = client.startup() else { return };
        let registered = client.register(startup.registration.clone()).await;
        let delay = match &registered {
            Ok(registered) => {
                info!(key = %registered.key(), "registered what the configuration declares");
                None
            }
            Err(error) => {
                let delay = retry_after(error, &mut backoff);
                warn!(id = %startup.id(), error = format!("{error:#}"), ?delay, "not registered what the configuration declares");
                delay
            }
        };
        startup
            .standing
            .send_replace(Some(registered.map(|registered| registered.key().clone())));
        drop(client);
        match delay {
            Some(delay) => sleep(delay).await,
            None => return,
        }
    }
}

/// When to try again; never what would fail for ever.
fn retry_after(error: &Error, backoff: &mut Backoff) -> Option<Duration> {
    match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::ConfigInvalid | ErrorKind::Unsupported | ErrorKind::Closed => {
            None
        }
        _ if error.is_retryable() => Some(backoff.next_delay().max(error.retry_after().unwrap_or_default())),
        // Rights and conflicts may be put right by somebody.
        _ => Some(DELAYS.1 + backoff.next_delay()),
    }
}
