"""The small value classes: frozen, hashable, pickleable."""

from typing import Any, Literal, NamedTuple

from ._errors import DiscoveryError
from ._native import ServiceInstance

class HealthCheckResult(NamedTuple):
    name: str
    status: str
    output: str
    def to_dict(self) -> dict[str, Any]: ...

class ServiceSummary(NamedTuple):
    name: str
    tags: tuple[str, ...]
    instances: int | None
    def to_dict(self) -> dict[str, Any]: ...

class ServiceHealth(NamedTuple):
    service: str
    status: str
    passing: int
    warning: int
    critical: int
    draining: int
    instances: tuple[ServiceInstance, ...]
    def to_dict(self) -> dict[str, Any]: ...

class RegistrationStatus(NamedTuple):
    id: str
    service: str
    phase: str
    status: str
    def to_dict(self) -> dict[str, Any]: ...

class RegistryStatus(NamedTuple):
    backend: str
    address: str
    reachable: bool
    version: str | None
    leader: str | None
    latency: float | None
    details: tuple[tuple[str, str], ...]
    error: DiscoveryError | None
    circuit: str
    registrations: tuple[RegistrationStatus, ...]
    watches: int
    def to_dict(self) -> dict[str, Any]: ...

class ServiceChange(NamedTuple):
    kind: Literal["added", "updated", "removed"]
    instance: ServiceInstance
    def to_dict(self) -> dict[str, Any]: ...

class ConfigEntry(NamedTuple):
    key: str
    value: bytes
    version: str
    @property
    def text(self) -> str: ...
    def to_dict(self) -> dict[str, Any]: ...

class ConfigChange(NamedTuple):
    kind: Literal["reset", "set", "delete", "outage"]
    key: str | None
    entries: tuple[ConfigEntry, ...]
    error: DiscoveryError | None
    def to_dict(self) -> dict[str, Any]: ...
