//! Instances that fail are left out for a while, and come back one call at a time.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, time::Instant};
use tracing::{info, warn};

use super::Load;
use crate::{
    config::duration,
    model::{Instance, ServiceName},
};

/// When an instance is ejected: its circuit opens. After its time it is half open, one call at a time, until one succeeds,
/// which closes it, or fails, which ejects it for longer.
///
/// Defaults are Envoy's. Whether another may be ejected is asked before, as gRPC A50 has it: in a set of any size, one can.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Outlier {
    /// So many failures in a row eject; zero never does.
    pub consecutive_failures: u32,
    /// Compares success rates.
    pub success_rate: Option<SuccessRate>,
    /// Compares failures with a threshold; not done unless set.
    pub failure_percentage: Option<FailurePercentage>,
    /// How often rates are compared; ten times a second at most.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub interval: Duration,
    /// How long the first ejection lasts; doubled by each further one, and halved again by each clean interval.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub base_ejection: Duration,
    /// How long an ejection lasts at most.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub max_ejection: Duration,
    /// In percent of a service's instances: while so many are ejected, no other is.
    pub max_percent: u8,
}

/// Ejects those whose success rate is so far below the mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct SuccessRate {
    /// How many standard deviations below; zero ejects nobody.
    pub deviations: f64,
    /// How many instances must have had enough calls.
    pub minimum_instances: usize,
    /// How many calls in an interval are enough.
    pub minimum_calls: u64,
}

/// Ejects those of whose calls so many failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct FailurePercentage {
    /// More than so many in a hundred.
    pub threshold: u8,
    /// How many instances must have had enough calls.
    pub minimum_instances: usize,
    /// How many calls in an interval are enough.
    pub minimum_calls: u64,
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self {
            deviations: 1.9,
            minimum_instances: 5,
            minimum_calls: 100,
        }
    }
}

impl Default for FailurePercentage {
    fn default() -> Self {
        Self {
            threshold: 85,
            minimum_instances: 5,
            minimum_calls: 50,
        }
    }
}

impl Default for Outlier {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            success_rate: Some(SuccessRate::default()),
            failure_percentage: None,
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection: Duration::from_secs(300),
            max_percent: 10,
        }
    }
}

/// Longer than anybody waits, and within what clocks can add.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

impl Outlier {
    fn interval(&self) -> Duration {
        self.interval.clamp(Duration::from_millis(100), LONGEST)
    }

    fn ejection(&self, ejections: u32) -> Duration {
        let doubled = 1u32.checked_shl(ejections.saturating_sub(1)).unwrap_or(u32::MAX);
        self.base_ejection
            .saturating_mul(doubled)
            .min(self.max_ejection.max(self.base_ejection))
            .min(LONGEST)
    }
}

/// What loads tell the watcher of outliers.
#[derive(Debug)]
pub(crate) struct Alarm {
    pub(super) failures: u32,
    pub(super) wake: Notify,
}

/// Watches the loads of one upstream: the only one who opens and half opens their circuits.
#[derive(Debug)]
pub(crate) struct Outliers {
    options: Outlier,
    alarm: Arc<Alarm>,
    compare: Instant,
    /// When the next ejection ends.
    uneject: Option<Instant>,
}

type Group<'a> = Vec<(&'a Arc<Instance>, &'a Arc<Load>)>;

/// A member and its outcomes, good and bad, since rates were last compared.
type Window<'a> = (&'a Arc<Instance>, &'a Arc<Load>, (u64, u64));

impl Outliers {
    pub(crate) fn new(options: Outlier) -> Self {
        let failures = match options.consecutive_failures {
            0 => u32::MAX,
            failures => failures,
        };
        Self {
            compare: Instant::now() + options.interval(),
            options,
            alarm: Arc::new(Alarm {
                failures,
                wake: Notify::new(),
            }),
            uneject: None,
        }
    }

    /// A load that is watched.
    pub(crate) fn load(&self) -> Load {
        Load::watched(self.alarm.clone())
    }

    /// Waits until an instance failed too often or an ejected one answered.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub(crate) async fn alarmed(&self) {
        self.alarm.wake.notified().await;
    }

    /// When to look again, come what may.
    pub(crate) fn next(&self) -> Instant {
        self.uneject
            .map_or(self.compare, |uneject| uneject.min(self.compare))
    }

    /// Looks at all of them; answers whether who takes part has changed.
    pub(crate) fn look<'a>(
        &mut self,
        members: impl Iterator<Item = (&'a Arc<Instance>, &'a Arc<Load>)>,
    ) -> bool {
        let now = Instant::now();
        let mut services: HashMap<&ServiceName, Group<'a>> = HashMap::new();
        for (instance, load) in members {
            services
                .entry(&instance.key.service)
                .or_default()
                .push((instance, load));
        }
        let compare = now >= self.compare;
        if compare {
            self.compare = now + self.options.interval();
        }
        let changed = services.values().fold(false, |changed, group| {
            changed | self.look_at(group, compare, now)
        });
        self.uneject = services
            .values()
            .flatten()
            .filter_map(|(_, load)| load.circuit.ends(load))
            .min();
        changed
    }

    fn look_at(&self, group: &Group<'_>, compare: bool, now: Instant) -> bool {
        let mut changed = false;
        for (_, load) in group {
            changed |= load.circuit.settle();
            if load.circuit.ends(load).is_some_and(|until| until <= now) {
                load.circuit.half_open();
                changed = true;
            }
        }
        for (instance, load) in group {
            if load.circuit.failed_too_often(self.alarm.failures) {
                changed |= self.eject(group, instance, load, "failures in a row", now);
            }
        }
        if compare {
            let windows: Vec<_> = group
                .iter()
                .map(|(instance, load)| (*instance, *load, load.circuit.window(load)))
                .collect();
            let clean = |load: &Load| load.circuit.is_closed();
            for (instance, load, reason) in self.outliers(&windows) {
                if clean(load) {
                    changed |= self.eject(group, instance, load, reason, now);
                }
            }
            for (_, load) in group.iter().filter(|(_, load)| clean(load)) {
                load.circuit.forgive();
            }
        }
        changed
    }

    fn outliers<'a>(&self, windows: &[Window<'a>]) -> Vec<(&'a Arc<Instance>, &'a Arc<Load>, &'static str)> {
        let mut found = Vec::new();
        #[expect(clippy::cast_precision_loss, reason = "a rate of calls within seconds")]
        let rate = |(good, bad): (u64, u64)| good as f64 / (good + bad) as f64;
        let enough = |calls: u64| {
            windows
                .iter()
                .filter(move |(_, _, (good, bad))| good + bad >= calls.max(1))
        };
        if let Some(rule) = &self.options.success_rate
            && rule.deviations > 0.0
        {
            let rates: Vec<f64> = enough(rule.minimum_calls)
                .map(|(_, _, window)| rate(*window))
                .collect();
            if rates.len() >= rule.minimum_instances.max(1) {
                #[expect(clippy::cast_precision_loss, reason = "a number of instances")]
                let number = rates.len() as f64;
                let mean = rates.iter().sum::<f64>() / number;
                let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / number;
                let least = mean - variance.sqrt() * rule.deviations;
                found.extend(
                    enough(rule.minimum_calls)
                        .filter(|(_, _, window)| rate(*window) < least)
                        .map(|(instance, load, _)| (*instance, *load, "success rate")),
                );
            }
        }
        if let Some(rule) = &self.options.failure_percentage
            && enough(rule.minimum_calls).count() >= rule.minimum_instances
        {
            found.extend(
                enough(rule.minimum_calls)
                    .filter(|(_, _, (good, bad))| bad * 100 > (good + bad) * u64::from(rule.threshold))
                    .map(|(instance, load, _)| (*instance, *load, "failure percentage")),
            );
        }
        found
    }

    fn eject(&self, group: &Group<'_>, instance: &Instance, load: &Load, reason: &str, now: Instant) -> bool {
        let ejected = group.iter().filter(|(_, load)| !load.circuit.is_closed()).count();
        // One that failed its trial is among them already.
        let known = usize::from(!load.circuit.is_closed());
        if (ejected - known) * 100 >= group.len() * usize::from(self.options.max_percent) {
            info!(instance = %instance.key, reason, "fails, but no more may be ejected");
            load.circuit.excuse();
            return false;
        }
        let time = self.options.ejection(load.circuit.eject());
        load.circuit.open(load, now + time);
        warn!(instance = %instance.key, reason, ejected_for = ?time, "ejected");
        true
    }
}
