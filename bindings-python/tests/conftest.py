"""What the tests share: registries that are closed, and real Consul servers."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio

from system_control.discovery import AsyncServiceRegistry, ServiceRegistry

# A shell starts background jobs deaf to Ctrl-C, and children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

T = TypeVar("T")
_names = itertools.count()


def eventually(probe: Callable[[], T | None], *, within: float = 60.0) -> T:
    """Asks `probe` until its answer is true, and returns that; fails with the last one. No assertion about speed."""
    until = time.monotonic() + within
    while True:
        last = probe()
        if last:
            return last
        assert time.monotonic() < until, f"not within {within} s; last: {last!r}"
        time.sleep(0.01)


def run(code: str, *, timeout: float = 240.0, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs `code` in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-X", "dev", "-c", code],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **env},
    )


def complaints(stderr: str) -> list[str]:
    """What an interpreter said, but for the steps over 100 ms that asyncio tells of: a busy machine, no error."""
    slow = re.compile(r"Executing <.* took [0-9.]+ seconds")
    return [line for line in stderr.splitlines() if not slow.fullmatch(line)]


@pytest.fixture
def uri() -> str:
    """A memory registry that this test's registries share."""
    return f"memory://test-{os.getpid()}-{next(_names)}"


@pytest.fixture
def registry(uri: str) -> Iterator[ServiceRegistry]:
    with ServiceRegistry.from_uri(uri) as registry:
        yield registry


@pytest_asyncio.fixture
async def aregistry(uri: str) -> AsyncIterator[AsyncServiceRegistry]:
    async with AsyncServiceRegistry.from_uri(uri) as registry:
        yield registry


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Consul:
    """A Consul agent on loopback."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str) -> object:
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=20) as answer:
            return json.load(answer)

    def has_leader(self) -> bool:
        try:
            return bool(self.get("/v1/status/leader"))
        except OSError:
            return False


@contextlib.contextmanager
def running_consul(
    age: str, home: Path, http: int | None = None, datacenter: str = "dc1"
) -> Iterator[Consul]:
    """A real agent of the oldest or of the newest version supported, while in use."""
    binary = os.environ.get(f"DISCOVERY_CONSUL_{age}")
    assert binary, f"DISCOVERY_CONSUL_{age} names no Consul: see scripts/servers --help"
    free, server, lan, wan = free_ports(4)
    http = http or free
    settings = {
        "datacenter": datacenter,
        "data_dir": str(home / "data"),
        "bind_addr": "127.0.0.1",
        "client_addr": "127.0.0.1",
        "server": True,
        "bootstrap_expect": 1,
        "node_name": f"test-{http}",
        "disable_update_check": True,
        "ports": {"http": http, "server": server, "serf_lan": lan, "serf_wan": wan, "dns": -1, "grpc": -1},
        "performance": {"raft_multiplier": 1},
    }
    if age == "NEW":
        settings["ports"] = {**settings["ports"], "grpc_tls": -1}  # type: ignore[dict-item]
    (home / "consul.json").write_text(json.dumps(settings))
    with open(home / "log", "wb") as log:
        process = subprocess.Popen(
            [binary, "agent", "-config-file", str(home / "consul.json")], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            agent = Consul(f"127.0.0.1:{http}")

            def ready() -> bool:
                assert process.poll() is None, (home / "log").read_text()[-2000:]
                return agent.has_leader()

            eventually(ready)
            yield agent
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="session", params=["OLD", "NEW"])
def consul(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consul]:
    """A real agent, of the oldest and of the newest version supported."""
    with running_consul(request.param, tmp_path_factory.mktemp("consul")) as agent:
        yield agent


class _Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def healthy_server(address: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """An HTTP server that answers 200 to everything, while in use; gives its port."""
    with ThreadingHTTPServer((address, port), _Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()
