"""Registering and deregistering over and over leaves nothing in memory."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Consul, eventually

from system_control.discovery import ServiceRegistry

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


def resident() -> int:
    """The memory this process has, in KiB."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def churn(registry: ServiceRegistry, times: int) -> None:
    for n in range(times):
        id = registry.register("api", "127.0.0.1", 1 + n, meta={"n": str(n), "who": "日本 🦀"})
        registry.deregister(id)


def leaves_nothing(work: Callable[[], None], allowed: int) -> None:
    """Fails where memory grows by more than this, in KiB, however often it is done: an allocator may keep some once."""
    grown = []
    for _ in range(4):
        before = resident()
        work()
        grown.append(resident() - before)
        if grown[-1] < allowed:
            return
    pytest.fail(f"grown by {grown} KiB")


@pytest.mark.timeout(600)
def test_ten_thousand_registrations_leave_nothing(registry: ServiceRegistry) -> None:
    churn(registry, 2_000)
    leaves_nothing(lambda: churn(registry, 10_000), 4_096)
    assert registry.status().registrations == ()


@pytest.mark.parametrize("consul", ["NEW"], indirect=True)
def test_three_hundred_on_consul_leave_nothing(consul: Consul) -> None:
    with ServiceRegistry("consul", endpoints=consul.address) as registry:
        churn(registry, 100)
        leaves_nothing(lambda: churn(registry, 300), 4_096)
        assert registry.status().registrations == ()
    eventually(lambda: consul.get("/v1/catalog/service/api") == [])


@pytest.mark.timeout(600)
def test_a_million_picks_leave_nothing(registry: ServiceRegistry) -> None:
    for port in range(1, 51):
        registry.register("api", "127.0.0.1", port)
    service = registry.service("api")

    def pick(times: int) -> None:
        for _ in range(times):
            service.pick()
            registry.pick("api")
            registry.discover("api")

    pick(50_000)
    leaves_nothing(lambda: pick(1_000_000), 1_024)
