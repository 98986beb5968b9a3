"""Prints what happens to a service, until Ctrl-C.

    DISCOVERY_URI=consul://127.0.0.1:8500 python examples/python/watch.py greeter
"""

from __future__ import annotations

import sys

from system_control.discovery import ServiceRegistry


def main(name: str) -> None:
    with ServiceRegistry() as registry, registry.watch(name, healthy_only=False) as watch:
        print(f"watching {name}", flush=True)
        # An outage of the registry ends nothing: what is known stays, and the changes come when it is back.
        for change in watch.changes():
            print(change.kind, change.instance.id, change.instance.endpoint, change.instance.status, flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "greeter")
    except KeyboardInterrupt:
        pass
