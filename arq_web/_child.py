"""A child process of a worker: ``python -m arq_web._child <fd> <parent's pid> [<lock>]``. Runs one attempt at a time.

It speaks with its worker over the socket ``fd`` only: the task may print and read what it likes. The file descriptor
``lock`` is the worker's sign of life: while it is open here, nobody takes the worker for dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import importlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import assert_never

import msgspec

from arq_web.errors import ImportFailed, InvalidTask
from arq_web.loading import app_lifespan, load
from arq_web.logs import LogOutput
from arq_web.queue import QueueSet
from arq_web.registry import Registry
from arq_web.store.connection import Connections
from arq_web.worker.attempt import AttemptLimits, AttemptRunner
from arq_web.worker.child_protocol import (
    FromApp,
    FromChild,
    FromModule,
    NotLoaded,
    Run,
    Setup,
    Started,
    Stop,
    ToChild,
    frame,
    receive,
    to_child,
)
from arq_web.worker.child_source import find_task
from arq_web.worker.outcome import Failed, error_info
from arq_web.worker.running import Running

PR_SET_PDEATHSIG = 1
PARENT_CHECK_S = 0.5


def main() -> None:
    """Serve one worker until it closes the socket."""
    fd, parent_pid = int(sys.argv[1]), int(sys.argv[2])
    _die_with(parent_pid)
    for each in (fd, *map(int, sys.argv[3:])):  # ours, and not that of programs that the task starts
        os.set_inheritable(each, False)
    # Ctrl-C and systemd send their signal to the whole group: the worker decides what it means. A handler, not SIG_IGN,
    # which programs that the task starts would inherit.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: None)
    faulthandler.enable()
    asyncio.run(_serve(fd))


async def _serve(fd: int) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=fd))
    setup = await _next(reader)
    if not isinstance(setup, Setup):
        return
    sys.path[:] = setup.sys_path
    sys.argv[:] = setup.argv
    _show_log(setup.log_level)
    child = _Child(setup, writer)
    while (message := await _next(reader)) is not None:
        child.take(message)
    await child.end()
    writer.close()


def _show_log(level: int) -> None:
    """Write the app's lines as the worker does, or as Python does where the app is to set that up."""
    output = LogOutput.of_parent(level)
    if output is None:
        logging.basicConfig(level=level)
        return
    output.start()
    output.take_in_app()
    logging.getLogger().setLevel(level)


async def _next(reader: asyncio.StreamReader) -> ToChild | None:
    """The worker's next message; None when it is gone, or wants us no more."""
    try:
        return await receive(reader, to_child)
    except (asyncio.IncompleteReadError, OSError):
        return None


@dataclass(frozen=True, slots=True)
class _App:
    """What a web app that lives here gives to attempts."""

    queues: QueueSet
    runner: AttemptRunner


class _Child:
    """What is loaded here, and the attempt that runs."""

    def __init__(self, setup: Setup, writer: asyncio.StreamWriter) -> None:
        self._worker, self._writer = setup.worker, writer
        connections = Connections(setup.target, deadline_s=setup.config.command_deadline_s)
        # No registry: a task may enqueue its neighbours, of which we have loaded only a few.
        self._queues = QueueSet(connections, setup.config, names=setup.queues)
        self._registry = Registry()
        self._runner = AttemptRunner(self._registry, self._queues.queue, worker=setup.worker, threads=1)
        self._apps: dict[str, _App] = {}
        self._lives = contextlib.AsyncExitStack()
        self._running: Running | None = None

    def take(self, message: ToChild) -> None:
        """Do what the worker wants, without waiting for it."""
        match message:
            case Run():
                # Its store is replaced by the app's own when that is loaded.
                self._running = Running(message.job, self._queues.store(message.job.queue), message.timeout_s)
                self._running.task = asyncio.create_task(self._run(message, self._running))
            case Stop(reason):
                if self._running is not None:
                    self._running.end_early(reason)
            case Setup():
                pass
            case _:
                assert_never(message)

    async def end(self) -> None:
        """Close what was opened. With an attempt running there is nobody left to tell: end at once."""
        if self._running is not None:
            os._exit(1)
        await self._lives.aclose()
        await self._queues.connections.aclose()

    async def _run(self, run: Run, running: Running) -> None:
        try:
            runner = await self._load(run, running)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's module does when it is imported
            self._running = None
            self._say(NotLoaded(error_info(error, "not_loaded")))
            return
        self._say(Started())
        running.started_at_s = time.monotonic()
        outcome = await runner.run(running, AttemptLimits(run.timeout_s, run.max_result_bytes))
        self._running = None
        try:
            self._say(outcome)
        except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
            self._say(Failed(error_info(error, "failed"), None))

    async def _load(self, run: Run, running: Running) -> AttemptRunner:
        # Imports happen in the loop's thread, on purpose: a script without `if __name__ == "__main__"` then fails with
        # "asyncio.run() cannot be called", where it would start a worker of its own, with children of its own.
        match run.source:
            case FromModule(module, path):
                self._import_task(module, path, run.job.task)
                return self._runner
            case FromApp(target):
                app = self._apps.get(target) or await self._start_app(target)
                running.store = app.queues.store(run.job.queue)
                return app.runner
            case _:
                assert_never(run.source)

    async def _start_app(self, target: str) -> _App:
        loaded = load(target)
        hub = loaded.hub
        if hub is None:
            raise ImportFailed(target, "it is a worker, and a child process needs the app or the hub itself")
        life = app_lifespan(loaded.asgi) if loaded.asgi is not None else hub.lifespan()
        await self._lives.enter_async_context(life)
        runner = AttemptRunner(
            hub.registry,
            hub.queues.queue,
            worker=self._worker,
            threads=1,
            resolver=hub.resolver,
            middleware=hub.middleware,
        )
        app = self._apps[target] = _App(hub.queues, runner)
        return app

    def _import_task(self, module: str, path: str, name: str) -> None:
        if self._registry.find(name) is not None:
            return
        task = find_task(importlib.import_module(module), path, name)
        if task is None:
            raise InvalidTask(name, f"module {module!r} has no such task in a child process", "Define it at top level.")
        self._registry.add(task)

    def _say(self, message: FromChild) -> None:
        self._writer.write(frame(message))


def _die_with(parent_pid: int) -> None:
    """Let the system kill this process when the worker dies, however that happens."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch_parent, args=(parent_pid,), daemon=True).start()
    if os.getppid() != parent_pid:  # it died before we asked
        os._exit(1)


def _watch_parent(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(PARENT_CHECK_S)
    os._exit(1)


if __name__ == "__main__":
    main()
