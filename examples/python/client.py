"""A client that balances its HTTP calls, and goes to the next instance where one cannot be reached.

    DISCOVERY_URI=consul://127.0.0.1:8500 python examples/python/client.py --calls 10

It needs: pip install httpx, and instances of `service.py`
"""

from __future__ import annotations

import argparse

import httpx

from system_control.discovery import ServiceInstance, ServiceRegistry


def main(calls: int) -> None:
    with ServiceRegistry() as registry, httpx.Client(timeout=2) as http:
        greeter = registry.service("greeter")  # keep it: it watches, and a pick costs nothing

        def greet(instance: ServiceInstance) -> httpx.Response:
            return http.get(f"http://{instance.endpoint}/greet/world").raise_for_status()

        for _ in range(calls):
            # A GET may be repeated. What is not listed in `retry_on`, such as a 404, ends the call at once.
            answer = greeter.call(greet, attempts=3, retry_on=httpx.TransportError).json()
            print(answer["port"], answer["greeting"], flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--calls", type=int, default=10)
    main(arguments.parse_args().calls)
