"""The small value classes: frozen, hashable, pickleable."""

from collections import namedtuple


def _plain(value):
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


class _Value:
    __slots__ = ()

    def to_dict(self):
        """The value as a dict of plain values."""
        return {field: _plain(getattr(self, field)) for field in self._fields}


class HealthCheckResult(_Value, namedtuple("HealthCheckResult", "name status output")):
    """The last known result of one check of an instance."""

    __slots__ = ()


class ServiceSummary(_Value, namedtuple("ServiceSummary", "name tags instances")):
    """A service as the registry lists it: its name, every tag of its instances, and how many there are where it says."""

    __slots__ = ()


class ServiceHealth(
    _Value,
    namedtuple("ServiceHealth", "service status passing warning critical draining instances"),
):
    """How many instances of a service are how well, and the instances with their checks.

    `status` is `passing` when any instance serves without warning, `warning` when any serves, `critical` when none
    does, and `unknown` when there is none.
    """

    __slots__ = ()


class ExplainedInstance(
    _Value,
    namedtuple("ExplainedInstance", "instance verdict in_flight succeeded failed peak_latency circuit ejected_for"),
):
    """An instance as a balancer sees it now.

    `verdict` is `used`, `used_in_panic`, or why it is not: `filtered`, `outside_subset`, `draining`, `unhealthy`,
    `ejected`, `too_far`, `no_weight`, `stand_by` or `no_view`. Times are in seconds.
    """

    __slots__ = ()


class RegistrationStatus(_Value, namedtuple("RegistrationStatus", "id service phase status")):
    """How one registration of this registry stands."""

    __slots__ = ()


class RegistryStatus(
    _Value,
    namedtuple(
        "RegistryStatus",
        "backend address reachable version leader latency details error circuit registrations watches",
    ),
):
    """How a registry stands: what the server says of itself, or as `error` why it does not.

    `latency` is in seconds, `details` are pairs, `circuit` says whether reads are let through to the server,
    `watches` how many run.
    """

    __slots__ = ()

    def to_dict(self):
        """The status as a dict of plain values; the error is its message."""
        error = None if self.error is None else str(self.error)
        return {**super().to_dict(), "details": dict(self.details), "error": error}


class ServiceChange(_Value, namedtuple("ServiceChange", "kind instance")):
    """One instance was `added`, `updated` or `removed`."""

    __slots__ = ()


class ConfigEntry(_Value, namedtuple("ConfigEntry", "key value version")):
    """A key with its value, as bytes, and its version."""

    __slots__ = ()

    @property
    def text(self):
        """The value as text; `UnicodeDecodeError` where it is none."""
        return self.value.decode()

    def __repr__(self):
        # Values may be secrets.
        return f"ConfigEntry(key={self.key!r}, bytes={len(self.value)}, version={self.version!r})"


class ConfigChange(_Value, namedtuple("ConfigChange", "kind key entries error")):
    """A change of configuration values.

    `reset`: `entries` is all there is. `set`: `entries` has the one new or changed. `delete`: `key` is gone. `outage`: the
    registry cannot be watched now, as `error` says; the watch goes on.
    """

    __slots__ = ()

    def to_dict(self):
        """The change as a dict of plain values; the error is its message."""
        return {**super().to_dict(), "error": None if self.error is None else str(self.error)}


for _cls in _Value.__subclasses__():
    _cls.__module__ = "system_control.discovery"
