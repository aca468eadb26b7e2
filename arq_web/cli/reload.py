"""``--reload``: the worker as a child process, started again when a Python file changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from arq_web.errors import MissingExtra

PARENT_ENV = "ARQ_WEB_RELOAD_PARENT"
"""Tells the child that it is one, and whose."""
LOOK_EVERY_MS = 500
KILL_AFTER_S = 5.0
_log = logging.getLogger("arq_web.cli")


def is_reload_child() -> bool:
    """True in the process that a reloading parent started."""
    return PARENT_ENV in os.environ


async def stop_when_orphaned(stop: Callable[[], None]) -> None:
    """Call ``stop`` when the parent is gone: nobody would start this child again, it would run old code for ever."""
    while not parent_is_gone():  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(1.0)
    stop()


def parent_is_gone() -> bool:
    """True when the reloading parent that started this process has ended."""
    return os.environ.get(PARENT_ENV) != str(os.getppid())


class Reloader:
    """Keeps one child process, the worker, and starts it again when a file changes."""

    def __init__(self, arguments: Sequence[str], folders: Sequence[Path], *, drain_s: float) -> None:
        """Begin to watch ``folders``.

        Args:
            arguments: of app-worker; the child gets the same.
            folders: whose .py files to watch.
            drain_s: how long the child may take to stop; then it is killed.

        Raises:
            MissingExtra: watchfiles is not installed.
        """
        try:
            from watchfiles import PythonFilter, watch  # noqa: PLC0415 - of the dev extra
        except ImportError:
            raise MissingExtra("watchfiles (for --reload)", "dev") from None
        self._stopping = threading.Event()
        self._changes = watch(
            *folders,
            watch_filter=PythonFilter(),
            stop_event=self._stopping,
            rust_timeout=LOOK_EVERY_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
        )
        # -P: the working directory must not hide the standard library from us; the child adds it for the app.
        self._command = [sys.executable, "-P", "-m", "arq_web", *arguments]
        self._folders, self._drain_s = folders, drain_s
        self._child: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Watch until told to stop; returns the exit status."""
        _log.info("watching %s", ", ".join(str(folder) for folder in self._folders))
        with self._passing_on_signals():
            child = self._start()
            has_ended = False
            for changes in self._changes:
                if changes:
                    names = sorted({Path(path).name for _, path in changes})
                    _log.info("%s changed: starting the worker again", ", ".join(names[:3]))
                    self._stop(child)
                    child, has_ended = self._start(), False
                elif not has_ended and child.poll() is not None:
                    has_ended = True
                    _log.warning("the worker has ended with status %s; waiting for a change", child.returncode)
            self._stop(child)
        return 0

    def _start(self) -> subprocess.Popen[bytes]:
        self._child = subprocess.Popen(self._command, env={**os.environ, PARENT_ENV: str(os.getpid())})  # noqa: S603
        return self._child

    def _stop(self, child: subprocess.Popen[bytes]) -> None:
        if not self._stopping.is_set():  # a signal has been passed on already; a second one would mean "now"
            child.terminate()
        try:
            child.wait(self._drain_s + KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            _log.warning("the worker does not stop: killing it")
            child.kill()
            child.wait()

    @contextlib.contextmanager
    def _passing_on_signals(self) -> Iterator[None]:
        def pass_on(number: int, _frame: FrameType | None) -> None:
            self._stopping.set()
            if self._child is not None and self._child.poll() is None and not _terminal_tells_all(number):
                self._child.send_signal(signal.SIGTERM)

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _terminal_tells_all(number: int) -> bool:
    """Whether the child has got this signal too: Ctrl-C goes to every process in the terminal's foreground."""
    if number != signal.SIGINT:
        return False
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except OSError:  # not a terminal
        return False
