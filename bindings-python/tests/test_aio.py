"""The asyncio class, on the memory backend."""

from __future__ import annotations

import asyncio
import collections.abc

import pytest

import system_control.discovery as discovery
from system_control.discovery import AsyncServiceRegistry, ServiceInstance


async def test_does_what_the_blocking_class_does(aregistry: AsyncServiceRegistry) -> None:
    id = await aregistry.register("api", "127.0.0.1", 8080, tags=["v2"], meta={"k": "v"})
    (instance,) = await aregistry.discover("api")
    assert instance.id == id
    assert await aregistry.pick("api") is instance
    service = aregistry.service("api")
    assert await service.pick() is instance
    assert await service.pick_many(2) == [instance, instance]
    assert await service.snapshot() is await aregistry.discover("api")
    assert [s.name for s in await aregistry.services()] == ["api"]
    assert (await aregistry.health("api")).passing == 1
    assert (await aregistry.status()).reachable
    await aregistry.update_meta(id, {"k": None})
    await aregistry.set_health(id, "warning")
    config = aregistry.config
    version = await config.set("a/b", "x", create=True)
    entry = await config.get("a/b")
    assert entry is not None and entry.version == version
    assert await config.list() == (entry,)
    assert await config.delete("a/b")
    await aregistry.deregister(id)
    with pytest.raises(discovery.NotFoundError):
        await aregistry.deregister(id)


async def test_an_operation_is_a_coroutine(aregistry: AsyncServiceRegistry) -> None:
    await aregistry.register("api", "127.0.0.1", 1)
    assert isinstance(aregistry.services(), collections.abc.Coroutine)
    task = asyncio.create_task(aregistry.services())
    assert len(await task) == 1
    assert len(await asyncio.wait_for(aregistry.discover("api"), 5)) == 1
    assert len(await asyncio.wait_for(aregistry.discover("api"), 5)) == 1, "known without waiting"
    answers = await asyncio.gather(*(aregistry.services() for _ in range(500)))
    assert len(answers) == 500
    once = aregistry.services()
    await once
    with pytest.raises(RuntimeError, match="already awaited"):
        await once


async def test_cancelling_gives_up(aregistry: AsyncServiceRegistry) -> None:
    watch = aregistry.watch("api")
    assert len(await watch.__anext__()) == 0
    waiting = asyncio.ensure_future(watch.__anext__())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises((asyncio.TimeoutError, TimeoutError)):
        await asyncio.wait_for(watch.__anext__(), 0.05)
    await aregistry.register("api", "127.0.0.1", 1)
    assert len(await asyncio.wait_for(watch.__anext__(), 60)) == 1, "a cancelled wait lost nothing"


async def test_a_cancelled_registration_leaves_nothing(aregistry: AsyncServiceRegistry) -> None:
    for port in range(1, 50):
        task = asyncio.ensure_future(aregistry.register("api", "127.0.0.1", port))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    async with asyncio.timeout(60):
        while len(await aregistry.discover("api", healthy_only=False)):
            await asyncio.sleep(0.01)


async def test_watches(aregistry: AsyncServiceRegistry) -> None:
    kinds = []
    await aregistry.register("api", "127.0.0.1", 1)
    async with aregistry.watch("api", timeout=60) as watch:
        async for change in watch.changes():
            kinds.append(change.kind)
            if kinds == ["added"]:
                await aregistry.deregister(change.instance.id)
            else:
                break
        else:
            pytest.fail("it ended")
        assert kinds == ["added", "removed"]


async def test_acquire_and_call(aregistry: AsyncServiceRegistry) -> None:
    for port in (1, 2):
        await aregistry.register("api", "127.0.0.1", port)
    service = aregistry.service("api")
    async with service.acquire() as call:
        assert call.instance.port in (1, 2)
    tried: list[int] = []

    async def flaky(instance: ServiceInstance) -> str:
        tried.append(instance.port)
        await asyncio.sleep(0)
        if len(tried) == 1:
            raise OSError
        return "answer"

    assert await service.call(flaky) == "answer"
    assert len(tried) == 2


async def test_errors_and_the_end(uri: str) -> None:
    registry = AsyncServiceRegistry.from_uri(uri)
    with pytest.raises(discovery.UnavailableError):
        await registry.pick("nobody")
    with pytest.raises(ValueError):
        await registry.register("api", "0.0.0.0", 1)
    await registry.close()
    with pytest.raises(discovery.ClosedError):
        await registry.services()


def test_serves_one_loop_after_another(uri: str) -> None:
    registry = AsyncServiceRegistry.from_uri(uri)
    for _ in range(3):
        assert asyncio.run(registry.services()) == ()
    asyncio.run(registry.close())


def test_a_loop_that_ends_under_way_is_no_harm(uri: str) -> None:
    registry = AsyncServiceRegistry.from_uri(uri)

    async def leave() -> None:
        asyncio.ensure_future(registry.watch("api").__anext__())
        asyncio.ensure_future(registry.watch("none").changes().__anext__())
        await asyncio.sleep(0)

    asyncio.run(leave())
    asyncio.run(registry.close())


async def test_watches_configuration_values(aregistry: AsyncServiceRegistry) -> None:
    values = aregistry.config
    await values.set("a/b", "1")
    seen: list[tuple[str, str | None]] = []
    async with values.watch("a/", timeout=60) as watch:
        async for change in watch:
            seen.append((change.kind, change.key))
            if change.kind == "reset":
                assert [entry.text for entry in change.entries] == ["1"]
                await values.set("a/b", "2")
            elif change.kind == "set":
                assert [entry.text for entry in change.entries] == ["2"]
                await values.delete("a/b")
            else:
                break
    assert seen == [("reset", None), ("set", "a/b"), ("delete", "a/b")]


async def test_the_loop_turns_while_an_operation_waits(aregistry: AsyncServiceRegistry) -> None:
    waiting = asyncio.ensure_future(aregistry.watch("api", timeout=1.0).changes().__anext__())
    turns = 0
    while not waiting.done():
        await asyncio.sleep(0.005)
        turns += 1
    assert turns > 3, "one that is blocked turns once"
    with pytest.raises(StopAsyncIteration):
        await waiting
