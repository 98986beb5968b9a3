"""The exceptions: `DiscoveryError`, and one subclass for each kind of error."""


class DiscoveryError(Exception):
    """What every error of this package is.

    Attributes:
        kind: What went wrong, in a word: `unavailable`, `not_found` and so on.
        retryable: Whether the same call may succeed later without anybody changing anything.
        retry_after: Seconds the server asked to wait, if it did.
        backend: The backend it came from, such as `consul`.
        operation: The operation it happened in, such as `register`.
        hint: What to do next, where there is something to say.
        context: Further facts by name.
    """

    kind = "unexpected"

    def __init__(
        self,
        message="",
        *,
        retryable=False,
        retry_after=None,
        backend=None,
        operation=None,
        hint=None,
        context=None,
    ):
        super().__init__(message)
        self.retryable = retryable
        self.retry_after = retry_after
        self.backend = backend
        self.operation = operation
        self.hint = hint
        self.context = dict(context or {})
        if hint and hasattr(self, "add_note"):
            self.add_note(f"hint: {hint}")

    def __str__(self):
        return str(self.args[0]) if self.args else ""

    def __reduce__(self):
        named = {
            "retryable": self.retryable,
            "retry_after": self.retry_after,
            "backend": self.backend,
            "operation": self.operation,
            "hint": self.hint,
            "context": self.context,
        }
        return _restore, (type(self), str(self), named)


class ConfigError(DiscoveryError, ValueError):
    """The configuration is wrong; the message names the field and, for files, line and column."""

    kind = "config_invalid"


class InvalidInputError(DiscoveryError, ValueError):
    """An argument is wrong; nothing was sent."""

    kind = "invalid_input"


class UnsupportedError(DiscoveryError):
    """This backend or this build cannot do it; nothing was sent."""

    kind = "unsupported"


class NotFoundError(DiscoveryError):
    """The named registration or key does not exist. An unknown service is an empty snapshot, never this."""

    kind = "not_found"


class ConflictError(DiscoveryError):
    """A version did not match, or what was to be created is there already."""

    kind = "conflict"


class AuthenticationError(DiscoveryError):
    """No credentials, or credentials the server does not know."""

    kind = "unauthenticated"


class PermissionDeniedError(DiscoveryError):
    """The credentials are known but lack the right."""

    kind = "permission_denied"


class RateLimitedError(DiscoveryError):
    """The server asked to slow down."""

    kind = "rate_limited"


class UnavailableError(DiscoveryError, ConnectionError):
    """The server cannot be reached or cannot serve now, or there is no instance to pick."""

    kind = "unavailable"


class DiscoveryTimeoutError(DiscoveryError, TimeoutError):
    """A deadline passed; a write may or may not have happened."""

    kind = "timeout"


class WatchExpiredError(DiscoveryError):
    """The server no longer knows where a watch wanted to go on."""

    kind = "watch_expired"


class ProtocolError(DiscoveryError):
    """The server's answer makes no sense."""

    kind = "protocol"


class ClosedError(DiscoveryError):
    """The registry was closed, belongs to another process, or the interpreter is exiting."""

    kind = "closed"


class UnexpectedError(DiscoveryError):
    """A bug, or a condition nobody foresaw."""

    kind = "unexpected"


_BY_KIND = {cls.kind: cls for cls in DiscoveryError.__subclasses__()}


def _make(kind, message, retryable, retry_after, backend, operation, hint, context):
    """The exception for an error of the native module."""
    return _BY_KIND.get(kind, UnexpectedError)(
        message,
        retryable=retryable,
        retry_after=retry_after,
        backend=backend,
        operation=operation,
        hint=hint,
        context=context,
    )


def _restore(cls, message, named):
    """The exception again, from what pickle kept."""
    return cls(message, **named)


for _cls in (DiscoveryError, *_BY_KIND.values()):
    _cls.__module__ = "system_control.discovery"
