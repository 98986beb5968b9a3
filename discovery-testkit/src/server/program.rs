//! Programs that tests were told of, and running one to its end.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use discovery_core::{Error, ErrorKind, Result, Retry};
use tokio::{process::Command, time::timeout};

/// How long a program may take for anything that is not serving.
const DEADLINE: Duration = Duration::from_secs(30);

/// A program that the tests run where its variable says that it is; `scripts/test` sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    name: &'static str,
    variable: &'static str,
}

impl Program {
    pub(super) const fn new(name: &'static str, variable: &'static str) -> Self {
        Self { name, variable }
    }

    /// What it is called in the names of tests.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The variable that holds its path.
    pub fn variable(self) -> &'static str {
        self.variable
    }

    /// Its path, where the tests were told one.
    pub fn binary(self) -> Option<PathBuf> {
        env::var_os(self.variable)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    }
}

/// Runs a program to its end, and gives what it printed. At most 30 s.
pub(super) async fn run(name: &'static str, mut command: Command, what: &'static str) -> Result<String> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(DEADLINE, command.output())
        .await
        .map_err(|_| cannot(name, what).with_context("deadline", format!("{DEADLINE:?}")))?
        .map_err(|source| {
            cannot(name, what)
                .with_hint("is its program installed? scripts/servers gets one")
                .with_source(source)
        })?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(cannot(name, what)
            .with_context("status", output.status.to_string())
            .with_context("said", text));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The error of a program that fails.
pub(super) fn cannot(name: &'static str, what: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{name} cannot {what}"))
        .with_operation("test server")
        .with_retry(Retry::Never)
}

/// Deletes a folder with all in it; one that is not there is as good.
pub(super) async fn delete(folder: &Path) -> Result<()> {
    let folder = folder.to_owned();
    match tokio::task::spawn_blocking(move || std::fs::remove_dir_all(folder)).await {
        Ok(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::new(ErrorKind::Unexpected, "cannot delete a server's data").with_source(error))
        }
        _ => Ok(()),
    }
}
