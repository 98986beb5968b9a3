//! The clock that all processes of a host share: how long the system has run.

use std::{fs, sync::OnceLock, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the system started, without the time it slept. No adjustment of the wall clock moves it.
pub(crate) fn now() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec
        .saturating_mul(1000)
        .saturating_add(now.tv_nsec / 1_000_000)
}

/// So long after now.
pub(crate) fn after(duration: Duration) -> i64 {
    now().saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

/// Which start of the system [`now`] counts from; empty where the system does not say.
pub(crate) fn boot() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.trim().to_owned()
    })
}
