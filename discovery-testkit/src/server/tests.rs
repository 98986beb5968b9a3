//! A child that is a few lines of Python: it answers its pid, or does as badly as it is told.

use std::time::Duration;

use discovery_core::{Error, ErrorKind};
use rustix::process::{Pid, test_kill_process};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::{Instant, timeout},
};

use super::*;
use crate::eventually;

const DEADLINE: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_millis(100);

/// Prints a line, then answers `<pid>` to every connection that sends a byte; where it ends in order, it leaves a file.
const SERVE: &str = r"
import os, signal, socket, sys
def end(*_):
    open('ended', 'w').close()
    os._exit(0)
signal.signal(signal.SIGTERM, end)
port = int(sys.argv[1])
print('serving', port, flush=True)
with open('starts', 'a') as starts:
    starts.write('x')
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('127.0.0.1', port))
s.listen()
while True:
    c, _ = s.accept()
    if c.recv(1):
        c.sendall(str(os.getpid()).encode())
    c.close()
";

#[derive(Debug)]
struct Python(&'static str);

async fn ask(addr: SocketAddr) -> std::io::Result<u32> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(b"?").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    answer.parse().map_err(std::io::Error::other)
}

#[async_trait]
impl Recipe for Python {
    fn name(&self) -> &'static str {
        "python"
    }

    fn ports(&self) -> usize {
        2
    }

    fn ready_within(&self) -> Duration {
        DEADLINE
    }

    fn command(&self, place: &Place) -> Command {
        let mut command = Command::new("python3");
        command
            .args(["-c", self.0])
            .arg(place.endpoints()[0].port().to_string());
        command
    }

    async fn probe(&self, place: &Place) -> Result<()> {
        let unavailable = |source| Error::new(ErrorKind::Unavailable, "no answer").with_source(source);
        ask(place.endpoints()[0]).await.map(drop).map_err(unavailable)
    }

    async fn version(&self, place: &Place) -> Result<String> {
        let pid = ask(place.endpoints()[0]).await;
        pid.map(|pid| pid.to_string())
            .map_err(|source| Error::new(ErrorKind::Unavailable, "none").with_source(source))
    }
}

#[tokio::test]
async fn runs_is_restarted_in_place_and_ends() {
    let server = ChildServer::new(Python(SERVE)).unwrap();
    let [first, second] = server.place().endpoints() else {
        panic!("two ports")
    };
    assert_ne!(first, second);
    assert_eq!(server.pid(), None);
    server.stop().await.unwrap();

    server.start().await.unwrap();
    let pid = server.pid().unwrap();
    assert_eq!(server.version().await.unwrap(), pid.to_string());
    assert_eq!(server.start().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(server.pid(), Some(pid), "the first one goes on");

    server.restart().await.unwrap();
    let again = ask(server.endpoint()).await.unwrap();
    assert_eq!(server.pid(), Some(again));
    assert_ne!(again, pid);
    assert_eq!(
        std::fs::read(server.place().dir().join("starts")).unwrap(),
        b"xx",
        "its data stays"
    );
    assert!(
        server
            .place()
            .log_tail()
            .contains(&format!("serving {}", first.port()))
    );

    server.kill().await.unwrap();
    server.kill().await.unwrap();
    assert_eq!(server.pid(), None);
    let refused = TcpStream::connect(server.endpoint()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    server.start().await.unwrap();
    assert_ne!(ask(server.endpoint()).await.unwrap(), again);
}

#[tokio::test]
async fn a_crashed_one_can_be_started_again() {
    let server = ChildServer::new(Python(SERVE)).unwrap();
    server.start().await.unwrap();
    let pid = server.pid().unwrap();
    let crash = Command::new("kill")
        .arg("-9")
        .arg(pid.to_string())
        .status()
        .await
        .unwrap();
    assert!(crash.success());
    eventually("a new one", DEADLINE, || server.start()).await;
    assert_ne!(server.pid(), Some(pid));
}

#[tokio::test]
async fn paused_it_connects_and_answers_nothing() {
    let server = ChildServer::new(Python(SERVE)).unwrap();
    assert_eq!(server.pause().await.unwrap_err().kind(), ErrorKind::NotFound);
    server.start().await.unwrap();
    server.pause().await.unwrap();
    let mut stream = TcpStream::connect(server.endpoint()).await.unwrap();
    stream.write_all(b"?").await.unwrap();
    assert!(timeout(QUIET, stream.read_u8()).await.is_err());
    server.resume().unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer, server.pid().unwrap().to_string());

    server.pause().await.unwrap();
    server.stop().await.unwrap();
    let ended = server.place().dir().join("ended");
    assert!(ended.exists(), "a paused one stops in order");
}

#[tokio::test]
async fn one_that_ends_at_once_is_an_error_with_its_log() {
    let server = ChildServer::new(Python("import sys; print('hm'); sys.exit('bad flag: --frob')")).unwrap();
    let started = Instant::now();
    let error = server.start().await.unwrap_err();
    assert!(
        started.elapsed() < DEADLINE,
        "its end is noticed before the deadline"
    );
    assert_eq!(
        (error.kind(), error.is_retryable()),
        (ErrorKind::Unavailable, false)
    );
    let text = error.to_string();
    assert!(
        text.contains("bad flag: --frob") && text.contains("hm") && text.contains("exit status: 1"),
        "{text}"
    );
    assert_eq!(server.pid(), None);
}

/// Runs and never serves.
#[derive(Debug)]
struct Idle;

#[async_trait]
impl Recipe for Idle {
    fn name(&self) -> &'static str {
        "idle"
    }

    fn ready_within(&self) -> Duration {
        Duration::from_secs(2)
    }

    fn command(&self, _: &Place) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > pid; echo waiting for godot >&2; exec sleep 1000"]);
        command
    }

    async fn probe(&self, place: &Place) -> Result<()> {
        let pid = std::fs::read_to_string(place.dir().join("pid")).unwrap_or_default();
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("not ready: {}", pid.trim()),
        ))
    }

    async fn version(&self, _: &Place) -> Result<String> {
        std::future::pending().await
    }
}

fn runs(pid: &str) -> bool {
    let pid = pid.parse().ok().and_then(Pid::from_raw).unwrap();
    test_kill_process(pid).is_ok()
}

#[tokio::test]
async fn one_that_never_serves_is_killed_at_the_deadline() {
    let server = ChildServer::new(Idle).unwrap();
    let text = server.start().await.unwrap_err().to_string();
    assert!(
        text.contains("never saw it serve") && text.contains("waiting for godot"),
        "{text}"
    );
    let pid = std::fs::read_to_string(server.place().dir().join("pid")).unwrap();
    assert!(text.contains(&format!("not ready: {}", pid.trim())), "{text}");
    assert!(!runs(pid.trim()));
}

#[tokio::test]
async fn one_dropped_while_starting_is_killed() {
    let server = ChildServer::new(Idle).unwrap();
    let dir = server.place().dir().to_owned();
    let pid = {
        let file = dir.join("pid");
        let started = async {
            eventually("its pid", DEADLINE, || async {
                std::fs::read_to_string(&file)
                    .ok()
                    .filter(|pid| pid.ends_with('\n'))
            })
            .await
        };
        tokio::select! {
            ended = server.start() => panic!("{ended:?}"),
            pid = started => pid,
        }
    };
    eventually("its end", DEADLINE, || async { !runs(pid.trim()) }).await;
    drop(server);
    assert!(!dir.exists());
}

#[derive(Debug)]
struct Absent {
    ports: usize,
}

#[async_trait]
impl Recipe for Absent {
    fn name(&self) -> &'static str {
        "absent"
    }

    fn ports(&self) -> usize {
        self.ports
    }

    fn command(&self, _: &Place) -> Command {
        Command::new("/nonexistent/server")
    }

    async fn probe(&self, _: &Place) -> Result<()> {
        Ok(())
    }

    async fn version(&self, _: &Place) -> Result<String> {
        Ok(String::new())
    }
}

#[tokio::test]
async fn what_cannot_run_is_an_error_that_says_what_to_do() {
    let error = ChildServer::new(Absent { ports: 0 }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    let error = ChildServer::new(Absent { ports: 1 })
        .unwrap()
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.hint().unwrap().contains("installed"));
    assert!(format!("{error:#}").contains("No such file"), "{error:#}");
}
