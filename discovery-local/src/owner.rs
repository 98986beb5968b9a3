//! Who lives: every process that registers holds a lock on a file of its own, beside the database.
//!
//! The system takes the lock away when the process ends, however it ends. A lock needs no heartbeat, no clock and no room
//! on the disk. A file is deleted with its owner's records, and so its name, which is never used twice, means nobody.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use discovery_core::{ErrorKind, Result};
use tokio::time::Instant;

use crate::error::{error, of_io};

/// How long opening waits for another process that opens.
const OPENING: Duration = Duration::from_secs(2);

/// This process, as one database knows it.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) id: String,
    path: PathBuf,
    /// Locked for as long as it is open.
    _file: File,
}

impl Owner {
    /// Whether others can still see it: the folder might have been cleaned.
    pub(crate) fn is_visible(&self) -> bool {
        self.path.exists()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // What cannot be deleted now is when somebody opens the database next.
        let _ = fs::remove_file(&self.path);
    }
}

/// The owners of one database, as seen from this process.
#[derive(Debug)]
pub(crate) struct Owners {
    dir: PathBuf,
    /// Files looked at before.
    known: HashMap<String, File>,
}

/// Held while a database is opened and owners come: one process at a time.
#[derive(Debug)]
pub(crate) struct Opening {
    /// Locked for as long as it is open.
    _file: File,
}

impl Owners {
    /// The owners of the database at this path; makes their folder.
    pub(crate) fn of(database: &Path) -> Result<Self> {
        let mut dir = database.as_os_str().to_owned();
        dir.push("-owners");
        let dir = PathBuf::from(dir);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|source| of_io(source, "the folder of locks cannot be made", &dir))?;
        Ok(Self {
            dir,
            known: HashMap::new(),
        })
    }

    /// Waits until no other process opens the database.
    pub(crate) fn opening(&self) -> Result<Opening> {
        let path = self.dir.join("opening");
        let file =
            create(&path).map_err(|source| of_io(source, "the folder of locks cannot be written", &path))?;
        let until = Instant::now() + OPENING;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Opening { _file: file }),
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    std::thread::park_timeout(Duration::from_millis(2));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(error(
                        ErrorKind::Timeout,
                        "another process has been opening the database",
                    )
                    .with_context("path", path.display().to_string())
                    .with_hint("find it with `fuser`: it may be stopped"));
                }
                Err(TryLockError::Error(source)) => {
                    return Err(of_io(source, "the file system has no locks", &path)
                        .with_hint("name a path on a local disk"));
                }
            }
        }
    }

    /// A new owner, locked; files of owners that have ended are deleted.
    pub(crate) fn enter(&mut self, _: &Opening) -> Result<Owner> {
        self.clean();
        let id = format!("{}-{:016x}", std::process::id(), fastrand::u64(..));
        let path = self.dir.join(&id);
        let file = create(&path)
            .map_err(|source| of_io(source, "the lock of this process cannot be made", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Owner {
                id,
                path,
                _file: file,
            }),
            Err(source) => Err(of_io(source.into(), "the file system has no locks", &path)
                .with_hint("name a path on a local disk")),
        }
    }

    /// Whether this owner's process lives. What cannot be told counts as alive: nobody is dropped for a failure to look.
    pub(crate) fn is_alive(&mut self, id: &str) -> bool {
        let path = self.dir.join(id);
        if !self.known.contains_key(id) {
            match File::open(&path) {
                Ok(file) => drop(self.known.insert(id.to_owned(), file)),
                Err(source) => return source.kind() != io::ErrorKind::NotFound,
            }
        }
        let Some(file) = self.known.get(id) else {
            return true;
        };
        match file.try_lock_shared() {
            Ok(()) => {
                self.known.remove(id);
                false
            }
            // Somebody who deleted the folder took it from the sight of those who come later.
            Err(TryLockError::WouldBlock) => path.exists(),
            Err(TryLockError::Error(_)) => true,
        }
    }

    /// Deletes the file of an owner that has ended and has no records any more.
    pub(crate) fn forget(&mut self, id: &str) {
        self.known.remove(id);
        // Another process may have been faster.
        let _ = fs::remove_file(self.dir.join(id));
    }

    /// Forgets the files of all but these owners.
    pub(crate) fn retain(&mut self, owners: &[String]) {
        self.known.retain(|id, _| owners.contains(id));
    }

    fn clean(&mut self) {
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return;
        };
        for name in entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
        {
            if name != "opening" && !self.is_alive(&name) {
                self.forget(&name);
            }
        }
        self.known.clear();
    }
}

/// The file, for its owner only.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}
