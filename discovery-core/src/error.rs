//! The one error type of the library: cheap to clone, with a kind, retry advice and what to do next.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

/// The result of every fallible operation of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Arc<dyn std::error::Error + Send + Sync + 'static>;

/// What went wrong, in terms a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration is wrong; the message names the field and, for files, line and column.
    ConfigInvalid,
    /// An argument is wrong; nothing was sent.
    InvalidInput,
    /// This backend or this build cannot do it; nothing was sent.
    Unsupported,
    /// The named registration, lease or key does not exist. An unknown *service* is an empty snapshot, never this.
    NotFound,
    /// A compare-and-set did not match, or a create found the key present.
    Conflict,
    /// No credentials, or credentials the server does not know.
    Unauthenticated,
    /// The credentials are known but lack the right.
    PermissionDenied,
    /// The server asked us to slow down.
    RateLimited,
    /// The server cannot be reached or cannot serve now.
    Unavailable,
    /// A deadline passed; a write may or may not have happened.
    Timeout,
    /// The server no longer knows the cursor a watch wanted to resume from.
    WatchExpired,
    /// The server's answer makes no sense.
    Protocol,
    /// The client was shut down.
    Closed,
    /// A bug, or a condition nobody foresaw.
    Unexpected,
}

impl ErrorKind {
    /// Every kind, so that a table keyed by kind can be proved complete.
    pub const ALL: [Self; 14] = [
        Self::ConfigInvalid,
        Self::InvalidInput,
        Self::Unsupported,
        Self::NotFound,
        Self::Conflict,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::RateLimited,
        Self::Unavailable,
        Self::Timeout,
        Self::WatchExpired,
        Self::Protocol,
        Self::Closed,
        Self::Unexpected,
    ];

    /// The stable lower-case name used in logs, metrics, JSON and Python.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigInvalid => "config_invalid",
            Self::InvalidInput => "invalid_input",
            Self::Unsupported => "unsupported",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::WatchExpired => "watch_expired",
            Self::Protocol => "protocol",
            Self::Closed => "closed",
            Self::Unexpected => "unexpected",
        }
    }

    /// The exit code a command line ends with for this kind (the `sysexits.h` range).
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::ConfigInvalid | Self::InvalidInput => 64,
            Self::Unsupported => 65,
            Self::NotFound => 66,
            Self::Conflict => 67,
            Self::Unavailable => 69,
            Self::Closed | Self::Unexpected => 70,
            Self::RateLimited | Self::Timeout | Self::WatchExpired => 75,
            Self::Protocol => 76,
            Self::Unauthenticated | Self::PermissionDenied => 77,
        }
    }

    /// The advice a fresh error of this kind carries unless [`Error::with_retry`] says otherwise.
    const fn default_retry(self) -> Retry {
        match self {
            Self::RateLimited | Self::Unavailable | Self::Timeout => Retry::Transient { after: None },
            _ => Retry::Never,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether the same request may succeed later without anybody changing anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Repeating it cannot help.
    Never,
    /// It may help; not before `after` where the server named a time (`Retry-After`).
    Transient {
        /// The server's own wish, if it had one.
        after: Option<Duration>,
    },
}

/// An error of this library.
///
/// `{}` prints kind-free text with its context, `{:#}` adds the whole chain of causes. Cloning copies one pointer,
/// because one failure is often told to many waiters.
///
/// ```
/// use discovery_core::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Unavailable, "connection refused")
///     .with_operation("register")
///     .with_backend("consul")
///     .with_context("address", "127.0.0.1:8500")
///     .with_hint("is the agent running?");
/// assert!(error.is_retryable());
/// assert_eq!(error.to_string(), "consul: register: connection refused (address: 127.0.0.1:8500)");
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    retry: Retry,
    message: Cow<'static, str>,
    operation: Option<&'static str>,
    backend: Option<Cow<'static, str>>,
    context: Vec<(&'static str, String)>,
    hint: Option<Cow<'static, str>>,
    source: Option<Source>,
}

impl Error {
    /// An error of `kind`, with the retry advice usual for that kind.
    ///
    /// The message says what happened in lower case and without a final full stop; it never holds a secret.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            retry: kind.default_retry(),
            message: message.into(),
            operation: None,
            backend: None,
            context: Vec::new(),
            hint: None,
            source: None,
        }))
    }

    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// The same error with this retry advice.
    #[must_use]
    pub fn with_retry(self, retry: Retry) -> Self {
        self.edit(|e| e.retry = retry)
    }

    /// The same error naming the operation it happened in, unless one is named already.
    #[must_use]
    pub fn with_operation(self, operation: &'static str) -> Self {
        if self.0.operation.is_some() {
            return self;
        }
        self.edit(|e| e.operation = Some(operation))
    }

    /// The same error naming its backend, unless one is named already.
    #[must_use]
    pub fn with_backend(self, backend: impl Into<Cow<'static, str>>) -> Self {
        if self.0.backend.is_some() {
            return self;
        }
        self.edit(|e| e.backend = Some(backend.into()))
    }

    /// The same error with one more `key: value` pair.
    #[must_use]
    pub fn with_context(self, key: &'static str, value: impl Into<String>) -> Self {
        self.edit(|e| e.context.push((key, value.into())))
    }

    /// The same error with one sentence that says what to do next.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.edit(|e| e.hint = Some(hint.into()))
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.edit(|e| e.source = Some(Arc::new(source)))
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The retry advice.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.retry, Retry::Transient { .. })
    }

    /// How long the server asked us to wait, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.0.retry {
            Retry::Transient { after } => after,
            Retry::Never => None,
        }
    }

    /// The message alone, without backend, operation or context.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The operation it happened in (`register`, `watch`, …).
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// The backend it came from (`consul`, `memory`, …).
    pub fn backend(&self) -> Option<&str> {
        self.0.backend.as_deref()
    }

    /// The `key: value` pairs, oldest first.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(k, v)| (*k, v.as_str()))
    }

    /// What to do next, where there is something to say.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(backend) = &self.0.backend {
            write!(f, "{backend}: ")?;
        }
        if let Some(operation) = self.0.operation {
            write!(f, "{operation}: ")?;
        }
        f.write_str(&self.0.message)?;
        for (i, (key, value)) in self.0.context.iter().enumerate() {
            write!(f, "{}{key}: {value}", if i == 0 { " (" } else { ", " })?;
        }
        if !self.0.context.is_empty() {
            f.write_str(")")?;
        }
        if f.alternate() {
            let mut cause = std::error::Error::source(self);
            while let Some(error) = cause {
                write!(f, ": {error}")?;
                cause = error.source();
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self:#}", self.0.kind)?;
        if let Some(hint) = &self.0.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_pointer_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn only_what_the_kind_says_is_transient() {
        for kind in ErrorKind::ALL {
            let expected = matches!(
                kind,
                ErrorKind::RateLimited | ErrorKind::Unavailable | ErrorKind::Timeout
            );
            assert_eq!(Error::new(kind, "x").is_retryable(), expected, "{kind}");
        }
    }

    #[test]
    fn alternate_display_prints_each_cause_once() {
        let cause = Error::new(ErrorKind::Protocol, "bad frame");
        let error = Error::new(ErrorKind::Unavailable, "watch ended").with_source(cause);
        assert_eq!(error.to_string(), "watch ended");
        assert_eq!(format!("{error:#}"), "watch ended: bad frame");
    }

    #[test]
    fn the_innermost_operation_and_backend_win() {
        let error = Error::new(ErrorKind::NotFound, "gone")
            .with_operation("renew")
            .with_operation("register");
        assert_eq!(error.operation(), Some("renew"));
    }
}
