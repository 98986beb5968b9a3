//! One thread per file and process: it alone touches the database. Everybody else asks it, through a queue.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    process,
    sync::{
        Arc, LazyLock, Mutex, PoisonError, Weak,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use discovery_core::{Error, ErrorKind, Result};
use tokio::{
    sync::{Semaphore, oneshot, watch},
    time::timeout,
};

use crate::{error::error, worker::Worker};

/// How many operations wait for the thread; callers beyond wait for room.
const QUEUE: usize = 64;

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// A file, as this process uses it. Dropping the last handle ends its thread, and with it what lived by this process.
pub(crate) struct Store {
    path: PathBuf,
    /// The process it was made in: a forked one has neither its thread nor its locks.
    process: u32,
    /// `None` only while dropping.
    jobs: Option<SyncSender<Job>>,
    room: Arc<Semaphore>,
    wake: watch::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// The one store of this process for this file. Touches nothing yet.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when there can be no further thread; [`ErrorKind::Unsupported`] in a process forked while
    /// its parent had the file open.
    pub(crate) fn shared(path: &Path) -> Result<Arc<Self>> {
        static STORES: LazyLock<Mutex<HashMap<PathBuf, Weak<Store>>>> = LazyLock::new(Mutex::default);
        let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = stores.get(path).and_then(Weak::upgrade) {
            if store.process == process::id() {
                return Ok(store);
            }
            // `SQLite` believes that the child holds the parent's locks, and might lose changes.
            return Err(error(
                ErrorKind::Unsupported,
                "the file was open when this process was forked",
            )
            .with_context("path", path.display().to_string())
            .with_hint("open it after the fork only, or start processes by `exec` (in Python: `spawn`)"));
        }
        let store = Arc::new(Self::start(path)?);
        stores.retain(|_, store| store.strong_count() > 0);
        stores.insert(path.to_owned(), Arc::downgrade(&store));
        Ok(store)
    }

    fn start(path: &Path) -> Result<Self> {
        let (jobs, queue) = mpsc::sync_channel(QUEUE);
        let wake = watch::Sender::new(());
        let worker = Worker::new(path.to_owned(), wake.clone());
        let thread = thread::Builder::new()
            .name("discovery-local".to_owned())
            .spawn(move || work(worker, &queue))
            .map_err(|source| {
                error(ErrorKind::Unavailable, "no thread for the database").with_source(source)
            })?;
        Ok(Self {
            path: path.to_owned(),
            process: process::id(),
            jobs: Some(jobs),
            room: Arc::new(Semaphore::new(QUEUE)),
            wake,
            thread: Some(thread),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `job` on the thread and answers what it does, within `limit`.
    ///
    /// # Errors
    /// Those of `job`; [`ErrorKind::Timeout`] after `limit`.
    ///
    /// # Cancel safety
    /// Cancel-safe: a job that has not begun when its future is dropped never does.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        limit: Duration,
        job: impl FnOnce(&mut Worker) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        timeout(limit, self.answer(job))
            .await
            .unwrap_or_else(|_| {
                Err(error(ErrorKind::Timeout, "the database did not answer in time")
                    .with_context("limit", format!("{limit:?}"))
                    .with_hint(
                        "another process may be stopped in the middle of a change, or the disk is slow",
                    ))
            })
            .map_err(|error| error.with_operation(operation))
    }

    async fn answer<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Worker) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let room = self.room.clone().acquire_owned().await.map_err(|_| ended())?;
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |worker| {
            let _room = room;
            if !answer.is_closed() {
                // Whoever asked may have left meanwhile.
                let _ = answer.send(job(worker));
            }
        });
        // There are as many places in the queue as permits: it is never full.
        self.jobs
            .as_ref()
            .and_then(|jobs| jobs.try_send(job).ok())
            .ok_or_else(ended)?;
        answered.await.map_err(|_| ended())?
    }

    /// Registers a watch until the receiver is dropped.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.wake.subscribe()
    }

    pub(crate) fn watches(&self) -> usize {
        self.wake.receiver_count()
    }
}

fn ended() -> Error {
    error(ErrorKind::Unexpected, "the thread of the database ended").with_hint("see the log for a panic")
}

impl Drop for Store {
    /// Waits for the thread: it has its last job to end, which is short, and its lock to give back.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic has been printed already.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.path).finish()
    }
}

/// The life of the thread: jobs in their order and, where somebody watches or a TTL runs, a look at the file between them.
fn work(mut worker: Worker, queue: &Receiver<Job>) {
    loop {
        let job = match worker.next_look() {
            None => queue.recv().map_err(RecvTimeoutError::from),
            Some(wait) => queue.recv_timeout(wait),
        };
        match job {
            Ok(job) => job(&mut worker),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        worker.look();
    }
}
