//! One stream that keeps all leases of a client alive (E-4).
//!
//! Who asks puts the lease into a queue and waits. The stream takes from it what it sends, some at a time. What reads the
//! answers is a task that lives while somebody waits: one wake-up of it serves all answers that are there, and one deadline,
//! that of who has waited longest, stands for all.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock},
    task::{Context, Poll, Waker, ready},
};

use discovery_core::{Error, ErrorKind, Result, TaskGroup};
use futures::{Stream, StreamExt, future::poll_fn};
use slab::Slab;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Streaming;

use crate::{
    client::Client,
    error::{self, Fault},
    lease::lock,
    wire::{KeepAliveRequest, KeepAliveResponse},
};

const PATH: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
/// How many may be under way: what a server answers fastest.
const WINDOW: usize = 256;
/// How many may wait.
const MOST: usize = 1 << 16;

/// Keep-alives of one client.
#[derive(Debug)]
pub(crate) struct KeepAlives {
    shared: Arc<Shared>,
    /// On the runtime that asked first, which is that of the connections.
    tasks: OnceLock<TaskGroup>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    queue: Arc<Mutex<Queue>>,
    /// The stream, while nobody waits for an answer.
    line: Mutex<Option<Line>>,
}

/// What is asked for, in the order of asking, which is that of the answers.
#[derive(Debug, Default)]
struct Queue {
    asks: VecDeque<Ask>,
    /// Who asked.
    slots: Slab<Slot>,
    /// How many of them the stream has taken.
    taken: usize,
    /// The stream has taken all it may, and takes no more before half of them are answered: many at a time, not one by one.
    full: bool,
    /// The stream that may take: the others are of lines that broke.
    stream: u64,
    /// Of the stream, while there is nothing to take.
    sender: Option<Waker>,
    /// Whether there is a task that reads.
    read: bool,
}

#[derive(Debug)]
struct Ask {
    id: i64,
    until: Instant,
    slot: usize,
}

#[derive(Debug)]
enum Slot {
    Waits(Waker),
    Told(Result<i64>),
    /// Nobody has a use for the answer any more.
    Left,
}

impl Queue {
    fn push(&mut self, id: i64, until: Instant, waker: Waker) -> usize {
        let slot = self.slots.insert(Slot::Waits(waker));
        self.asks.push_back(Ask { id, until, slot });
        self.wake();
        slot
    }

    /// What who asked is told, once it is.
    fn poll(&mut self, slot: usize, cx: &mut Context<'_>) -> Poll<Result<i64>> {
        if let Slot::Waits(waker) = &mut self.slots[slot] {
            waker.clone_from(cx.waker());
            return Poll::Pending;
        }
        match self.slots.remove(slot) {
            Slot::Told(told) => Poll::Ready(told),
            Slot::Waits(_) | Slot::Left => {
                let lost = error::error(ErrorKind::Unexpected, "a keep-alive was lost");
                Poll::Ready(Err(lost))
            }
        }
    }

    fn tell(&mut self, slot: usize, told: Result<i64>) {
        match std::mem::replace(&mut self.slots[slot], Slot::Told(told)) {
            Slot::Waits(waker) => waker.wake(),
            Slot::Told(_) | Slot::Left => drop(self.slots.remove(slot)),
        }
    }

    /// Who asked went away.
    fn leave(&mut self, slot: usize) {
        match &mut self.slots[slot] {
            waits @ Slot::Waits(_) => *waits = Slot::Left,
            Slot::Told(_) | Slot::Left => drop(self.slots.remove(slot)),
        }
    }

    /// Notes an answer, and tells who asked; nobody where it is about none of them.
    fn answered(&mut self, answer: &KeepAliveResponse) {
        let asked = self.asks.iter().take(self.taken);
        let Some(place) = asked.map(|ask| ask.id).position(|id| id == answer.id) else {
            return;
        };
        if let Some(ask) = self.asks.remove(place) {
            self.taken -= 1;
            self.tell(ask.slot, Ok(answer.ttl));
            self.wake();
        }
    }

    /// Wakes the stream where there is something to take.
    fn wake(&mut self) {
        let most = if self.full { WINDOW / 2 } else { WINDOW };
        if self.taken < most
            && self.taken < self.asks.len()
            && let Some(sender) = self.sender.take()
        {
            sender.wake();
        }
    }

    /// Tells those who have waited for as long as one may.
    fn expire(&mut self, now: Instant, failed: &Error) {
        let late = self.asks.partition_point(|ask| ask.until <= now);
        for _ in 0..late {
            self.fail_first(failed);
        }
    }

    /// Tells everybody.
    fn fail(&mut self, failed: &Error) {
        self.taken = 0;
        while !self.asks.is_empty() {
            self.fail_first(failed);
        }
    }

    fn fail_first(&mut self, failed: &Error) {
        if let Some(ask) = self.asks.pop_front() {
            self.tell(ask.slot, Err(failed.clone()));
        }
    }
}

/// What the stream sends: leases that are asked for, as long as it is the one in use.
#[derive(Debug)]
struct Requests {
    queue: Arc<Mutex<Queue>>,
    stream: u64,
}

impl Requests {
    /// For a new stream, on which everything is asked for that is not answered yet, also for those who went away: without a
    /// request a server says nothing, and would be taken for silent.
    fn new(queue: &Arc<Mutex<Queue>>) -> Self {
        let mut state = lock(queue);
        (state.taken, state.full, state.sender) = (0, false, None);
        state.stream += 1;
        let (queue, stream) = (queue.clone(), state.stream);
        Self { queue, stream }
    }
}

impl Stream for Requests {
    type Item = KeepAliveRequest;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<KeepAliveRequest>> {
        let mut queue = lock(&self.queue);
        if queue.stream != self.stream {
            return Poll::Ready(None);
        }
        if queue.taken < WINDOW
            && let Some(ask) = queue.asks.get(queue.taken)
        {
            let id = ask.id;
            queue.taken += 1;
            return Poll::Ready(Some(KeepAliveRequest { id }));
        }
        queue.full = queue.taken == WINDOW;
        queue.sender = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[derive(Debug)]
struct Line {
    answers: Streaming<KeepAliveResponse>,
    member: usize,
    /// Goes off when an answer is late, or was before it came.
    alarm: Pin<Box<Sleep>>,
}

/// Why a line is read no further for now.
enum End {
    /// Nobody waits.
    Answered,
    /// Somebody waited for as long as one may.
    Silent,
    Broken(Fault, Error),
}

impl Line {
    /// Hands out answers, all that are there, until nobody waits.
    fn poll(&mut self, queue: &Mutex<Queue>, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            match self.answers.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(answer))) => lock(queue).answered(&answer),
                Poll::Ready(Some(Err(status))) => {
                    let (fault, failed) = error::of_status(status);
                    return Poll::Ready(End::Broken(fault, failed));
                }
                Poll::Ready(None) => {
                    let ended = error::error(ErrorKind::Unavailable, "the server ended the keep-alives");
                    return Poll::Ready(End::Broken(Fault::Member, ended));
                }
                Poll::Pending => break,
            }
        }
        loop {
            let Some(until) = lock(queue).asks.front().map(|ask| ask.until) else {
                return Poll::Ready(End::Answered);
            };
            if self.alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if until <= Instant::now() {
                return Poll::Ready(End::Silent);
            }
            self.alarm.as_mut().reset(until);
        }
    }
}

impl KeepAlives {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            shared: Arc::new(Shared {
                client,
                queue: Arc::default(),
                line: Mutex::default(),
            }),
            tasks: OnceLock::new(),
        }
    }

    /// Asks for a lease to be kept and answers how many seconds it has: none when the server does not know it.
    ///
    /// # Cancel safety
    /// May be dropped at any time; the answer is read all the same.
    pub(crate) fn ask(&self, id: i64, now: Instant) -> Asked<'_> {
        Asked {
            alive: self,
            id,
            until: now + self.shared.client.config().request_timeout,
            slot: None,
        }
    }

    /// Starts the task that reads.
    fn read(&self) -> Result<()> {
        let reading = Reading {
            shared: self.shared.clone(),
            ended: false,
        };
        let tasks = if let Some(tasks) = self.tasks.get() {
            tasks
        } else {
            let tasks = TaskGroup::current()?;
            self.tasks.get_or_init(|| tasks)
        };
        let cancelled = tasks.cancelled().clone();
        tasks.spawn(async move { cancelled.run_until_cancelled(reading.run()).await });
        Ok(())
    }
}

/// A keep-alive; it asks when it is first polled.
pub(crate) struct Asked<'a> {
    alive: &'a KeepAlives,
    id: i64,
    until: Instant,
    slot: Option<usize>,
}

impl Future for Asked<'_> {
    type Output = Result<i64>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<i64>> {
        let mut queue = lock(&self.alive.shared.queue);
        if let Some(slot) = self.slot {
            let told = ready!(queue.poll(slot, cx));
            self.slot = None;
            return Poll::Ready(told);
        }
        if queue.asks.len() >= MOST {
            let many = error::error(ErrorKind::RateLimited, "too many keep-alives wait");
            return Poll::Ready(Err(many));
        }
        // The task that reads tells everybody, at the latest when it ends.
        self.slot = Some(queue.push(self.id, self.until, cx.waker().clone()));
        let read = std::mem::replace(&mut queue.read, true);
        drop(queue);
        if !read {
            self.alive.read()?;
        }
        Poll::Pending
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            lock(&self.alive.shared.queue).leave(slot);
        }
    }
}

impl Drop for KeepAlives {
    fn drop(&mut self) {
        if let Some(tasks) = self.tasks.get() {
            tasks.cancel();
        }
    }
}

/// The task that reads. Dropped before its end, it tells those who wait.
struct Reading {
    shared: Arc<Shared>,
    ended: bool,
}

impl Reading {
    async fn run(mut self) {
        let shared = self.shared.clone();
        let mut line = lock(&shared.line).take();
        loop {
            let end = match &mut line {
                Some(open) => poll_fn(|cx| open.poll(&shared.queue, cx)).await,
                // Large, and rare.
                None => match Box::pin(shared.open()).await {
                    Ok(opened) => {
                        line = Some(opened);
                        continue;
                    }
                    Err(failed) => {
                        lock(&shared.queue).fail(&failed);
                        End::Answered
                    }
                },
            };
            match (end, &line) {
                (End::Silent, Some(open)) => {
                    // Who is silent now will be silent the next time.
                    shared.client.leave(open.member);
                    let late = error::late(shared.client.config().request_timeout);
                    lock(&shared.queue).expire(Instant::now(), &late);
                    line = None;
                }
                (End::Broken(fault, failed), Some(open)) => {
                    let member = open.member;
                    line = None;
                    let failed = Box::pin(shared.client.stream_failed(member, (fault, failed))).await;
                    lock(&shared.queue).fail(&failed);
                }
                _ => {}
            }
            if self.ends(&mut line) {
                return;
            }
        }
    }

    /// Ends, and leaves the line to the next, unless somebody waits.
    fn ends(&mut self, line: &mut Option<Line>) -> bool {
        let mut queue = lock(&self.shared.queue);
        if !queue.asks.is_empty() {
            return false;
        }
        *lock(&self.shared.line) = line.take();
        queue.read = false;
        self.ended = true;
        true
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if !self.ended {
            let mut queue = lock(&self.shared.queue);
            queue.fail(&error::error(ErrorKind::Closed, "keep-alives ended"));
            queue.read = false;
        }
    }
}

impl Shared {
    async fn open(&self) -> Result<Line> {
        let requests = || ((), Requests::new(&self.queue));
        let ((), answers, member) = self.client.stream(PATH, requests).await?;
        let until = Instant::now() + self.client.config().request_timeout;
        Ok(Line {
            answers,
            member,
            alarm: Box::pin(sleep_until(until)),
        })
    }
}

#[cfg(test)]
#[path = "keepalive_tests.rs"]
mod tests;
