//! Durations as configuration writes them: `"10s"`, `"500ms"`, `"1h30m"`.
//!
//! This module is itself a serde helper: `#[serde(with = "discovery_core::config::duration")]`. Its submodules serve the
//! other kinds of field.

use std::{fmt, time::Duration};

use serde::{Deserializer, Serializer, de};

use super::text::shorten;
use crate::error::{Error, ErrorKind, Result};

/// Units from the largest down, with their length in nanoseconds.
const UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// A hundred years: more is a slip of the pen, and clocks overflow.
const LONGEST: Duration = Duration::from_secs(36_500 * 86_400);

const FORMS: &str = r#"write whole numbers with units, largest first, as in "500ms", "10s", "1h30m" or "2d""#;

/// Reads a duration: whole numbers with the units `d`, `h`, `m`, `s`, `ms`, `us`, `ns`, largest first, each at most once.
///
/// # Errors
/// [`ErrorKind::ConfigInvalid`] for anything else, and for more than a hundred years.
///
/// ```
/// use std::time::Duration;
/// use discovery_core::config::parse_duration;
///
/// assert_eq!(parse_duration("1h30m")?, Duration::from_secs(5400));
/// assert!(parse_duration("10 parsecs").is_err());
/// # Ok::<(), discovery_core::Error>(())
/// ```
pub fn parse_duration(text: &str) -> Result<Duration> {
    read(text).map_err(|fault| {
        let message = format!("bad duration {:?}: {fault}", shorten(text, 40));
        Error::new(ErrorKind::ConfigInvalid, message)
    })
}

fn read(text: &str) -> Result<Duration, &'static str> {
    let mut rest = text.trim();
    let mut units = UNITS.iter();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(FORMS);
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        // Searching on from the last unit found is what keeps them in order and single.
        let (_, nanos) = units.find(|(name, _)| *name == unit).ok_or(FORMS)?;
        if number.is_empty() {
            return Err(FORMS);
        }
        let part = number
            .parse()
            .ok()
            .and_then(|number: u64| number.checked_mul(*nanos))
            .ok_or("longer than a hundred years")?;
        total = total.saturating_add(Duration::from_nanos(part));
        rest = tail;
    }
    if total > LONGEST {
        return Err("longer than a hundred years");
    }
    Ok(total)
}

/// Writes a duration so that [`parse_duration`] reads it back: one number in the largest unit that fits exactly.
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    let (unit, length) = UNITS
        .into_iter()
        .find(|(_, length)| nanos.is_multiple_of(u128::from(*length)))
        .unwrap_or(("ns", 1));
    format!("{}{unit}", nanos / u128::from(length))
}

/// Reads text, and a bare number where `seconds` says that it counts seconds.
struct Read {
    seconds: bool,
}

impl de::Visitor<'_> for Read {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.seconds {
            r#"a duration such as "10s", or a number of seconds"#
        } else {
            r#"a duration such as "10s""#
        })
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        if self.seconds && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return text.parse().map_err(E::custom).and_then(|n| self.visit_u64(n));
        }
        parse_duration(text).map_err(|error| E::custom(error.message()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Duration, E> {
        if !self.seconds {
            return Err(E::custom(format_args!(
                "a duration needs its unit: write \"{number}s\" for seconds"
            )));
        }
        match Duration::from_secs(number) {
            duration if duration <= LONGEST => Ok(duration),
            _ => Err(E::custom("bad duration: longer than a hundred years")),
        }
    }
}

/// Writes a duration as text.
///
/// # Errors
/// The serializer's own.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_duration(*duration))
}

/// Reads a duration; a number without a unit is refused.
///
/// # Errors
/// Says which forms are accepted.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(Read { seconds: false })
}

/// For a `Duration` that may not be zero, such as an interval.
pub mod positive {
    use super::{Deserializer, Duration, Result, de::Error as _};

    pub use super::serialize;

    /// Reads a duration above zero.
    ///
    /// # Errors
    /// Says which forms are accepted, or that zero is not.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        match super::deserialize(deserializer)? {
            Duration::ZERO => Err(D::Error::custom("this duration must be longer than zero")),
            duration => Ok(duration),
        }
    }
}

/// For a `Duration` that may also be a bare number of seconds (`ttl: 30`).
pub mod or_seconds {
    use super::{Deserializer, Duration, Read, Result};

    pub use super::serialize;

    /// Reads a duration, or a whole number of seconds.
    ///
    /// # Errors
    /// Says which forms are accepted.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_any(Read { seconds: true })
    }
}

/// For an `Option<Duration>`; add `#[serde(default)]` so that it may be left out.
pub mod option {
    use serde::{Deserialize, Serializer};

    use super::{Deserializer, Duration, Result};

    #[derive(Deserialize)]
    struct Wrapped(#[serde(with = "super")] Duration);

    /// Writes a duration as text, or nothing.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads a duration, or nothing.
    ///
    /// # Errors
    /// Says which forms are accepted.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|wrapped| wrapped.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_the_specification_writes() {
        for (text, millis) in [
            ("10s", 10_000),
            ("500ms", 500),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("0s", 0),
            ("90s", 90_000),
        ] {
            assert_eq!(
                parse_duration(text).unwrap(),
                Duration::from_millis(millis),
                "{text}"
            );
        }
    }

    #[test]
    fn says_what_is_accepted() {
        for text in [
            "",
            " ",
            "10",
            "s",
            "-5s",
            "1.5s",
            "10 s",
            "5s1h",
            "5s5s",
            "10 parsecs",
            "5S",
            "١s",
        ] {
            let error = parse_duration(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
            let expected = format!(
                "bad duration {text:?}: write whole numbers with units, largest first, as in \"500ms\", \"10s\", \"1h30m\" or \"2d\""
            );
            assert_eq!(error.to_string(), expected);
        }
        for text in ["36501d", "99999999999999999999s", "18446744073709551615d"] {
            let error = parse_duration(text).unwrap_err();
            assert!(
                error.to_string().ends_with("longer than a hundred years"),
                "{error}"
            );
        }
    }

    #[test]
    fn writes_the_largest_unit_that_fits() {
        for (text, written) in [
            ("60s", "1m"),
            ("90s", "90s"),
            ("1500ms", "1500ms"),
            ("24h", "1d"),
            ("0ms", "0s"),
        ] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), written);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn what_is_written_is_read_back(nanos in 0..=u64::MAX / 8) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&format_duration(duration)).unwrap(), duration);
        }
    }
}
