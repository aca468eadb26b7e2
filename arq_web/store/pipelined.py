"""One connection for all short commands of a process: implicitly pipelined, every command with a deadline.

All commands of one loop tick leave in one write; the replies come back in the same order. When the connection is
lost, or the oldest command got no reply in time, it is closed, and what is outstanding is sent once again on a new
one. That is safe because every script here is idempotent. A line that is slow but moves, in either direction, is given
time: what was cut in the middle would only be cut again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from arq_web.errors import StoreError, StoreRefused, StoreUnavailable
from arq_web.store.dial import Dialer
from arq_web.store.link import Arg, Link, pack
from arq_web.store.replies import ErrorReply, Fault, NoScript, Reply, fault_of, store_error
from arq_web.store.target import RedisTarget


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, and the digest that names it in Redis."""

    name: str
    text: bytes
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.text, usedforsecurity=False).hexdigest())


class Connection:
    """One implicitly pipelined connection. Belongs to the loop in which it is made; opened at first use.

    Args:
        target: which Redis.
        deadline_s: how long a command may wait for its reply, without a byte that moves, before it is sent once again
            on a new connection, and how long opening one may take. A caller whose Redis is silent waits three times
            that at most.
        key_hint: in a cluster, a key of the node to connect to.
    """

    def __init__(self, target: RedisTarget, *, deadline_s: float = 2.0, key_hint: bytes | None = None) -> None:
        self._address = target.address
        self._deadline_s = deadline_s
        self._dialer = Dialer(target, deadline_s=deadline_s, key_hint=key_hint)
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._opener: asyncio.Task[None] | None = None
        self._unsent: list[_Command] = []
        self._unsent_bytes = 0
        self._in_flight: deque[_Command] = deque()
        self._sent_bytes = 0
        self._moved_at = 0.0
        self._is_flush_due = False
        self._before_flush: list[Callable[[], None]] = []
        self._is_closed = False
        self._has_room = asyncio.Event()
        self._watch = _Watch(self._loop, self._check_deadlines)
        self._why_not_open = f"no connection within {deadline_s:g} s"

    @property
    def is_connected(self) -> bool:
        """Whether a connection is open at this moment."""
        return self._link is not None

    async def execute(self, *args: Arg) -> Reply:
        """Send one command and wait for its reply.

        If the caller is cancelled the command may run all the same.

        Raises:
            StoreUnavailable: no reply, twice, or no connection within ``deadline_s``.
            StoreRefused: the credentials or rights do not suffice.
            StoreFull: Redis is out of memory.
            StoreCorrupt: a key is of the wrong type, or a script failed.
        """
        while self.is_congested:
            # Redis does not read as fast as we write: more commands would only pile up in memory.
            self._has_room.clear()
            await self._has_room.wait()
        return await self.submit(*args)

    @property
    def is_congested(self) -> bool:
        """Redis does not read as fast as we write: ``execute`` waits for it, ``submit`` does not."""
        return self._link is not None and (self._link.is_paused or self._unsent_bytes > _MOST_UNSENT_BYTES)

    def submit(self, *args: Arg) -> asyncio.Future[Reply]:
        """Send one command with the others of this loop tick; the future gets what ``execute`` returns or raises.

        For many commands at once: no task each. Unlike ``execute`` it never waits for Redis to read.

        Raises:
            StoreUnavailable: at once, if this connection was closed by ``aclose``.
        """
        if self._is_closed:
            raise StoreUnavailable(self._address, _CLOSED_HERE)
        future: asyncio.Future[Reply] = self._loop.create_future()
        packed = pack(args)
        self._unsent.append(_Command(packed, future))
        self._unsent_bytes += len(packed)
        self._flush_soon()
        return future

    def before_flush(self, call: Callable[[], None]) -> None:
        """Call it once, when the commands of this loop tick are about to leave: what it submits leaves with them."""
        self._before_flush.append(call)
        self._flush_soon()

    async def run_script(self, script: Script, keys: Sequence[bytes], args: Sequence[bytes | str | int]) -> Reply:
        """Run a script by its digest, or by its text where Redis does not have it (any more).

        Raises:
            StoreError: as ``execute``.
        """
        try:
            return await self.execute("EVALSHA", script.sha, len(keys), *keys, *args)
        except NoScript:
            return await self.execute("EVAL", script.text, len(keys), *keys, *args)

    async def aclose(self) -> None:
        """Close for good. Commands without a reply fail with StoreUnavailable."""
        link = self._shut()
        if self._opener is not None:
            self._opener.cancel()
            await asyncio.wait({self._opener})
        if link is not None:
            link.abort()
            await link.wait_closed()

    def dispose(self) -> None:
        """Close the socket although the loop is closed already; whoever waited there is gone."""
        link = self._shut()
        if link is not None:
            link.dispose()

    def _shut(self) -> Link | None:
        self._is_closed = True
        self._watch.stop()
        link, self._link = self._link, None
        outstanding = [*self._in_flight, *self._unsent]
        self._in_flight.clear()
        self._unsent.clear()
        if not self._loop.is_closed():
            self._has_room.set()
            self._fail(outstanding, StoreUnavailable, _CLOSED_HERE)
        return link

    # -- sending --------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        while self._before_flush:
            self._before_flush.pop()()
        self._is_flush_due = False
        link = self._link
        if link is None:
            self._await_link()
            return
        if link.is_paused:
            return  # on_writable comes back to it
        # The time runs from here, not from submit: what the loop did in between is not Redis's fault.
        due_at = self._loop.time() + self._deadline_s
        batch = [command for command in self._unsent if not command.future.done()]
        self._unsent.clear()
        self._unsent_bytes = 0
        for command in batch:
            command.due_at = due_at
            command.send_count += 1
        self._in_flight.extend(batch)
        if batch:
            link.write(batch[0].packed if len(batch) == 1 else b"".join([command.packed for command in batch]))
            self._sent_bytes = link.sent_bytes()
            self._watch.until(due_at)
        if not link.is_paused:
            self._has_room.set()

    def _await_link(self) -> None:
        """Give what is unsent its deadline, and see to it that a connection is being opened."""
        if not self._unsent or self._is_closed:
            return
        due_at = self._loop.time() + self._deadline_s
        for command in reversed(self._unsent):
            if command.due_at:
                break
            command.due_at = due_at
        self._watch.until(due_at)
        if self._opener is None:
            self._opener = self._loop.create_task(self._open(), name="arq_web.connection.open")

    async def _open(self) -> None:
        try:
            # Also after a failure: the watch takes out those who waited long enough.
            while self._unsent and self._link is None:
                try:
                    self._link = await self._dialer.dial(self)
                except StoreRefused as error:
                    self._fail_unsent(StoreRefused, error.why)
                except StoreUnavailable as error:
                    self._why_not_open = error.why
        finally:
            self._opener = None
        if self._link is not None:
            self._flush()

    # -- receiving (called by the link) ---------------------------------------------------

    def on_replies(self, replies: Sequence[Reply | ErrorReply]) -> None:
        """Answer the oldest commands."""
        self._moved_at = self._loop.time()
        in_flight = self._in_flight
        for reply in replies:
            if not in_flight:
                self.on_lost("it sent a reply that nobody asked for")
                return
            command = in_flight.popleft()
            if isinstance(reply, ErrorReply):
                if not self._answer_error(command, reply.text):
                    return
            elif not command.future.done():
                command.future.set_result(reply)

    def on_writable(self) -> None:
        """Send what was held back while Redis did not read."""
        self._has_room.set()
        self._flush()

    def on_lost(self, why: str) -> None:
        """Close, and send what is outstanding once again; give up on what had its second chance."""
        link, self._link = self._link, None
        self._why_not_open = why
        if link is not None:
            link.abort()
        self._has_room.set()
        outstanding, self._in_flight = self._in_flight, deque()
        self._fail([command for command in outstanding if command.send_count >= _MOST_SENDS], StoreUnavailable, why)
        again = [command for command in outstanding if not command.future.done()]
        due_at = self._loop.time() + self._deadline_s
        for command in again:
            command.due_at = due_at
        self._unsent[:0] = again
        self._await_link()

    def _answer_error(self, command: _Command, text: str) -> bool:
        """Fail the command, or have it sent again; False if that took the connection away."""
        fault = fault_of(text)
        is_passing = fault in (Fault.LOST, Fault.MOVED)
        if is_passing and command.send_count < _MOST_SENDS:
            if fault is Fault.MOVED:
                self._dialer.redirect(text)
            else:
                self._dialer.back_off()
            self._in_flight.appendleft(command)
            self.on_lost(text)
            return False
        self._fail([command], lambda address, why: store_error(address, fault, why), text)
        return True

    # -- giving up ------------------------------------------------------------------------

    def _check_deadlines(self, late_s: float) -> None:
        now, link = self._loop.time(), self._link
        waiting = self._in_flight if link is not None else self._unsent
        if not waiting:
            return
        if link is None:
            due_at = min(command.due_at for command in waiting)
        else:
            due_at = max(waiting[0].due_at, self._when_moved(link, now) + self._deadline_s)
        if due_at > now:
            self._watch.until(due_at)
        elif late_s > _LATE_S and not self._watch.is_extended:
            # The loop stood still, not Redis: the replies may be there, unread.
            self._watch.until(now + min(late_s, self._deadline_s), is_extended=True)
        elif link is not None:
            self.on_lost(f"no reply within {self._deadline_s:g} s")
        else:
            overdue = [command for command in self._unsent if command.due_at <= now]
            self._unsent = [command for command in self._unsent if command.due_at > now]
            self._fail(overdue, StoreUnavailable, self._why_not_open)
            if self._unsent:
                self._watch.until(min(command.due_at for command in self._unsent))

    def _when_moved(self, link: Link, now: float) -> float:
        """When the line was last known to move: bytes came, or there are fewer to send than at the last look."""
        sent_bytes = link.sent_bytes()
        if sent_bytes != self._sent_bytes:
            self._sent_bytes, self._moved_at = sent_bytes, now
        return self._moved_at

    def _fail_unsent(self, error: Callable[[str, str], StoreError], why: str) -> None:
        unsent, self._unsent = self._unsent, []
        self._fail(unsent, error, why)

    def _fail(self, commands: Sequence[_Command], error: Callable[[str, str], StoreError], why: str) -> None:
        for command in commands:
            if not command.future.done():
                # One exception each: a shared one would collect the tracebacks of all who wait.
                command.future.set_exception(error(self._address, why))


class _Command:
    """What was submitted, and what has become of it."""

    __slots__ = ("due_at", "future", "packed", "send_count")

    def __init__(self, packed: bytes, future: asyncio.Future[Reply]) -> None:
        self.packed = packed
        self.future = future
        self.send_count = 0
        self.due_at = 0.0


class _Watch:
    """One timer for all commands: it looks at the oldest, and is set again only when it has run."""

    def __init__(self, loop: asyncio.AbstractEventLoop, check: Callable[[float], None]) -> None:
        self.is_extended = False
        self._loop = loop
        self._check = check
        self._timer: asyncio.TimerHandle | None = None

    def until(self, at: float, *, is_extended: bool = False) -> None:
        """Look again at loop time ``at``, unless it will look earlier anyway."""
        if self._timer is None:
            self.is_extended = is_extended
            self._timer = self._loop.call_at(at, self._run)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _run(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            self._check(self._loop.time() - timer.when())


_MOST_SENDS: Final = 2
_MOST_UNSENT_BYTES: Final = 1_048_576
_LATE_S: Final = 0.1
_CLOSED_HERE: Final = "the connection was closed by this process"
