use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{advance, sleep};

use super::*;
use crate::{
    error::{Error, ErrorKind},
    model::{InstanceId, ServiceName},
    testing::Counts,
};

const INTERVAL: Duration = Duration::from_secs(10);

/// One look of a scripted probe; the last repeats for ever.
#[derive(Debug, Clone, Copy)]
enum Saw {
    This(Status),
    Nothing,
    Hangs,
}

use Saw::{Hangs, Nothing, This};

#[derive(Debug)]
struct Scripted {
    script: Mutex<VecDeque<Saw>>,
    looks: Mutex<Vec<Instant>>,
}

impl Scripted {
    fn new(script: &[Saw]) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(script.iter().copied().collect()),
            looks: Mutex::default(),
        })
    }

    fn looks(&self) -> Vec<Instant> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl HealthCheck for Scripted {
    async fn check(&self, target: &Instance) -> Result<CheckOutcome> {
        assert_eq!(target.port, 80);
        self.looks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Instant::now());
        let saw = {
            let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
            if script.len() > 1 {
                script.pop_front()
            } else {
                script.front().copied()
            }
        };
        match saw.expect("a script") {
            This(status) => Ok(CheckOutcome::new(status, format!("saw {status}"))),
            Nothing => Err(Error::new(ErrorKind::Unavailable, "no socket")),
            Hangs => pending().await,
        }
    }
}

fn target() -> Instance {
    let (service, id) = (
        ServiceName::new("api").unwrap(),
        InstanceId::new("api-1").unwrap(),
    );
    Instance::builder(InstanceKey::new("memory", service, id), "127.0.0.1", 80).build()
}

fn prober(tasks: &TaskGroup, probes: &[(&str, &Arc<Scripted>)], thresholds: Thresholds) -> Prober {
    let checks = probes.iter().map(|(name, probe)| {
        let check = Check::tcp("127.0.0.1:80").named(*name).every(INTERVAL);
        (check, Arc::clone(probe) as Arc<dyn HealthCheck>)
    });
    Prober::with_checks(tasks, target(), checks.collect(), thresholds)
}

/// The statuses a single check with this script shows, one after the other, until it shows no more for a minute.
async fn shown(script: &[Saw], thresholds: Thresholds) -> Vec<Status> {
    let tasks = TaskGroup::current().unwrap();
    let prober = prober(&tasks, &[("tcp", &Scripted::new(script))], thresholds);
    let mut reports = prober.reports();
    let mut statuses = vec![reports.borrow().status];
    while let Ok(Ok(())) = timeout(Duration::from_secs(60), reports.changed()).await {
        statuses.push(reports.borrow_and_update().status);
    }
    statuses
}

use Status::{Critical, Passing, Starting, Unknown, Warning};

#[tokio::test(start_paused = true)]
async fn looks_at_once_then_after_a_random_part_of_the_interval_then_every_interval() {
    let tasks = TaskGroup::current().unwrap();
    let started = Instant::now();
    let probes: Vec<_> = (0..20).map(|_| Scripted::new(&[This(Passing)])).collect();
    let running: Vec<_> = probes
        .iter()
        .map(|probe| prober(&tasks, &[("tcp", probe)], Thresholds::default()))
        .collect();
    sleep(INTERVAL * 5).await;
    let mut phases = Vec::new();
    for probe in &probes {
        let looks = probe.looks();
        assert_eq!(looks[0], started);
        phases.push(looks[1] - started);
        assert!(looks[1] - started <= INTERVAL + Duration::from_millis(1));
        for pair in looks[1..].windows(2) {
            let gap = pair[1] - pair[0];
            assert!(gap.abs_diff(INTERVAL) <= Duration::from_millis(1), "{gap:?}");
        }
        assert!(looks.len() >= 5);
    }
    phases.sort();
    assert!(phases[19].abs_diff(phases[0]) > INTERVAL / 4, "{phases:?}");
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn new_is_not_healthy_and_the_first_look_applies_at_once() {
    let strict = Thresholds {
        successes: 3,
        failures: 3,
    };
    assert_eq!(shown(&[This(Passing)], strict).await, [Starting, Passing]);
    assert_eq!(
        shown(&[This(Critical)], strict).await,
        [Starting, Critical],
        "rule H-3"
    );
    assert_eq!(shown(&[Hangs], strict).await, [Starting, Critical]);
}

#[tokio::test(start_paused = true)]
async fn thresholds_count_looks_in_a_row() {
    let thresholds = Thresholds {
        successes: 2,
        failures: 3,
    };
    let (good, bad) = (This(Passing), This(Critical));
    let flapping = [good, bad, bad, good, bad, bad, good];
    assert_eq!(shown(&flapping, thresholds).await, [Starting, Passing]);
    let failing = [good, bad, bad, bad, good, bad, good, good];
    assert_eq!(
        shown(&failing, thresholds).await,
        [Starting, Passing, Critical, Passing]
    );
    let warning = [bad, This(Warning), good];
    assert_eq!(
        shown(&warning, thresholds).await,
        [Starting, Critical, Passing],
        "rule H-3"
    );
    assert_eq!(
        shown(&[good, This(Warning)], thresholds).await,
        [Starting, Passing, Warning]
    );
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_cannot_be_carried_out_says_nothing_of_the_target() {
    let usual = Thresholds::default();
    assert_eq!(
        shown(&[This(Passing), Nothing, Nothing], usual).await,
        [Starting, Passing]
    );
    assert_eq!(
        shown(&[Nothing, This(Passing)], usual).await,
        [Starting, Unknown, Passing]
    );
}

#[tokio::test(start_paused = true)]
async fn several_checks_show_the_worst_and_one_that_hangs_holds_up_no_other() {
    let tasks = TaskGroup::current().unwrap();
    let well = Scripted::new(&[This(Passing)]);
    let warns = Scripted::new(&[This(Warning)]);
    let hangs = Scripted::new(&[Hangs]);
    let checks = [("well", &well), ("warns", &warns), ("hangs", &hangs)];
    let prober = prober(&tasks, &checks, Thresholds::default());
    sleep(Duration::from_secs(1)).await;
    let report = prober.report();
    assert_eq!(report.status, Starting);
    assert_eq!(report.output, "warns: saw warning; hangs: not looked yet");
    sleep(Duration::from_secs(5)).await;
    let report = prober.report();
    assert_eq!((report.status, report.draining), (Critical, false));
    assert_eq!(report.output, "warns: saw warning; hangs: no answer within 5s");
}

#[tokio::test(start_paused = true)]
async fn dropping_it_or_ending_its_tasks_ends_the_looks() {
    for by_drop in [true, false] {
        let tasks = TaskGroup::current().unwrap();
        let probe = Scripted::new(&[Hangs]);
        let prober = prober(&tasks, &[("tcp", &probe)], Thresholds::default());
        let mut reports = prober.reports();
        sleep(Duration::from_secs(1)).await;
        let kept = if by_drop {
            drop(prober);
            None
        } else {
            Some(prober)
        };
        tasks.join(Duration::from_secs(1)).await.unwrap();
        advance(INTERVAL * 10).await;
        assert_eq!(probe.looks().len(), 1);
        assert!(reports.changed().await.is_err());
        drop(kept);
    }
}

#[tokio::test(start_paused = true)]
async fn a_registration_without_checks_passes_and_keeps_its_channel_open() {
    let tasks = TaskGroup::current().unwrap();
    let registration = Registration::builder("api", "127.0.0.1", 80).build().unwrap();
    let prober = Prober::start(&tasks, target().key, &registration, Thresholds::default()).unwrap();
    let mut reports = prober.reports();
    assert!(timeout(INTERVAL, reports.changed()).await.is_err());
    assert_eq!(prober.report(), HealthReport::new(Passing));
}

#[tokio::test(start_paused = true)]
async fn looks_and_failures_are_counted_by_reason() {
    let counts = Counts::default();
    let _local = ::metrics::set_default_local_recorder(&counts);
    let script = [
        This(Passing),
        This(Warning),
        This(Critical),
        Hangs,
        Nothing,
        This(Passing),
    ];
    let tasks = TaskGroup::current().unwrap();
    let probe = Scripted::new(&script);
    let prober = prober(&tasks, &[("tcp", &probe)], Thresholds::default());
    while probe.looks().len() < script.len() {
        sleep(Duration::from_secs(1)).await;
    }
    drop(prober);
    let failures = |reason| {
        counts.get(&format!(
            "health_check_failures_total{{service=api,check_name=tcp,reason={reason}}}"
        ))
    };
    assert_eq!(["critical", "timeout", "error"].map(failures), [1, 1, 1]);
    assert_eq!(counts.get("health_check_duration{service=api,check_name=tcp}"), 6);
}
