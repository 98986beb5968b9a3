"""The Python example of the specification, word for word, on real Consul.

Its addresses are of a network that is not ours, so it runs in a network namespace of its own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
AS_PUBLISHED = "c491a5b7745541ff91c298fd71ef652a88533f4c8fc3c678f2988e95dd48c2e9"

NAMESPACE = 'ip link set lo up && ip address add 10.0.1.100/32 dev lo && exec "$@"'


def test_the_fixture_is_as_published() -> None:
    script = (HERE / "fixtures" / "specification.py").read_bytes()
    assert hashlib.sha256(script).hexdigest() == AS_PUBLISHED, "it is kept word for word"


@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are of Linux")
@pytest.mark.timeout(400)
@pytest.mark.parametrize("age", ["OLD", "NEW"])
def test_runs_word_for_word_in_a_network_of_its_own(age: str, tmp_path: Path) -> None:
    for command, package in (("unshare", "util-linux"), ("ip", "iproute2")):
        assert shutil.which(command), f"{command} is missing: apt-get install {package}"
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    pytest_inside = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "inside")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CONSUL_", "DISCOVERY_URI"))}
    done = subprocess.run(
        [*unshare, "sh", "-c", NAMESPACE, "sh", *pytest_inside, str(HERE / "in_namespace" / "verbatim.py")],
        env={**environment, "AGE": age},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=380,
    )
    assert done.returncode == 0, f"(where the namespace is refused, it takes root or user namespaces)\n{done.stdout}"
    assert "1 passed" in done.stdout, done.stdout
