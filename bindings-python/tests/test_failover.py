"""Several sources for one client, as a file says."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from conftest import eventually, running_consul

from system_control.discovery import DiscoveryError, ServiceRegistry


def test_another_source_steps_in_and_back(tmp_path: Path, uri: str) -> None:
    path = tmp_path / "discovery.yaml"
    path.write_text(f"""
memory: {{ name: "{uri.removeprefix("memory://")}-near" }}
failover:
  name: "near"
  hold: "1s"
  sources:
    - {{ name: "far", uri: "{uri}" }}
""")
    with ServiceRegistry.from_uri(uri) as far, ServiceRegistry.from_config(path) as registry:
        far.register("api", "127.0.0.1", 11)
        eventually(lambda: [one.port for one in registry.discover("api")] == [11])
        registry.register("api", "127.0.0.1", 1)
        assert [one.port for one in far.discover("api")] == [11], "writes go to the first alone"
        eventually(lambda: registry.pick("api").port == 1)
        assert {one.instance.port: one.verdict for one in registry.explain("api")} == {1: "used", 11: "stand_by"}


def test_a_federation_outlives_its_first_datacenter(tmp_path: Path) -> None:
    homes = [tmp_path / name for name in ("dc1", "dc2")]
    for home in homes:
        home.mkdir()
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        one = first.enter_context(running_consul("NEW", homes[0]))
        two = second.enter_context(running_consul("NEW", homes[1], datacenter="dc2"))
        path = tmp_path / "federation.yaml"
        path.write_text(f"""
datacenter_federation:
  datacenters:
    dc1: {{ primary: true, consul_address: "{one.address}" }}
    dc2: {{ primary: false, consul_address: "{two.address}" }}
  cross_dc_services:
    - {{ name: "database", failover: ["dc1", "dc2"] }}
failover: {{ max_outage: "1s" }}
""")
        there = second.enter_context(ServiceRegistry(backend="consul", endpoints=two.address))
        there.register("database", "127.0.0.1", 11)
        second.enter_context(contextlib.suppress(DiscoveryError))  # of closing what cannot be withdrawn
        registry = second.enter_context(ServiceRegistry.from_config(path))
        registry.register("database", "127.0.0.1", 1)
        eventually(lambda: registry.pick("database").port == 1)
        assert registry.pick("database").datacenter == "dc1"
        first.close()
        eventually(lambda: registry.pick("database").port == 11, within=30)
        assert registry.pick("database").datacenter == "dc2"
        with pytest.raises(DiscoveryError):
            registry.close(timeout=1)  # the datacenter it registered in is gone
