"""The blocking class, on the memory backend."""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
import pickle
import subprocess
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import eventually

import system_control.discovery as discovery
from system_control.discovery import ConfigError, ServiceInstance, ServiceRegistry, Snapshot


def test_registers_finds_changes_and_withdraws(registry: ServiceRegistry) -> None:
    id = registry.register(
        name="api",
        address="127.0.0.1",
        port=8080,
        tags=["v2", "production"],
        meta={"version": "2.1.0", "größe": "日本 🦀"},
        weight=7,
        ttl="20s",
    )
    assert id == "api-127.0.0.1-8080"
    (instance,) = registry.discover("api")
    assert (instance.id, instance.service, instance.address, instance.port) == (id, "api", "127.0.0.1", 8080)
    assert instance.tags == ("v2", "production")
    assert instance.meta == {"version": "2.1.0", "größe": "日本 🦀"}
    assert (instance.status, instance.weight, instance.endpoint) == ("passing", 7, "127.0.0.1:8080")

    registry.update_meta(id, {"version": "3", "größe": None})
    eventually(lambda: dict(registry.discover("api")[0].meta) == {"version": "3"})
    assert instance.meta["version"] == "2.1.0", "what was handed out never changes"

    registry.set_health(id, "critical", "disk full")
    eventually(lambda: not registry.discover("api"))
    assert registry.health("api").status == "critical"
    assert [i.id for i in registry.discover("api", healthy_only=False)] == [id]

    registry.deregister(id)
    eventually(lambda: not registry.discover("api", healthy_only=False))
    with pytest.raises(discovery.NotFoundError):
        registry.deregister(id)


def test_filters_by_tags(registry: ServiceRegistry) -> None:
    for port, tags in [(1, ["a"]), (2, ["a", "b"]), (3, ["b"])]:
        registry.register("api", "127.0.0.1", port, tags=tags)
    eventually(lambda: len(registry.discover("api")) == 3)
    assert {i.port for i in registry.discover("api", tags=["a"])} == {1, 2}
    assert {i.port for i in registry.discover("api", tags=("a", "b"))} == {2}
    assert registry.services() == (discovery.ServiceSummary("api", ("a", "b"), 3),)


def test_picks_turn_and_are_the_snapshots_own_objects(registry: ServiceRegistry) -> None:
    for port in (1, 2, 3):
        registry.register("api", "127.0.0.1", port)
    snapshot = eventually(lambda: (s := registry.discover("api")) if len(registry.discover("api")) == 3 else None)
    assert registry.discover("api") is snapshot
    service = registry.service("api")
    picks = [service.pick() for _ in range(6)] + [registry.pick("api") for _ in range(3)]
    assert {id(p) for p in picks} == {id(i) for i in snapshot}
    assert sorted(i.port for i in service.pick_many(6)) == [1, 1, 2, 2, 3, 3]
    assert service.pick_many(0) == []

    registry.register("api", "127.0.0.1", 4)
    eventually(lambda: len(registry.discover("api")) == 4)
    kept = {id(i) for i in registry.discover("api")} & {id(i) for i in snapshot}
    assert len(kept) == 3, "what did not change is the same object"


@pytest.mark.parametrize("strategy", ["round_robin", "weighted_round_robin", "random"])
def test_balances_as_told(registry: ServiceRegistry, strategy: str) -> None:
    registry.register("api", "127.0.0.1", 1, weight=3)
    registry.register("api", "127.0.0.1", 2)
    eventually(lambda: len(registry.discover("api")) == 2)
    registry.pick("api", strategy=strategy)
    eventually(lambda: len(registry.service("api", strategy=strategy).snapshot()) == 2)
    ports = [registry.pick("api", strategy=strategy).port for _ in range(400)]
    share = ports.count(1) / len(ports)
    assert share == pytest.approx(0.75 if strategy == "weighted_round_robin" else 0.5, abs=0.15)


def test_nothing_to_pick_says_why(registry: ServiceRegistry) -> None:
    with pytest.raises(discovery.UnavailableError, match="no instance can be picked") as caught:
        registry.pick("nobody")
    assert isinstance(caught.value, ConnectionError)
    assert caught.value.kind == "unavailable"
    assert caught.value.retryable
    assert caught.value.hint
    assert caught.value.context["service"] == "nobody"
    assert list(registry.discover("nobody")) == []


STRATEGIES = (
    "round_robin",
    "weighted_round_robin",
    "random",
    "weighted_random",
    "least_connections",
    "p2c",
    "peak_ewma",
    "consistent_hash",
    "maglev",
    "rendezvous",
)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_takes_a_key_and_those_that_hash_keep_to_it(
    registry: ServiceRegistry, strategy: str
) -> None:
    for port in range(1, 6):
        registry.register("api", "127.0.0.1", port)
    service = registry.service("api", strategy=strategy)
    eventually(lambda: len(service.snapshot()) == 5)
    ports = {registry.pick("api", strategy=strategy, key=f"user-{n}").port for n in range(200)}
    assert ports == {1, 2, 3, 4, 5}
    if strategy not in STRATEGIES[-3:]:
        return
    keys: list[str | bytes] = ["user-1", b"user-1"]
    picked = {registry.pick("api", strategy=strategy, key=key).port for key in keys * 20}
    with service.acquire("user-1") as call:
        assert {call.instance.port} == picked


def test_a_key_is_text_or_bytes(registry: ServiceRegistry) -> None:
    with pytest.raises(TypeError, match="text or bytes"):
        registry.pick("api", key=7)  # type: ignore[arg-type]


def test_explains_whom_it_chooses(registry: ServiceRegistry) -> None:
    registry.register("api", "127.0.0.1", 1, weight=3)
    registry.register("api", "127.0.0.1", 2)
    eventually(lambda: len(registry.discover("api")) == 2)
    assert {one.verdict for one in registry.explain("api")} == {"used"}
    with registry.service("api").acquire() as call:
        busy = [one for one in registry.explain("api") if one.in_flight]
        assert [one.instance.port for one in busy] == [call.instance.port]
    one = registry.explain("api")[0].to_dict()
    assert (one["verdict"], one["circuit"], one["ejected_for"]) == ("used", "closed", None)


def test_what_goes_around_a_strategy_is_told_by_name(uri: str) -> None:
    outlier = {"consecutive_failures": 2, "base_ejection": "1h"}
    with ServiceRegistry(
        "memory", config={"name": uri}, strategy="random", balancing={"tags": ["v2"], "outlier": outlier}
    ) as registry:
        for port, tag in ((1, "v1"), (2, "v2"), (3, "v2")):
            registry.register("api", "127.0.0.1", port, tags=[tag])
        service = registry.service("api")
        eventually(lambda: len(service.snapshot()) == 3)

        def fail(instance: ServiceInstance) -> None:
            if instance.port == 2:
                raise RuntimeError

        def ejected() -> bool:
            with contextlib.suppress(RuntimeError):
                service.call(fail, attempts=1)
            return any(one.verdict == "ejected" for one in registry.explain("api"))

        eventually(ejected)
        verdicts = {one.instance.port: one.verdict for one in registry.explain("api")}
        assert verdicts == {1: "filtered", 2: "ejected", 3: "used"}
    with pytest.raises(ConfigError, match="client.balancing"):
        ServiceRegistry("memory", balancing={"outlier": {"consecutive": 2}})


def test_acquire_and_call_report(registry: ServiceRegistry) -> None:
    for port in (1, 2):
        registry.register("api", "127.0.0.1", port)
    service = registry.service("api")
    eventually(lambda: len(service.snapshot()) == 2)
    with service.acquire() as call:
        assert call.instance in service.snapshot()
    with pytest.raises(RuntimeError), service.acquire():
        raise RuntimeError
    tried: list[int] = []

    def flaky(instance: ServiceInstance) -> str:
        tried.append(instance.port)
        if len(tried) == 1:
            raise OSError("refused")
        return "answer"

    assert service.call(flaky) == "answer"
    assert len(set(tried)) == 2, "the second attempt goes elsewhere"
    with pytest.raises(ZeroDivisionError):
        service.call(lambda i: 1 / 0, retry_on=OSError)
    with pytest.raises(ZeroDivisionError):
        service.call(lambda i: 1 / 0, attempts=3)


def test_the_end_of_a_call_says_how_it_went_and_how_long_it_took(registry: ServiceRegistry) -> None:
    registry.register("api", "127.0.0.1", 1)
    service = registry.service("api")
    eventually(lambda: len(service.snapshot()) == 1)

    def seen() -> tuple[int, int, int]:
        (one,) = registry.explain("api")
        return one.in_flight, one.succeeded, one.failed

    with service.acquire():
        assert seen() == (1, 0, 0)
        time.sleep(0.05)
    assert seen() == (0, 1, 0)
    (one,) = registry.explain("api")
    # It decays, and more than that at once.
    assert 0.02 < one.peak_latency < 10
    with pytest.raises(OSError), service.acquire():
        raise OSError
    assert seen() == (0, 1, 1)
    # What is nobody's fault says nothing: an interrupt, and a call let go.
    with pytest.raises(KeyboardInterrupt), service.acquire():
        raise KeyboardInterrupt
    with service.acquire() as call:
        call.release()
    assert seen() == (0, 1, 1)
    # The first report counts.
    with service.acquire() as call:
        call.report(False)
        call.report(True)
    assert seen() == (0, 1, 2)
    assert service.call(lambda instance: instance.port) == 1
    assert seen() == (0, 2, 2)


def test_watches_snapshots_and_changes(registry: ServiceRegistry) -> None:
    id = registry.register("api", "127.0.0.1", 1)
    seen: list[tuple[str, str]] = []
    with registry.watch("api", healthy_only=False) as watch:

        def follow() -> None:
            seen.extend((change.kind, change.instance.status) for change in watch.changes())

        thread = threading.Thread(target=follow)
        thread.start()
        eventually(lambda: seen == [("added", "passing")])
        registry.set_health(id, "warning")
        eventually(lambda: seen[1:] == [("updated", "warning")])
        registry.deregister(id)
        eventually(lambda: seen[2:] == [("removed", "warning")])
    thread.join(60)
    assert not thread.is_alive(), "close() ends an iteration in another thread"
    assert [len(s) for s in registry.watch("api", timeout=1.0)] == [0]


def test_a_watch_stops_when_unused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DISCOVERY_CLIENT_LINGER", "100ms")
    file = tmp_path / "discovery.yaml"
    file.write_text("memory:\n  name: unused\n")
    with ServiceRegistry.from_config(file) as registry:
        service = registry.service("kept")
        service.snapshot()
        registry.discover("one")
        registry.discover("one", tags=["a"])
        next(registry.watch("two"))
        # Asked in two ways, `one` has one watch all the same: filters share it.
        assert registry.status().watches == 3
        # Names asked for are looked through twice, 15 s apart, before they go.
        eventually(lambda: registry.status().watches == 1, within=50)
        assert len(service.snapshot()) == 0
        assert registry.status().watches == 1


def test_a_watch_of_a_closed_registry_raises(uri: str) -> None:
    registry = ServiceRegistry.from_uri(uri)
    watch = registry.watch("api")
    assert len(next(watch)) == 0
    registry.close()
    registry.close()
    with pytest.raises(discovery.ClosedError):
        next(watch)
    for call in (lambda: registry.pick("api"), lambda: registry.discover("api"), lambda: registry.services()):
        with pytest.raises(discovery.ClosedError):
            call()
    with pytest.raises(discovery.ClosedError):
        registry.register("api", "127.0.0.1", 1)


def test_closing_withdraws_all_but_what_is_to_stay(uri: str) -> None:
    with ServiceRegistry.from_uri(uri) as other:
        with ServiceRegistry.from_uri(uri) as registry:
            registry.register("api", "127.0.0.1", 1)
            kept = registry.register("api", "127.0.0.1", 2, deregister_on_exit=False)
            registry.update_meta(kept, {"kept": "yes"})
            assert len(registry.status().registrations) == 2
            with pytest.raises(discovery.ConflictError):
                registry.register("api", "127.0.0.1", 2)
        eventually(lambda: [i.id for i in other.discover("api")] == [kept])


def test_a_registration_outlives_the_object(uri: str) -> None:
    ServiceRegistry.from_uri(uri).register("api", "127.0.0.1", 1)
    service = ServiceRegistry.from_uri(uri).service("api")
    assert service.pick().port == 1


def test_keeps_configuration_values(registry: ServiceRegistry) -> None:
    config = registry.config
    assert config.get("db/url") is None
    version = config.set("db/url", "größe")
    entry = config.get("db/url")
    assert entry is not None
    assert (entry.value, entry.text, entry.version) == ("größe".encode(), "größe", version)
    assert "größe" not in repr(entry)
    with pytest.raises(discovery.ConflictError):
        config.set("db/url", b"x", create=True)
    config.set("db/url", b"\xff", version=version)
    with pytest.raises(ValueError):
        config.set("db/url", b"x", create=True, version=version)
    assert [e.value for e in config.list("db/")] == [b"\xff"]
    watch = config.watch("db/", timeout=60)
    assert [e.key for e in next(watch).entries] == ["db/url"]
    assert config.delete("db/url") and not config.delete("db/url")
    change = next(watch)
    assert (change.kind, change.key) == ("delete", "db/url")
    with pytest.raises(discovery.InvalidInputError):
        config.get("a//b")


def test_says_how_it_stands(registry: ServiceRegistry) -> None:
    id = registry.register("api", "127.0.0.1", 1)
    status = registry.status()
    assert (status.backend, status.reachable, status.error, status.circuit) == ("memory", True, None, "closed")
    (registration,) = status.registrations
    assert registration == discovery.RegistrationStatus(id, "api", "registered", "passing")
    assert status.to_dict()["registrations"][0]["id"] == id
    hash(status)
    assert any(series.startswith("service_registration_duration_count{") for series in discovery.metrics())
    assert all(isinstance(value, (int, float)) for value in discovery.metrics().values())
    assert "memory" in repr(registry)


# === values ===


def test_values_are_frozen_hashable_and_pickleable(registry: ServiceRegistry) -> None:
    registry.register("api", "::1", 1, tags=["t"], meta={"k": "v"})
    snapshot = registry.discover("api")
    instance = snapshot[0]
    assert instance.endpoint == "[::1]:1"
    for value in (instance, snapshot, registry.health("api"), registry.services(), registry.status()):
        again = pickle.loads(pickle.dumps(value))
        assert again == value and hash(again) == hash(value) and again is not value
    with pytest.raises(AttributeError):
        instance.port = 2  # type: ignore[misc]
    with pytest.raises(TypeError):
        instance.meta["k"] = "w"  # type: ignore[index]
    assert instance.to_dict()["meta"] == {"k": "v"}
    assert snapshot.to_dict()["instances"] == [instance.to_dict()]
    assert repr(instance).startswith("ServiceInstance(id=") and "api" in repr(snapshot)
    made = ServiceInstance("id", "api", "127.0.0.1", 1, tags=["a"], zone="z", checks=[("c", "warning", "hm")])
    assert pickle.loads(pickle.dumps(made)) == made
    assert made.checks == (discovery.HealthCheckResult("c", "warning", "hm"),)
    assert made != instance and made != "id"


def test_a_snapshot_is_a_sequence() -> None:
    one, two = (ServiceInstance(f"i{n}", "api", "127.0.0.1", n) for n in (1, 2))
    snapshot = Snapshot([one, two], service="api", source="stale", age="90s")
    assert isinstance(snapshot, Sequence)
    assert snapshot[0] is one and snapshot[-1] is two and snapshot[::-1] == (two, one)
    assert list(reversed(snapshot)) == [two, one]
    assert one in snapshot and "x" not in snapshot
    assert snapshot.index(two) == 1 and snapshot.count(one) == 1
    assert snapshot.source == "stale" and 89 < snapshot.age < 100
    assert bool(snapshot) and not Snapshot()
    for wrong in (2, -3, 10**30):
        with pytest.raises(IndexError):
            snapshot[wrong]
    with pytest.raises(ValueError):
        snapshot.index("x")
    match snapshot:
        case [first, *_]:
            assert first is one
        case _:
            pytest.fail("not matched as a sequence")


# === arguments ===


@pytest.mark.parametrize("ttl", ["10s", 10, 10.5, timedelta(seconds=10)])
def test_durations_in_every_form(registry: ServiceRegistry, ttl: str | float | timedelta) -> None:
    registry.register("api", "127.0.0.1", 1, ttl=ttl)


@pytest.mark.parametrize("ttl", ["10", "ten", -1, math.nan, math.inf, timedelta(seconds=-1), "", 1e300])
def test_bad_durations_are_values_errors(registry: ServiceRegistry, ttl: str | float | timedelta) -> None:
    with pytest.raises(ValueError) as caught:
        registry.register("api", "127.0.0.1", 1, ttl=ttl)
    assert isinstance(caught.value, discovery.InvalidInputError)


@pytest.mark.parametrize("ttl", [True, b"10s", [1], object()])
def test_what_is_no_duration_is_a_type_error(registry: ServiceRegistry, ttl: object) -> None:
    with pytest.raises(TypeError, match="duration"):
        registry.register("api", "127.0.0.1", 1, ttl=ttl)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "check",
    [
        "http://127.0.0.1:1/health",
        "tcp://127.0.0.1:1",
        {"http": "http://127.0.0.1:1/health", "interval": "10s", "timeout": 5},
        {"tcp": "127.0.0.1:1", "name": "port", "deregister_after": timedelta(minutes=1)},
    ],
)
def test_health_checks_in_every_form(registry: ServiceRegistry, check: str) -> None:
    registry.register("api", "127.0.0.1", 1, health_check=check)
    (instance,) = registry.discover("api", healthy_only=False)
    assert instance.status in {"starting", "critical"}, "nothing listens there"
    registry.register("api", "127.0.0.1", 2, health_checks=[check, "tcp://127.0.0.1:2"])


@pytest.mark.parametrize(
    "change",
    [
        {"port": 0},
        {"port": 70_000},
        {"port": -1},
        {"weight": -1},
        {"name": ""},
        {"name": "a/b"},
        {"address": "0.0.0.0"},
        {"address": "http://x"},
        {"id": ""},
        {"health_check": "ftp://x"},
        {"health_check": {}},
        {"health_check": {"http": "http://x/", "tcp": "x:1"}},
        {"health_check": {"http": "http://x/", "intervall": "1s"}},
        {"health_check": {"http": "http://x/", "interval": 0}},
    ],
)
def test_bad_arguments_are_value_errors_with_a_hint(registry: ServiceRegistry, change: dict[str, object]) -> None:
    given: dict[str, object] = {"name": "api", "address": "127.0.0.1", "port": 1, **change}
    with pytest.raises(discovery.InvalidInputError) as caught:
        registry.register(**given)  # type: ignore[arg-type]
    assert isinstance(caught.value, ValueError)
    assert caught.value.hint


@pytest.mark.parametrize(
    "change", [{"meta": {"k": 1}}, {"meta": "x"}, {"tags": "ab"}, {"name": None}, {"health_check": 7}, {"port": "1"}]
)
def test_wrong_types_are_type_errors(registry: ServiceRegistry, change: dict[str, object]) -> None:
    given: dict[str, object] = {"name": "api", "address": "127.0.0.1", "port": 1, **change}
    with pytest.raises(TypeError):
        registry.register(**given)  # type: ignore[arg-type]


# === opening ===


def test_opens_from_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for registry in (
        ServiceRegistry("memory", endpoints="by-name"),
        ServiceRegistry("memory", config={"name": "by-name"}, timeout=2, max_stale=timedelta(hours=1)),
        ServiceRegistry.from_uri("memory://by-name"),
    ):
        with registry:
            assert "by-name" in repr(registry)
    file = tmp_path / "discovery.yaml"
    file.write_text("memory:\n  name: from-file\n")
    for path in (file, str(file)):
        with ServiceRegistry.from_config(path) as registry:
            assert "from-file" in repr(registry)
    monkeypatch.setenv("DISCOVERY_URI", "memory://from-env")
    with ServiceRegistry() as registry:
        assert "from-env" in repr(registry)


def test_registers_what_its_files_declare(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        """
memory: { name: declared-in-base }
client: { auto_register: true }
service_definition: { name: api, id: "api-{{ .n }}", address: 127.0.0.1, port: 8080, tags: ["{{ .version }}"] }
"""
    )
    (tmp_path / "over.yaml").write_text("memory: { name: declared-in-over }\nservice_definition: { port: 9090 }\n")
    files = (tmp_path / "base.yaml", tmp_path / "over.yaml")
    with ServiceRegistry.from_uri("memory://declared-in-over") as other:
        with ServiceRegistry.from_config(*files, variables={"n": "1", "version": "v2"}):
            (found,) = eventually(lambda: list(other.discover("api")))
            assert (found.id, found.port, found.tags) == ("api-1", 9090, ("v2",))
        # Closing withdraws it, as anything that was registered.
        eventually(lambda: not other.discover("api"))
    with pytest.raises(discovery.ConfigError, match=r"base\.yaml:4:\d+: service_definition\.\w+") as unfilled:
        ServiceRegistry.from_config(*files)
    assert "environment variable" in (unfilled.value.hint or "")


def test_what_cannot_be_opened_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DISCOVERY_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    for arguments in (
        {"backend": "consull"},
        {"backend": "memory", "config": {"nmae": "x"}},
        {"backend": "memory", "strategy": "best"},
        {"backend": "memory", "max_stale": 0.001},
        {"timeout": 1},
        {},
    ):
        with pytest.raises(ValueError) as caught:
            ServiceRegistry(**arguments)
        assert isinstance(caught.value, discovery.DiscoveryError)
        assert caught.value.hint, caught.value
    with pytest.raises(discovery.ConfigError, match="cannot be read"):
        ServiceRegistry.from_config("missing.yaml")
    with pytest.raises(discovery.ConfigError) as secret:
        ServiceRegistry.from_uri("consul://user:hunter2@127.0.0.1")
    assert "hunter2" not in str(secret.value)


# === errors ===


def test_every_error_is_a_discovery_error() -> None:
    classes = discovery.DiscoveryError.__subclasses__()
    assert len(classes) == 14
    for cls in classes:
        assert getattr(discovery, cls.__name__) is cls
        error = pickle.loads(pickle.dumps(cls("text", hint="do this", retryable=True, context={"a": "b"})))
        assert (str(error), error.hint, error.retryable, error.context) == ("text", "do this", True, {"a": "b"})
        assert error.kind == cls.kind and cls.__doc__
    assert issubclass(discovery.UnavailableError, ConnectionError)
    assert issubclass(discovery.DiscoveryTimeoutError, TimeoutError)
    assert issubclass(discovery.ConfigError, ValueError)
    assert issubclass(discovery.InvalidInputError, ValueError)


def test_a_registry_that_is_not_there_is_a_connection_error() -> None:
    with ServiceRegistry("consul", endpoints="127.0.0.1:1", timeout=1) as registry:
        with pytest.raises((ConnectionError, TimeoutError)) as caught:
            registry.services()
        assert isinstance(caught.value, discovery.DiscoveryError)
        assert caught.value.backend == "consul" and caught.value.retryable
        status = registry.status()
        assert not status.reachable and isinstance(status.error, discovery.DiscoveryError)


# === manners ===


def test_logs_to_logging(caplog: pytest.LogCaptureFixture, uri: str) -> None:
    with caplog.at_level(logging.DEBUG, logger="system_control.discovery"):
        with ServiceRegistry.from_uri(uri) as registry:
            registry.register("api", "127.0.0.1", 1)
            registry.discover("api")
            eventually(lambda: [r for r in caplog.records if r.name == "system_control.discovery"])


def test_the_classes_are_twins() -> None:
    twins = [
        (ServiceRegistry, discovery.AsyncServiceRegistry),
        (discovery.Service, discovery.AsyncService),
        (discovery.ConfigValues, discovery.AsyncConfigValues),
        (discovery.Watch, discovery.AsyncWatch),
        (discovery.ConfigWatch, discovery.AsyncConfigWatch),
    ]
    for one, other in twins:
        names = [{name for name in dir(cls) if not name.startswith("_")} for cls in (one, other)]
        assert names[0] == names[1], one
        for name in names[0] - {"config", "name"}:
            signatures = [inspect.signature(getattr(cls, name)) for cls in (one, other)]
            assert signatures[0] == signatures[1], f"{one.__name__}.{name}"


def test_the_specifications_file_opens_a_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "integrations").mkdir()
    specification = Path(__file__).parents[2] / "discovery" / "tests" / "specification" / "integrations-consul.yaml"
    # Word for word but for where the certificates are.
    text = specification.read_text().replace("/etc/consul/", f"{tmp_path}/")
    (tmp_path / "integrations" / "consul.yaml").write_text(text)
    key, certificate = tmp_path / "client-key.pem", tmp_path / "client.pem"
    openssl = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl += ["-subj", "/CN=test", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(openssl, check=True, capture_output=True)
    (tmp_path / "ca.pem").write_text(certificate.read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONSUL_TOKEN", "a-token")
    # Nothing is looked up before something is asked.
    registry = ServiceRegistry.from_config("integrations/consul.yaml")
    assert "consul.company.com:8500" in repr(registry)
    assert "a-token" not in repr(registry)
    registry.close()


def test_everything_public_has_a_docstring() -> None:
    for name in discovery.__all__:
        value = getattr(discovery, name)
        if isinstance(value, str):
            continue
        assert value.__doc__, name
        for attribute, member in vars(value).items() if isinstance(value, type) else ():
            if not attribute.startswith("_") and attribute != "kind":
                assert getattr(member, "__doc__", None), f"{name}.{attribute}"


def test_threads_share_a_registry(registry: ServiceRegistry) -> None:
    for port in range(1, 5):
        registry.register("api", "127.0.0.1", port)
    eventually(lambda: len(registry.discover("api")) == 4)
    failures: list[BaseException] = []
    stop = threading.Event()

    def pick() -> None:
        service = registry.service("api")
        try:
            while not stop.is_set():
                assert 1 <= service.pick().port <= 8
                registry.pick("api")
                registry.discover("api")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=pick) for _ in range(4)]
    for thread in threads:
        thread.start()
    for port in range(5, 9):
        registry.register("api", "127.0.0.1", port)
        registry.deregister(f"api-127.0.0.1-{port}")
    stop.set()
    for thread in threads:
        thread.join(60)
    assert not failures and not any(thread.is_alive() for thread in threads)


def test_a_call_that_waits_leaves_the_interpreter_to_others(registry: ServiceRegistry) -> None:
    watch = registry.watch("api", timeout=1.0)
    assert len(next(watch)) == 0
    turns = 0
    thread = threading.Thread(target=lambda: next(watch, None))
    thread.start()
    while thread.is_alive():
        time.sleep(0.005)
        turns += 1
    assert turns > 3, "one that is kept out turns once"
