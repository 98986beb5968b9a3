//! Runs the checks of one registration.

use std::{future::pending, sync::Arc};

use futures::{
    StreamExt,
    stream::{BoxStream, select_all, unfold},
};
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval_at, timeout},
};
use tokio_util::sync::DropGuard;

use super::check_for;
use crate::{
    error::Result,
    metrics,
    model::{Check, CheckOutcome, HealthReport, Instance, InstanceKey, Registration, Status},
    resilience::full_jitter,
    spi::HealthCheck,
    task::TaskGroup,
};

/// How many looks in a row change what a check shows. The first look always counts (rule H-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Looks that pass or warn before a critical check shows it.
    pub successes: u32,
    /// Looks that do not before a passing or warning check is critical.
    pub failures: u32,
}

impl Default for Thresholds {
    /// One of each.
    fn default() -> Self {
        Self {
            successes: 1,
            failures: 1,
        }
    }
}

/// Runs the checks of one registration and tells how it is: as well as the worst of them.
///
/// Each check looks at once, then after a random part of its interval, then every interval, so that a fleet started at
/// one moment does not look at one moment. A look that takes longer than its timeout is critical. A probe that could not
/// be carried out says nothing: what the check showed before stays, or unknown where there is nothing before.
///
/// Until every check has looked once the report is at best [`Status::Starting`]: new is not healthy. Reports change with
/// the status of a check only, never with output alone. They say nothing of draining, which is the owner's to add.
///
/// Dropping it ends the checks.
#[derive(Debug)]
pub struct Prober {
    reports: watch::Receiver<HealthReport>,
    _cancel: DropGuard,
}

impl Prober {
    /// Runs the checks of `registration`, which the registry knows as `key`, on `tasks`.
    ///
    /// # Errors
    /// Those of [`check_for`]. A registration without checks is passing.
    pub fn start(
        tasks: &TaskGroup,
        key: InstanceKey,
        registration: &Registration,
        thresholds: Thresholds,
    ) -> Result<Self> {
        let target = Instance::builder(key, registration.address.clone(), registration.port)
            .tags(&registration.tags)
            .meta(&registration.meta)
            .build();
        let checks = registration.checks.iter();
        let checks = checks.map(|check| Ok((check.clone(), check_for(check)?)));
        Ok(Self::with_checks(
            tasks,
            target,
            checks.collect::<Result<Vec<_>>>()?,
            thresholds,
        ))
    }

    /// Runs these checks of `target`, each by the probe beside it; the kind of the check is not looked at.
    pub fn with_checks(
        tasks: &TaskGroup,
        target: Instance,
        checks: Vec<(Check, Arc<dyn HealthCheck>)>,
        thresholds: Thresholds,
    ) -> Self {
        let names = checks.iter().map(|(check, _)| check.name.clone());
        let mut board = Board {
            checks: names.map(Shown::new).collect(),
            thresholds,
        };
        let (sender, reports) = watch::channel(board.report());
        let cancelled = tasks.cancelled().child_token();
        let cancel = cancelled.clone().drop_guard();
        let target = Arc::new(target);
        let checks = checks.into_iter().enumerate();
        let mut looks = select_all(checks.map(|(i, (check, probe))| looks(i, check, probe, target.clone())));
        tasks.spawn(async move {
            let watching = async {
                while let Some((index, look)) = looks.next().await {
                    if board.note(index, look) {
                        sender.send_replace(board.report());
                    }
                }
                // Without checks there is nothing to see; the channel stays open all the same.
                pending::<()>().await;
            };
            cancelled.run_until_cancelled(watching).await;
        });
        Self {
            reports,
            _cancel: cancel,
        }
    }

    /// How it is now.
    pub fn report(&self) -> HealthReport {
        self.reports.borrow().clone()
    }

    /// The reports as they change; a slow reader sees the latest only. It closes when the prober is dropped.
    pub fn reports(&self) -> watch::Receiver<HealthReport> {
        self.reports.clone()
    }
}

/// What one look of a check found; nothing when the probe could not be carried out.
type Look = Option<CheckOutcome>;

/// The looks of one check, for ever; no I/O until polled.
fn looks(
    index: usize,
    check: Check,
    probe: Arc<dyn HealthCheck>,
    target: Arc<Instance>,
) -> BoxStream<'static, (usize, Look)> {
    unfold(
        (None::<Interval>, check, probe, target),
        move |(ticks, check, probe, target)| async move {
            let ticks = if let Some(mut ticks) = ticks {
                ticks.tick().await;
                ticks
            } else {
                let mut ticks = interval_at(Instant::now() + full_jitter(check.interval), check.interval);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                ticks
            };
            let look = look(&check, &*probe, &target).await;
            Some(((index, look), (Some(ticks), check, probe, target)))
        },
    )
    .boxed()
}

/// Looks once and records it.
async fn look(check: &Check, probe: &dyn HealthCheck, target: &Instance) -> Look {
    let service = target.key.service.as_str();
    let started = Instant::now();
    let result = timeout(check.timeout, probe.check(target)).await;
    let (look, failure) = match result {
        Ok(Ok(outcome)) if outcome.status.is_serving() => (Some(outcome), None),
        Ok(Ok(outcome)) => (Some(outcome), Some("critical")),
        Err(_) => {
            let output = format!("no answer within {:?}", check.timeout);
            (Some(CheckOutcome::new(Status::Critical, output)), Some("timeout"))
        }
        Ok(Err(error)) => {
            tracing::debug!(
                service,
                check = check.name,
                error = format!("{error:#}"),
                "could not probe"
            );
            (None, Some("error"))
        }
    };
    metrics::checked(service, &check.name, started.elapsed(), failure);
    look
}

/// What every check shows.
struct Board {
    checks: Vec<Shown>,
    thresholds: Thresholds,
}

/// What one check shows.
struct Shown {
    name: String,
    status: Status,
    output: String,
    /// Looks in a row that speak against `status`.
    against: u32,
}

impl Shown {
    fn new(name: String) -> Self {
        Self {
            name,
            status: Status::Starting,
            output: "not looked yet".to_owned(),
            against: 0,
        }
    }

    /// Whether a look has been carried out.
    fn is_settled(&self) -> bool {
        !matches!(self.status, Status::Starting | Status::Unknown)
    }
}

impl Board {
    /// Notes what a check found; answers whether it shows another status now.
    fn note(&mut self, index: usize, look: Look) -> bool {
        let shown = &mut self.checks[index];
        let before = shown.status;
        match look {
            Some(outcome) => {
                // Whatever does not serve is critical: a probe knows no other shade.
                let serves = outcome.status.is_serving();
                let status = if serves { outcome.status } else { Status::Critical };
                let needed = match (serves, shown.status.is_serving()) {
                    (true, false) => self.thresholds.successes,
                    (false, true) => self.thresholds.failures,
                    _ => 1,
                };
                shown.against += 1;
                if !shown.is_settled() || shown.against >= needed {
                    (shown.status, shown.output, shown.against) = (status, outcome.output, 0);
                }
            }
            None if !shown.is_settled() => {
                shown.status = Status::Unknown;
                "could not probe".clone_into(&mut shown.output);
            }
            None => {}
        }
        shown.status != before
    }

    fn report(&self) -> HealthReport {
        let worst = self.checks.iter().map(|shown| shown.status).max();
        let lines = self.checks.iter().filter(|shown| shown.status != Status::Passing);
        let lines: Vec<_> = lines
            .map(|shown| format!("{}: {}", shown.name, shown.output))
            .collect();
        HealthReport::new(worst.unwrap_or_default()).with_output(lines.join("; "))
    }
}

#[cfg(test)]
mod tests;
