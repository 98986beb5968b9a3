"""G13, G14: what a pick costs from Python, beside a call that does nothing, a dictionary, and py-consul.

Run by `benches/run only python`, in an environment with the wheel, py-consul and the call that does nothing.
Every figure of a table comes from rounds in which all contenders take turns; ratios are of medians. Checks end the run.
"""

import argparse
import gc
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

import consul
from discovery_noop import Noop

from system_control.discovery import ServiceRegistry

NAME = "benchmark-service-000"
Contender = Callable[[int], None]


def per_call(run: Contender, calls: int) -> float:
    """Nanoseconds of this thread's CPU for one call."""
    start = time.thread_time_ns()
    run(calls)
    return (time.thread_time_ns() - start) / calls


def repeated(call: Callable[[], object]) -> Contender:
    """The same loop for everybody."""

    def run(calls: int) -> None:
        for _ in range(calls):
            call()

    return run


class Book:
    """What one writes without a library: a dictionary of lists and a counter of each."""

    def __init__(self, instances: list[object]) -> None:
        self.services = {f"benchmark-service-{i:03}": instances for i in range(128)}
        self.counters = dict.fromkeys(self.services, 0)

    def pick(self, name: str) -> object:
        instances = self.services[name]
        count = self.counters[name]
        self.counters[name] = count + 1
        return instances[count % len(instances)]


def race(contenders: dict[str, Contender], calls: dict[str, int], rounds: int) -> dict[str, list[float]]:
    """Rounds in which all take turns; the first warms up."""
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    gc.disable()
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            took = per_call(run, calls.get(name, 20_000))
            if turn:
                samples[name].append(took)
    gc.enable()
    return samples


class Report:
    """A table, goals, and a line of JSON for each."""

    def __init__(self, out: str | None) -> None:
        self.out = open(out, "a") if out else None
        self.goals: list[str] = []

    def write(self, line: dict[str, object]) -> None:
        if self.out:
            print(json.dumps(line), file=self.out, flush=True)

    def table(self, title: str, unit: str, samples: dict[str, list[float]], floor: str) -> None:
        base = statistics.median(samples[floor])
        print(f"\n{title:<34}{'median':>12}{'min':>12}  {unit:<4}{'x floor':>9}")
        for name, values in samples.items():
            median, least = statistics.median(values), min(values)
            print(f"  {name:<32}{median:>12.1f}{least:>12.1f}  {unit:<4}{median / base:>9.3f}")
            self.write({"cell": title, "contender": name, "unit": unit, "median": median, "min": least})

    def goal(self, goal: str, what: str, ratio: float, limit: float) -> None:
        met = "met" if ratio <= limit else "MISSED"
        self.goals.append(f"{goal:<6}{what:<52}{ratio:>12.6f} <= {limit:<10} {met}")
        self.write({"goal": goal, "what": what, "ratio": ratio, "limit": limit, "met": ratio <= limit})

    def end(self) -> None:
        print()
        print("\n".join(self.goals))


def medians(samples: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in samples.items()}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def started(binary: str, folder: str) -> tuple[subprocess.Popen[bytes], int]:
    """A Consul of our own on loopback."""
    http, server, lan, wan = (free_port() for _ in range(4))
    command = [binary, "agent", "-dev", "-bind=127.0.0.1", f"-http-port={http}", "-dns-port=-1", "-grpc-port=-1"]
    command += ["-grpc-tls-port=-1", f"-server-port={server}", f"-serf-lan-port={lan}", f"-serf-wan-port={wan}"]
    with open(os.path.join(folder, "log"), "wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)
    deadline = time.monotonic() + 30
    client = consul.Consul(host="127.0.0.1", port=http)
    while True:
        try:
            if client.status.leader():
                return child, http
        except Exception:  # it is not up yet
            if time.monotonic() > deadline or child.poll() is not None:
                child.kill()
                raise
        time.sleep(0.05)


def filled(registry: ServiceRegistry, count: int, name: str = NAME) -> None:
    for i in range(count):
        registry.register(name, "127.0.0.1", 1 + i, id=f"{name}-{i}")
    deadline = time.monotonic() + 60
    while len(registry.discover(name)) != count:
        assert time.monotonic() < deadline, "every instance is seen"
        time.sleep(0.01)


def picks(report: Report, rounds: int) -> None:
    """A pick by handle and by name, and a snapshot, for services of several sizes."""
    for size in (10, 1000):
        with ServiceRegistry(backend="memory") as registry:
            filled(registry, size)
            service = registry.service(NAME)
            first = service.pick()
            noop, book = Noop(first), Book(list(registry.discover(NAME)))
            samples = race(
                {
                    "no-op": repeated(noop.call),
                    "service.pick()": repeated(service.pick),
                    "dict and counter": repeated(lambda: book.pick(NAME)),
                    "registry.pick(name)": repeated(lambda: registry.pick(NAME)),
                    "registry.discover(name)": repeated(lambda: registry.discover(NAME)),
                    "service.pick_many(100)": repeated(lambda: service.pick_many(100)),
                },
                {"service.pick_many(100)": 1000},
                rounds,
            )
            report.table(f"pick, {size} instances", "ns", samples, "no-op")
            at = medians(samples)
            report.goal("G13", f"pick of {size} / no-op", at["service.pick()"] / at["no-op"], 1.5)
            report.goal("G13", f"by name of {size} / dict", at["registry.pick(name)"] / at["dict and counter"], 1.0)
            report.goal("G13", f"discover of {size}, of 150 ns", at["registry.discover(name)"] / 150, 1.0)
            assert service.pick() in list(registry.discover(NAME))


def beside_consul(report: Report, rounds: int, binary: str) -> None:
    """The same service in the same Consul."""
    with tempfile.TemporaryDirectory() as folder:
        child, port = started(binary, folder)
        try:
            client = consul.Consul(host="127.0.0.1", port=port)
            with ServiceRegistry(backend="consul", endpoints=[f"127.0.0.1:{port}"]) as registry:
                filled(registry, 10)
                service = registry.service(NAME)
                service.pick()

                def look_up() -> None:
                    _, nodes = client.health.service(NAME)
                    assert len(nodes) == 10

                start = time.perf_counter_ns
                samples: dict[str, list[float]] = {"service.pick()": [], "py-consul health.service": []}
                for turn in range(rounds + 1):
                    for name, call, calls in (
                        ("service.pick()", service.pick, 100_000),
                        ("py-consul health.service", look_up, 20),
                    ):
                        before = start()
                        repeated(call)(calls)
                        if turn:
                            samples[name].append((start() - before) / calls)
                report.table("beside py-consul, wall", "ns", samples, "service.pick()")
                at = medians(samples)
                ratio = at["service.pick()"] / at["py-consul health.service"]
                report.goal("G13", "pick / py-consul look-up", ratio, 1 / 20_000)
        finally:
            child.terminate()
            child.wait(timeout=10)


def percentile(values: list[int], part: float) -> float:
    return float(sorted(values)[int(len(values) * part)])


def tails(report: Report, rounds: int) -> None:
    """The slowest of a hundred, alone and beside a thread that computes."""
    with ServiceRegistry(backend="memory") as registry:
        filled(registry, 10)
        service = registry.service(NAME)
        service.pick()

        def p99() -> float:
            took = []
            clock = time.perf_counter_ns
            for _ in range(20_000):
                before = clock()
                service.pick()
                took.append(clock() - before)
            return percentile(took, 0.99)

        stop = threading.Event()

        def compute() -> None:
            while not stop.is_set():
                sum(range(1000))

        samples: dict[str, list[float]] = {"idle": [], "one busy thread": []}
        for _ in range(rounds):
            samples["idle"].append(p99())
            stop.clear()
            busy = threading.Thread(target=compute)
            busy.start()
            samples["one busy thread"].append(p99())
            stop.set()
            busy.join()
        report.table("p99 of service.pick()", "ns", samples, "idle")
        at = medians(samples)
        report.goal("G14", "p99 beside a busy thread / idle", at["one busy thread"] / at["idle"], 2.0)


def never_detached() -> None:
    """A check: were the interpreter let go in a pick, a busy thread would get its turn there, 5 ms at a time."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # from here on nobody gets a turn that is not given away
    try:
        with ServiceRegistry(backend="memory") as registry:
            filled(registry, 10)
            service = registry.service(NAME)
            service.pick()
            turns = 0
            stop = False

            def count() -> None:
                nonlocal turns
                while not stop:
                    turns += 1
                    time.sleep(0)  # gives its own turn away

            other = threading.Thread(target=count)
            other.start()
            time.sleep(0.01)
            before = turns
            for _ in range(100_000):
                service.pick()
                registry.pick(NAME)
                registry.discover(NAME)
            assert turns == before, f"another thread ran {turns - before} times during cached picks"
            stop = True
            other.join()
    finally:
        sys.setswitchinterval(interval)
    print("ok: 300000 cached calls never let go of the interpreter")


def never_growing() -> None:
    """A check: a million picks leave no memory behind."""
    with ServiceRegistry(backend="memory") as registry:
        filled(registry, 10)
        service = registry.service(NAME)
        repeated(service.pick)(100_000)
        gc.collect()
        blocks, rss = sys.getallocatedblocks(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        repeated(service.pick)(1_000_000)
        grown = sys.getallocatedblocks() - blocks
        assert abs(grown) < 100, f"{grown} more blocks after a million picks"
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss
        assert more < 1024, f"{more} KiB more after a million picks"
    print("ok: a million picks leave no memory behind")


def imports(report: Report, rounds: int) -> None:
    """CPU of an interpreter that imports, less that of one that imports nothing."""

    def cpu(code: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-I", "-c", code], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3

    codes = {"nothing": "pass", "import ours": "import system_control.discovery", "import consul": "import consul"}
    samples: dict[str, list[float]] = {name: [] for name in codes}
    for turn in range(rounds + 1):
        for name, code in codes.items():
            took = cpu(code)
            if turn:
                samples[name].append(took)
    report.table("import, CPU", "ms", samples, "nothing")
    at = medians(samples)
    ratio = (at["import ours"] - at["nothing"]) / (at["import consul"] - at["nothing"])
    report.goal("import", "ours / consul, less a bare start", ratio, 0.15)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--out")
    told = parser.parse_args()
    rounds = 5 if told.short else 21
    report = Report(told.out)
    print(f"Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.2f}, {rounds} rounds")
    never_detached()
    never_growing()
    picks(report, rounds)
    tails(report, rounds)
    imports(report, rounds)
    binary = os.environ.get("DISCOVERY_CONSUL_NEW")
    if binary:
        beside_consul(report, rounds, binary)
    else:
        print("not run: beside py-consul (DISCOVERY_CONSUL_NEW is not set)")
    report.end()


main()
