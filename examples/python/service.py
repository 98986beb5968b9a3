"""A web service that registers itself on start and leaves on exit.

    DISCOVERY_URI=consul://127.0.0.1:8500 python examples/python/service.py --port 8080

It needs: pip install fastapi uvicorn
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from system_control.discovery import AsyncServiceRegistry


def application(host: str, port: int) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # What DISCOVERY_URI says. Leaving the block withdraws what was registered in it.
        async with AsyncServiceRegistry() as registry:
            await registry.register(
                "greeter",
                host,
                port,
                tags=["http"],
                meta={"version": "1.0.0"},
                health_check={"http": f"http://{host}:{port}/health", "interval": "5s", "timeout": "2s"},
            )
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/health")
    async def health() -> str:
        return "healthy"

    @app.get("/greet/{name}")
    async def greet(name: str) -> dict[str, str | int]:
        return {"greeting": f"Hello, {name}!", "port": port}

    return app


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--host", default="127.0.0.1", help="where clients reach it")
    arguments.add_argument("--port", type=int, default=8080)
    given = arguments.parse_args()
    uvicorn.run(application(given.host, given.port), host=given.host, port=given.port, log_level="warning")
