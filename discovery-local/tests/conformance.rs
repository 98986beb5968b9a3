//! The conformance suite on files.

use std::{fs, io, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use async_trait::async_trait;
use discovery_core::{Backend, Error, ErrorKind, Result};
use discovery_local::{LocalConfig, backend};
use discovery_testkit::suite::{self, Case, Fault, Provider, Subject, Tool};
use rusqlite::Connection;
use tempfile::TempDir;

fn main() -> ExitCode {
    suite::run([Arc::new(Files) as Arc<dyn Provider>])
}

/// A file of its own for every case.
#[derive(Debug)]
struct Files;

#[async_trait]
impl Provider for Files {
    fn name(&self) -> &'static str {
        "local"
    }

    /// There is no way between a client and its file that could be broken; `tests/real` breaks the file itself.
    fn shows(&self, _: Fault) -> bool {
        false
    }

    fn has(&self, tool: Tool) -> bool {
        tool != Tool::Requests
    }

    async fn subject(&self, _: &Case) -> Result<Box<dyn Subject>> {
        let dir = tempfile::tempdir().map_err(|source| broken("no folder", source))?;
        Ok(Box::new(OneFile { dir }))
    }
}

#[derive(Debug)]
struct OneFile {
    dir: TempDir,
}

impl OneFile {
    fn path(&self) -> PathBuf {
        self.dir.path().join("x.db")
    }
}

fn broken(what: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Unexpected, what).with_source(source)
}

#[async_trait]
impl Subject for OneFile {
    async fn connect(&self) -> Result<Backend> {
        backend(LocalConfig::at(self.path()).confirm_interval(Duration::from_millis(200)))
    }

    async fn direct(&self) -> Result<Backend> {
        self.connect().await
    }

    async fn break_way(&self, fault: Fault) -> Result<()> {
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("a file has no {fault:?}"),
        ))
    }

    async fn heal(&self) -> Result<()> {
        Ok(())
    }

    /// Somebody deletes the files while they are open.
    async fn forget(&self) -> Result<()> {
        for name in ["x.db", "x.db-wal", "x.db-shm"] {
            match fs::remove_file(self.dir.path().join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(broken("not deleted", error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What many changes do.
    async fn compact(&self) -> Result<()> {
        let connection = Connection::open(self.path()).map_err(|source| broken("not opened", source))?;
        connection
            .execute("DELETE FROM changes", [])
            .map_err(|source| broken("not compacted", source))?;
        Ok(())
    }

    fn open_watches(&self) -> Option<usize> {
        // Asked from a thread of its own: this one runs cases.
        let status = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .ok()?;
            let status = async { self.connect().await?.registry.status().await };
            runtime.block_on(status).ok()
        };
        let status = std::thread::scope(|scope| scope.spawn(status).join()).ok()??;
        let (_, watches) = status.details.iter().find(|(name, _)| name == "watches")?;
        watches.parse().ok()
    }

    fn requests(&self) -> Option<usize> {
        None
    }

    /// Within a process there is no need to look; a busy machine is allowed for.
    fn visible_within(&self) -> Duration {
        Duration::from_secs(1)
    }
}
