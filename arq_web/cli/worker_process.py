"""A worker process as its supervisor sees it: start, orders, answers, end. The other side: supervised.py."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from arq_web.cli.supervised import DRAIN, ENV, NOW, READY_FOR_BURST
from arq_web.health.merged import LOOPBACK
from arq_web.health.server import open_port

ANSWERS_BYTES = 16


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended."""

    status: int
    """As a shell has it: 128 and the signal's number for one that was killed."""
    text: str
    """``70``, or ``SIGKILL``."""
    ran_ms: int = 0

    @classmethod
    def of(cls, code: int, ran_ms: int) -> End:
        """From ``code`` as in ``Popen.returncode``: negative for a signal."""
        return cls(code, str(code), ran_ms) if code >= 0 else cls(128 - code, _signal_name(-code), ran_ms)


class WorkerProcess:
    """One process, from its start to its end."""

    def __init__(
        self, command: Sequence[str], number: int, on_ready: Callable[[bool], None], *, has_health: bool = False
    ) -> None:
        """Start it. Call on the running loop.

        Args:
            command: the program and its arguments.
            number: which of the supervisor's processes it is.
            on_ready: called when its worker begins to work; with True if that ends when nothing is left to do.
            has_health: it is to answer probes, at ``health_port``.

        Raises:
            OSError: the system gives us no process.
        """
        self.number, self.health_port = number, 0
        self._on_ready, self._is_ready = on_ready, False
        self.ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._began_s = time.monotonic()
        self._socket, theirs = socket.socketpair()
        with ExitStack() as given:
            sockets = [given.enter_context(theirs)]
            try:
                if has_health:
                    sockets.append(given.enter_context(open_port(LOOPBACK, 0)))
                    self.health_port = sockets[1].getsockname()[1]
                self._process = _start(command, number, [each.fileno() for each in sockets])
            except BaseException:
                self._socket.close()
                raise
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._hear)

    @property
    def is_up(self) -> bool:
        """Its worker has begun to work."""
        return self._is_ready

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def drain(self) -> None:
        """Let it take no new jobs and end when the running ones have ended."""
        self._order(DRAIN)
        if not self._is_ready:  # it may not listen yet; if it does, this is no news to it
            self._signal(signal.SIGTERM)

    def hurry(self) -> None:
        """Let it wait no longer for running jobs."""
        self._order(NOW)

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    def has_ended(self, code: int) -> None:
        """Take note that the system has told us of its end: ``code`` as in ``Popen.returncode``."""
        self._process.returncode = code  # it must not ask for itself: the answer is given once
        self._hear()  # its last words
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self.ended.set_result(End.of(code, int((time.monotonic() - self._began_s) * 1000)))

    def _hear(self) -> None:
        try:
            answers = self._socket.recv(ANSWERS_BYTES)
        except BlockingIOError:
            return
        except OSError:  # it ended without having read all its orders
            answers = b""
        if not answers:  # it ends: nothing more will come
            asyncio.get_running_loop().remove_reader(self._socket)
            return
        self._is_ready = True
        self._on_ready(READY_FOR_BURST in answers)

    def _order(self, word: bytes) -> None:
        with suppress(OSError):  # it has ended just now
            self._socket.send(word)

    def _signal(self, number: signal.Signals) -> None:
        # Not by Popen, which asks first whether it has ended, and would keep the answer for itself.
        os.kill(self.pid, number)


def _start(command: Sequence[str], number: int, handles: Sequence[int]) -> subprocess.Popen[bytes]:
    # In our own group, so that a terminal's Ctrl-C, Ctrl-Z and end reach it as they reach us. Ctrl-C must not meet a
    # Python that is only starting, which would show a traceback: Supervised unblocks it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    env = {**os.environ, ENV: " ".join(map(str, (number, *handles)))}
    try:
        return subprocess.Popen(command, pass_fds=handles, env=env)  # noqa: S603 - our own command line once more
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
