"""A child process as its worker sees it: start, ask, answer, end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress

import msgspec

from arq_web.worker.child_protocol import FromChild, Setup, ToChild, frame, from_child, receive

LAST_WORDS_S = 0.2
"""For what a child wrote just before it ended. Its own children may keep the socket open for longer."""


class ChildDied(Exception):
    """The process ended, and says no more. The message tells how it ended."""


class ChildProcess:
    """One child. Everything it says passes through an inbox, so that waiting for it can be cancelled."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.pid = process.pid
        self.is_used = False
        """True once it has begun an attempt."""
        self.idle_timer: asyncio.TimerHandle | None = None
        self._process, self._reader, self._writer = process, reader, writer
        self._inbox: asyncio.Queue[FromChild | None] = asyncio.Queue()
        self._ended = asyncio.create_task(self._watch(), name=f"arq_web.child {process.pid}")

    @classmethod
    async def start(cls, setup: Setup, keep: int | None = None) -> ChildProcess:
        """Start a process; it reads ``setup`` in its own time, and keeps the file descriptor ``keep`` open.

        Raises:
            OSError: the system gives us no process.
        """
        # The child asks for death with the *thread* that started it (Linux knows no other way), so it must be the
        # loop's thread, not one of a pool.
        ours, theirs = socket.socketpair()
        kept = () if keep is None else (keep,)
        with theirs:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "arq_web._child",
                    str(theirs.fileno()),
                    str(os.getpid()),
                    *map(str, kept),
                    pass_fds=(theirs.fileno(), *kept),
                    stdin=asyncio.subprocess.DEVNULL,
                    env={**os.environ, "ARQ_WEB_ROLE": "worker"},
                )
            except BaseException:
                writer.close()
                raise
        child = cls(process, reader, writer)
        child.send(setup)
        return child

    @property
    def is_alive(self) -> bool:
        """True while the process runs and has not said anything unasked."""
        return self._process.returncode is None and self._inbox.empty()

    def send(self, message: ToChild) -> None:
        """Write a message; a child that is gone is noticed where its answer is awaited."""
        if not self._writer.is_closing():
            self._writer.write(frame(message))

    async def next(self, limit_s: float) -> FromChild:
        """Wait for the next thing that it says. Safe to cancel.

        Raises:
            TimeoutError: nothing within ``limit_s``.
            ChildDied: it ended instead.
        """
        async with asyncio.timeout(limit_s):
            message = await self._inbox.get()
        if message is None:
            self._inbox.put_nowait(None)
            raise ChildDied(_how_it_ended(self._process.returncode))
        return message

    async def kill(self) -> None:
        """End it now; returns when it is dead, so that nothing of its attempt runs on."""
        self._kill()
        await asyncio.shield(self._ended)

    async def close(self, grace_s: float) -> None:
        """Let it end by itself (its app's lifespan too), for at most ``grace_s``; then kill it."""
        if self.idle_timer is not None:
            self.idle_timer.cancel()
        self._writer.close()
        await asyncio.wait((self._ended,), timeout=grace_s)
        await self.kill()

    async def _watch(self) -> None:
        """Read what it says until the process has ended; then close the inbox with None."""
        listening = asyncio.create_task(self._listen())
        await self._process.wait()
        await asyncio.wait((listening,), timeout=LAST_WORDS_S)
        listening.cancel()
        self._writer.close()
        self._inbox.put_nowait(None)

    async def _listen(self) -> None:
        # A child that closes the socket, or writes what is no message, is of no more use.
        with suppress(asyncio.IncompleteReadError, OSError, msgspec.DecodeError):
            while True:
                message = await receive(self._reader, from_child)
                self._inbox.put_nowait(message)
        if not self._writer.is_closing():
            with suppress(TimeoutError):  # usually it is ending: let its own status show
                await asyncio.wait_for(self._process.wait(), LAST_WORDS_S)
            self._kill()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()


def _how_it_ended(returncode: int | None) -> str:
    if returncode is None or returncode >= 0:
        return f"the child process ended with exit status {returncode} and without an answer"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    return f"the child process was killed by {name}"
