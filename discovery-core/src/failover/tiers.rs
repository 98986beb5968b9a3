//! Which tier serves: a pure function of how each stands.

use std::time::Duration;

use tokio::time::Instant;

/// What a tier has to offer, the best last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Worth {
    /// Not even an answer.
    #[default]
    Nothing,
    /// An answer, however old, that there is nothing.
    Empty,
    /// Healthy instances, but too few, or by news that is too old.
    Few,
    /// Enough healthy instances of sources that can be trusted.
    Good,
}

/// How a tier stands now.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Standing {
    pub(super) worth: Worth,
    /// Since when it has been good by sources that answer.
    pub(super) sound_since: Option<Instant>,
    /// A source has just been asked, and has neither answered nor failed.
    pub(super) waiting: bool,
}

impl Standing {
    pub(super) fn is_good(&self) -> bool {
        self.worth == Worth::Good
    }
}

/// The tier to use after `current`.
///
/// A better one that has proved itself; else the current one while it is good; else the first that is; else whatever has
/// instances, however old, and the current one before others.
pub(super) fn choose(tiers: &[Standing], current: usize, now: Instant, hold: Duration) -> usize {
    let proved = |tier: &Standing| {
        tier.is_good()
            && tier
                .sound_since
                .is_some_and(|since| now.duration_since(since) >= hold)
    };
    if let Some(better) = tiers.iter().take(current).position(proved) {
        return better;
    }
    if tiers.get(current).is_some_and(Standing::is_good) {
        return current;
    }
    if let Some(first) = tiers.iter().position(|tier| tier.is_good() || tier.waiting) {
        // One that may yet answer is not passed over.
        let ready = tiers.get(first).is_some_and(Standing::is_good);
        return if ready { first } else { current };
    }
    let last = |least: Worth| {
        let has = |tier: &Standing| tier.worth >= least;
        if tiers.get(current).is_some_and(has) {
            return Some(current);
        }
        tiers.iter().position(has)
    };
    last(Worth::Few).or_else(|| last(Worth::Empty)).unwrap_or(current)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(30);

    fn of(worth: Worth) -> Standing {
        Standing {
            worth,
            ..Standing::default()
        }
    }

    fn good() -> Standing {
        of(Worth::Good)
    }

    fn sound(since: Instant) -> Standing {
        Standing {
            sound_since: Some(since),
            ..good()
        }
    }

    fn waiting() -> Standing {
        Standing {
            waiting: true,
            ..Standing::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_choice() {
        let then = Instant::now();
        tokio::time::advance(HOLD).await;
        let now = Instant::now();
        let (nothing, empty, old) = (of(Worth::Nothing), of(Worth::Empty), of(Worth::Few));
        for (why, tiers, current, expected) in [
            ("good stays", vec![sound(then), sound(then)], 0, 0),
            ("the next steps in", vec![empty, sound(now)], 0, 1),
            (
                "what proved itself comes back",
                vec![sound(then), sound(then)],
                1,
                0,
            ),
            ("what has not does not", vec![sound(now), sound(then)], 1, 1),
            ("nor what is good by old news", vec![good(), sound(then)], 1, 1),
            ("unless nothing else is good", vec![good(), old], 1, 0),
            (
                "the better of those left",
                vec![sound(now), old, sound(then)],
                1,
                0,
            ),
            ("two down, the third", vec![old, empty, good()], 0, 2),
            ("one that may answer is waited for", vec![waiting(), good()], 0, 0),
            ("but not by one that serves", vec![waiting(), good()], 1, 1),
            (
                "nor behind one that is good",
                vec![nothing, good(), waiting()],
                0,
                1,
            ),
            ("none good: the last one used", vec![old, old], 1, 1),
            ("old instances before none", vec![old, empty], 1, 0),
            ("an answer before none", vec![nothing, empty], 0, 1),
            ("nothing at all", vec![nothing, nothing], 0, 0),
        ] {
            assert_eq!(choose(&tiers, current, now, HOLD), expected, "{why}");
        }
    }
}
