"""A worker process that has a supervisor (``--processes``): what it tells it, and how it is told to stop.

A signal may reach such a process twice: from the terminal, systemd or a group kill, and from its supervisor. The copy
must not be taken for the second signal, which means "now". So the supervisor gives its orders through a socket, and
signals from elsewhere begin the drain and no more. The socket also tells of the supervisor's death, however it died:
the process drains then, since nobody would start it again, or stop it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import click

ENV = "ARQ_WEB_SUPERVISED"
"""Tells a process that it has a supervisor: its number, the file descriptor of its end of the socket, and of a second
one, which listens, where it is to answer probes."""
DRAIN, NOW = b"d", b"n"
"""Orders: take no new jobs and let the running ones end; wait for them no longer."""
MOST_ORDERS = 16
READY, READY_FOR_BURST = b"r", b"b"
"""Answers: the app is up, and jobs are taken from here on; until told to stop, or until nothing is left to do."""


class Supervised:
    """This process, as one of several that a supervisor keeps."""

    def __init__(self, number: int, handle: int, health_handle: int | None = None) -> None:
        """Be one of them.

        Args:
            number: which of the processes this one is, from 1; its successor has the same.
            handle: the file descriptor of the socket.
            health_handle: of a listening one, where the supervisor asks how this process is.

        Raises:
            OSError: it is none.
        """
        self.number = number
        self._socket = socket.socket(fileno=handle)
        self._socket.set_inheritable(False)
        self._socket.setblocking(False)
        self.health = None if health_handle is None else socket.socket(fileno=health_handle)
        if self.health is not None:
            self.health.set_inheritable(False)
        self._is_draining = self._is_orphan = False
        # Ctrl-C while the app is imported: the supervisor's SIGTERM follows, and ends us without a word. A handler, not
        # SIG_IGN, which programs that the app starts would inherit.
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see worker_process.py

    @classmethod
    def from_env(cls) -> Supervised | None:
        """What the environment says of this process; None for one without a supervisor. To be asked once.

        Raises:
            UsageError: the environment says so, but it is not true.
        """
        said = os.environ.pop(ENV, None)
        if said is None:
            return None
        try:
            return cls(*map(int, said.split()))
        except (TypeError, ValueError, OSError):
            raise click.UsageError(f"{ENV} is for app-worker's own processes: unset it.") from None

    def ready(self, *, is_burst: bool) -> None:
        """Tell the supervisor that the app is up and the worker begins to work.

        Args:
            is_burst: it ends when nothing is left to do: then it is not to be started again.
        """
        with suppress(OSError):  # the supervisor is gone: we hear of it soon
            self._socket.send(READY_FOR_BURST if is_burst else READY)

    @contextmanager
    def listening(self, stop: Callable[[], None]) -> Iterator[None]:
        """Call ``stop`` on the running loop: once to drain, again to wait no longer. For the main thread."""
        loop = asyncio.get_running_loop()

        def on_signal(*_: object) -> None:
            with suppress(RuntimeError):  # the loop was closed under a worker that has not ended
                loop.call_soon_threadsafe(self._take_signal, stop)

        loop.add_reader(self._socket, self._take_orders, stop)
        before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            loop.remove_reader(self._socket)

    def _take_signal(self, stop: Callable[[], None]) -> None:
        if not self._is_draining or self._is_orphan:  # else it may be a copy of what the supervisor has got
            self._is_draining = True
            stop()

    def _take_orders(self, stop: Callable[[], None]) -> None:
        try:
            orders = self._socket.recv(MOST_ORDERS)
        except BlockingIOError:
            return
        except OSError:
            orders = b""
        if not orders:
            self._is_orphan = True
            asyncio.get_running_loop().remove_reader(self._socket)
        if not self._is_draining:
            self._is_draining = True
            stop()
        if NOW in orders:
            stop()
