"""A proxy in front of Redis that counts the commands of one process, and kills that process at one of them."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from arq_web.store import scripts
from arq_web.store.scripts import Verb
from tests.support.forked import Forked
from tests.support.waiting import wait_until

Phase = Literal["before", "after"]
Aim = int | tuple[str, int]
"""The n-th command of all, or the n-th of that name."""
SET_UP = frozenset({"HELLO", "AUTH", "CLIENT", "SELECT"})
"""What only opens a connection: passed on, not counted."""
BLOCKING = frozenset({"BLPOP"})
"""What may stay unanswered when the process is gone."""
AS_TEXT = " as text"
"""Ends the name of a verb whose script was not known, and is sent whole."""
OTHER_VERSION = "a script that was edited while the tests ran"
_VERBS = [verb.script for verb in vars(scripts).values() if isinstance(verb, Verb)]
_BY_SHA = {script.sha.encode(): script.name for script in _VERBS}
_BY_TEXT = {script.text: script.name for script in _VERBS}


@dataclass(slots=True, eq=False)
class Command:
    """One command that the process sent: a verb of ours, or Redis' own word; the ``nth`` of its name."""

    raw: bytes
    name: str = ""
    nth: int = 0
    is_executed: bool = False
    """Redis has answered it, and not with an error."""

    @property
    def key(self) -> tuple[str, int]:
        """Which one of the process's life it is."""
        return self.name, self.nth

    @property
    def words(self) -> list[bytes]:
        """The command and its arguments."""
        return list(_words(self.raw))


@dataclass(eq=False)
class CommandGate:
    """Forwards to Redis; at one command nothing passes any more, on no connection.

    ``before``: that command is not forwarded. ``after``: Redis has answered it, and the answer is not delivered. Then
    the process is killed (SIGKILL), and whatever it sent meanwhile is lost with it.
    """

    upstream_port: int
    aim: Aim
    phase: Phase
    victim: asyncio.Future[Forked]
    commands: list[Command] = field(default_factory=list)
    struck: Command | None = None
    struck_at_ms: int = 0
    """By this host's clock, which is that of Redis."""
    port: int = 0
    _target: Command | None = None
    _flows: asyncio.Event = field(default_factory=asyncio.Event)
    _lines: set[_Line] = field(default_factory=set)
    _counts: Counter[str] = field(default_factory=Counter)

    @property
    def url(self) -> str:
        """The address of database 0 through this gate."""
        return f"redis://127.0.0.1:{self.port}/0"

    def executed(self, name: str) -> int:
        """How often Redis has executed commands of this name, also when they were sent as text."""
        return sum(each.name.removesuffix(AS_TEXT) == name and each.is_executed for each in self.commands)

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Listen; in the end nothing of what was forwarded is still on its way."""
        self._flows.set()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            await wait_until(lambda: all(line.is_quiet for line in self._lines), description="Redis has answered all")
            for line in self._lines:
                line.cut()
            await wait_until(lambda: not self._lines, description="the gate's connections are closed")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = _Line(writer, *await asyncio.open_connection("127.0.0.1", self.upstream_port))
        self._lines.add(line)
        # Only the server's end closes the line: answers to what was forwarded are counted when the process is gone.
        requests = asyncio.create_task(self._forward(reader, line))
        try:
            await self._deliver(line)
        except OSError:
            pass  # cut
        finally:
            requests.cancel()
            await asyncio.wait((requests,))
            line.cut()
            self._lines.discard(line)

    async def _forward(self, reader: asyncio.StreamReader, line: _Line) -> None:
        pending = b""
        while data := await _read(reader):
            pending += data
            while (end := _end_of(pending, 0)) is not None:
                raw, pending = pending[:end], pending[end:]
                if not await self._pass(raw, line):
                    return
        line.is_abandoned = True
        if line.is_quiet:
            line.cut()

    async def _pass(self, raw: bytes, line: _Line) -> bool:
        """Forward one command when its turn comes; False when nothing passes any more."""
        command = Command(raw)
        if command.words[0].decode().upper() in SET_UP:
            line.forward(raw, None)
            return True
        if not self._flows.is_set():
            return False
        command.name = _name_of(command.words)
        self._counts[command.name] += 1
        command.nth = self._counts[command.name]
        self.commands.append(command)
        if self.aim in (len(self.commands), command.key):
            self._flows.clear()
            self._target = command
            if self.phase == "before":
                await self._strike()
                return False
        line.forward(raw, command)
        return True

    async def _deliver(self, line: _Line) -> None:
        pending = b""
        while data := await line.reader.read(1 << 20):
            pending += data
            while (end := _end_of(pending, 0)) is not None:
                raw, pending = pending[:end], pending[end:]
                command = line.answered_by(raw)
                if command is not None and command is self._target:
                    await self._strike()
                if self.struck is None:
                    line.client.write(raw)
            if line.is_abandoned and line.is_quiet:
                return

    async def _strike(self) -> None:
        self.struck, self.struck_at_ms = self._target, int(time.time() * 1000)
        (await self.victim).send(signal.SIGKILL)


@dataclass(eq=False)
class _Line:
    """One connection of the process, and ours to Redis for it."""

    client: asyncio.StreamWriter
    reader: asyncio.StreamReader
    server: asyncio.StreamWriter
    unanswered: deque[Command | None] = field(default_factory=deque)
    is_abandoned: bool = False

    @property
    def is_quiet(self) -> bool:
        """Redis has answered all that does not block."""
        return all(command is not None and command.name in BLOCKING for command in self.unanswered)

    def forward(self, raw: bytes, command: Command | None) -> None:
        self.unanswered.append(command)
        self.server.write(raw)

    def answered_by(self, raw: bytes) -> Command | None:
        """The command that ``raw`` answers; None for set-up and for what is pushed."""
        if raw.startswith(b"*3\r\n$7\r\nmessage\r\n") or not self.unanswered:
            return None
        command = self.unanswered.popleft()
        if command is not None:
            command.is_executed = not raw.startswith(b"-")
        return command

    def cut(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(1 << 20)
    except OSError:
        return b""  # reset: the process was killed


def _name_of(words: list[bytes]) -> str:
    match words[0].upper():
        case b"EVALSHA":
            return _BY_SHA.get(words[1], OTHER_VERSION)
        case b"EVAL":
            return _BY_TEXT.get(words[1], OTHER_VERSION) + AS_TEXT
        case word:
            return word.decode()


def _end_of(data: bytes, start: int) -> int | None:
    """Where the RESP value that begins at ``start`` ends; None when it is not all there."""
    line_end = data.find(b"\r\n", start)
    if line_end < 0:
        return None
    end = line_end + 2
    kind = data[start : start + 1]
    if kind not in b"$*":
        return end
    size = int(data[start + 1 : line_end])
    if kind == b"$":
        end += size + 2 if size >= 0 else 0
        return end if end <= len(data) else None
    for _ in range(size):
        item_end = _end_of(data, end)
        if item_end is None:
            return None
        end = item_end
    return end


def _words(raw: bytes) -> Iterator[bytes]:
    """The words of one whole command."""
    at = raw.index(b"\r\n") + 2
    while at < len(raw):
        line_end = raw.index(b"\r\n", at)
        size = int(raw[at + 1 : line_end])
        yield raw[line_end + 2 : line_end + 2 + size]
        at = line_end + 2 + size + 2
