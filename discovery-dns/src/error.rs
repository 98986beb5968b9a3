//! The one place that says what failures of DNS mean.

use std::{borrow::Cow, io, time::Duration};

use discovery_core::{Error, ErrorKind, Retry, tls};
use hickory_proto::op::ResponseCode;

use crate::wire::BADVERS;

/// What this backend is called everywhere.
pub(crate) const SCHEME: &str = "dns";

pub(crate) fn error(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(kind, message).with_backend(SCHEME)
}

/// What a response code other than "no error" and "no such name" means to who asked (D-7, D-16).
pub(crate) fn of_answer(code: ResponseCode) -> Error {
    match code {
        ResponseCode::ServFail => error(ErrorKind::Unavailable, "the server cannot answer now"),
        ResponseCode::Refused => error(ErrorKind::PermissionDenied, "the server refuses to answer")
            .with_hint("does it serve this zone, and us? check `servers` and `resolution`"),
        ResponseCode::NotAuth => error(ErrorKind::Unauthenticated, "the server wants other credentials"),
        ResponseCode::FormErr | ResponseCode::NotImp | BADVERS => {
            error(ErrorKind::Protocol, "the server does not understand the question")
        }
        _ => error(
            ErrorKind::Protocol,
            "the server answers with a code that makes no sense here",
        ),
    }
    .with_context("code", code.to_str().to_owned())
}

/// An answer that leads elsewhere: the server does not know the zone.
pub(crate) fn referral() -> Error {
    error(
        ErrorKind::Unavailable,
        "the server does not know the zone, and asks nobody who does",
    )
    .with_hint("name one that serves the zone, or resolves for its clients")
}

/// Nothing that could be read came.
pub(crate) fn of_io(failed: io::Error) -> Error {
    if tls::objection(&failed).is_some() {
        return error(ErrorKind::ConfigInvalid, "TLS failed")
            .with_hint("check `tls.ca_file` and `tls.server_name` against the server's certificate")
            .with_source(failed);
    }
    if failed.kind() == io::ErrorKind::InvalidData {
        return garbled();
    }
    let message = match failed.kind() {
        io::ErrorKind::ConnectionRefused => "nobody listens there",
        _ => "the connection broke",
    };
    error(ErrorKind::Unavailable, message)
        .with_hint("is a DNS server listening there? set `dns_discovery.servers`")
        .with_source(failed)
}

/// An answer that is none.
pub(crate) fn garbled() -> Error {
    error(ErrorKind::Protocol, "the answer cannot be read").with_retry(Retry::Transient { after: None })
}

/// A chain of aliases that does not end, or is too long (D-8).
pub(crate) fn aliases(name: &str) -> Error {
    error(ErrorKind::Protocol, "a chain of aliases does not end")
        .with_context("name", name.to_owned())
        .with_hint("mend its CNAME records")
        .with_retry(Retry::Transient { after: None })
}

/// A deadline passed.
pub(crate) fn late(deadline: Duration) -> Error {
    error(ErrorKind::Timeout, "no answer in time").with_context("deadline", format!("{deadline:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_16_no_failure_is_an_empty_answer() {
        use ErrorKind::{PermissionDenied, Protocol, Unauthenticated, Unavailable};
        for (code, kind) in [
            (ResponseCode::ServFail, Unavailable),
            (ResponseCode::Refused, PermissionDenied),
            (ResponseCode::NotAuth, Unauthenticated),
            (ResponseCode::FormErr, Protocol),
            (ResponseCode::NotImp, Protocol),
            (ResponseCode::YXDomain, Protocol),
        ] {
            let error = of_answer(code);
            assert_eq!((error.kind(), error.backend()), (kind, Some("dns")), "{code}");
        }
    }
}
