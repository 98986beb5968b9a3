//! One stream that keeps all leases of a client alive (E-4).

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
};

use discovery_core::{Error, ErrorKind, Result};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};
use tonic::Streaming;

use crate::{
    client::Client,
    error::{self, Fault},
    lease::lock,
    wire::{KeepAliveRequest, KeepAliveResponse},
};

const PATH: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// Keep-alives of one client. Nobody works the stream but those who wait for an answer.
#[derive(Debug)]
pub(crate) struct KeepAlives {
    client: Client,
    waiting: Mutex<Waiting>,
    queued: Notify,
    line: tokio::sync::Mutex<Option<Line>>,
}

/// Who waits for an answer about a lease, and which leases are yet to be asked for.
#[derive(Debug, Default)]
struct Waiting {
    answers: HashMap<i64, Vec<oneshot::Sender<Result<i64>>>>,
    queue: VecDeque<i64>,
}

impl Waiting {
    /// A lease somebody still waits for.
    fn first(&mut self) -> Option<i64> {
        self.answers.retain(|_, answers| {
            answers.retain(|one| !one.is_closed());
            !answers.is_empty()
        });
        self.answers.keys().next().copied()
    }
}

#[derive(Debug)]
struct Line {
    requests: mpsc::Sender<KeepAliveRequest>,
    answers: Streaming<KeepAliveResponse>,
    member: usize,
}

impl KeepAlives {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            waiting: Mutex::default(),
            queued: Notify::new(),
            line: tokio::sync::Mutex::default(),
        }
    }

    /// Asks for a lease to be kept and answers how many seconds it has: none when the server does not know it.
    ///
    /// # Cancel safety
    /// May be dropped at any time; whoever waits next works the stream on.
    pub(crate) async fn ask(&self, id: i64) -> Result<i64> {
        let limit = self.client.config().request_timeout;
        let Ok(answered) = timeout(limit, self.answer_about(id)).await else {
            // Who is silent now will be silent the next time.
            if let Ok(mut line) = self.line.try_lock()
                && let Some(line) = line.take()
            {
                self.client.leave(line.member);
            }
            return Err(error::late(limit));
        };
        answered
    }

    /// Asks for a lease and waits for its answer. Whoever gets hold of the line works it for all who wait; when they have
    /// their answer, or are dropped, the next one does.
    async fn answer_about(&self, id: i64) -> Result<i64> {
        let (sender, mut answer) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            waiting.answers.entry(id).or_default().push(sender);
            waiting.queue.push_back(id);
        }
        self.queued.notify_one();
        let broken = || error::error(ErrorKind::Unexpected, "a keep-alive was lost");
        tokio::select! {
            biased;
            answered = &mut answer => answered.unwrap_or_else(|_| Err(broken())),
            mut line = self.line.lock() => {
                let work = self.work(&mut line);
                tokio::select! {
                    biased;
                    answered = &mut answer => answered.unwrap_or_else(|_| Err(broken())),
                    failed = work => {
                        self.fail(&failed);
                        Err(failed)
                    }
                }
            }
        }
    }

    /// Works the line until it fails.
    async fn work(&self, line: &mut Option<Line>) -> Error {
        loop {
            let Some(open) = line else {
                // Not from the queue: who worked the line before may have been dropped while opening it.
                let Some(first) = lock(&self.waiting).first() else {
                    self.queued.notified().await;
                    continue;
                };
                let first_request = KeepAliveRequest { id: first };
                // Large, and rare.
                match Box::pin(self.client.stream(PATH, first_request)).await {
                    Ok((requests, answers, member)) => {
                        // Whoever asked over a line that broke, or was opened in vain, is asked for again.
                        let mut waiting = lock(&self.waiting);
                        let again: VecDeque<_> = waiting
                            .answers
                            .keys()
                            .copied()
                            .filter(|id| *id != first)
                            .collect();
                        waiting.queue = again;
                        drop(waiting);
                        *line = Some(Line {
                            requests,
                            answers,
                            member,
                        });
                        continue;
                    }
                    Err(failed) => return failed,
                }
            };
            let more = {
                let queue = &mut lock(&self.waiting).queue;
                // What does not fit stays, and so does what is for a stream that has ended; its answer says so.
                while let Some(id) = queue.pop_front() {
                    if open.requests.try_send(KeepAliveRequest { id }).is_err() {
                        queue.push_front(id);
                        break;
                    }
                }
                !queue.is_empty()
            };
            let said = tokio::select! {
                said = open.answers.message() => said,
                () = self.queued.notified() => continue,
                Ok(_) = open.requests.reserve(), if more => continue,
            };
            let member = open.member;
            let fault = match said {
                Ok(Some(answer)) => {
                    self.dispatch(&answer);
                    continue;
                }
                Ok(None) => (
                    Fault::Member,
                    error::error(ErrorKind::Unavailable, "the server ended the keep-alives"),
                ),
                Err(status) => error::of_status(status),
            };
            *line = None;
            return Box::pin(self.client.stream_failed(member, fault)).await;
        }
    }

    fn dispatch(&self, answer: &KeepAliveResponse) {
        let waiting = lock(&self.waiting).answers.remove(&answer.id);
        for one in waiting.into_iter().flatten() {
            // Who no longer waits has no use for it.
            let _ = one.send(Ok(answer.ttl));
        }
    }

    /// Tells everybody who waits.
    fn fail(&self, failed: &Error) {
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        for one in waiting.answers.into_values().flatten() {
            let _ = one.send(Err(failed.clone()));
        }
    }
}
