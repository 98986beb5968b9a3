"""Every example of `examples/python`, run as a user runs it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Consul, complaints, eventually, free_ports

EXAMPLES = Path(__file__).parents[2] / "examples" / "python"


def command(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-X", "dev", str(EXAMPLES / name), *map(str, arguments)]


def environment(consul: Consul) -> dict[str, str]:
    return {**os.environ, "DISCOVERY_URI": f"consul://{consul.address}"}


@contextlib.contextmanager
def running(arguments: list[str], **given: object) -> Iterator[subprocess.Popen[str]]:
    """A child process, which is not left behind."""
    with subprocess.Popen(arguments, text=True, **given) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


def get(url: str) -> dict[str, int]:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return dict(json.load(answer))


def instances(consul: Consul, name: str) -> list[str]:
    entries = consul.get(f"/v1/health/service/{name}?passing")
    assert isinstance(entries, list)
    return sorted(entry["Service"]["ID"] for entry in entries)


def test_service_client_and_watch(consul: Consul) -> None:
    environ, ports = environment(consul), free_ports(2)

    def ready(port: int) -> bool:
        with contextlib.suppress(OSError):
            return get(f"http://127.0.0.1:{port}/greet/x")["port"] == port
        return False

    def calls(count: int) -> set[str]:
        done = subprocess.run(
            command("client.py", "--calls", count), env=environ, capture_output=True, text=True, timeout=120
        )
        assert (done.returncode, complaints(done.stderr)) == (0, [])
        lines = done.stdout.splitlines()
        assert len(lines) == count and all(line.endswith(" Hello, world!") for line in lines), lines
        return {line.split()[0] for line in lines}

    with (
        running(command("watch.py", "greeter"), env=environ, stdout=subprocess.PIPE) as watch,
        running(command("service.py", "--port", ports[0]), env=environ) as one,
        running(command("service.py", "--port", ports[1]), env=environ) as two,
    ):
        assert watch.stdout is not None
        assert watch.stdout.readline() == "watching greeter\n"
        ids = [f"greeter-127.0.0.1-{port}" for port in sorted(ports)]
        eventually(lambda: all(map(ready, ports)))
        eventually(lambda: instances(consul, "greeter") == ids)
        assert calls(10) == {str(port) for port in ports}

        # Killed, it is still registered: the calls that meet it go to the other.
        two.kill()
        two.wait()
        assert calls(10) == {str(ports[0])}

        # Asked to end, it leaves before it goes.
        one.send_signal(signal.SIGTERM)
        assert one.wait(60) in (0, -signal.SIGTERM)
        assert f"greeter-127.0.0.1-{ports[0]}" not in instances(consul, "greeter")

        lines: list[str] = []

        def removed() -> bool:
            assert watch.stdout is not None
            lines.append(watch.stdout.readline())
            return lines[-1].startswith(f"removed greeter-127.0.0.1-{ports[0]} ")

        eventually(removed)
        assert {line.split()[1] for line in lines if line.startswith("added ")} == set(ids)
        watch.send_signal(signal.SIGINT)
        assert watch.wait(60) == 0
    forget(consul, ids)


def forget(consul: Consul, ids: list[str]) -> None:
    """Takes from the agent what a killed process left there."""
    for id in ids:
        request = urllib.request.Request(f"http://{consul.address}/v1/agent/service/deregister/{id}", method="PUT")
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(request, timeout=20).close()


def test_asyncio_calls() -> None:
    done = subprocess.run(command("asyncio_calls.py"), capture_output=True, text=True, timeout=120)
    assert (done.returncode, complaints(done.stderr)) == (0, [])
    lines = done.stdout.splitlines()
    assert sum(line.startswith("added 127.0.0.1:") for line in lines) == 3, lines
    assert sum(line.startswith("removed 127.0.0.1:") for line in lines) == 1, lines
    assert "calls by instance: [10, 10, 10]" in lines
    assert "answered by the two left: True" in lines


@pytest.mark.skipif(sys.platform == "win32", reason="gunicorn forks")
def test_prefork(consul: Consul, tmp_path: Path) -> None:
    # issue_opendal_5330: a worker of a pre-fork server neither hangs nor crashes, and leaves when it is asked to end.
    (port,) = free_ports(1)
    arguments = [sys.executable, "-m", "gunicorn", "--config", "python:prefork", "prefork:app"]
    log = tmp_path / "log"
    environ = {**environment(consul), "BIND": f"127.0.0.1:{port}"}
    with log.open("w") as file, running(arguments, env=environ, cwd=EXAMPLES, stderr=file) as master:
        eventually(lambda: len(instances(consul, "prefork")) == 2 or master.poll())
        assert master.poll() is None, log.read_text()

        def both() -> bool:
            answer = get(f"http://127.0.0.1:{port}/")
            return f"prefork-{port}-{answer['pid']}" in instances(consul, "prefork") and answer["workers"] == 2

        eventually(both)
        master.send_signal(signal.SIGTERM)
        assert master.wait(60) == 0, log.read_text()
        assert instances(consul, "prefork") == []
        assert "Traceback" not in log.read_text(), log.read_text()
