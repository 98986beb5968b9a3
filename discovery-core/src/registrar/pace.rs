//! How fast what must succeed in the end is tried again.

use std::time::Duration;

use crate::{
    error::{Error, ErrorKind},
    resilience::Backoff,
};

/// The first ceiling of every backoff here.
const MIN_DELAY: Duration = Duration::from_millis(250);

/// What will not get better by itself is tried again no sooner than this.
pub(super) const SLOW: Duration = Duration::from_secs(30);

/// No heartbeat is due sooner than this, whatever TTL a backend names.
const MIN_PERIOD: Duration = Duration::from_millis(100);

/// The time between two heartbeats: as wanted, while that leaves another chance within the TTL; else a third of the TTL.
pub(super) fn period(ttl: Duration, wanted: Option<Duration>) -> Duration {
    let wanted = wanted.filter(|wanted| *wanted <= ttl / 2);
    wanted.unwrap_or(ttl / 3).max(MIN_PERIOD)
}

/// `period`, or up to a fifth less: never later, and not in step with the rest of the fleet.
pub(super) fn jittered(period: Duration) -> Duration {
    period.mul_f64(0.8 + 0.2 * fastrand::f64())
}

/// Anywhere within `period`, so that a fleet started at one moment does not beat at one moment.
pub(super) fn phase(period: Duration) -> Duration {
    period.mul_f64(fastrand::f64())
}

/// Delays between attempts to write a record or to withdraw one.
pub(super) fn backoff() -> Backoff {
    Backoff::new(MIN_DELAY, Duration::from_secs(10))
}

/// Delays between attempts at one renewal.
///
/// With the heartbeat due at a third of the TTL and a fifth of the TTL for each attempt, a ceiling of an eighth lets two more
/// attempts start within the TTL even when every attempt hangs until its deadline: 1/3 + 2·(1/5 + 1/8) < 1.
pub(super) fn renewal_backoff(ttl: Duration) -> Backoff {
    let max = (ttl / 8).max(MIN_PERIOD);
    Backoff::new(MIN_DELAY.min(max), max)
}

/// The deadline of one attempt at a renewal.
pub(super) fn renewal_timeout(ttl: Duration, limit: Duration) -> Duration {
    (ttl / 5).max(MIN_PERIOD).min(limit)
}

/// Whether somebody must change something before `error` goes away: credentials, rights, the content, the server.
pub(super) fn is_denied(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::Unauthenticated
    )
}

/// Whether an attempt that failed like this may have had its effect all the same.
pub(super) fn may_have_happened(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Protocol | ErrorKind::Unexpected
    )
}

/// When to try again after `error`: soon where it may pass, slowly where it cannot by itself, never sooner than the server
/// asked.
pub(super) fn after(error: &Error, backoff: &mut Backoff) -> Duration {
    let hopeless = is_denied(error)
        || matches!(
            error.kind(),
            ErrorKind::InvalidInput
                | ErrorKind::ConfigInvalid
                | ErrorKind::Unsupported
                | ErrorKind::Conflict
                | ErrorKind::Closed
        );
    let delay = if hopeless { slow() } else { backoff.next_delay() };
    delay.max(asked(error))
}

/// `period` and up to a fifth more: never sooner.
pub(super) fn spaced(period: Duration) -> Duration {
    period + phase(period / 5)
}

/// [`SLOW`] and up to half of it more.
pub(super) fn slow() -> Duration {
    SLOW + phase(SLOW / 2)
}

/// What the server asked for and a little more; nothing where it asked for nothing.
fn asked(error: &Error) -> Duration {
    error
        .retry_after()
        .map_or(Duration::ZERO, |after| after + phase(MIN_DELAY))
}
