"""On a file, shared by processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import eventually

from system_control.discovery import AsyncServiceRegistry, DiscoveryError, ServiceRegistry, UnsupportedError

OTHER = """
import sys
from system_control.discovery import ServiceRegistry

registry = ServiceRegistry(backend="local", config={"path": sys.argv[1]})
registry.register("api", "127.0.0.1", int(sys.argv[2]))
registry.config.set("greeting", "hello")
print("registered", flush=True)
sys.stdin.read()
"""


def other(path: Path, port: int) -> subprocess.Popen[str]:
    """A process that has registered an instance and lives until it is killed."""
    child = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(path), str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None and child.stdout.readline() == "registered\n"
    return child


def test_processes_see_each_other_come_and_go(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with ServiceRegistry.from_uri(f"local://{path}") as registry, other(path, 8080) as child:
        try:
            registry.register("api", "127.0.0.1", 8081)
            eventually(lambda: sorted(i.port for i in registry.discover("api")) == [8080, 8081])
            entry = registry.config.get("greeting")
            assert entry is not None and entry.text == "hello"
        finally:
            child.send_signal(signal.SIGKILL)
        eventually(lambda: [i.port for i in registry.discover("api")] == [8081])
        assert "local" in repr(registry) and str(path) in repr(registry)


async def test_asyncio_sees_another_process(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    async with AsyncServiceRegistry("local", config={"path": str(path)}) as registry:
        async with registry.watch("api", timeout=60) as watch:
            seen = []
            child = None
            try:
                async for snapshot in watch:
                    seen.append(len(snapshot))
                    if child is None:
                        child = other(path, 1)
                    elif seen[-1] == 1:
                        child.kill()
                    elif 1 in seen:
                        break
            finally:
                if child is not None:
                    child.kill()
                    child.communicate()
        assert seen[0] == 0 and seen[-1] == 0 and 1 in seen


def test_a_file_of_somebody_else_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("the only copy")
    with ServiceRegistry.from_uri(f"local://{path}") as registry:
        with pytest.raises(DiscoveryError, match="not a database"):
            registry.register("api", "127.0.0.1", 1)
    assert path.read_text() == "the only copy"


def test_a_forked_process_may_not_share_an_open_file(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with ServiceRegistry.from_uri(f"local://{path}") as registry:
        registry.register("api", "127.0.0.1", 1)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                ServiceRegistry.from_uri(f"local://{path}")
            except UnsupportedError:
                with ServiceRegistry.from_uri(f"local://{tmp_path / 'y.db'}") as own:
                    own.register("api", "127.0.0.1", 2)
                    code = 0 if len(own.discover("api")) == 1 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert [i.port for i in registry.discover("api")] == [1]
