//! Interleaved rounds of contenders, in thread CPU time.

use std::{
    hint::spin_loop,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use super::{
    Plan, clock,
    report::{Cell, Table},
};

/// One thread's share of a contender: runs the operation so many times.
pub type Batch = Box<dyn FnMut(u64) + Send>;

/// How often a two-thread cell is tried in one round.
const TRIES: usize = 10;
/// A two-thread cell is run in so many parts, so that a slower thread stops with the faster one.
const PARTS: u64 = 32;
/// This share of a batch is run before it, untimed.
const WARM_UP: u64 = 4;
/// Both threads were on a processor when they used this share of the wall time.
const ON_CPU: f64 = 0.9;

/// A batch of `operation`, which keeps its result from being optimised away.
pub fn batch(mut operation: impl FnMut() + Send + 'static) -> Batch {
    Box::new(move |count| {
        for _ in 0..count {
            operation();
        }
    })
}

/// What is measured at one size, made ready outside the loop.
pub struct Contender {
    name: &'static str,
    n: usize,
    batches: Vec<Batch>,
    iterations: u64,
}

impl Contender {
    /// A contender whose `make` is called once for each thread.
    pub fn new(name: &'static str, n: usize, threads: usize, mut make: impl FnMut() -> Batch) -> Self {
        Self {
            name,
            n,
            batches: (0..threads).map(|_| make()).collect(),
            iterations: 1,
        }
    }

    /// Warms every thread's batch up, and sets how many operations take about `nanos`.
    fn calibrate(&mut self, nanos: f64) {
        for batch in &mut self.batches {
            batch(1); // What happens once only says nothing about the rest.
            let mut count = 1;
            let took = loop {
                let start = clock::thread_cpu();
                batch(count);
                let took = clock::thread_cpu() - start;
                if took >= nanos / 4.0 {
                    break took;
                }
                count *= 2;
            };
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a positive count"
            )]
            let iterations = (count as f64 * nanos / took) as u64;
            self.iterations = iterations.max(1);
        }
    }

    /// Nanoseconds of CPU for one operation on one of `threads` threads; nothing when they did not run together.
    fn measure(&mut self, threads: usize) -> Option<f64> {
        let parts = if threads == 1 {
            1
        } else {
            PARTS.min(self.iterations)
        };
        let start = Start::of(threads);
        let stop = AtomicBool::new(false);
        let part = self.iterations / parts;
        let spans: Vec<Span> = thread::scope(|scope| {
            let running: Vec<_> = self.batches[..threads]
                .iter_mut()
                .map(|batch| scope.spawn(|| Span::of(batch, part, parts, &start, &stop)))
                .collect();
            let joined = running.into_iter().map(thread::ScopedJoinHandle::join);
            joined.map(|span| span.expect("a batch does not panic")).collect()
        });
        let cpu: f64 = spans.iter().map(|span| span.cpu).sum();
        let done: u64 = spans.iter().map(|span| span.done).sum();
        let from = spans.iter().map(|span| span.from).fold(f64::INFINITY, f64::min);
        let to = spans.iter().map(|span| span.to).fold(0.0, f64::max);
        let together = threads == 1 || cpu / ((to - from) * threads as f64) >= ON_CPU;
        together.then(|| cpu / done as f64)
    }
}

/// Lets threads go at once: first all awake, then all on a processor.
struct Start {
    awake: Barrier,
    missing: AtomicUsize,
}

impl Start {
    fn of(threads: usize) -> Self {
        Self {
            awake: Barrier::new(threads),
            missing: AtomicUsize::new(threads),
        }
    }

    fn wait(&self) {
        self.awake.wait();
        self.missing.fetch_sub(1, Relaxed);
        while self.missing.load(Relaxed) > 0 {
            spin_loop();
        }
    }
}

/// What one thread did, and when.
struct Span {
    from: f64,
    to: f64,
    cpu: f64,
    done: u64,
}

impl Span {
    /// Runs parts until this thread or another one has run all of its own.
    fn of(batch: &mut Batch, part: u64, parts: u64, start: &Start, stop: &AtomicBool) -> Self {
        // What the contender before left in the caches is not this one's doing.
        batch((part * parts / WARM_UP).max(1));
        start.wait();
        let (from, cpu) = (clock::wall(), clock::thread_cpu());
        let mut done = 0;
        while done < part * parts && !stop.load(Relaxed) {
            batch(part);
            done += part;
        }
        stop.store(true, Relaxed);
        Self {
            from,
            to: clock::wall(),
            cpu: clock::thread_cpu() - cpu,
            done,
        }
    }
}

/// Runs every contender once for each number of threads in every round, and answers all samples.
///
/// The contender called `floor` is what ratios are taken to, at the same size and number of threads.
pub fn race(plan: &Plan, metric: &'static str, floor: &'static str, mut contenders: Vec<Contender>) -> Table {
    let ticks = clock::Ticks::now();
    let mut cells: Vec<Cell> = Vec::new();
    let mut order: Vec<(usize, usize)> = Vec::new();
    for (at, contender) in contenders.iter_mut().enumerate() {
        contender.calibrate(plan.batch_nanos);
        for threads in 1..=contender.batches.len() {
            order.push((at, threads));
            cells.push(Cell::new(contender.name, contender.n, threads));
        }
    }
    for _ in 0..plan.rounds {
        for (cell, &(at, threads)) in cells.iter_mut().zip(&order) {
            let sample = (0..TRIES).find_map(|_| contenders[at].measure(threads));
            cell.samples.push(sample);
        }
    }
    Table::new(metric, "ns", floor, cells, ticks)
}
