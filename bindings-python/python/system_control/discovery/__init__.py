"""Service discovery: register, find, balance, and keep working when the registry does not.

>>> from system_control.discovery import ServiceRegistry
>>> registry = ServiceRegistry(backend="memory")
>>> id = registry.register("api", "127.0.0.1", 8080)
>>> registry.pick("api").endpoint
'127.0.0.1:8080'
>>> registry.close()

`ServiceRegistry` blocks, `AsyncServiceRegistry` is for asyncio. Errors are `DiscoveryError` and its subclasses. What the
library logs goes to the logger `system_control.discovery`; what it measures is in `metrics()`.
"""

import atexit as _atexit
import os as _os
from collections.abc import Sequence as _Sequence

from . import _native
from ._errors import (
    AuthenticationError,
    ClosedError,
    ConfigError,
    ConflictError,
    DiscoveryError,
    DiscoveryTimeoutError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitedError,
    UnavailableError,
    UnexpectedError,
    UnsupportedError,
    WatchExpiredError,
)
from ._native import (
    AsyncCall,
    AsyncConfigValues,
    AsyncConfigWatch,
    AsyncService,
    AsyncServiceRegistry,
    AsyncWatch,
    Call,
    ConfigValues,
    ConfigWatch,
    Service,
    ServiceInstance,
    ServiceRegistry,
    Snapshot,
    Watch,
    __version__,
    metrics,
)
from ._values import (
    ConfigChange,
    ConfigEntry,
    HealthCheckResult,
    RegistrationStatus,
    RegistryStatus,
    ServiceChange,
    ServiceHealth,
    ServiceSummary,
)

__all__ = [
    "AsyncCall",
    "AsyncConfigValues",
    "AsyncConfigWatch",
    "AsyncService",
    "AsyncServiceRegistry",
    "AsyncWatch",
    "AuthenticationError",
    "Call",
    "ClosedError",
    "ConfigChange",
    "ConfigEntry",
    "ConfigError",
    "ConfigValues",
    "ConfigWatch",
    "ConflictError",
    "DiscoveryError",
    "DiscoveryTimeoutError",
    "HealthCheckResult",
    "InvalidInputError",
    "NotFoundError",
    "PermissionDeniedError",
    "ProtocolError",
    "RateLimitedError",
    "RegistrationStatus",
    "RegistryStatus",
    "Service",
    "ServiceChange",
    "ServiceHealth",
    "ServiceInstance",
    "ServiceRegistry",
    "ServiceSummary",
    "Snapshot",
    "UnavailableError",
    "UnexpectedError",
    "UnsupportedError",
    "Watch",
    "WatchExpiredError",
    "__version__",
    "metrics",
]

_Sequence.register(Snapshot)

# On import, so before what the program registers itself: `atexit` runs the last one first.
_atexit.register(_native._at_exit)
if hasattr(_os, "register_at_fork"):
    _os.register_at_fork(after_in_child=_native._after_fork)
