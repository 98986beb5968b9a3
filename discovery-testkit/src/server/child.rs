//! A server as a child process of the test.

use std::{
    fs::File,
    net::SocketAddr,
    process::{ExitStatus, Stdio},
    sync::Mutex,
    time::Duration,
};

use async_trait::async_trait;
use discovery_core::{Error, ErrorKind, Result, Retry};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::{Place, Server};
use crate::{eventually::try_eventually, sync::lock};

/// How long one probe may take.
const PROBE_DEADLINE: Duration = Duration::from_secs(5);
/// How long a server may take to stop in order, and the kernel to end or freeze a process.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// How one kind of server is run.
///
/// ```no_run
/// use std::net::SocketAddr;
/// use discovery_core::{Error, ErrorKind, Result};
/// use discovery_testkit::server::{ChildServer, Place, Recipe, Server};
/// use tokio::{net::TcpStream, process::Command};
///
/// #[derive(Debug)]
/// struct Files;
///
/// #[async_trait::async_trait]
/// impl Recipe for Files {
///     fn name(&self) -> &'static str {
///         "files"
///     }
///
///     fn command(&self, place: &Place) -> Command {
///         let mut command = Command::new("python3");
///         command.args(["-m", "http.server", "--bind", "127.0.0.1"]).arg(place.endpoints()[0].port().to_string());
///         command
///     }
///
///     async fn probe(&self, place: &Place) -> Result<()> {
///         let refused = |e| Error::new(ErrorKind::Unavailable, "cannot connect").with_source(e);
///         TcpStream::connect(place.endpoints()[0]).await.map(drop).map_err(refused)
///     }
///
///     async fn version(&self, _: &Place) -> Result<String> {
///         Ok("3".to_owned())
///     }
/// }
///
/// # async fn example() -> Result<()> {
/// let server = ChildServer::new(Files)?;
/// server.start().await?;
/// server.pause().await?; // and now: do clients notice?
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Recipe: std::fmt::Debug + Send + Sync + 'static {
    /// What it is called in messages.
    fn name(&self) -> &'static str;

    /// How many ports it needs.
    fn ports(&self) -> usize {
        1
    }

    /// How long it may take to become ready, on a machine that has much else to do.
    fn ready_within(&self) -> Duration {
        Duration::from_secs(180)
    }

    /// Program, arguments and environment. It runs in the foreground, in [`Place::dir`], and listens on
    /// [`Place::endpoints`] only; its input and outputs are taken care of.
    fn command(&self, place: &Place) -> Command;

    /// Succeeds once the server serves; called again and again until then, each time for 5 s at most.
    async fn probe(&self, place: &Place) -> Result<()>;

    /// The version the running server says it has.
    async fn version(&self, place: &Place) -> Result<String>;
}

/// A server that runs as a child process, with ports and a directory of its own.
///
/// It writes `stdout.log` and `stderr.log` in its directory. Only the child itself is ever signalled, by its id and while
/// it has not been reaped; dropping the server kills it.
#[derive(Debug)]
pub struct ChildServer<R> {
    // Dropped in this order: the child before its directory.
    child: Mutex<Option<Child>>,
    place: Place,
    recipe: R,
}

impl<R: Recipe> ChildServer<R> {
    /// A stopped server.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] when the recipe asks for no port, [`ErrorKind::Unexpected`] when there is no directory
    /// or port to be had.
    pub fn new(recipe: R) -> Result<Self> {
        if recipe.ports() == 0 {
            return Err(Error::new(ErrorKind::ConfigInvalid, "a server needs a port")
                .with_context("server", recipe.name())
                .with_hint("let `Recipe::ports` answer at least 1"));
        }
        let place = Place::new(recipe.name(), recipe.ports()).map_err(|source| {
            Error::new(ErrorKind::Unexpected, "no directory or port for a server")
                .with_context("server", recipe.name())
                .with_source(source)
        })?;
        Ok(Self {
            child: Mutex::default(),
            place,
            recipe,
        })
    }

    /// Its ports, its directory and its log.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// How it is run.
    pub(super) fn recipe(&self) -> &R {
        &self.recipe
    }

    /// The id of its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        lock(&self.child).as_ref().and_then(Child::id)
    }

    /// Freezes it (`SIGSTOP`): it keeps its connections and answers nothing. Returns once it stands still.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when it does not run.
    pub async fn pause(&self) -> Result<()> {
        let pid = self.signal(Signal::STOP)?;
        // A look only: the news stays there for the runtime.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        try_eventually("the process stand still", STOP_DEADLINE, || async move {
            waitid(WaitId::Pid(pid), options).ok().flatten()
        })
        .await
        .map(drop)
        .map_err(|error| self.named(error))
    }

    /// Lets it go on after [`Self::pause`] (`SIGCONT`).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when it does not run.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT).map(drop)
    }

    /// Signals the child. The lock keeps it from being reaped meanwhile, so that its id cannot be another's.
    fn signal(&self, signal: Signal) -> Result<Pid> {
        let child = lock(&self.child);
        let pid = child
            .as_ref()
            .and_then(own_pid)
            .ok_or_else(|| self.named(Error::new(ErrorKind::NotFound, "the server does not run")))?;
        kill_process(pid, signal).map_err(|source| {
            self.named(Error::new(ErrorKind::Unexpected, "cannot signal the server").with_source(source))
        })?;
        Ok(pid)
    }

    fn spawn(&self) -> std::io::Result<Child> {
        let [out, err] = self.place.logs();
        let append = |path| {
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .map(Stdio::from)
        };
        self.recipe
            .command(&self.place)
            .current_dir(self.place.dir())
            .stdin(Stdio::null())
            .stdout(append(out)?)
            .stderr(append(err)?)
            .kill_on_drop(true)
            .spawn()
    }

    /// Probes until the server serves or is known not to.
    async fn ready(&self, child: &mut Child) -> Result<()> {
        let within = self.recipe.ready_within();
        let probed = try_eventually("it serve", within, || async {
            match timeout(PROBE_DEADLINE, self.recipe.probe(&self.place)).await {
                Ok(answer) => answer,
                Err(_) => Err(Error::new(ErrorKind::Timeout, "the probe takes too long")),
            }
        });
        tokio::select! {
            biased;
            exited = child.wait() => Err(match exited {
                Ok(status) => self.failed(format!("the server ended before it served ({status})")),
                Err(source) => self.failed("cannot watch the server").with_source(source),
            }),
            probed = probed => probed.map_err(|error| self.failed(error.message().to_owned())),
        }
    }

    /// An error of a server that did not start, with the end of its log.
    fn failed(&self, what: impl std::fmt::Display) -> Error {
        let message = format!("{what}\n{}", self.place.log_tail());
        self.named(Error::new(ErrorKind::Unavailable, message).with_retry(Retry::Never))
    }

    fn named(&self, error: Error) -> Error {
        error
            .with_operation("test server")
            .with_context("server", self.recipe.name())
    }

    async fn reap(&self, child: &mut Child) -> Result<Option<ExitStatus>> {
        match timeout(STOP_DEADLINE, child.wait()).await {
            Ok(Ok(status)) => Ok(Some(status)),
            Ok(Err(source)) => Err(self
                .failed("cannot wait for the server to end")
                .with_source(source)),
            Err(_) => Ok(None),
        }
    }

    async fn kill_child(&self, child: &mut Child) -> Result<()> {
        // Fails only for a child that has ended, which is what is wanted.
        let _ = child.start_kill();
        match self.reap(child).await? {
            Some(_) => Ok(()),
            None => Err(self.failed("the server outlives being killed")),
        }
    }
}

/// The id of a child that has not been reaped.
fn own_pid(child: &Child) -> Option<Pid> {
    child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw)
}

/// # Cancel safety
/// Nothing is left running by a call that is dropped: a server being started, stopped or killed is killed.
#[async_trait]
impl<R: Recipe> Server for ChildServer<R> {
    async fn start(&self) -> Result<()> {
        // One that ended by itself may be started again.
        let runs = |child: &mut Child| matches!(child.try_wait(), Ok(None));
        if lock(&self.child).as_mut().is_some_and(runs) {
            return Err(self.named(Error::new(ErrorKind::Conflict, "the server runs already")));
        }
        let mut child = self.spawn().map_err(|source| {
            self.named(Error::new(ErrorKind::Unavailable, "cannot run the server").with_retry(Retry::Never))
                .with_hint("is its program installed and in PATH?")
                .with_source(source)
        })?;
        if let Err(error) = self.ready(&mut child).await {
            self.kill_child(&mut child).await?;
            return Err(error);
        }
        let before = lock(&self.child).replace(child);
        match before {
            Some(mut before) => self.kill_child(&mut before).await,
            None => Ok(()),
        }
    }

    async fn stop(&self) -> Result<()> {
        let taken = lock(&self.child).take();
        let Some(mut child) = taken else {
            return Ok(());
        };
        if let Some(pid) = own_pid(&child) {
            // A paused one hears the first only after the second; one that has ended needs neither.
            let _ = kill_process(pid, Signal::TERM).and_then(|()| kill_process(pid, Signal::CONT));
        }
        match self.reap(&mut child).await? {
            Some(_) => Ok(()),
            None => self.kill_child(&mut child).await,
        }
    }

    async fn kill(&self) -> Result<()> {
        let taken = lock(&self.child).take();
        match taken {
            Some(mut child) => self.kill_child(&mut child).await,
            None => Ok(()),
        }
    }

    fn endpoint(&self) -> SocketAddr {
        self.place.endpoints()[0]
    }

    async fn version(&self) -> Result<String> {
        let asked = timeout(PROBE_DEADLINE, self.recipe.version(&self.place)).await;
        asked.unwrap_or_else(|_| {
            Err(self.named(Error::new(
                ErrorKind::Timeout,
                "the server does not say its version",
            )))
        })
    }
}
