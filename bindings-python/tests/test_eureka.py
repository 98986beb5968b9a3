"""On a real Eureka server, one for all of these tests."""

from __future__ import annotations

import os
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import eventually

from system_control.discovery import AsyncServiceRegistry, ServiceRegistry

# A busy machine takes its time to start a Java program.
pytestmark = pytest.mark.timeout(180)

# What a server does every 30 s or minute by default, in about a second.
QUICK = [
    "--eureka.client.register-with-eureka=false",
    "--eureka.client.fetch-registry=false",
    "--eureka.instance.hostname=127.0.0.1",
    "--eureka.server.use-read-only-response-cache=false",
    "--eureka.server.response-cache-auto-expiration-in-seconds=1",
    "--eureka.server.wait-time-in-ms-when-sync-empty=0",
    "--logging.level.root=WARN",
]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def eureka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server."""
    jar = os.environ.get("DISCOVERY_EUREKA")
    if not jar:
        pytest.skip("DISCOVERY_EUREKA is not set: scripts/test sets it")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    home: Path = tmp_path_factory.mktemp("eureka")
    own = [
        "--server.address=127.0.0.1",
        f"--server.port={address.rpartition(':')[2]}",
        f"--eureka.client.service-url.defaultZone=http://{address}/eureka/",
    ]
    java = ["java", "-XX:TieredStopAtLevel=1", "-Xmx192m", "-jar", jar]
    with (home / "log").open("w") as log:
        server = subprocess.Popen([*java, *own, *QUICK], cwd=home, stdout=log, stderr=subprocess.STDOUT)
    try:
        eventually(lambda: _answers(f"http://{address}/eureka/apps") or server.poll() is not None, within=90)
        assert server.poll() is None, (home / "log").read_text()
        yield address
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _uri(address: str) -> str:
    return f"eureka://{address}?refresh_interval=200ms"


def test_registers_and_discovers(eureka: str) -> None:
    with ServiceRegistry.from_uri(_uri(eureka)) as registry:
        id = registry.register(name="api", address="127.0.0.1", port=8080, tags=["v2"], meta={"version": "2.1.0"})
        registry.update_meta(id, {"last_deployed": "now"})
        instance = eventually(lambda: next(iter(registry.discover("api", tags=["v2"])), None))
        assert (instance.id, instance.port) == (id, 8080)
        eventually(lambda: registry.pick("api").meta.get("last_deployed") == "now")
        assert "api" in {service.name for service in registry.services()}
        assert registry.status().reachable
    with ServiceRegistry.from_uri(_uri(eureka)) as registry:
        assert len(registry.discover("api")) == 0


async def test_asyncio_sees_a_change(eureka: str) -> None:
    async with AsyncServiceRegistry.from_uri(_uri(eureka)) as registry:
        async with registry.watch("async-api", timeout=60) as watch:
            seen = []
            async for snapshot in watch:
                seen.append(len(snapshot))
                if seen == [0]:
                    await registry.register("async-api", "127.0.0.1", 1)
                elif seen[-1] == 1:
                    break
        assert seen[0] == 0 and seen[-1] == 1


def test_the_environment_names_the_servers(eureka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EUREKA_SERVICE_URL", f"http://{eureka}/eureka/,http://127.0.0.1:1/eureka/")
    with ServiceRegistry(backend="eureka") as registry:
        assert registry.status().reachable
    with ServiceRegistry(backend="eureka", endpoints="127.0.0.1:1", timeout=1) as registry:
        assert not registry.status().reachable, "an argument goes before the environment"
