"""asyncio: many calls at once, a watch beside them, a deadline. It needs no server and ends by itself.

python examples/python/asyncio_calls.py
"""

from __future__ import annotations

import asyncio
from collections import Counter

from system_control.discovery import AsyncServiceRegistry, ServiceInstance


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A service that says on which port it was called."""
    writer.write(b"%d" % writer.get_extra_info("sockname")[1])
    writer.close()


async def ask(instance: ServiceInstance) -> int:
    reader, writer = await asyncio.open_connection(instance.address, instance.port)
    try:
        return int(await reader.read())
    finally:
        writer.close()


async def follow(registry: AsyncServiceRegistry) -> None:
    """Tells what happens, until an instance leaves."""
    async with registry.watch("echo") as watch:
        async for change in watch.changes():
            print(change.kind, change.instance.endpoint)
            if change.kind == "removed":
                break


async def main() -> None:
    async with AsyncServiceRegistry("memory") as registry:
        servers = [await asyncio.start_server(answer, "127.0.0.1", 0) for _ in range(3)]
        ports = [server.sockets[0].getsockname()[1] for server in servers]
        ids = await asyncio.gather(*(registry.register("echo", "127.0.0.1", port) for port in ports))
        following = asyncio.create_task(follow(registry))

        echo = registry.service("echo")
        while len(await echo.snapshot()) < len(ids):
            await asyncio.sleep(0.01)
        calls = (echo.call(ask, retry_on=OSError) for _ in range(30))
        answers = await asyncio.wait_for(asyncio.gather(*calls), timeout=10)
        print("calls by instance:", sorted(Counter(answers).values()))

        # One is gone without a word: the calls that meet it go to the next.
        servers[0].close()
        await servers[0].wait_closed()
        answers = [await echo.call(ask, retry_on=OSError) for _ in range(9)]
        print("answered by the two left:", set(answers) == set(ports[1:]))

        await registry.deregister(ids[0])
        await asyncio.wait_for(following, timeout=10)
        for server in servers:
            server.close()


if __name__ == "__main__":
    asyncio.run(main())
