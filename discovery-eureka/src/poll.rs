//! One poll for everybody who watches: whoever waits for the next answer drives it, and nobody polls when nobody waits.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use discovery_core::{Error, Evidence, Result, Suspicion};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use crate::{
    apps::Apps,
    client::{Answer, Call, Client, parse},
    config::LookUp,
    wire,
};

/// Servers keep changes for three minutes.
const RETENTION: Duration = Duration::from_secs(180);
/// The first ceiling of the wait after a failure.
const MIN_DELAY: Duration = Duration::from_millis(500);

type Round = Shared<BoxFuture<'static, Result<Arc<View>>>>;

/// All there is, and how far it can be trusted.
#[derive(Debug)]
pub(crate) struct View {
    /// Which answer it is of.
    serial: u64,
    pub(crate) apps: Apps,
    pub(crate) evidence: Evidence,
    /// The last answer that dropped instances nobody was told were withdrawn, or that changed how far answers can be
    /// trusted: what was seen before is replaced, not changed.
    reset: u64,
    doubt: Option<Doubt>,
    server: usize,
    at: Instant,
    next_full: Instant,
}

/// A server shows much less than there was, and nobody withdrew it.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    known: usize,
    until: Instant,
}

impl View {
    /// Whether one who saw `before` has to take this as all there is.
    pub(crate) fn replaces(&self, before: &Self) -> bool {
        self.reset > before.serial || self.evidence != Evidence::Authoritative
    }
}

/// The poll of one client.
#[derive(Debug)]
pub(crate) struct Poll {
    client: Client,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Arc<View>>,
    under_way: Option<WeakShared<BoxFuture<'static, Result<Arc<View>>>>>,
    failures: u32,
    /// When to try again, after a failure.
    not_before: Option<Instant>,
}

impl Poll {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            state: Mutex::default(),
        }
    }

    /// What the name in a query means.
    pub(crate) fn look_up(&self) -> LookUp {
        self.client.config().discovery.look_up
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far a server's answer can be trusted now.
    pub(crate) fn evidence(&self) -> Evidence {
        let state = self.state();
        let doubt = state.last.as_ref().and_then(|last| last.doubt);
        evidence(doubt.filter(|doubt| Instant::now() < doubt.until))
    }

    /// The next answer after `seen`; the newest there is, for one who has seen none and joins others.
    ///
    /// # Cancel safety
    /// Cancel-safe: others go on with the question.
    pub(crate) async fn next(self: &Arc<Self>, seen: Option<&Arc<View>>) -> Result<Arc<View>> {
        let round = {
            let mut state = self.state();
            let under_way = state.under_way.as_ref().and_then(WeakShared::upgrade);
            if let Some(last) = &state.last {
                let news = match seen {
                    Some(seen) => last.serial > seen.serial,
                    // Nobody has looked for long if nobody waits for the next.
                    None => under_way.is_some() && state.failures == 0,
                };
                if news {
                    return Ok(last.clone());
                }
            }
            under_way.unwrap_or_else(|| {
                let round = self.round(&state, seen.is_some());
                state.under_way = round.downgrade();
                round
            })
        };
        round.await
    }

    /// The next question: in its time, or at once where nobody is waiting for it yet.
    fn round(self: &Arc<Self>, state: &State, in_time: bool) -> Round {
        let interval = self.client.config().discovery.refresh_interval;
        let due = state.last.as_ref().filter(|_| in_time && state.failures == 0);
        let due = due.map(|last| last.at + jittered(interval, 0.1));
        let due = due.max(state.not_before);
        let poll = self.clone();
        async move {
            if let Some(due) = due {
                sleep_until(due).await;
            }
            let last = poll.state().last.clone();
            let found = poll.ask(last.as_ref()).await;
            poll.ended(found)
        }
        .boxed()
        .shared()
    }

    /// Notes what a question came to.
    fn ended(&self, found: Result<View>) -> Result<Arc<View>> {
        let mut state = self.state();
        state.under_way = None;
        match found {
            Ok(view) => {
                let view = Arc::new(view);
                state.last = Some(view.clone());
                (state.failures, state.not_before) = (0, None);
                Ok(view)
            }
            Err(error) => {
                // However many watch, a server that fails is asked by one of them only, ever more seldom.
                let wait = pause(state.failures, self.client.config().discovery.refresh_interval);
                state.failures += 1;
                state.not_before = Some(Instant::now() + wait);
                Err(error)
            }
        }
    }

    async fn ask(&self, last: Option<&Arc<View>>) -> Result<View> {
        let now = Instant::now();
        if let Some(last) = last {
            let failing = self.state().failures > 0;
            let fresh = !failing && now < last.next_full && now.duration_since(last.at) < RETENTION;
            // U-24: the changes of one server fit nobody else's state.
            let same = self.client.servers().candidates().first() == Some(&last.server);
            if fresh && same {
                match self.changes(last).await {
                    Ok(Some(view)) => return Ok(view),
                    Ok(None) => return self.full(Some(last), Some(last.server)).await,
                    // There is nobody else to ask; the next question will be for everything.
                    Err(error) if self.client.servers().all.len() == 1 => return Err(error),
                    Err(error) => debug!(%error, "changes cannot be read: reading everything"),
                }
            }
        }
        self.full(last, None).await
    }

    fn fetch(&self, path: &str) -> Call {
        Call::lists(path, &self.client.config().discovery.regions)
    }

    /// What changed since; nothing where that does not add up to what the server has.
    async fn changes(&self, last: &Arc<View>) -> Result<Option<View>> {
        let config = self.client.config();
        let read = |answer: Answer| {
            // Some servers do not tell changes: U-29.
            if matches!(answer.status, 403 | 404) {
                return Ok(None);
            }
            let answer = answer.ok()?;
            let json = answer.json(APPS)?;
            let changes = parse::<wire::Root<'_>>(&json, APPS)?.applications;
            let (Some(hashcode), true) = (changes.hashcode, changes.version.number().is_some()) else {
                return Ok(None);
            };
            let mut apps = last.apps.clone();
            apps.apply(&changes.application.0, config);
            let ours = apps.hashcode();
            if *hashcode.0 != *ours {
                debug!(theirs = %hashcode.0, %ours, "changes were missed: reading everything");
                return Ok(None);
            }
            Ok(Some(apps))
        };
        let call = self.fetch("apps/delta").at(last.server);
        let (apps, _) = self.client.send(&call, read).await?;
        Ok(apps.map(|apps| self.view(Some(last), apps, last.server, last.doubt, false)))
    }

    /// All there is, from this server or any.
    async fn full(&self, last: Option<&Arc<View>>, server: Option<usize>) -> Result<View> {
        let (apps, server) = match server {
            // It has just answered: what it says now is taken from nobody else if it can be helped.
            Some(server) => match self.read_all(last, Some(server)).await {
                Ok(found) => found,
                Err(_) => self.read_all(last, None).await?,
            },
            None => self.read_all(last, None).await?,
        };
        let Some(last) = last else {
            return Ok(self.view(None, apps, server, None, true));
        };
        let grace = self.client.config().discovery.restart_grace;
        let (known, missing) = (last.apps.len(), last.apps.missing_in(&apps));
        // One who has not looked for long has nothing to compare with.
        let recent = last.at.elapsed() < RETENTION.max(grace);
        let suspect = |missing: usize| missing * 2 > known && recent && !grace.is_zero();
        if last.doubt.is_some() || !suspect(missing) {
            return Ok(self.view(Some(last), apps, server, last.doubt, true));
        }
        // U-25: another server may know better, or confirm it.
        for other in self.client.servers().candidates() {
            if other == server {
                continue;
            }
            if let Ok((others, other)) = self.read_all(Some(last), Some(other)).await {
                if suspect(last.apps.missing_in(&others)) {
                    return Ok(self.view(Some(last), apps, server, None, true));
                }
                info!("a server shows much less than its peer: leaving it");
                self.client.servers().failed(server);
                self.client.servers().worked(other);
                return Ok(self.view(Some(last), others, other, None, true));
            }
        }
        warn!(
            known,
            missing,
            ?grace,
            "a server shows much less than before, and nobody withdrew it: has it restarted?"
        );
        let until = Instant::now() + grace;
        Ok(self.view(Some(last), apps, server, Some(Doubt { known, until }), true))
    }

    async fn read_all(&self, last: Option<&Arc<View>>, server: Option<usize>) -> Result<(Apps, usize)> {
        let config = self.client.config();
        let read = |answer: Answer| {
            let answer = answer.ok()?;
            let json = answer.json(APPS)?;
            let all = parse::<wire::Root<'_>>(&json, APPS)?.applications.application.0;
            let none = Apps::default();
            Ok(Apps::read(&all, config, last.map_or(&none, |last| &last.apps)))
        };
        let mut call = self.fetch("apps");
        if let Some(server) = server {
            call = call.at(server);
        }
        let (apps, server) = self.client.send(&call, read).await?;
        Ok((apps, server))
    }

    fn view(
        &self,
        last: Option<&Arc<View>>,
        apps: Apps,
        server: usize,
        doubt: Option<Doubt>,
        full: bool,
    ) -> View {
        let now = Instant::now();
        let doubt = doubt.filter(|doubt| now < doubt.until && apps.len() < doubt.known);
        let evidence = evidence(doubt);
        let serial = last.map_or(1, |last| last.serial + 1);
        let reset = match last {
            Some(last) if last.evidence == evidence && !(full && last.apps.missing_in(&apps) > 0) => {
                last.reset
            }
            _ => serial,
        };
        let next_full = match last {
            Some(last) if !full => last.next_full,
            _ => now + jittered(self.client.config().discovery.full_refresh, 0.25),
        };
        View {
            serial,
            apps,
            evidence,
            reset,
            doubt,
            server,
            at: now,
            next_full,
        }
    }
}

/// A time, give or take this share of it: clients that start together do not go on in step.
fn jittered(time: Duration, share: f64) -> Duration {
    time.mul_f64(1.0 - share + 2.0 * share * fastrand::f64())
}

/// How long to wait after a failure, given how many there were before it: any time up to a ceiling that doubles.
fn pause(failures: u32, interval: Duration) -> Duration {
    let ceiling = MIN_DELAY * 2_u32.saturating_pow(failures.min(8));
    ceiling.min(interval.max(MIN_DELAY)).mul_f64(fastrand::f64())
}

/// What answers of a server in doubt are worth: its history is another one now.
fn evidence(doubt: Option<Doubt>) -> Evidence {
    doubt.map_or(Evidence::Authoritative, |_| {
        Evidence::Suspect(Suspicion::IndexRegressed)
    })
}

/// What an answer should have been.
pub(crate) const APPS: &str = "applications";

/// Names what was being done.
pub(crate) fn watching(error: Error) -> Error {
    error.with_operation("watch")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every draw lies between the two, and fifty clients are not in step: some come early and some late.
    fn is_spread(from: Duration, to: Duration, draw: impl Fn() -> Duration) {
        let (from, to) = (from.as_secs_f64(), to.as_secs_f64());
        let mut all: Vec<_> = (0..200).map(|_| draw().as_secs_f64()).collect();
        all.sort_by(f64::total_cmp);
        assert!(all[0] > from - 1e-6 && all[199] < to + 1e-6, "{all:?}");
        let quarter = (to - from) / 4.0;
        assert!(all[0] < from + quarter && all[199] > to - quarter, "{all:?}");
    }

    #[test]
    fn clients_that_start_together_do_not_go_on_in_step() {
        let seconds = Duration::from_secs;
        is_spread(seconds(27), seconds(33), || jittered(seconds(30), 0.1));
        is_spread(seconds(450), seconds(750), || jittered(seconds(600), 0.25));
    }

    #[test]
    fn a_server_that_fails_is_asked_ever_more_seldom_and_never_in_step() {
        let interval = Duration::from_secs(30);
        for (failures, ceiling) in [(0, 500), (1, 1000), (4, 8000), (6, 30_000), (100, 30_000)] {
            let ceiling = Duration::from_millis(ceiling);
            is_spread(Duration::ZERO, ceiling, || pause(failures, interval));
        }
    }
}
