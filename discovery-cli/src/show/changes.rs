//! Changes as a watch tells them: what programs read, and a line for people.

use std::{
    fmt, str,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use discovery::{ConfigEntry, ConfigKey, Instance, Status};
use serde::Serialize;

/// A change that a watch saw.
#[derive(Debug, Serialize)]
pub(crate) struct Change {
    /// When this program saw it.
    time: String,
    #[serde(rename = "change")]
    what: &'static str,
    service: String,
    id: String,
    address: String,
    status: Status,
    draining: bool,
    reason: String,
}

impl Change {
    pub(crate) fn new(what: &'static str, one: &Instance, reason: String) -> Self {
        Self {
            time: now(),
            what,
            service: one.key.service.to_string(),
            id: one.key.id.to_string(),
            address: one.address(),
            status: one.status,
            draining: one.draining,
            reason,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            time,
            what,
            id,
            address,
            status,
            reason,
            ..
        } = self;
        write!(f, "{time} {what:<8} {id} {address} {status} ({reason})")
    }
}

/// A change of a value.
#[derive(Debug, Serialize)]
pub(crate) struct ValueChange {
    time: String,
    #[serde(rename = "change")]
    what: &'static str,
    key: String,
    /// Nothing where it is gone, or no text.
    value: Option<String>,
    version: Option<String>,
}

impl ValueChange {
    pub(crate) fn set(entry: &ConfigEntry) -> Self {
        Self {
            time: now(),
            what: "set",
            key: entry.key.to_string(),
            value: str::from_utf8(&entry.value).ok().map(str::to_owned),
            version: Some(entry.version.as_str().to_owned()),
        }
    }

    pub(crate) fn deleted(key: &ConfigKey) -> Self {
        Self {
            time: now(),
            what: "deleted",
            key: key.to_string(),
            value: None,
            version: None,
        }
    }
}

impl fmt::Display for ValueChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:<8} {}", self.time, self.what, self.key)?;
        match (&self.value, &self.version) {
            (Some(value), _) => {
                let mut lines = value.lines();
                let first = lines.next().unwrap_or_default();
                let more = if lines.next().is_some() { "…" } else { "" };
                write!(f, " = {first}{more}")
            }
            (None, Some(_)) => write!(f, " = (no text)"),
            (None, None) => Ok(()),
        }
    }
}

/// The time, in UTC, to the millisecond.
fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    rfc3339(now.unwrap_or(Duration::ZERO))
}

/// RFC 3339.
fn rfc3339(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    // Days since the first of March of the year 0: then leap days end years. (Howard Hinnant's algorithm.)
    let day = day + 719_468;
    let (era, day_of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        day_of_year - (153 * shifted + 2) / 5 + 1,
        second / 3_600,
        second / 60 % 60,
        second % 60,
        since_1970.subsec_millis(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, time) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_705_314_600, "2024-01-15T10:30:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_secs(seconds)), time);
        }
    }
}
