//! The only place that classifies what Consul and the way to it say when something fails.

use std::{error::Error as _, time::Duration};

use discovery_core::{Error, ErrorKind, Retry, tls};

/// The word in every error.
pub(crate) const SCHEME: &str = "consul";

/// How much of a server's text goes into an error.
const TEXT: usize = 200;
/// When to ask again for a datacenter that cannot be reached.
const REMOTE: Duration = Duration::from_secs(30);

/// Texts of a 500 that no repetition cures: the request itself is at fault.
const PERMANENT: &[&str] = &[
    "Failed to create boolean expression evaluator",
    "strconv.ParseUint",
    "Check is not valid",
    "Invalid check",
    "Invalid service",
    "invalid key name",
];
/// Texts by which agents of several versions say that they do not know a service or check.
const UNKNOWN: &[&str] = &[
    "Unknown check",
    "Unknown service",
    "does not have associated TTL",
    "unknown service ID",
];
/// Texts of a 500 about another datacenter.
const NO_WAY: &[&str] = &["No path to datacenter", "Remote DC has no server"];

/// An error of this backend.
pub(crate) fn error(kind: ErrorKind, message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(kind, message).with_backend(SCHEME)
}

/// What an answer that is no success means.
pub(crate) fn of_status(status: u16, text: &str, retry_after: Option<Duration>) -> Error {
    let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    let transient = |error: Error| match retry_after {
        None => error,
        after => error.with_retry(Retry::Transient { after }),
    };
    let refused = |fallback: &'static str| {
        if has(&["ACL not found", "token expired", "token does not exist"]) {
            error(ErrorKind::Unauthenticated, "the token is unknown or has expired")
                .with_hint("give a token that exists: `token`, `token_env` or `token_file`")
        } else if has(&["Endpoint is blocked", "Access is restricted"]) {
            error(
                ErrorKind::PermissionDenied,
                "the agent's own configuration blocks this request",
            )
            .with_hint("see `http_config` of the agent")
        } else {
            error(ErrorKind::PermissionDenied, fallback)
                .with_hint("grant the token the right that the server's text names")
        }
    };
    let found = match status {
        300..=399 => error(
            ErrorKind::Protocol,
            "the server redirects, which is never followed",
        )
        .with_hint("name the agent itself, not a proxy that redirects"),
        400 if has(&["Enterprise feature"]) => error(ErrorKind::Unsupported, "this needs Consul Enterprise")
            .with_hint("remove `namespace` and `partition`"),
        400 => error(ErrorKind::InvalidInput, "the server refuses the request"),
        401 if has(&["ACL support disabled"]) => error(
            ErrorKind::Unsupported,
            "access control is disabled on this server",
        ),
        401 => error(ErrorKind::Unauthenticated, "the server wants other credentials"),
        403 => refused("the token lacks a right"),
        404 => error(ErrorKind::NotFound, "the server does not know it"),
        405 => error(ErrorKind::Unsupported, "this version of the server cannot do it"),
        409 => error(ErrorKind::Conflict, "the server holds something else"),
        413 => error(ErrorKind::InvalidInput, "too large for the server"),
        429 => transient(error(ErrorKind::RateLimited, "the server asks to slow down")),
        500 if has(UNKNOWN) => error(ErrorKind::NotFound, "the agent does not know it"),
        500 if has(NO_WAY) => error(
            ErrorKind::Unavailable,
            "the datacenter cannot be reached from here",
        )
        .with_retry(Retry::Transient { after: Some(REMOTE) }),
        500 if has(&["Scripts are disabled"]) => error(
            ErrorKind::Unsupported,
            "the agent runs no scripts that it is given over HTTP",
        )
        .with_hint(
            "set `enable_script_checks = true` in the agent's configuration (`enable_local_script_checks` is for its own \
             files only), under access control; or give an HTTP, TCP or gRPC check",
        ),
        500 if has(PERMANENT) => error(ErrorKind::InvalidInput, "the server refuses the request"),
        500 if has(&["ACL not found", "Permission denied"]) => refused("the token lacks a right"),
        500..=599 => transient(error(ErrorKind::Unavailable, "the server cannot serve now")),
        _ => error(ErrorKind::Protocol, "the server's answer makes no sense"),
    };
    let found = found.with_context("status", status.to_string());
    match shorten(text) {
        text if text.is_empty() => found,
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
            .with_hint("is a Consul agent listening there? set `consul.server.address` or CONSUL_HTTP_ADDR")
            .with_source(failed)
    } else if failed.is_builder() {
        error(ErrorKind::InvalidInput, "the request cannot be written").with_source(failed)
    } else if chain.contains("invalid HTTP") || chain.contains("parsed") {
        error(ErrorKind::Protocol, "the answer is not HTTP")
            .with_hint("is this the HTTP port of a Consul agent, with TLS as configured?")
            .with_source(failed)
    } else {
        error(ErrorKind::Unavailable, "the connection broke").with_source(failed)
    }
}

/// A deadline passed.
pub(crate) fn late(deadline: Duration) -> Error {
    error(ErrorKind::Timeout, "no answer in time").with_context("deadline", format!("{deadline:?}"))
}

/// A body that is not what the documentation says.
pub(crate) fn of_body(failed: serde_json::Error, what: &'static str) -> Error {
    error(ErrorKind::Protocol, "the server's answer cannot be read")
        .with_context("expected", what)
        .with_source(failed)
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

    /// Every row of the table in the protocol notes.
    #[test]
    fn every_status_and_text_has_its_kind() {
        use ErrorKind::{
            Conflict, InvalidInput, NotFound, PermissionDenied, Protocol, RateLimited, Unauthenticated,
            Unavailable, Unsupported,
        };
        let rows = [
            (301, "", Protocol),
            (307, "Temporary Redirect", Protocol),
            (400, "Invalid wait time", InvalidInput),
            (
                400,
                "Request decode failed: json: unknown field \"X\"",
                InvalidInput,
            ),
            (
                400,
                "Invalid query parameter: \"ns\" - Namespaces are a Consul Enterprise feature",
                Unsupported,
            ),
            (401, "ACL support disabled", Unsupported),
            (401, "", Unauthenticated),
            (403, "Permission denied", PermissionDenied),
            (403, "ACL not found", Unauthenticated),
            (403, "rpc error making call: ACL not found", Unauthenticated),
            (
                403,
                "Endpoint is blocked by agent configuration",
                PermissionDenied,
            ),
            (404, "Unknown service ID \"x\"", NotFound),
            (404, "Unknown check ID \"x\"", NotFound),
            (405, "method GET not allowed", Unsupported),
            (409, "", Conflict),
            (413, "", InvalidInput),
            (
                429,
                "Your IP is issuing too many concurrent connections",
                RateLimited,
            ),
            (500, "CheckID \"x\" does not have associated TTL", NotFound),
            (500, "Unknown check \"x\"", NotFound),
            (500, "Unknown service {\"x\" {}}", NotFound),
            (500, "No cluster leader", Unavailable),
            (500, "rpc error making call: EOF", Unavailable),
            (500, "No known Consul servers", Unavailable),
            (500, "No path to datacenter", Unavailable),
            (
                500,
                "Failed to create boolean expression evaluator: x",
                InvalidInput,
            ),
            (
                500,
                "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true",
                Unsupported,
            ),
            (500, "rpc error making call: Permission denied", PermissionDenied),
            (
                503,
                "Raft leader not found in server lookup mapping, try again later",
                Unavailable,
            ),
            (418, "teapot", Protocol),
        ];
        for (status, text, kind) in rows {
            let error = of_status(status, text, None);
            assert_eq!(error.kind(), kind, "{status} {text}");
            assert_eq!(error.backend(), Some("consul"));
        }
    }

    #[test]
    fn the_server_says_when_to_come_back() {
        let after = Some(Duration::from_secs(7));
        assert_eq!(of_status(429, "", after).retry_after(), after);
        assert_eq!(of_status(503, "", after).retry_after(), after);
        assert!(of_status(500, "No path to datacenter", None).retry_after() >= Some(Duration::from_secs(30)));
    }

    #[test]
    fn long_and_hostile_texts_are_tamed() {
        let error = of_status(500, &"x\n".repeat(10_000), None).to_string();
        assert!(error.len() < 400 && !error.contains('\n'), "{error}");
    }
}
