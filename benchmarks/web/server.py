"""Starts an app under uvicorn, and who asks it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.arena import Arena, ProducerProcess
from benchmarks.environment import child_environment
from benchmarks.processes import Child, wait_until
from tests.support.ports import free_port

START_S = 20.0


@contextmanager
def served(here: Arena, app: str) -> Iterator[tuple[Child, ProducerProcess]]:
    """Run ``benchmarks.web.<app>:app`` in one process, uvloop and httptools, without a log of requests.

    Yields:
        The server, and the process that asks it (see ``load.Commands``).
    """
    python, env, port = str(here.system.python), child_environment(here.spec), free_port()
    options = [
        "--port",
        str(port),
        "--loop",
        "uvloop",
        "--http",
        "httptools",
        "--no-access-log",
        "--log-level",
        "warning",
    ]
    # Between two measurements a connection may rest for longer than uvicorn's 5 s.
    options += ["--timeout-keep-alive", "600"]
    argv = [python, "-m", "uvicorn", f"benchmarks.web.{app}:app", *options]
    server = Child.start(app, argv, env=env, log=here.folder / f"{app}.log")
    try:
        wait_until(lambda: _listens(port), f"{app}'s start", within_s=START_S, children=[server])
        asking = [python, "-m", "benchmarks.web.load", str(port)]
        load = Child.start("the load", asking, env=env, log=here.folder / "load.log", piped=True)
        try:
            client = ProducerProcess(load)
            client.finish()  # it says when it is ready
            yield server, client
        finally:
            load.stop()
    finally:
        server.stop()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
