"""Over DNS: the port of a real Consul agent."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import eventually, free_ports

from system_control.discovery import ServiceRegistry, UnsupportedError


@pytest.fixture(scope="module")
def dns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the DNS port of an agent that has `api` at 10.0.0.1:8080 and 10.0.0.2:8080."""
    binary = os.environ.get("DISCOVERY_CONSUL_OLD") or os.environ.get("DISCOVERY_CONSUL_NEW")
    assert binary, "DISCOVERY_CONSUL_OLD names no Consul: see scripts/servers --help"
    home: Path = tmp_path_factory.mktemp("consul-dns")
    http, dns, server, lan = free_ports(4)
    ports = ["http", http, "dns", dns, "server", server, "serf_lan", lan, "serf_wan", -1, "grpc", -1]
    settings = {"ports": dict(zip(ports[::2], ports[1::2], strict=True)), "disable_update_check": True}
    (home / "consul.json").write_text(json.dumps(settings))
    command = [binary, "agent", "-dev", "-bind", "127.0.0.1", "-config-file", str(home / "consul.json")]
    with open(home / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:

            def registered() -> bool:
                assert process.poll() is None, (home / "log").read_text()[-2000:]
                try:
                    for n in (1, 2):
                        service = {"ID": f"api-{n}", "Name": "api", "Address": f"10.0.0.{n}", "Port": 8080}
                        urllib.request.urlopen(
                            urllib.request.Request(
                                f"http://127.0.0.1:{http}/v1/agent/service/register",
                                data=json.dumps(service).encode(),
                                method="PUT",
                            ),
                            timeout=5,
                        ).close()
                    return True
                except OSError:
                    return False

            eventually(registered)
            yield f"127.0.0.1:{dns}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def test_discovers_what_the_dns_port_of_consul_shows(dns: str) -> None:
    with ServiceRegistry(backend="dns", endpoints=[dns]) as registry:

        def both() -> bool:
            found = registry.discover("api.service.consul")
            return sorted((i.address, i.port) for i in found) == [("10.0.0.1", 8080), ("10.0.0.2", 8080)]

        eventually(both)
        assert list(registry.discover("nobody.service.consul")) == []


def test_registering_without_an_update_block_is_unsupported(dns: str) -> None:
    with ServiceRegistry(backend="dns", endpoints=[dns]) as registry, pytest.raises(UnsupportedError):
        registry.register(name="api", address="10.0.0.3", port=8080)
