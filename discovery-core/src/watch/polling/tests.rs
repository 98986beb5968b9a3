use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use tokio::time::Instant;

use super::*;
use crate::{
    error::{Error, ErrorKind},
    model::{
        HealthReport, InstanceId, Lease, LeaseGroup, MetaChange, Registration, Renewal, Scope, ServiceName,
        ServiceSummary, Status, Suspicion,
    },
    spi::{BackendInfo, BackendStatus, Capabilities},
};

/// Gives its answers one after the other and notes when it was asked.
#[derive(Debug, Default)]
struct Script {
    answers: Mutex<VecDeque<Result<Snapshot>>>,
    asked: Mutex<Vec<Instant>>,
}

impl Script {
    fn watch(
        answers: impl IntoIterator<Item = Result<Snapshot>>,
        pace: PollPace,
    ) -> (Arc<Self>, WatchStream) {
        let script = Arc::new(Self {
            answers: Mutex::new(answers.into_iter().collect()),
            asked: Mutex::default(),
        });
        let watcher = PollingWatcher::new(script.clone(), pace);
        let stream = watcher.watch(&Query::service("api").unwrap(), Some(Cursor::new("any")));
        (script, stream)
    }

    /// The waits between the questions so far.
    fn waits(&self) -> Vec<Duration> {
        let asked = self.asked.lock().unwrap();
        asked.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

#[async_trait]
impl ServiceRegistry for Script {
    fn info(&self) -> BackendInfo {
        BackendInfo::new("script", "")
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::read_only(Duration::from_secs(10))
    }

    async fn instances(&self, _: &Query) -> Result<Snapshot> {
        self.asked.lock().unwrap().push(Instant::now());
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers
            .pop_front()
            .unwrap_or_else(|| Err(Error::new(ErrorKind::Closed, "the script is over")))
    }

    async fn register(&self, _: &Registration) -> Result<Lease> {
        unreachable!()
    }

    async fn renew(&self, _: &LeaseGroup, _: &Renewal) -> Result<()> {
        unreachable!()
    }

    async fn deregister(&self, _: &InstanceKey) -> Result<()> {
        unreachable!()
    }

    async fn release(&self, _: &LeaseGroup) -> Result<()> {
        unreachable!()
    }

    async fn update_meta(&self, _: &InstanceKey, _: &MetaChange) -> Result<()> {
        unreachable!()
    }

    async fn report_health(&self, _: &InstanceKey, _: &HealthReport) -> Result<()> {
        unreachable!()
    }

    async fn instance(&self, _: &InstanceKey) -> Result<Option<Instance>> {
        unreachable!()
    }

    async fn services(&self, _: &Scope) -> Result<Vec<ServiceSummary>> {
        unreachable!()
    }

    async fn status(&self) -> Result<BackendStatus> {
        unreachable!()
    }
}

fn instance(port: u16, status: Status) -> Instance {
    let id = InstanceId::new(format!("api-{port}")).unwrap();
    let key = InstanceKey::new("script", ServiceName::new("api").unwrap(), id);
    Instance::builder(key, "127.0.0.1", port).status(status).build()
}

fn answer(ports: &[u16]) -> Snapshot {
    let instances: Vec<_> = ports
        .iter()
        .map(|port| instance(*port, Status::Passing))
        .collect();
    Snapshot::live(Query::service("api").unwrap().target, instances)
}

/// What kind of event it is: `reset` with the ports, or `confirmed`.
fn sketch(event: &WatchEvent) -> String {
    assert_eq!(event.cursor, None);
    match &event.change {
        Change::Reset(all) => {
            let ports: Vec<_> = all.iter().map(|instance| instance.port).collect();
            format!("reset {ports:?}")
        }
        Change::Confirmed => "confirmed".to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_3_only_changed_content_is_told_and_order_is_no_content() {
    let ill = Snapshot::live(
        Query::service("api").unwrap().target,
        vec![instance(1, Status::Critical), instance(2, Status::Passing)],
    );
    let answers = [answer(&[1, 2]), answer(&[2, 1]), ill.clone(), ill, answer(&[])];
    let (_, stream) = Script::watch(answers.map(Ok), PollPace::every(Duration::from_secs(10)));
    let told: Vec<_> = stream
        .take(5)
        .map(|event| sketch(&event.unwrap()))
        .collect()
        .await;
    assert_eq!(
        told,
        [
            "reset [1, 2]",
            "confirmed",
            "reset [1, 2]",
            "confirmed",
            "reset []"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn evidence_passes_through_and_a_change_of_it_is_told() {
    let suspect = Evidence::Suspect(Suspicion::UnverifiedEmpty);
    let answers = [
        answer(&[]).with_evidence(suspect),
        answer(&[]).with_evidence(suspect),
        answer(&[]),
    ];
    let (_, stream) = Script::watch(answers.map(Ok), PollPace::every(Duration::from_secs(10)));
    let told: Vec<_> = stream
        .take(3)
        .map(|event| event.map(|event| (sketch(&event), event.evidence)).unwrap())
        .collect()
        .await;
    let expected = [
        ("reset []", suspect),
        ("confirmed", suspect),
        ("reset []", Evidence::Authoritative),
    ];
    assert_eq!(
        told,
        expected.map(|(sketch, evidence)| (sketch.to_owned(), evidence))
    );
}

#[tokio::test(start_paused = true)]
async fn a_1_an_error_ends_the_stream_and_tells_no_change() {
    let down = Error::new(ErrorKind::Unavailable, "down");
    let answers = [Ok(answer(&[1])), Err(down), Ok(answer(&[1]))];
    let (script, mut stream) = Script::watch(answers, PollPace::every(Duration::from_secs(10)));
    assert!(stream.next().await.unwrap().is_ok());
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(stream.next().await.is_none());
    assert_eq!(script.answers.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn asks_nothing_before_it_is_polled_and_at_once_then() {
    let (script, mut stream) = Script::watch([Ok(answer(&[]))], PollPace::every(Duration::from_secs(10)));
    tokio::time::advance(Duration::from_secs(100)).await;
    assert!(script.asked.lock().unwrap().is_empty());
    let polled = Instant::now();
    assert!(stream.next().await.unwrap().is_ok());
    assert_eq!(*script.asked.lock().unwrap(), [polled]);
}

#[tokio::test(start_paused = true)]
async fn the_pace_follows_the_answer_within_bounds_and_is_spread() {
    let secs = Duration::from_secs;
    let pace = PollPace::every(secs(20)).between(secs(5), secs(100));
    for (valid_for, wait) in [
        (None, 20),
        (Some(secs(40)), 40),
        (Some(Duration::ZERO), 5),
        (Some(Duration::MAX), 100),
    ] {
        let answers = (0..200).map(|_| {
            let mut snapshot = answer(&[1]);
            snapshot.valid_for = valid_for;
            Ok(snapshot)
        });
        let (script, stream) = Script::watch(answers, pace);
        assert_eq!(stream.take(200).count().await, 200);
        let (mut waits, wait) = (script.waits(), secs(wait));
        waits.sort_unstable();
        let (least, most) = (waits[0], waits[waits.len() - 1]);
        // The clock of tests goes in milliseconds.
        assert!(
            least >= wait.mul_f64(0.9) && least < wait.mul_f64(0.95),
            "{valid_for:?}: {least:?}"
        );
        assert!(
            most <= wait.mul_f64(1.1) + Duration::from_millis(1) && most > wait.mul_f64(1.05),
            "{valid_for:?}: {most:?}"
        );
    }
}

#[test]
fn no_pace_panics_or_turns_into_a_hot_loop() {
    let pace = PollPace::every(Duration::ZERO);
    assert_eq!(pace.wait(None), Duration::from_secs(1));
    assert!(jittered(pace.wait(None)) >= Duration::from_millis(900));
    let endless = PollPace::every(Duration::MAX);
    assert!(jittered(endless.wait(None)) > Duration::from_secs(1));
}
