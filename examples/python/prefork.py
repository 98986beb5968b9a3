"""gunicorn, with every worker registered: application and configuration in one file.

    cd examples/python
    DISCOVERY_URI=consul://127.0.0.1:8500 gunicorn --config python:prefork prefork:app

It needs: pip install gunicorn
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from system_control.discovery import ServiceRegistry

bind = [os.environ.get("BIND", "127.0.0.1:8080")]
workers = 2
preload_app = True

registry: ServiceRegistry | None = None


def post_worker_init(worker: Any) -> None:
    """A registry belongs to the process that made it: not in the master, but in each worker, after the fork."""
    global registry
    registry = ServiceRegistry()
    host, _, port = bind[0].rpartition(":")
    registry.register("prefork", host, int(port), id=f"prefork-{port}-{worker.pid}")


def worker_exit(server: Any, worker: Any) -> None:
    if registry is not None:
        registry.close()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    assert registry is not None
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid(), "workers": len(registry.discover("prefork"))}).encode()]
