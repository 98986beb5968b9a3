"""Signals, forks, spawned processes and the end of the interpreter."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from conftest import run

OPEN = "from system_control.discovery import *\nr = ServiceRegistry('memory', endpoints='here')\n"


def ok(code: str) -> str:
    done = run(OPEN + textwrap.dedent(code))
    assert done.returncode == 0, done.stderr
    # The development mode of asyncio tells of steps over 100 ms: a busy machine, no error.
    said = [line for line in done.stderr.splitlines() if not re.fullmatch(r"Executing <.* took [0-9.]+ seconds", line)]
    assert said == [], done.stderr
    return done.stdout


def test_atexit_may_use_the_registry_and_the_rest_is_withdrawn() -> None:
    # The specification deregisters this way.
    out = ok(
        """
        import atexit
        id = r.register("api", "127.0.0.1", 1)
        r.register("left", "127.0.0.1", 2)
        atexit.register(lambda: print("deregistered", r.deregister(id)))
        """
    )
    assert out == "deregistered None\n"


@pytest.mark.parametrize(
    "end",
    [
        "",
        "raise SystemExit(0)",
        "import threading; threading.Thread(target=lambda: next(r.watch('api')) and 0, daemon=True).start()",
        "import threading; w = r.watch('api'); next(w); threading.Thread(target=lambda: next(w), daemon=True).start(); "
        "import time; time.sleep(0.1)",
        "import threading; s = r.service('api')\ndef f():\n  while True: s.pick()\n"
        "threading.Thread(target=f, daemon=True).start()",
        "del r",
        "r.close()",
        "import asyncio; a = AsyncServiceRegistry('memory'); asyncio.run(a.services())",
        "import logging; logging.basicConfig(level=1, stream=open('/dev/null', 'w')); r.services()",
    ],
)
def test_the_interpreter_ends_quietly_and_soon(end: str) -> None:
    started = time.monotonic()
    done = run(OPEN + "r.register('api', '127.0.0.1', 1)\n" + end)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr or "daemon" in end, done.stderr
    # Nobody waits for anything. On a busy machine an interpreter alone takes seconds.
    assert time.monotonic() - started < 40


@pytest.mark.parametrize("call", ["next(w)", "asyncio.run(anext_of(aw))"])
def test_ctrl_c_interrupts_within_100_ms(call: str) -> None:
    code = OPEN + textwrap.dedent(
        f"""
        import asyncio, time
        w = r.watch("api"); next(w)
        aw = AsyncServiceRegistry("memory").watch("api")
        async def anext_of(watch):
            await watch.__anext__()
            print("waiting", flush=True)
            await watch.__anext__()
        try:
            if "aw" not in {call!r}:
                print("waiting", flush=True)
            {call}
        except KeyboardInterrupt:
            print(time.time(), flush=True)
        """
    )

    def caught_after() -> float:
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "waiting\n"
                time.sleep(0.2)  # into the call
                sent = time.time()
                process.send_signal(signal.SIGINT)
                caught = float(process.stdout.readline())
                assert process.wait(60) == 0
            finally:
                process.kill()
        return caught - sent

    # A busy machine may be late now and then, not each time.
    took = []
    while not took or took[-1] >= 0.1:
        assert len(took) < 20, took
        took.append(caught_after())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_after_a_fork_old_registries_refuse_and_new_ones_work() -> None:
    # issue_opendal_5330, issue_obstore_441: no deadlock.
    out = ok(
        """
        import os, sys, warnings, asyncio
        warnings.simplefilter("ignore")
        r.register("api", "127.0.0.1", 1)
        s = r.service("api"); w = r.watch("api"); s.pick(); next(w)
        a = AsyncServiceRegistry("memory"); asyncio.run(a.services())
        for _ in range(20):
            child = os.fork()
            if child == 0:
                for call in (s.pick, r.services, lambda: r.pick("api"), lambda: r.discover("api"), lambda: next(w),
                             lambda: asyncio.run(a.services()), r.close, lambda: r.register("x", "127.0.0.1", 1)):
                    try:
                        call()
                    except ClosedError as error:
                        assert "fork" in str(error) and error.hint
                    else:
                        os._exit(3)
                del r, s, w, a
                new = ServiceRegistry("memory", endpoints="new")
                new.register("own", "127.0.0.1", 2)
                assert new.pick("own").port == 2
                b = AsyncServiceRegistry("memory", endpoints="new")
                assert len(asyncio.run(b.services())) == 1
                new.close()
                sys.stdout.flush()
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert s.pick().port == 1, "the parent goes on"
        print("done")
        """
    )
    assert out == "done\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method: str, tmp_path: os.PathLike[str]) -> None:
    script = os.path.join(tmp_path, "main.py")
    with open(script, "w") as file:
        file.write(
            textwrap.dedent(
                f"""
                import multiprocessing, warnings
                warnings.simplefilter("ignore")
                from system_control.discovery import ServiceRegistry

                def work(instance):
                    with ServiceRegistry("memory") as registry:
                        registry.register("api", instance.address, instance.port + 1)
                        return registry.pick("api")

                if __name__ == "__main__":
                    with ServiceRegistry("memory") as registry:
                        registry.register("api", "127.0.0.1", 1)
                        with multiprocessing.get_context("{method}").Pool(2) as pool:
                            found = pool.map(work, [registry.pick("api")] * 4)
                        print([i.port for i in found])
                """
            )
        )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("[2, 2, 2, 2]\n", "")


def test_a_worker_of_a_prefork_server_exits_cleanly() -> None:
    # As gunicorn does: the application is loaded, then workers fork and end by SystemExit.
    out = ok(
        """
        import os, sys, warnings
        warnings.simplefilter("ignore")
        r.register("master", "127.0.0.1", 1)
        for _ in range(5):
            child = os.fork()
            if child == 0:
                mine = ServiceRegistry("memory")
                mine.register("worker", "127.0.0.1", 2)
                sys.exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        print(len(r.discover("master")))
        """
    )
    assert out == "1\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_while_other_threads_are_busy_never_deadlocks() -> None:
    # A lock that another thread holds at the fork stays locked in the child for ever.
    out = ok(
        """
        import os, threading, time, warnings
        warnings.simplefilter("ignore")
        stop = threading.Event()
        def busy(name):
            while not stop.is_set():
                id = r.register(name, "127.0.0.1", 1)
                r.discover(name); r.services(); metrics()
                r.deregister(id)
                with ServiceRegistry("memory") as other:
                    other.services()
        threads = [threading.Thread(target=busy, args=(f"t{n}",)) for n in range(4)]
        for thread in threads: thread.start()
        until = time.monotonic() + 60
        for n in range(300):
            # Fewer will do where forks take long.
            if n >= 20 and time.monotonic() > until:
                break
            child = os.fork()
            if child == 0:
                new = ServiceRegistry("memory")
                new.register("own", "127.0.0.1", 2)
                assert new.pick("own").port == 2 and metrics()
                new.close()
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        stop.set()
        for thread in threads: thread.join()
        print("done")
        """
    )
    assert out == "done\n"
