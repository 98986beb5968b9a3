//! G11: a full answer of a thousand instances, from the socket to a published view, in CPU time of the client's thread.
//!
//! Consul wrote the body; a server of this program sends it, so that what changes in it is known to the byte.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use discovery_core::pick::Subscription;
use tokio::runtime::Runtime;

use super::{
    RAW,
    fixture::{Fixture, marker, ours, quiet, service, write},
    raw::{Raw, find},
};
use crate::harness::{Cell, Plan, Report, Table, clock};

const INSTANCES: usize = 1000;
const SERVICE: &str = "large";
/// Answers in a row of one contender; a sample is their mean.
const BLOCK: usize = 4;

const ALL: &str = "ours: all 1000 changed";
const ONE: &str = "ours: 1 of 1000 changed";
const PYTHON: &str = "py-consul";

type Body = Arc<Vec<u8>>;

/// What Consul answers for the service.
fn record(binary: &Path) -> Vec<u8> {
    let fixture = Fixture::persistent(binary);
    let mut raw = Raw::connect(fixture.endpoint());
    for i in 0..INSTANCES {
        write(&mut raw, SERVICE, i, 0);
    }
    raw.get(&format!("/v1/health/service/{SERVICE}")).to_vec()
}

/// The same with another revision in the metadata of the first `count` instances after the middle, or of all.
fn revised(body: &[u8], revision: u64, count: usize) -> Body {
    let (old, new) = (marker(0), marker(revision));
    let mut body = body.to_vec();
    let skipped = if count == INSTANCES { 0 } else { INSTANCES / 2 };
    let mut at = 0;
    for i in 0..skipped + count {
        at += find(&body[at..], old.as_bytes()).expect("a marker");
        if i >= skipped {
            body[at..at + new.len()].copy_from_slice(new.as_bytes());
        }
        at += new.len();
    }
    body.into()
}

fn answer(stream: &mut TcpStream, index: u64, body: &[u8]) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-consul-index: {index}\r\nx-consul-knownleader: true\r\n\
         x-consul-lastcontact: 0\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

/// What the server shows now, and where what comes next comes from.
struct Shown {
    body: Body,
    index: u64,
    next: mpsc::Receiver<Body>,
}

/// Serves `first`, then, to whoever waits for more, each body it is given.
fn feed(first: Body) -> (SocketAddr, mpsc::Sender<Body>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (sender, next) = mpsc::channel();
    let shown = Arc::new(Mutex::new(Shown {
        body: first,
        index: 1,
        next,
    }));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, shown) = (stream.expect("a connection"), shown.clone());
            thread::spawn(move || serve(stream, &shown));
        }
    });
    (address, sender)
}

/// Answers on one connection, as long as it is there.
fn serve(mut stream: TcpStream, shown: &Mutex<Shown>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    while let Some(target) = request(&mut reader) {
        let mut shown = shown.lock().expect("no panic under it");
        if target.contains("index=") {
            let Ok(next) = shown.next.recv() else { return };
            (shown.body, shown.index) = (next, shown.index + 1);
        }
        if answer(&mut stream, shown.index, &shown.body).is_err() {
            return;
        }
    }
}

/// The target of the next request; nothing when there is none any more.
fn request(reader: &mut impl BufRead) -> Option<String> {
    let mut target = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            return target;
        }
        target.get_or_insert(line);
    }
}

/// A view of the service that is fed, and everything about it on one thread.
struct Ours {
    runtime: Runtime,
    subscription: Subscription,
    bodies: mpsc::Sender<Body>,
}

impl Ours {
    fn new(first: Body) -> Self {
        let (address, bodies) = feed(first);
        let runtime = quiet();
        let service = service(&runtime, ours(address), SERVICE);
        let mut subscription = service.subscribe();
        runtime.block_on(subscription.next()).expect("a first view");
        Self {
            runtime,
            subscription,
            bodies,
        }
    }

    /// Microseconds of CPU for each of these answers until its view is there, and what comes after it.
    fn refresh(&mut self, bodies: &[Body]) -> f64 {
        let (subscription, sender) = (&mut self.subscription, &self.bodies);
        let cpu = clock::thread_cpu();
        self.runtime.block_on(async {
            for body in bodies {
                sender.send(body.clone()).expect("the server lives");
                let seen = subscription.next().await.expect("a view");
                assert_eq!(seen.instances.len(), INSTANCES);
            }
        });
        (clock::thread_cpu() - cpu) / 1e3 / bodies.len() as f64
    }
}

/// py-consul in a process of its own, which reports its CPU time.
struct Python {
    child: Child,
    asks: ChildStdin,
    tells: BufReader<ChildStdout>,
}

impl Python {
    /// The one whose interpreter `benches/run` names.
    fn start(body: Body) -> Option<Self> {
        let python = env::var_os("BENCH_PYTHON").filter(|path| !path.is_empty())?;
        // The sender goes: to this server nobody sends a question that waits.
        let (address, _) = feed(body);
        let mut child = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/py/refresh.py"))
            .args([
                address.port().to_string(),
                SERVICE.to_owned(),
                INSTANCES.to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python runs");
        let asks = child.stdin.take().expect("a pipe");
        let tells = BufReader::new(child.stdout.take().expect("a pipe"));
        Some(Self { child, asks, tells })
    }

    fn refresh(&mut self, count: usize) -> f64 {
        writeln!(self.asks, "{count}").expect("Python reads");
        let mut line = String::new();
        self.tells.read_line(&mut line).expect("Python tells");
        let nanos: f64 = line.trim().parse().expect("nanoseconds");
        nanos / 1e3 / count as f64
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It ends with its input; this is for one that does not.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn raw(raw: &mut Raw) -> f64 {
    let cpu = clock::thread_cpu();
    for _ in 0..BLOCK {
        std::hint::black_box(raw.get("/v1/health/service/large"));
    }
    (clock::thread_cpu() - cpu) / 1e3 / BLOCK as f64
}

/// Races them.
pub(super) fn run(plan: &Plan, binary: &Path, report: &mut Report) {
    let ticks = clock::Ticks::now();
    let recorded = record(binary);
    let all = [1, 2].map(|revision| revised(&recorded, revision, INSTANCES));
    let one = [3, 4].map(|revision| revised(&recorded, revision, 1));
    let block = |two: &[Body; 2]| -> Vec<Body> { two.iter().cycle().take(BLOCK).cloned().collect() };
    let (all, one) = (block(&all), block(&one));
    let mut full = Ours::new(one[1].clone());
    let mut delta = Ours::new(one[1].clone());
    // Kept, so that its server answers on.
    let (address, _kept) = feed(one[0].clone());
    let mut bare = Raw::connect(address);
    let mut python = Python::start(one[0].clone());
    if python.is_none() {
        report.not_run("py-consul", "BENCH_PYTHON is not set".to_owned());
    }
    let mut cells = [RAW, ALL, ONE, PYTHON].map(|name| Cell::new(name, INSTANCES, 1));
    for round in 0..=plan.rounds {
        let samples = [
            Some(raw(&mut bare)),
            Some(full.refresh(&all)),
            Some(delta.refresh(&one)),
            python.as_mut().map(|python| python.refresh(BLOCK)),
        ];
        // The first round warms up.
        if round > 0 {
            for (cell, sample) in cells.iter_mut().zip(samples) {
                cell.samples.push(sample);
            }
        }
    }
    let table = Table::new("refresh cpu", "us", RAW, cells.into(), ticks);
    let at = |name| (name, INSTANCES, 1);
    report.goals([
        table.goal(
            "G11",
            "all of 1000 changed / py-consul".to_owned(),
            0.1,
            at(ALL),
            at(PYTHON),
        ),
        table.goal(
            "G11",
            "1 of 1000 changed / py-consul".to_owned(),
            0.1,
            at(ONE),
            at(PYTHON),
        ),
        table.goal(
            "G11",
            "1 of 1000 changed / all changed".to_owned(),
            0.3,
            at(ONE),
            at(ALL),
        ),
    ]);
    report.table(table);
}
