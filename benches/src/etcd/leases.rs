//! G15: many leases kept alive by one client: in bursts, all at a time, then all again; and steadily, each again as soon as
//! it is answered.

use std::time::Duration;

use discovery_core::{Backend, HealthReport, Lease, Registration, Renewal};
use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use futures::future::join_all;
use tokio::{runtime::Runtime, sync::mpsc};
use tonic::{Streaming, client::Grpc, codegen::http::uri::PathAndQuery, transport::Endpoint};
use tonic_prost::ProstCodec;

use super::{CRATE, OURS, RAW, fixture::Fixture};
use crate::{
    harness::{Cell, Plan, Report, Table, clock},
    upstream::quiet,
};

const SIZES: [usize; 3] = [FEW, MANY, 2048];
/// With so many the crate is at its best.
const FEW: usize = 64;
/// With so many we are.
const MANY: usize = 512;
/// Longer than a run takes.
const TTL: Duration = Duration::from_secs(3600);

/// How leases are kept alive.
#[derive(Clone, Copy)]
enum Pace {
    Bursts,
    Steady,
}

impl Pace {
    /// For so many leases: how many bursts make a sample, and how often each of them keeps every lease alive.
    fn of(self, n: usize) -> (usize, usize) {
        match self {
            Self::Bursts => (2048 / n, 1),
            // Long, so that the server collects garbage in every sample.
            Self::Steady => (1, 16_384 / n),
        }
    }
}

/// What the crate does: a stream for each lease.
struct Crate(Vec<(LeaseKeeper, LeaseKeepAliveStream)>);

impl Crate {
    async fn of(fixture: &Fixture, n: usize) -> Self {
        let mut client = fixture.client().await.lease_client();
        let mut streams = Vec::with_capacity(n);
        for id in granted(fixture, n).await {
            streams.push(client.keep_alive(id).await.expect("a stream"));
        }
        Self(streams)
    }

    async fn keep(&mut self, times: usize) {
        let all = self.0.iter_mut().map(|(keeper, answers)| async move {
            for _ in 0..times {
                keeper.keep_alive().await.expect("it is sent");
                let answer = answers.message().await.expect("an answer").expect("an answer");
                assert!(answer.ttl() > 0);
            }
        });
        join_all(all).await;
    }
}

async fn granted(fixture: &Fixture, n: usize) -> Vec<i64> {
    let mut client = fixture.client().await;
    let ttl = i64::try_from(TTL.as_secs()).expect("seconds");
    let mut ids = Vec::with_capacity(n);
    for _ in 0..n {
        ids.push(client.lease_grant(ttl, None).await.expect("a lease").id());
    }
    ids
}

#[derive(Clone, PartialEq, prost::Message)]
struct Ask {
    #[prost(int64, tag = "1")]
    id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(int64, tag = "3")]
    ttl: i64,
}

/// The least that could do it: all ids on one stream, nobody waits for an answer of their own.
struct Raw {
    ids: Vec<i64>,
    requests: mpsc::UnboundedSender<Ask>,
    answers: Streaming<Answer>,
}

impl Raw {
    async fn of(fixture: &Fixture, n: usize) -> Self {
        let ids = granted(fixture, n).await;
        let endpoint = Endpoint::from_shared(fixture.etcd.url().to_owned()).expect("an address");
        let mut grpc = Grpc::new(endpoint.connect().await.expect("etcd is there"));
        grpc.ready().await.expect("a connection");
        let (requests, mut sent) = mpsc::unbounded_channel();
        // A server answers nothing before the first.
        let first = Ask { id: ids[0] };
        requests.send(first).expect("it is sent");
        let sent = futures::stream::poll_fn(move |cx| sent.poll_recv(cx));
        let path = PathAndQuery::from_static("/etcdserverpb.Lease/LeaseKeepAlive");
        let codec = ProstCodec::<Ask, Answer>::default();
        let answers = grpc.streaming(tonic::Request::new(sent), path, codec).await;
        let mut raw = Self {
            ids,
            requests,
            answers: answers.expect("a stream").into_inner(),
        };
        raw.answer().await;
        raw
    }

    fn ask(&self, id: i64) {
        self.requests.send(Ask { id }).expect("it is sent");
    }

    async fn answer(&mut self) {
        let answer = self.answers.message().await.expect("an answer");
        assert!(answer.expect("an answer").ttl > 0);
    }

    async fn keep(&mut self, times: usize) {
        for id in &self.ids {
            self.ask(*id);
        }
        // Answers come in the order of asking.
        for time in 1..=times {
            for i in 0..self.ids.len() {
                self.answer().await;
                if time < times {
                    self.ask(self.ids[i]);
                }
            }
        }
    }
}

/// Heartbeats as the registrar sends them, each waiting for its own answer.
struct Ours {
    backend: Backend,
    leases: Vec<(Lease, Renewal)>,
}

impl Ours {
    async fn of(fixture: &Fixture, n: usize) -> Self {
        let (backend, mut leases) = (fixture.ours(), Vec::with_capacity(n));
        for i in 0..n {
            let registration = Registration::builder("kept", "10.0.0.1", 8080)
                .id(format!("kept-{n}-{i}"))
                .ttl(TTL)
                .build()
                .expect("a registration");
            let lease = backend.registry.register(&registration).await.expect("a lease");
            let renewal = Renewal::new([(lease.key.clone(), HealthReport::default())]);
            leases.push((lease, renewal));
        }
        Self { backend, leases }
    }

    async fn keep(&mut self, times: usize) {
        let registry = &self.backend.registry;
        let all = self.leases.iter().map(|(lease, renewal)| async move {
            for _ in 0..times {
                let renewed = registry.renew(&lease.group, renewal).await;
                renewed.expect("a heartbeat");
            }
        });
        join_all(all).await;
    }
}

enum Contender {
    Crate(Crate),
    Raw(Raw),
    Ours(Ours),
}

impl Contender {
    fn name(&self) -> &'static str {
        match self {
            Self::Crate(_) => CRATE,
            Self::Raw(_) => RAW,
            Self::Ours(_) => OURS,
        }
    }

    /// Keeps each lease alive so many times, asking again for each as soon as it is answered.
    async fn keep(&mut self, times: usize) {
        match self {
            Self::Crate(one) => one.keep(times).await,
            Self::Raw(one) => one.keep(times).await,
            Self::Ours(one) => one.keep(times).await,
        }
    }
}

/// Races them, each on the one thread that calls it.
pub(super) fn run(plan: &Plan, fixture: &Fixture, report: &mut Report) {
    let runtime = quiet();
    let mut contenders = contenders(&runtime, fixture);
    let mut race = |pace, metrics| race(plan, &runtime, &mut contenders, pace, metrics);
    let [wall, cpu] = race(Pace::Bursts, ["keep-alive", "beat cpu"]);
    let [steady, steady_cpu] = race(Pace::Steady, ["steady", "steady cpu"]);
    let goal =
        |table: &Table, what: String, at_most, n, to| table.goal("G15", what, at_most, (OURS, n, 1), to);
    let mut goals = Vec::new();
    for n in SIZES {
        let what = format!("{n} leases / etcd-client with {n}");
        goals.push(goal(&wall, what, 1.0 / 1.6, n, (CRATE, n, 1)));
        let what = format!("{n} leases / one stream of tonic");
        goals.push(goal(&wall, what, 1.0 / 0.9, n, (RAW, n, 1)));
        let what = format!("CPU, {n} leases / etcd-client with {n}");
        goals.push(goal(&cpu, what, 0.5, n, (CRATE, n, 1)));
    }
    for (table, how) in [(&wall, ""), (&steady, ", steady")] {
        let what = format!("{MANY} leases / etcd-client with {FEW}, its best{how}");
        goals.push(goal(table, what, 1.0 / 1.6, MANY, (CRATE, FEW, 1)));
    }
    let what = format!("{MANY} leases / one stream of tonic, steady");
    goals.push(goal(&steady, what, 1.0 / 0.9, MANY, (RAW, MANY, 1)));
    report.goals(goals);
    for table in [wall, cpu, steady, steady_cpu] {
        report.table(table);
    }
}

/// The time of a keep-alive, and the CPU it takes on the thread that asks.
fn race(
    plan: &Plan,
    runtime: &Runtime,
    contenders: &mut [(usize, Contender)],
    pace: Pace,
    [wall, cpu]: [&'static str; 2],
) -> [Table; 2] {
    let ticks = clock::Ticks::now();
    let cells = || {
        let named = contenders.iter().map(|(n, one)| Cell::new(one.name(), *n, 1));
        named.collect::<Vec<_>>()
    };
    let [mut walls, mut cpus] = [cells(), cells()];
    let mut order: Vec<_> = (0..contenders.len()).collect();
    for round in 0..=plan.rounds {
        // What one leaves the server to clear away slows whoever comes next.
        fastrand::shuffle(&mut order);
        for &i in &order {
            let (n, one) = &mut contenders[i];
            let (bursts, times) = pace.of(*n);
            let (wall, cpu) = (clock::wall(), clock::thread_cpu());
            runtime.block_on(async {
                for _ in 0..bursts {
                    one.keep(times).await;
                }
            });
            let each = |nanos: f64| Some(nanos / 1e3 / (bursts * times * *n) as f64);
            // The first round warms up.
            if round > 0 {
                walls[i].samples.push(each(clock::wall() - wall));
                cpus[i].samples.push(each(clock::thread_cpu() - cpu));
            }
        }
    }
    let table = |metric, cells| Table::new(metric, "us", RAW, cells, ticks);
    [table(wall, walls), table(cpu, cpus)]
}
fn contenders(runtime: &Runtime, fixture: &Fixture) -> Vec<(usize, Contender)> {
    runtime.block_on(async {
        let mut all = Vec::new();
        for n in SIZES {
            all.push((n, Contender::Raw(Raw::of(fixture, n).await)));
            all.push((n, Contender::Crate(Crate::of(fixture, n).await)));
            all.push((n, Contender::Ours(Ours::of(fixture, n).await)));
        }
        // What happens once only: the health of a new registration is looked at.
        for (_, one) in &mut all {
            one.keep(1).await;
        }
        all
    })
}
