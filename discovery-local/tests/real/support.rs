//! What the tests are made of: folders, backends, children.

use std::{future::Future, path::Path, process::Stdio, time::Duration};

use discovery_core::{Backend, Query, Registration, Result};
use discovery_local::{LocalConfig, backend};
use libtest_mimic::Failed;
use rustix::time::{ClockId, clock_gettime};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::child::ROLE;

/// Never an assertion about speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test on a runtime of its own, for five minutes at most.
pub(crate) fn run(test: impl Future<Output = Result<()>>) -> std::result::Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime
        .block_on(async { timeout(5 * PATIENCE, test).await })
        .map_err(|_| Failed::from("it took longer than five minutes"))?
        .map_err(|error| Failed::from(format!("{error:#}")))
}

pub(crate) fn open(path: &Path) -> Result<Backend> {
    backend(LocalConfig::at(path).confirm_interval(Duration::from_millis(500)))
}

pub(crate) fn registration(service: &str, port: u16) -> Registration {
    Registration::builder(service, "127.0.0.1", port)
        .build()
        .expect("a registration")
}

/// The ports of a service, sorted.
pub(crate) async fn ports(backend: &Backend, service: &str) -> Result<Vec<u16>> {
    let snapshot = backend.registry.instances(&Query::service(service)?).await?;
    let mut ports: Vec<_> = snapshot.instances.iter().map(|instance| instance.port).collect();
    ports.sort_unstable();
    Ok(ports)
}

/// Waits until a service shows these ports.
pub(crate) async fn shows(backend: &Backend, service: &str, wanted: &[u16]) {
    discovery_testkit::eventually(format!("{service} at {wanted:?}"), PATIENCE, || async {
        let shown = ports(backend, service).await.map_err(|error| error.to_string())?;
        if shown == wanted {
            Ok(())
        } else {
            Err(format!("{shown:?}"))
        }
    })
    .await;
}

/// Microseconds since the system started: the same in every process.
pub(crate) fn micros() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

/// This program once more, in a role of its own. Killed when dropped.
pub(crate) struct Actor {
    pub(crate) child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Actor {
    /// Starts a role, such as `hold PATH SERVICE PORT COUNT`.
    pub(crate) fn start(role: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("this program once more");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { child, lines }
    }

    /// The next line it prints.
    pub(crate) async fn line(&mut self) -> String {
        timeout(PATIENCE, self.lines.next_line())
            .await
            .expect("a line in time")
            .expect("a readable line")
            .expect("a line before its end")
    }

    /// Gives it a line to read.
    pub(crate) async fn tell(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("its input");
        let line = format!("{line}\n");
        stdin
            .write_all(line.as_bytes())
            .await
            .expect("somebody who reads");
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("its end");
    }

    pub(crate) fn pid(&self) -> rustix::process::Pid {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        id.and_then(rustix::process::Pid::from_raw)
            .expect("a process that runs")
    }

    /// Tells it to go on, or to end.
    pub(crate) async fn finish(mut self) {
        drop(self.child.stdin.take());
        let ended = timeout(PATIENCE, self.child.wait())
            .await
            .expect("its end in time");
        assert!(ended.expect("its end").success());
    }
}
