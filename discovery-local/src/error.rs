//! The only place that classifies what `SQLite` and the file system say when something fails.

use std::{borrow::Cow, io};

use discovery_core::{Error, ErrorKind};
use rusqlite::ErrorCode;

/// The word in every error, and the source instances carry.
pub(crate) const SCHEME: &str = "local";

/// An error of this backend.
pub(crate) fn error(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(kind, message).with_backend(SCHEME)
}

/// What a failure of the database means.
pub(crate) fn of_sqlite(source: rusqlite::Error) -> Error {
    let (kind, message, hint) = match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => (
            ErrorKind::Timeout,
            "another process holds the database",
            "find it with `fuser`: it may be stopped in the middle of a change",
        ),
        Some(ErrorCode::DiskFull) => (
            ErrorKind::Unavailable,
            "the disk is full: nothing was changed",
            "make room; what is registered stays, and reads go on",
        ),
        Some(ErrorCode::SystemIoFailure) => (
            ErrorKind::Unavailable,
            "the file system failed: nothing was changed",
            "see the cause; often the disk is full or gone",
        ),
        Some(ErrorCode::CannotOpen) => (
            ErrorKind::Unavailable,
            "the database cannot be opened",
            "is its folder there, and writable?",
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => (
            ErrorKind::PermissionDenied,
            "the database may not be written",
            "it and its folder must be writable by this user",
        ),
        Some(ErrorCode::NotADatabase) => (
            ErrorKind::ConfigInvalid,
            "the file is not a database",
            "it was left as it is: name another path, or move it away",
        ),
        Some(ErrorCode::DatabaseCorrupt) => (
            ErrorKind::Protocol,
            "the database is damaged",
            "move the file and those beside it away: programs register again in a new one",
        ),
        Some(ErrorCode::TooBig) => (
            ErrorKind::InvalidInput,
            "the value is too large",
            "keep it under a gigabyte",
        ),
        _ => (
            ErrorKind::Unexpected,
            "the database failed",
            "see the cause, and report it",
        ),
    };
    error(kind, message).with_hint(hint).with_source(source)
}

/// What a failure of the file system at `path` means.
pub(crate) fn of_io(source: io::Error, what: &'static str, path: &std::path::Path) -> Error {
    let (kind, hint) = match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => (
            ErrorKind::PermissionDenied,
            "name a path that this user may write",
        ),
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::InvalidFilename => {
            (ErrorKind::ConfigInvalid, "name the path of a file")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (ErrorKind::Unavailable, "make room"),
        _ => (ErrorKind::Unavailable, "see the cause"),
    };
    error(kind, what)
        .with_context("path", path.display().to_string())
        .with_hint(hint)
        .with_source(source)
}

/// A record that is not as this library writes it.
pub(crate) fn garbled(source: serde_json::Error) -> Error {
    error(ErrorKind::Protocol, "a record of the database makes no sense")
        .with_hint("was it changed by hand? Register again, or move the file away")
        .with_source(source)
}

pub(crate) fn not_found(message: &'static str, what: &'static str, value: impl Into<String>) -> Error {
    error(ErrorKind::NotFound, message)
        .with_context(what, value)
        .with_hint("register again")
}

pub(crate) fn unsupported(message: &'static str) -> Error {
    error(ErrorKind::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn every_failure_has_a_kind_and_a_hint() {
        for (code, kind) in [
            (ffi::SQLITE_BUSY, ErrorKind::Timeout),
            (ffi::SQLITE_FULL, ErrorKind::Unavailable),
            (ffi::SQLITE_IOERR_WRITE, ErrorKind::Unavailable),
            (ffi::SQLITE_CANTOPEN, ErrorKind::Unavailable),
            (ffi::SQLITE_READONLY, ErrorKind::PermissionDenied),
            (ffi::SQLITE_NOTADB, ErrorKind::ConfigInvalid),
            (ffi::SQLITE_CORRUPT, ErrorKind::Protocol),
            (ffi::SQLITE_TOOBIG, ErrorKind::InvalidInput),
            (ffi::SQLITE_MISUSE, ErrorKind::Unexpected),
        ] {
            let error = of_sqlite(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
            assert_eq!(error.kind(), kind, "{code}");
            assert!(error.hint().is_some(), "{code}");
            assert_eq!(
                error.is_retryable(),
                matches!(kind, ErrorKind::Timeout | ErrorKind::Unavailable)
            );
        }
    }
}
