"""The example of the specification, as it stands there; `test_specification.py` runs this in a network namespace of its own.

There 10.0.1.100 is an address of the loopback device, and Consul has its usual port.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import Consul, eventually, healthy_server, running_consul

SCRIPT = Path(__file__).parents[1] / "fixtures" / "specification.py"


def test_the_example_of_the_specification(tmp_path: Path) -> None:
    with running_consul(os.environ["AGE"], tmp_path, http=8500) as consul, healthy_server("10.0.1.100", 8080):
        # `-i` keeps the interpreter, and with it what the script registered, until its input ends.
        with subprocess.Popen(
            [sys.executable, "-X", "dev", "-i", "-q", str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            entry = eventually(lambda: seen(consul, process), within=40)
            checks: Any = consul.get("/v1/agent/checks")
            output, errors = process.communicate("print('id', service_id)\n", timeout=20)
        assert process.returncode == 0
        assert "Traceback" not in errors and "Error" not in errors, errors

        service = entry["Service"]
        assert output == f"id {service['ID']}\n"
        assert (service["Service"], service["Address"], service["Port"]) == ("api", "10.0.1.100", 8080)
        assert service["Tags"] == ["api", "v2.1.0", "production"]
        assert {
            "version": "2.1.0",
            "environment": "production",
            "started_at": "2024-01-15T10:30:00Z",
            "last_deployed": "2024-01-15T10:30:00Z",
            "health_status": "healthy",
        }.items() <= service["Meta"].items()
        (check,) = [check for check in checks.values() if check["Type"] == "http"]
        assert (check["ServiceID"], check["Status"]) == (service["ID"], "passing")
        assert "HTTP GET http://10.0.1.100:8080/health: 200 OK" in check["Output"]
        nothing_is_left(consul)

        # As a user runs it: it registers, ends, and says nothing.
        done = subprocess.run([sys.executable, "-X", "dev", SCRIPT], capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        nothing_is_left(consul)


def seen(consul: Consul, process: subprocess.Popen[str]) -> dict[str, Any] | None:
    """The one instance, once its metadata is the latest and the agent has looked at its health."""
    assert process.poll() is None, "it ended early"
    entries: Any = consul.get("/v1/health/service/api?passing")
    assert len(entries) <= 1, json.dumps(entries)
    # The agent's own record: what a check says goes to the catalogue minutes later, unless its status changes too.
    checks: Any = consul.get("/v1/agent/checks")
    if not any("200 OK" in check["Output"] for check in checks.values()):
        return None
    return next((entry for entry in entries if "health_status" in entry["Service"]["Meta"]), None)


def nothing_is_left(consul: Consul) -> None:
    assert consul.get("/v1/catalog/service/api") == []
    assert consul.get("/v1/agent/services") == {}
    assert consul.get("/v1/agent/checks") == {}
