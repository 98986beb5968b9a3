"""What is plainer in Python than in Rust: calls that are repeated, and what changed between two snapshots."""

from ._values import ServiceChange


def call(service, fn, attempts, retry_on):
    """`Service.call`."""
    tried = []
    while True:
        guard = service.acquire(_tried=tried)
        try:
            result = fn(guard.instance)
        except retry_on:
            guard.report(False)
            tried.append(guard)
            if len(tried) >= attempts:
                raise
        except BaseException:
            guard.release()
            raise
        else:
            guard.report(True)
            return result


async def acall(service, fn, attempts, retry_on):
    """`AsyncService.call`."""
    tried = []
    while True:
        guard = await service.acquire(_tried=tried).__aenter__()
        try:
            result = await fn(guard.instance)
        except retry_on:
            guard.report(False)
            tried.append(guard)
            if len(tried) >= attempts:
                raise
        except BaseException:
            guard.release()
            raise
        else:
            guard.report(True)
            return result


def _by_key(snapshot):
    return {(i.datacenter, i.namespace, i.node, i.service, i.id): i for i in snapshot}


def _differences(before, after):
    for key, instance in after.items():
        if key not in before:
            yield ServiceChange("added", instance)
        elif before[key] is not instance and before[key] != instance:
            yield ServiceChange("updated", instance)
    for key, instance in before.items():
        if key not in after:
            yield ServiceChange("removed", instance)


def changes(watch):
    """`Watch.changes`."""
    before = {}
    for snapshot in watch:
        after = _by_key(snapshot)
        yield from _differences(before, after)
        before = after


async def achanges(watch):
    """`AsyncWatch.changes`."""
    before = {}
    async for snapshot in watch:
        after = _by_key(snapshot)
        for change in _differences(before, after):
            yield change
        before = after
