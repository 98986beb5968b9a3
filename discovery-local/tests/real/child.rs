//! What this program does when it is started by itself.

use std::{
    io::{Read as _, Write as _},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use discovery::Client;
use discovery_core::{
    ConfigKey, ErrorKind, HealthReport, PutMode, Query, Registration, Renewal, Result, Status,
};
use discovery_local::{Lifetime, LocalConfig, backend};
use futures::StreamExt;
use tokio::time::{Instant, sleep};

use crate::support::{micros, open, registration};

/// The environment variable that says what to do.
pub(crate) const ROLE: &str = "DISCOVERY_TEST_LOCAL_ROLE";

pub(crate) fn main(role: &str) -> ExitCode {
    let words: Vec<_> = role.split(' ').collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let path = Path::new(words[1]);
    let number = |n: usize| words[n].parse::<u16>().expect("a number");
    let done = runtime.block_on(async {
        match words[0] {
            "hold" => hold(path, words[2], number(3), number(4)).await,
            "detach" => detach(path, words[2]).await,
            "leave" => leave(path, words[2]).await,
            "pulse" => pulse(path, words[2], number(3)).await,
            "churn" => churn(path, words[2]).await,
            "fight" => fight(path, words[2], number(3)).await,
            "count" => count(path, words[2], number(3)).await,
            "idle" => idle(path).await,
            other => panic!("no such role: {other}"),
        }
    });
    done.expect("all of it to succeed");
    ExitCode::SUCCESS
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .expect("somebody who reads");
}

fn wait_for_the_end() {
    // Whatever comes, it ends with the one who started this.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Registers so many instances and stays.
async fn hold(path: &Path, service: &str, first: u16, count: u16) -> Result<()> {
    let backend = open(path)?;
    for port in first..first + count {
        backend.registry.register(&registration(service, port)).await?;
    }
    say("registered");
    wait_for_the_end();
    Ok(())
}

/// Registers one instance as a command does, and ends.
async fn leave(path: &Path, service: &str) -> Result<()> {
    let backend = backend(LocalConfig::at(path).lifetime(Lifetime::Detached))?;
    let client = Client::builder(backend).deregister_on_shutdown(false).build()?;
    client.register(registration(service, 1)).await?;
    client.shutdown(Duration::from_secs(5)).await
}

/// How long one of those lives that outlive their process: longer than a busy machine takes to end that.
pub(crate) const DETACHED: Duration = Duration::from_secs(10);

/// Registers one instance for good and one for a while, and ends.
async fn detach(path: &Path, service: &str) -> Result<()> {
    let backend = backend(LocalConfig::at(path).lifetime(Lifetime::Detached))?;
    backend.registry.register(&registration(service, 1)).await?;
    let short = Registration::builder(service, "127.0.0.1", 2).ttl(DETACHED);
    let lease = backend.registry.register(&short.build()?).await?;
    let renewal = Renewal::new([(lease.key, HealthReport::new(Status::Warning))]);
    backend.registry.renew(&lease.group, &renewal).await
}

/// Registers one instance after another and tells when each was registered, in microseconds of the shared clock.
async fn pulse(path: &Path, service: &str, count: u16) -> Result<()> {
    let backend = open(path)?;
    backend.registry.status().await?;
    say("ready");
    for port in 1..=count {
        // Spread over the time between two looks of those who watch.
        sleep(Duration::from_millis(20 + u64::from(port) * 7 % 25)).await;
        backend.registry.register(&registration(service, port)).await?;
        say(&micros().to_string());
    }
    wait_for_the_end();
    Ok(())
}

/// Registers, changes and withdraws as fast as it can.
async fn churn(path: &Path, service: &str) -> Result<()> {
    let backend = open(path)?;
    say("ready");
    for step in 0_u16.. {
        let port = step % 50 + 1;
        let registration = Registration::builder(service, "127.0.0.1", port).meta("step", step.to_string());
        let lease = backend.registry.register(&registration.build()?).await?;
        if step % 3 == 0 {
            backend.registry.deregister(&lease.key).await?;
        }
    }
    Ok(())
}

/// Registers the same id as others, at a port of its own, until it is told that it is enough.
async fn fight(path: &Path, service: &str, port: u16) -> Result<()> {
    let backend = open(path)?;
    let mine = Registration::builder(service, "127.0.0.1", port)
        .id("the-one")
        .meta("port", port.to_string());
    let mine = mine.build()?;
    say("ready");
    let told = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    while !told.is_finished() {
        backend.registry.register(&mine).await?;
    }
    say("fought");
    wait_for_the_end();
    Ok(())
}

/// Adds one to a value, so many times, by compare-and-set.
async fn count(path: &Path, key: &str, times: u16) -> Result<()> {
    let (backend, key) = (open(path)?, ConfigKey::new(key)?);
    let store = backend.config.expect("a configuration store");
    for _ in 0..times {
        loop {
            let (value, mode) = match store.get(&key).await? {
                None => (0, PutMode::Create),
                Some(entry) => {
                    let text = String::from_utf8_lossy(&entry.value).into_owned();
                    (
                        text.parse::<u32>().expect("a number"),
                        PutMode::IfVersion(entry.version),
                    )
                }
            };
            match store.put(&key, (value + 1).to_string().as_bytes(), mode).await {
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Watches a quiet file for ten seconds and tells the processor time that took, in ms: a figure for people.
async fn idle(path: &Path) -> Result<()> {
    let backend = open(path)?;
    backend.registry.register(&registration("idle", 1)).await?;
    let mut watch = backend.watcher.watch(&Query::all(), None);
    watch.next().await;
    let used = || {
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        used.tv_sec * 1000 + used.tv_nsec / 1_000_000
    };
    let before = used();
    let until = Instant::now() + Duration::from_secs(10);
    while tokio::time::timeout_at(until, watch.next()).await.is_ok() {}
    say(&format!("{} ms in 10 s", used() - before));
    Ok(())
}
