"""On real Consul agents, the oldest and the newest supported."""

from __future__ import annotations

import pytest
from conftest import Consul, eventually, healthy_server

from system_control.discovery import AsyncServiceRegistry, ServiceRegistry


def test_registers_with_a_check_and_discovers(consul: Consul) -> None:
    with healthy_server() as port:
        with ServiceRegistry(backend="consul", endpoints=consul.address) as registry:
            id = registry.register(
                name="api",
                address="127.0.0.1",
                port=port,
                tags=["v2"],
                meta={"version": "2.1.0"},
                health_check={"http": f"http://127.0.0.1:{port}/health", "interval": "1s", "timeout": "1s"},
            )
            registry.update_meta(id, {"last_deployed": "now"})
            instance = eventually(lambda: next(iter(registry.discover("api", tags=["v2"])), None))
            assert (instance.id, instance.port, instance.datacenter) == (id, port, "dc1")
            eventually(lambda: registry.pick("api").meta.get("last_deployed") == "now")
            assert "api" in {service.name for service in registry.services()}
            assert registry.health("api").passing == 1
            assert registry.status().leader
            registry.config.set("python/key", "größe")
            entry = registry.config.get("python/key")
            assert entry is not None and entry.text == "größe"
        eventually(lambda: consul.get("/v1/catalog/service/api") == [])


@pytest.mark.parametrize("consul", ["NEW"], indirect=True)
async def test_asyncio_sees_a_change(consul: Consul) -> None:
    async with AsyncServiceRegistry("consul", endpoints=consul.address) as registry:
        async with registry.watch("async-api", timeout=60) as watch:
            seen = []
            async for snapshot in watch:
                seen.append(len(snapshot))
                if seen == [0]:
                    await registry.register("async-api", "127.0.0.1", 1)
                elif seen[-1] == 1:
                    break
        assert seen[0] == 0 and seen[-1] == 1


def test_the_environment_names_the_agent(consul: Consul, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSUL_HTTP_ADDR", consul.address)
    with ServiceRegistry(backend="consul") as registry:
        assert registry.status().reachable
    with ServiceRegistry(backend="consul", endpoints="127.0.0.1:1", timeout=1) as registry:
        assert not registry.status().reachable, "an argument goes before the environment"
