//! The only place that classifies what Eureka and the way to it say when something fails.

use std::{error::Error as _, time::Duration};

use discovery_core::{Error, ErrorKind, Retry, tls};

/// The word in every error.
pub(crate) const SCHEME: &str = "eureka";

/// How much of a server's text goes into an error.
const TEXT: usize = 200;

/// An error of this backend.
pub(crate) fn error(kind: ErrorKind, message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(kind, message).with_backend(SCHEME)
}

/// What an answer that is no success means; `write` tells requests that change something from those that read.
pub(crate) fn of_status(status: u16, text: &str, write: bool, retry_after: Option<Duration>) -> Error {
    let transient = |error: Error| match retry_after {
        None => error,
        after => error.with_retry(Retry::Transient { after }),
    };
    let found = match status {
        300..=399 => error(ErrorKind::Protocol, "the server redirects to nowhere")
            .with_hint("name the server itself, not a page that asks to log in"),
        400 => error(ErrorKind::InvalidInput, "the server refuses the request")
            .with_hint("it may not take a name with such characters"),
        401 => error(ErrorKind::Unauthenticated, "the server wants other credentials")
            .with_hint("set `eureka.authentication` or a user and password in the URL"),
        // U-26
        403 if !write => error(
            ErrorKind::Unavailable,
            "the server is not ready: it has not heard from its peers yet",
        ),
        403 => error(ErrorKind::PermissionDenied, "the server refuses to be changed")
            .with_hint("switch CSRF protection off for `/eureka/**` at the server"),
        404 => error(ErrorKind::NotFound, "the server does not know it"),
        405 | 410 | 415 => error(ErrorKind::Protocol, "this is not Eureka")
            .with_hint("is the path of the URL right? Spring Cloud has `/eureka/`, Netflix `/eureka/v2/`"),
        409 => error(ErrorKind::Conflict, "the server holds something else"),
        413 => error(ErrorKind::InvalidInput, "too large for the server"),
        429 => transient(error(ErrorKind::RateLimited, "the server asks to slow down")),
        500..=599 => transient(error(ErrorKind::Unavailable, "the server cannot serve now")),
        _ => error(ErrorKind::Protocol, "the server's answer makes no sense"),
    };
    let found = found.with_context("status", status.to_string());
    match shorten(text) {
        text if text.is_empty() || text.starts_with('<') => found,
        text => found.with_context("server", text),
    }
}

/// What it means that no whole answer came.
pub(crate) fn of_transport(failed: reqwest::Error) -> Error {
    let failed = failed.without_url();
    if tls::objection(&failed).is_some() {
        return error(ErrorKind::ConfigInvalid, "TLS failed")
            .with_hint(
                "check `tls.ca_file`, `tls.server_name` and the client certificate against the server's",
            )
            .with_source(failed);
    }
    let mut chain = String::new();
    let mut cause = failed.source();
    while let Some(error) = cause {
        chain = format!("{chain} {error}");
        cause = error.source();
    }
    if failed.is_timeout() {
        error(ErrorKind::Timeout, "no answer in time").with_source(failed)
    } else if failed.is_connect() {
        error(ErrorKind::Unavailable, "cannot connect")
            .with_hint("is a Eureka server listening there? set `eureka.server.urls` or EUREKA_SERVICE_URL")
            .with_source(failed)
    } else if failed.is_builder() {
        error(ErrorKind::InvalidInput, "the request cannot be written").with_source(failed)
    } else if chain.contains("invalid HTTP") || chain.contains("parsed") {
        error(ErrorKind::Protocol, "the answer is not HTTP")
            .with_hint("is this the HTTP port of a Eureka server, with TLS as configured?")
            .with_source(failed)
    } else if failed.is_decode() {
        error(ErrorKind::Protocol, "the answer cannot be unpacked").with_source(failed)
    } else {
        error(ErrorKind::Unavailable, "the connection broke").with_source(failed)
    }
}

/// A deadline passed.
pub(crate) fn late(deadline: Duration) -> Error {
    error(ErrorKind::Timeout, "no answer in time").with_context("deadline", format!("{deadline:?}"))
}

/// A body that is not what the documentation says.
pub(crate) fn of_body(failed: impl std::error::Error + Send + Sync + 'static, what: &'static str) -> Error {
    error(ErrorKind::Protocol, "the server's answer cannot be read")
        .with_context("expected", what)
        .with_source(failed)
}

/// A body that is a page for people: a proxy's, or that of another server.
pub(crate) fn page(what: &'static str) -> Error {
    error(ErrorKind::Protocol, "the answer is not Eureka's")
        .with_context("expected", what)
        .with_hint("is there a proxy in between, or is the path of the URL wrong?")
}

/// Whether another server may do better (U-29).
pub(crate) fn is_servers_own(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::Protocol
            | ErrorKind::RateLimited
            | ErrorKind::ConfigInvalid
    )
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
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_kind() {
        use ErrorKind::{
            Conflict, InvalidInput, NotFound, PermissionDenied, Protocol, RateLimited, Unauthenticated,
            Unavailable,
        };
        let rows = [
            (302, false, Protocol),
            (400, true, InvalidInput),
            (401, false, Unauthenticated),
            (403, false, Unavailable),
            (403, true, PermissionDenied),
            (404, true, NotFound),
            (405, true, Protocol),
            (409, true, Conflict),
            (429, false, RateLimited),
            (500, true, Unavailable),
            (503, false, Unavailable),
            (418, false, Protocol),
        ];
        for (status, write, kind) in rows {
            let error = of_status(status, "text", write, None);
            assert_eq!(error.kind(), kind, "{status}");
            assert_eq!(error.backend(), Some("eureka"));
        }
        let after = Some(Duration::from_secs(7));
        assert_eq!(of_status(503, "", false, after).retry_after(), after);
    }

    #[test]
    fn long_and_hostile_texts_are_tamed() {
        let error = of_status(500, &"x\n".repeat(10_000), true, None).to_string();
        assert!(error.len() < 400 && !error.contains('\n'), "{error}");
    }
}
