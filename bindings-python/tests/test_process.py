"""Signals, forks, spawned processes and the end of the interpreter."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest
from conftest import complaints, run

OPEN = "from system_control.discovery import *\nr = ServiceRegistry('memory', endpoints='here')\n"


def ok(code: str) -> str:
    done = run(OPEN + textwrap.dedent(code))
    assert done.returncode == 0, done.stderr
    assert complaints(done.stderr) == []
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
def test_the_interpreter_ends_quietly(end: str) -> None:
    done = run(OPEN + "r.register('api', '127.0.0.1', 1)\n" + end)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr or "daemon" in end, done.stderr


@pytest.mark.timeout(180)
@pytest.mark.parametrize("call", ["next(w)", "asyncio.run(anext_of(aw))", "r.register('api', '127.0.0.1', 1)"])
def test_ctrl_c_interrupts_within_100_ms(call: str) -> None:
    with silent_server() as silent:
        # The best of some: a busy machine may be late with any of them.
        took = [interrupted(call, silent)]
        while min(took) >= 0.1 and len(took) < 20:
            took.append(interrupted(call, silent))
    assert min(took) < 0.1, took


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """The address of a server that accepts and never answers, while in use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def interrupted(call: str, silent: str) -> float:
    """The seconds from Ctrl-C during a call until that has raised."""
    code = OPEN + textwrap.dedent(
        f"""
        import asyncio, os, time
        w = r.watch("api"); next(w)
        aw = AsyncServiceRegistry("memory").watch("api")
        if "register" in {call!r}:
            r = ServiceRegistry("consul", endpoints={silent!r})
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
        os._exit(0)
        """
    )
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
        until = time.monotonic() + 30
        for n in range(300):
            # Fewer will do where forks take long: a deadlock is one with the first that meets a lock.
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
