//! How long an instance that is no pod lives: its Lease, judged by our own clock (K-10).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use tokio::time::Instant;

use crate::slices::Id;

/// K-11: the time of a renewal, with the six digits the server insists on.
pub(crate) fn now() -> String {
    let time = serde_json::to_value(MicroTime(Timestamp::now()));
    time.ok()
        .and_then(|time| time.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// Leases not looked at for so long are forgotten.
const FORGET: Duration = Duration::from_secs(3600);
/// How many are remembered before any is forgotten.
const ENOUGH: usize = 1000;

/// When each Lease was last seen to change. Clocks of different machines are never compared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beats(Arc<Mutex<HashMap<Id, Beat>>>);

#[derive(Debug, Clone)]
struct Beat {
    /// What the Lease said: its uid and time.
    said: String,
    /// When it first said so.
    changed: Instant,
    looked: Instant,
}

impl Beats {
    /// Takes that there is no such Lease, and answers since when.
    pub(crate) fn missed(&self, id: &Id) -> Instant {
        self.saw(&Id::new(&id.namespace, &format!("missing/{}", id.name)), "")
    }

    /// Takes what a Lease says now, and answers when it began to say so.
    pub(crate) fn saw(&self, id: &Id, said: &str) -> Instant {
        let now = Instant::now();
        let mut beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if beats.len() >= ENOUGH && !beats.contains_key(id) {
            beats.retain(|_, beat| now.duration_since(beat.looked) < FORGET);
        }
        let beat = beats.entry(id.clone()).or_insert_with(|| Beat {
            said: said.to_owned(),
            changed: now,
            looked: now,
        });
        if beat.said != said {
            said.clone_into(&mut beat.said);
            beat.changed = now;
        }
        beat.looked = now;
        beat.changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k_11_times_have_six_digits() {
        for _ in 0..50 {
            let time = now();
            let (_, digits) = time.split_once('.').expect("a fraction");
            assert_eq!(digits.len(), 7, "{time}");
            assert!(
                digits.ends_with('Z') && digits[..6].bytes().all(|b| b.is_ascii_digit()),
                "{time}"
            );
        }
        let round = MicroTime("2026-01-02T03:04:05Z".parse::<Timestamp>().unwrap());
        assert_eq!(
            serde_json::to_value(round).unwrap(),
            "2026-01-02T03:04:05.000000Z"
        );
    }

    /// K-10: what the time says is not looked at, only that it changes.
    #[tokio::test(start_paused = true)]
    async fn k_10_only_a_change_counts_not_what_the_clock_of_another_says() {
        let (beats, id) = (Beats::default(), Id::new("default", "web-1"));
        let first = beats.saw(&id, "2001-01-01T00:00:00.000000Z");
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(beats.saw(&id, "2001-01-01T00:00:00.000000Z"), first);
        let second = beats.saw(&id, "1999-01-01T00:00:00.000000Z");
        assert_eq!(second.duration_since(first), Duration::from_secs(20));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_looks_at_is_forgotten() {
        let beats = Beats::default();
        for n in 0..ENOUGH {
            beats.saw(&Id::new("default", &n.to_string()), "x");
        }
        tokio::time::advance(FORGET).await;
        beats.saw(&Id::new("default", "one more"), "x");
        assert_eq!(beats.0.lock().unwrap().len(), 1);
    }
}
