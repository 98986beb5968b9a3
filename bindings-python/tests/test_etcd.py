"""On a real etcd, of the newest version supported."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import eventually

from system_control.discovery import (
    AsyncServiceRegistry,
    ConfigError,
    ConflictError,
    DiscoveryTimeoutError,
    ServiceRegistry,
    UnavailableError,
)


class Etcd:
    """A member on loopback, alone."""

    def __init__(self, address: str, ctl: Path, pid: int) -> None:
        self.address = address
        self.pid = pid
        self._ctl = ctl

    def ctl(self, *arguments: str) -> str:
        """Runs etcdctl and returns what it printed."""
        command = [str(self._ctl), "--endpoints", self.address, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


@contextlib.contextmanager
def running_etcd(home: Path) -> Iterator[Etcd]:
    """A real member, alone, while in use."""
    binary = os.environ.get("DISCOVERY_ETCD_NEW")
    assert binary, "DISCOVERY_ETCD_NEW names no etcd: see scripts/servers --help"
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        client, peer = (f"127.0.0.1:{held.getsockname()[1]}" for held in (one, two))
    command = [binary, "--name", "test", "--data-dir", str(home / "data"), "--unsafe-no-fsync"]
    command += [f"--listen-client-urls=http://{client}", f"--advertise-client-urls=http://{client}"]
    command += [f"--listen-peer-urls=http://{peer}", f"--initial-advertise-peer-urls=http://{peer}"]
    command += [f"--initial-cluster=test=http://{peer}", "--log-level=warn"]
    with open(home / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        member = Etcd(client, Path(binary).with_name("etcdctl"), process.pid)

        def ready() -> bool:
            assert process.poll() is None, (home / "log").read_text()[-2000:]
            try:
                member.ctl("--command-timeout=1s", "endpoint", "health")
            except subprocess.CalledProcessError:
                return False
            return True

        eventually(ready)
        yield member
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with running_etcd(tmp_path_factory.mktemp("etcd")) as member:
        yield member


def test_registers_and_discovers_by_a_lease(etcd: Etcd) -> None:
    with ServiceRegistry(backend="etcd", endpoints=etcd.address) as registry:
        id = registry.register("api", "127.0.0.1", 8080, tags=["v2"], meta={"version": "1"})
        other = registry.register("api", "127.0.0.1", 8081)
        registry.update_meta(id, {"version": "2"})
        instance = eventually(lambda: next(iter(registry.discover("api", tags=["v2"])), None))
        assert (instance.id, instance.port) == (id, 8080)
        eventually(lambda: {one.meta.get("version") for one in registry.discover("api")} == {"2", None})
        assert {service.name for service in registry.services()} == {"api"}
        assert registry.status().leader
        keys = etcd.ctl("get", "--prefix", "--keys-only", "/services/").split()
        assert keys == [f"/services/api/{id}", f"/services/api/{other}"]
        assert "found 1 leases" in etcd.ctl("lease", "list"), "one for both"
    assert etcd.ctl("get", "--prefix", "--keys-only", "/services/") == ""
    assert "found 0 leases" in etcd.ctl("lease", "list")


def test_what_is_revoked_comes_back(etcd: Etcd) -> None:
    settings = {"service_registration": {"ttl": 2}}
    with ServiceRegistry(backend="etcd", endpoints=etcd.address, config=settings) as registry:
        id = registry.register("web", "127.0.0.1", 80)
        etcd.ctl("lease", "revoke", etcd.ctl("lease", "list").split()[-1])
        eventually(lambda: etcd.ctl("get", "--keys-only", f"/services/web/{id}"))
    assert etcd.ctl("get", "--prefix", "--keys-only", "/services/") == ""


def test_an_outage_leaves_the_last_answer_and_says_how_old_it_is(tmp_path: Path) -> None:
    settings = {"discovery": {"confirm_interval": "500ms"}, "service_registration": {"ttl": 60}}
    with running_etcd(tmp_path) as etcd:
        with ServiceRegistry("etcd", endpoints=etcd.address, config=settings, timeout=2) as registry:
            id = registry.register("api", "127.0.0.1", 8080, deregister_on_exit=False)
            snapshot = eventually(lambda: registry.discover("api") or None)
            assert (snapshot.source, snapshot.held, snapshot.held_reason) == ("live", 0, None)
            bounded = registry.service("api", max_stale="2s")
            assert bounded.pick().id == id
            os.kill(etcd.pid, signal.SIGKILL)
            eventually(lambda: registry.discover("api").source == "stale")
            eventually(lambda: registry.discover("api").age > 2)
            assert [one.id for one in registry.discover("api")] == [id]
            assert registry.pick("api").id == id

            def refused() -> bool:
                with contextlib.suppress(UnavailableError):
                    bounded.pick()
                    return False
                return True

            eventually(refused)
            with pytest.raises(UnavailableError, match="max_stale") as caught:
                registry.discover("api", max_stale="2s")
            assert caught.value.backend is None or caught.value.backend == "etcd"
            assert (snapshot.source, len(snapshot)) == ("live", 1), "what was handed out never changes"


def test_values_by_compare_and_set(etcd: Etcd) -> None:
    with ServiceRegistry(backend="etcd", endpoints=etcd.address) as registry:
        version = registry.config.set("python/key", "größe", create=True)
        with pytest.raises(ConflictError):
            registry.config.set("python/key", "again", create=True)
        version = registry.config.set("python/key", "length", version=version)
        entry = registry.config.get("python/key")
        assert entry is not None and (entry.text, entry.version) == ("length", version)
        assert etcd.ctl("get", "--print-value-only", "/config/python/key").strip() == "length"
        assert registry.config.delete("python/key", version=version)


async def test_asyncio_sees_a_change(etcd: Etcd) -> None:
    async with AsyncServiceRegistry("etcd", endpoints=etcd.address) as registry:
        async with registry.watch("async-api", timeout=60) as watch:
            seen = []
            async for snapshot in watch:
                seen.append(len(snapshot))
                if seen == [0]:
                    await registry.register("async-api", "127.0.0.1", 1)
                elif seen[-1] == 1:
                    break
        assert seen[0] == 0 and seen[-1] == 1


def test_the_environment_names_the_members(etcd: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", f"127.0.0.1:1,{etcd.address}")
    with ServiceRegistry(backend="etcd") as registry:
        assert registry.status().reachable
        assert len(registry.discover("nobody")) == 0
    with ServiceRegistry(backend="etcd", endpoints="127.0.0.1:1", timeout=1) as registry:
        assert not registry.status().reachable, "an argument goes before the environment"
        with pytest.raises(DiscoveryTimeoutError, match="cannot connect"):
            registry.discover("nobody")


def test_mistakes_are_told_before_anything_is_sent() -> None:
    with pytest.raises(ConfigError, match="key_prefix"):
        ServiceRegistry("etcd", config={"service_registration": {"key_prefix": "services"}})
    with pytest.raises(ConfigError, match="password"):
        ServiceRegistry("etcd", config={"authentication": {"username": "app"}})
