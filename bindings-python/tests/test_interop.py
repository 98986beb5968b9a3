"""What py-consul, another client, makes of our registrations, and we of its."""

from __future__ import annotations

from typing import Any

import consul as py_consul
import pytest
from conftest import Consul, eventually, healthy_server

import system_control.discovery as discovery
from system_control.discovery import ServiceRegistry

UNICODE = {"größe": "日本 🦀"}


def theirs(consul: Consul) -> Any:
    host, _, port = consul.address.partition(":")
    return py_consul.Consul(host=host, port=int(port))


def entries(client: Any, name: str) -> list[Any]:
    return list(client.health.service(name)[1])


def test_py_consul_sees_what_we_register(consul: Consul) -> None:
    client = theirs(consul)
    with ServiceRegistry("consul", endpoints=consul.address) as registry, healthy_server() as port:
        id = registry.register(
            "interop-ours",
            "127.0.0.1",
            port,
            tags=["v2", "größe"],
            meta={"who": "日本 🦀"},
            weight=7,
            health_check={"http": f"http://127.0.0.1:{port}/", "interval": "1s"},
        )
        plain = registry.register("interop-ours", "127.0.0.1", 1, ttl="30s")
        found = eventually(lambda: seen if len(seen := entries(client, "interop-ours")) == 2 else None)
        service = next(entry["Service"] for entry in found if entry["Service"]["ID"] == id)
        assert (service["Address"], service["Port"], service["Weights"]["Passing"]) == ("127.0.0.1", port, 7)
        assert service["Tags"] == ["v2", "größe"]
        assert service["Meta"]["who"] == "日本 🦀"
        assert {check["Status"] for entry in found for check in entry["Checks"]} == {"passing"}
        assert {plain, id} <= set(client.agent.services())

        registry.update_meta(id, {"who": "größe"})
        eventually(lambda: "größe" in {e["Service"]["Meta"].get("who") for e in entries(client, "interop-ours")})
        registry.set_health(plain, "critical", "größe")

        def output() -> bool:
            checks = client.health.checks("interop-ours")[1]
            return any(c["Status"] == "critical" and "größe" in c["Output"] for c in checks if c["ServiceID"] == plain)

        eventually(output)
        registry.config.set("interop/ours", "日本")
        assert client.kv.get("interop/ours")[1]["Value"].decode() == "日本"
    assert entries(client, "interop-ours") == []


def test_we_discover_what_py_consul_registers(consul: Consul) -> None:
    client = theirs(consul)
    register = client.agent.service.register
    with ServiceRegistry("consul", endpoints=consul.address) as registry:
        watch = registry.watch("interop-theirs", timeout=60)
        assert len(next(watch)) == 0
        register("interop-theirs", service_id="one", address="127.0.0.1", port=8080, tags=["größe"], meta={"k": "日本 🦀"})
        (instance,) = next(watch)
        assert (instance.id, instance.endpoint, instance.tags) == ("one", "127.0.0.1:8080", ("größe",))
        assert dict(instance.meta) == {"k": "日本 🦀"}
        assert instance.status == "passing"

        check = py_consul.Check.ttl("30s")
        register("interop-theirs", service_id="two", address="127.0.0.1", port=8081, check=check)
        eventually(lambda: registry.health("interop-theirs").critical == 1)
        assert [i.id for i in registry.discover("interop-theirs")] == ["one"]
        client.agent.check.ttl_pass("service:two")
        eventually(lambda: {i.id for i in registry.discover("interop-theirs")} == {"one", "two"})
        assert registry.pick("interop-theirs").id in {"one", "two"}

        with pytest.raises(discovery.NotFoundError, match="not registered by this client"):
            registry.update_meta("one", {"k": "ours"})
        client.kv.put("interop/theirs", "日本")
        entry = registry.config.get("interop/theirs")
        assert entry is not None and entry.text == "日本"
        for id in ("one", "two"):
            client.agent.service.deregister(id)
        eventually(lambda: not registry.discover("interop-theirs", healthy_only=False))


@pytest.mark.parametrize("consul", ["NEW"], indirect=True)
def test_what_consul_cannot_keep_is_refused(consul: Consul) -> None:
    with ServiceRegistry("consul", endpoints=consul.address) as registry:
        with pytest.raises(discovery.InvalidInputError) as caught:
            registry.register("interop-key", "127.0.0.1", 1, meta=UNICODE)
        assert caught.value.hint
        with pytest.raises(discovery.InvalidInputError):
            registry.register("interop-key", "127.0.0.1", 1, meta={"k": "x" * 513})
        assert len(registry.discover("interop-key", healthy_only=False)) == 0
