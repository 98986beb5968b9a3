//! Decides whether removals are believed.
//!
//! Never "refuse all empties", never "believe all empties": an authoritative answer passes at once, a suspect one waits
//! for two agreeing uncached reads at least a second apart, or until access returns. An answer that drops more than half
//! of five or more instances is suspect for at most thirty seconds, whatever the server says of it.
//!
//! Pure: no clock, no I/O. The resolver tells it what came and when, and does the reading.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use crate::model::{Evidence, Held, InstanceKey, Suspicion};

/// The least time between two reads that confirm each other.
pub(crate) const CONFIRM_GAP: Duration = Duration::from_secs(1);
/// How long removals are held that nothing but their number or the server's age speaks against.
const LIMIT: Duration = Duration::from_secs(30);
/// Fewer instances than this are never a mass.
const MASS_MIN: usize = 5;

/// What to do with the instances an answer no longer shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Remove them.
    Believe,
    /// Keep them for now.
    Hold,
}

/// Weighs removals; holds at most one set of them.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    hold: Option<Hold>,
}

#[derive(Debug)]
struct Hold {
    reason: Suspicion,
    /// What the last answer did not show.
    missing: BTreeSet<InstanceKey>,
    /// When it is believed without further proof, if ever.
    until: Option<Instant>,
    /// When an authoritative answer first missed exactly these.
    agreed: Option<Instant>,
}

impl Hold {
    fn new(reason: Suspicion, missing: BTreeSet<InstanceKey>, now: Instant) -> Self {
        let until = match reason {
            Suspicion::UnverifiedEmpty | Suspicion::MassRemoval => Some(now + LIMIT),
            _ => None,
        };
        Self {
            reason,
            missing,
            until,
            agreed: None,
        }
    }
}

impl Guard {
    /// What is held back, for snapshots.
    pub(crate) fn held(&self) -> Option<Held> {
        self.hold
            .as_ref()
            .map(|hold| Held::new(hold.reason, hold.missing.len()))
    }

    /// When [`Self::expired`] is worth asking.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.hold.as_ref()?.until
    }

    /// A complete answer came that no longer shows `missing` of `believed` instances.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        believed: usize,
        missing: BTreeSet<InstanceKey>,
        evidence: Evidence,
    ) -> Verdict {
        if missing.is_empty() {
            self.hold = None;
            return Verdict::Believe;
        }
        let mass = believed >= MASS_MIN && missing.len() * 2 > believed;
        match (evidence, self.hold.as_mut()) {
            (Evidence::Suspect(reason), Some(hold)) if hold.reason == reason => {
                if hold.missing != missing {
                    hold.missing = missing;
                    hold.agreed = None;
                }
            }
            (Evidence::Suspect(reason), _) => self.hold = Some(Hold::new(reason, missing, now)),
            // Small enough, and either nothing spoke against it or what did is over.
            (Evidence::Authoritative, None) if !mass => return Verdict::Believe,
            (Evidence::Authoritative, Some(hold))
                if !mass && matches!(hold.reason, Suspicion::AccessLost | Suspicion::MassRemoval) =>
            {
                self.hold = None;
                return Verdict::Believe;
            }
            (Evidence::Authoritative, Some(hold)) if hold.reason != Suspicion::AccessLost => {
                match hold.agreed {
                    Some(first) if hold.missing == missing => {
                        if now.duration_since(first) >= CONFIRM_GAP {
                            self.hold = None;
                            return Verdict::Believe;
                        }
                    }
                    _ => hold.agreed = Some(now),
                }
                hold.missing = missing;
            }
            (Evidence::Authoritative, _) => {
                let mut hold = Hold::new(Suspicion::MassRemoval, missing, now);
                hold.agreed = Some(now);
                self.hold = Some(hold);
            }
        }
        Verdict::Hold
    }

    /// The server removed exactly `keys`, one by one.
    pub(crate) fn removal(&mut self, now: Instant, keys: &[InstanceKey], evidence: Evidence) -> Verdict {
        match evidence {
            Evidence::Authoritative => {
                self.shown(keys);
                Verdict::Believe
            }
            Evidence::Suspect(reason) => {
                let hold = self
                    .hold
                    .get_or_insert_with(|| Hold::new(reason, BTreeSet::new(), now));
                hold.missing.extend(keys.iter().cloned());
                hold.agreed = None;
                Verdict::Hold
            }
        }
    }

    /// The server settled the fate of `keys`: they are no longer in doubt.
    pub(crate) fn shown<'a>(&mut self, keys: impl IntoIterator<Item = &'a InstanceKey>) {
        if let Some(hold) = &mut self.hold {
            for key in keys {
                hold.missing.remove(key);
            }
            if hold.missing.is_empty() {
                self.hold = None;
            }
        }
    }

    /// The removals whose time of doubt is over.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<BTreeSet<InstanceKey>> {
        self.deadline().filter(|until| *until <= now)?;
        self.hold.take().map(|hold| hold.missing)
    }
}

#[cfg(test)]
mod tests;
