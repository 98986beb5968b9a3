//! The only place that classifies what an apiserver and the way to it say when something fails.

use std::{error::Error as _, time::Duration};

use discovery_core::{Error, ErrorKind, Retry, tls};
use kube::client::AuthError;

use crate::wire;

/// The word in every error.
pub(crate) const SCHEME: &str = "k8s";

/// How much of a server's text goes into an error.
const TEXT: usize = 300;

/// An error of this backend.
pub(crate) fn error(kind: ErrorKind, message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(kind, message).with_backend(SCHEME)
}

/// What was asked, as the rules of RBAC call it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) verb: &'static str,
    pub(crate) resource: &'static str,
    pub(crate) namespace: Option<&'a str>,
}

/// What a Status means, whether it came as an answer or as an event of a watch.
pub(crate) fn of_status(
    status: u16,
    told: &wire::Status,
    retry_after: Option<Duration>,
    asked: Asked<'_>,
) -> Error {
    let text = told.message.as_str();
    let after = retry_after.or_else(|| {
        let seconds = told.details.retry_after_seconds;
        (seconds > 0).then(|| Duration::from_secs(seconds))
    });
    let transient = |error: Error| match after {
        None => error,
        after => error.with_retry(Retry::Transient { after }),
    };
    let cause = |reason: &str| told.details.causes.iter().any(|cause| cause.reason == reason);
    let found = match status {
        // K-26: our version is of a history the server does not have.
        504 if cause("ResourceVersionTooLarge") || text.contains("Too large resource version") => error(
            ErrorKind::WatchExpired,
            "the server's history ends before our version",
        ),
        // K-20
        410 => error(ErrorKind::WatchExpired, "the server no longer knows our version"),
        300..=399 => error(
            ErrorKind::Protocol,
            "the server redirects, which is never followed",
        )
        .with_hint("name the apiserver itself, not a proxy that redirects"),
        401 => error(
            ErrorKind::Unauthenticated,
            "the server does not know these credentials",
        )
        .with_hint("renew the token or client certificate, or log in again for the kubeconfig's plug-in"),
        403 => error(ErrorKind::PermissionDenied, "a right is missing").with_hint(format!(
            "grant `{}` on `{}` in a Role; docs/guides/kubernetes.md has the smallest ones",
            asked.verb, asked.resource
        )),
        // K-9: no object that is missing, but the place for it.
        404 if told.details.kind == "namespaces" => {
            error(ErrorKind::InvalidInput, "the namespace does not exist")
                .with_hint("create the namespace, or name one that exists")
        }
        404 => error(ErrorKind::NotFound, "the server does not know it"),
        405 | 406 | 501 => error(ErrorKind::Unsupported, "this server cannot do it"),
        409 if told.reason == "AlreadyExists" => error(ErrorKind::Conflict, "it exists already"),
        409 => error(ErrorKind::Conflict, "the server holds something else"),
        413 => error(ErrorKind::InvalidInput, "too large for the server"),
        400 | 415 | 422 => error(ErrorKind::InvalidInput, "the server refuses the request"),
        429 => transient(error(ErrorKind::RateLimited, "the server asks to slow down")),
        500..=599 => transient(error(ErrorKind::Unavailable, "the server cannot serve now")),
        _ => error(ErrorKind::Protocol, "the server's answer makes no sense"),
    };
    let mut found = found
        .with_context("status", status.to_string())
        .with_context("verb", asked.verb)
        .with_context("resource", asked.resource);
    if let Some(namespace) = asked.namespace {
        found = found.with_context("namespace", namespace);
    }
    match shorten(text) {
        text if text.is_empty() => found,
        text => found.with_context("server", text),
    }
}

/// What it means that no whole answer came.
pub(crate) fn of_transport(failed: kube::Error) -> Error {
    if tls::objection(&failed).is_some() {
        return error(ErrorKind::ConfigInvalid, "TLS failed")
            .with_hint(
                "check the authority (`tls.ca_file` or the kubeconfig's) against the server's certificate",
            )
            .with_source(failed);
    }
    let failed = match failed {
        kube::Error::Auth(failed) => return no_credentials(failed),
        other => other,
    };
    let mut chain = failed.to_string();
    let mut cause = failed.source();
    while let Some(error) = cause {
        if error.is::<AuthError>() || chain.contains("auth exec") {
            return without_credentials();
        }
        chain = format!("{chain} {error}");
        cause = error.source();
    }
    if chain.contains("invalid HTTP") || chain.contains("parsed") || chain.contains("InvalidMessage") {
        error(ErrorKind::Protocol, "the answer is not HTTP")
            .with_hint("is this the port of an apiserver, with TLS as configured?")
            .with_source(failed)
    } else if chain.contains("onnect") {
        error(ErrorKind::Unavailable, "cannot connect")
            .with_hint("is the apiserver running there? check the kubeconfig or `cluster_config.server`")
            .with_source(failed)
    } else {
        error(ErrorKind::Unavailable, "the connection broke").with_source(failed)
    }
}

/// What it means that no credentials could be had; never what a plug-in printed, nor how it was called: either may hold a
/// secret.
pub(crate) fn no_credentials(failed: AuthError) -> Error {
    match failed {
        AuthError::AuthExecRun { out, .. } => {
            without_credentials().with_context("plug_in", out.status.to_string())
        }
        AuthError::AuthExecParse(_) => {
            without_credentials().with_context("plug_in", "its answer is no ExecCredential")
        }
        other => without_credentials().with_source(other),
    }
}

fn without_credentials() -> Error {
    error(ErrorKind::Unauthenticated, "no credentials could be had")
        .with_hint("check the token file, or run the kubeconfig's plug-in by hand")
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

    const LIST: Asked<'static> = Asked {
        verb: "list",
        resource: "endpointslices",
        namespace: Some("default"),
    };

    fn status(reason: &str, message: &str, kind: &str, cause: &str) -> wire::Status {
        serde_json::from_value(serde_json::json!({
            "kind": "Status", "reason": reason, "message": message,
            "details": { "kind": kind, "causes": [{ "reason": cause }] },
        }))
        .unwrap()
    }

    /// The statuses of the protocol notes, K-9, K-14, K-17, K-18, K-20 and K-26 among them.
    #[test]
    fn k_17_every_status_has_its_kind_and_only_what_may_heal_is_tried_again() {
        use ErrorKind::{
            Conflict, InvalidInput, NotFound, PermissionDenied, Protocol, RateLimited, Unauthenticated,
            Unavailable, Unsupported, WatchExpired,
        };
        let rows = [
            (302, "", "", "", Protocol),
            (400, "BadRequest", "", "", InvalidInput),
            (401, "Unauthorized", "", "", Unauthenticated),
            (403, "Forbidden", "", "", PermissionDenied),
            (404, "NotFound", "leases", "", NotFound),
            (404, "NotFound", "namespaces", "", InvalidInput),
            (405, "MethodNotAllowed", "", "", Unsupported),
            (409, "AlreadyExists", "", "", Conflict),
            (409, "Conflict", "", "FieldManagerConflict", Conflict),
            (410, "Expired", "", "", WatchExpired),
            (413, "RequestEntityTooLarge", "", "", InvalidInput),
            (415, "UnsupportedMediaType", "", "", InvalidInput),
            (422, "Invalid", "", "", InvalidInput),
            (429, "TooManyRequests", "", "", RateLimited),
            (500, "InternalError", "", "", Unavailable),
            (503, "ServiceUnavailable", "", "", Unavailable),
            (504, "Timeout", "", "", Unavailable),
            (504, "Timeout", "", "ResourceVersionTooLarge", WatchExpired),
            (418, "", "", "", Protocol),
        ];
        for (code, reason, kind, cause, expected) in rows {
            let error = of_status(code, &status(reason, "no", kind, cause), None, LIST);
            assert_eq!(error.kind(), expected, "{code} {reason} {cause}");
            assert_eq!(error.backend(), Some("k8s"));
            let heals = matches!(expected, RateLimited | Unavailable);
            assert_eq!(error.is_retryable(), heals, "{code} {reason} {cause}");
        }
    }

    #[test]
    fn k_17_the_server_says_when_to_come_back() {
        let mut told = status("TooManyRequests", "", "", "");
        let seven = Some(Duration::from_secs(7));
        assert_eq!(of_status(429, &told, seven, LIST).retry_after(), seven);
        told.details.retry_after_seconds = 9;
        let nine = Some(Duration::from_secs(9));
        assert_eq!(of_status(504, &told, None, LIST).retry_after(), nine);
    }

    #[test]
    fn k_18_a_missing_right_names_verb_and_resource() {
        let error = of_status(403, &status("Forbidden", "no", "", ""), None, LIST);
        let shown = error.to_string();
        assert!(
            shown.contains("verb: list") && shown.contains("resource: endpointslices"),
            "{shown}"
        );
        assert!(
            error
                .hint()
                .is_some_and(|hint| hint.contains("`list` on `endpointslices`"))
        );
    }

    #[test]
    fn k_14_what_exists_already_is_told_from_what_was_changed() {
        let exists = of_status(409, &status("AlreadyExists", "", "", ""), None, LIST);
        let changed = of_status(409, &status("Conflict", "", "", ""), None, LIST);
        assert_ne!(exists.message(), changed.message());
    }

    #[test]
    fn long_and_hostile_texts_are_tamed() {
        let error = of_status(500, &status("", &"x\n".repeat(10_000), "", ""), None, LIST).to_string();
        assert!(error.len() < 600 && !error.contains('\n'), "{error}");
    }
}
