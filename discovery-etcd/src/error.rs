//! The only place that classifies what etcd and the way to it say when something fails.

use std::{error::Error as StdError, time::Duration};

use discovery_core::{Error, ErrorKind, tls};
use tonic::{Code, Status};

use crate::connect::NotConnected;

/// The word in every error.
pub(crate) const SCHEME: &str = "etcd";

/// How much of a server's text goes into an error.
const TEXT: usize = 200;

/// An error of this backend.
pub(crate) fn error(kind: ErrorKind, message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(kind, message).with_backend(SCHEME)
}

/// What a failed request means for the way it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It was never sent: any request may be repeated on another member (E-28).
    NotSent,
    /// This member cannot serve it: what only reads may be repeated on another one.
    Member,
    /// The token is no longer known: get another and repeat it (E-31, E-32).
    Token,
    /// Repeating it elsewhere cannot help.
    Answer,
}

/// The error of a failed call, and what it means for the way.
pub(crate) fn of_call(failed: etcd_client::Error) -> (Fault, Error) {
    match failed {
        etcd_client::Error::GRpcStatus(status) => of_status(status),
        other => (
            Fault::Answer,
            error(ErrorKind::Unexpected, "the request cannot be written").with_source(other),
        ),
    }
}

/// What a status means. Codes alone do not tell (E-16, E-31): texts decide.
pub(crate) fn of_status(status: Status) -> (Fault, Error) {
    if let Some(objection) = status.source().and_then(tls::objection) {
        let text = objection.to_string();
        let failed = error(ErrorKind::ConfigInvalid, "TLS failed")
            .with_hint(
                "check `tls.ca_file`, `tls.server_name` and the client certificate against the server's",
            )
            .with_context("reason", shorten(&text));
        return (Fault::Answer, failed);
    }
    if caused_by::<NotConnected>(&status) {
        let failed = error(ErrorKind::Unavailable, "cannot connect")
            .with_hint("is etcd listening there? set `etcd.endpoints` or ETCDCTL_ENDPOINTS")
            .with_source(status);
        return (Fault::NotSent, failed);
    }
    let (fault, kind, message, hint) = of_text(status.code(), status.message());
    let mut failed = error(kind, message);
    if let Some(hint) = hint {
        failed = failed.with_hint(hint);
    }
    match shorten(status.message()) {
        text if text.is_empty() => {}
        text => failed = failed.with_context("server", text),
    }
    (fault, failed)
}

type Meaning = (Fault, ErrorKind, &'static str, Option<&'static str>);

/// What a code and a text mean; texts in the reason of a cancelled watch are read with the code `Unknown`.
pub(crate) fn of_text(code: Code, text: &str) -> Meaning {
    let has = |part: &str| text.contains(part);
    let (kind, message, hint) = if has("invalid auth token") || has("revision of auth store is old") {
        return (
            Fault::Token,
            ErrorKind::Unauthenticated,
            "the token is no longer valid",
            None,
        );
    } else if has("user name is empty") || has("user name not found") && code != Code::NotFound {
        return (
            Fault::Token,
            ErrorKind::Unauthenticated,
            "the cluster wants a user",
            Some("set `etcd.authentication`, or ETCDCTL_USER"),
        );
    } else if has("invalid user ID or password") || has("authentication failed") {
        (
            ErrorKind::Unauthenticated,
            "the user or password is wrong",
            Some("check `etcd.authentication`"),
        )
    } else if code == Code::PermissionDenied || has("permission denied") || has("PermissionDenied") {
        (
            ErrorKind::PermissionDenied,
            "the user lacks a right",
            Some(
                "grant its role READWRITE on the exact prefix: `etcdctl role grant-permission ROLE readwrite PREFIX --prefix=true`",
            ),
        )
    } else if has("required revision has been compacted") {
        (ErrorKind::WatchExpired, "the history has been compacted", None)
    } else if has("is a future revision") {
        (
            ErrorKind::WatchExpired,
            "the server is behind what was read before",
            None,
        )
    } else if has("requested lease not found") {
        (ErrorKind::NotFound, "the lease is gone", None)
    } else if has("lease already exists") {
        (ErrorKind::Conflict, "the lease exists already", None)
    } else if has("database space exceeded") {
        (
            ErrorKind::RateLimited,
            "the cluster's database is full: writes fail",
            Some("compact and defragment it, then `etcdctl alarm disarm`"),
        )
    } else if has("too many requests") {
        (ErrorKind::RateLimited, "the server asks to slow down", None)
    } else if has("message length too large") || has("message too large") || has("request is too large") {
        (ErrorKind::InvalidInput, "too large for one message", None)
    } else if has("not supported for learner") {
        return (
            Fault::Member,
            ErrorKind::Unavailable,
            "this member is a learner",
            None,
        );
    } else {
        return of_code(code, text);
    };
    (Fault::Answer, kind, message, hint)
}

fn of_code(code: Code, text: &str) -> Meaning {
    let member = |kind, message| (Fault::Member, kind, message, None);
    let answer = |kind, message| (Fault::Answer, kind, message, None);
    match code {
        Code::Unavailable if text.contains("timed out") => {
            member(ErrorKind::Timeout, "the cluster did not agree in time")
        }
        Code::Unavailable => member(ErrorKind::Unavailable, "the server cannot serve now"),
        // The way broke under a request; a server that stops says so, too.
        Code::Unknown | Code::Cancelled | Code::Aborted => {
            member(ErrorKind::Unavailable, "the connection broke")
        }
        Code::Internal
            if text.contains("h2") || text.contains("http2") || text.contains("protocol error") =>
        {
            member(ErrorKind::Unavailable, "the connection broke")
        }
        Code::DeadlineExceeded => member(ErrorKind::Timeout, "the cluster did not agree in time"),
        Code::NotFound => answer(ErrorKind::NotFound, "the server does not know it"),
        Code::InvalidArgument | Code::OutOfRange => {
            answer(ErrorKind::InvalidInput, "the server refuses the request")
        }
        Code::AlreadyExists | Code::FailedPrecondition => {
            answer(ErrorKind::Conflict, "the server holds something else")
        }
        Code::ResourceExhausted => answer(ErrorKind::RateLimited, "the server asks to slow down"),
        Code::Unauthenticated => (
            Fault::Token,
            ErrorKind::Unauthenticated,
            "the server wants other credentials",
            None,
        ),
        Code::Unimplemented => (
            Fault::Answer,
            ErrorKind::Unsupported,
            "this version of the server cannot do it",
            Some("etcd 3.4 or newer is needed"),
        ),
        _ => member(ErrorKind::Protocol, "the server's answer makes no sense"),
    }
}

/// The error of a watch that the server ended in an otherwise healthy stream (E-15, E-22).
pub(crate) fn of_cancel(compacted: i64, reason: &str) -> (Fault, Error) {
    if compacted > 0 {
        let failed = error(ErrorKind::WatchExpired, "the history has been compacted")
            .with_context("compacted", compacted.to_string());
        return (Fault::Answer, failed);
    }
    let (fault, kind, message, hint) = of_text(Code::Unknown, reason);
    let (fault, kind, message) = match fault {
        Fault::Member if reason.contains("compacted") => (
            Fault::Answer,
            ErrorKind::WatchExpired,
            "the history has been compacted",
        ),
        Fault::Member => (fault, ErrorKind::Unavailable, "the server ended the watch"),
        fault => (fault, kind, message),
    };
    let mut failed = error(kind, message);
    if let Some(hint) = hint {
        failed = failed.with_hint(hint);
    }
    match shorten(reason) {
        text if text.is_empty() => {}
        text => failed = failed.with_context("server", text),
    }
    (fault, failed)
}

/// A deadline passed.
pub(crate) fn late(deadline: Duration) -> Error {
    error(ErrorKind::Timeout, "no answer in time").with_context("deadline", format!("{deadline:?}"))
}

fn caused_by<E: StdError + 'static>(failed: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(failed);
    while let Some(cause) = next {
        if cause.is::<E>() {
            return true;
        }
        next = match cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        };
    }
    false
}

fn shorten(text: &str) -> String {
    let mut line: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(TEXT)
        .collect();
    if text.trim().chars().count() > TEXT {
        line.push('…');
    }
    line
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
