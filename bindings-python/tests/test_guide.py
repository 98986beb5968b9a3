"""The guide says what is so: its code runs, and its table of errors is complete."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from conftest import Consul, complaints

import system_control.discovery as discovery

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "python.md").read_text()


def blocks(language: str) -> list[str]:
    """The code blocks of the guide, also those within a list."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", GUIDE, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(code) for _, code in found]


def test_the_code_of_the_guide_runs(consul: Consul, tmp_path: Path) -> None:
    (yaml,) = blocks("yaml")
    (tmp_path / "discovery.yaml").write_text(yaml)
    code = blocks("python")
    assert len(code) > 10
    # Where it fails, the traceback names the block.
    script = tmp_path / "guide.py"
    script.write_text("\n".join(f"# === block {n} ===\n{block}" for n, block in enumerate(code, 1)) + "print('the end')\n")
    done = subprocess.run(
        [sys.executable, "-X", "dev", str(script)],
        cwd=tmp_path,
        env={**os.environ, "CONSUL_HTTP_ADDR": consul.address, "MY_TOKEN": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, complaints(done.stderr)) == (0, []), done.stdout
    lines = done.stdout.splitlines()
    assert lines[-1] == "the end"
    for line in (
        "api-127.0.0.1-8080 127.0.0.1:8080 passing ('v2',) {'version': '2.1.1'}",
        "answer of 127.0.0.1:8080",
        "added api-127.0.0.1-8080",
        "reset None",
    ):
        assert line in lines, done.stdout
    assert any(line.startswith("unavailable True ") for line in lines), done.stdout


def test_the_table_of_errors_is_complete() -> None:
    rows = re.findall(r"^\| `(\w+Error)` \| `(\w+)` \| (?:`(\w+)`)? ?\| (yes|no) \|", GUIDE, re.MULTILINE)
    classes = {cls.__name__: cls for cls in discovery.DiscoveryError.__subclasses__()}
    assert [row[0] for row in rows] == list(classes)
    for name, kind, also, _ in rows:
        assert classes[name].kind == kind
        bases = [base.__name__ for base in classes[name].__bases__ if base is not discovery.DiscoveryError]
        assert bases == ([also] if also else []), name


def test_help_reads_well() -> None:
    for cls in (discovery.ServiceRegistry, discovery.AsyncServiceRegistry):
        for name in ("register", "discover", "pick", "watch", "service"):
            signature = str(inspect.signature(getattr(cls, name)))
            assert "..." not in signature and signature.startswith("(self, /, name"), signature
    text = subprocess.run(
        [sys.executable, "-c", "from system_control.discovery import ServiceRegistry; help(ServiceRegistry)"],
        capture_output=True,
        text=True,
        env={**os.environ, "PAGER": "cat", "MANPAGER": "cat"},
        timeout=120,
    ).stdout
    assert "A client of one service registry." in text
    assert re.search(r"register\(\s*self,\s*/,\s*name,\s*address,\s*port,\s*\*,\s*id=None,\s*tags=\(\)", text), text
