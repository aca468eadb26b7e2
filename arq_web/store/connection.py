"""The connections of a process, each belonging to the loop that asked for it."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress

from arq_web.store.blocking import BlockingConnection
from arq_web.store.link import Arg
from arq_web.store.pipelined import Connection, Script
from arq_web.store.replies import Reply
from arq_web.store.subscriber import Subscriber
from arq_web.store.target import RedisTarget
from arq_web.store.wake import WakeWaiter

__all__ = ["Arg", "BlockingConnection", "Connection", "Connections", "Reply", "Script", "Subscriber", "WakeWaiter"]


class Connections:
    """Gives every loop connections of its own, to one Redis. May be used from several threads.

    A loop that ends takes its connections with it: they are closed when it shuts down its async generators, as
    ``asyncio.run`` does, so that nothing need be called for the loops that a test client makes per request.

    Args:
        target: which Redis.
        deadline_s: see ``Connection``.
    """

    def __init__(self, target: RedisTarget, *, deadline_s: float = 2.0) -> None:
        self.target = target
        self._deadline_s = deadline_s
        self._homes: dict[int, _Home] = {}
        self._moving = threading.Lock()

    def get(self, key_hint: bytes | None = None) -> Connection:
        """Give the running loop's connection for short commands; in a cluster, one per ``key_hint``.

        Raises:
            RuntimeError: no loop is running.
        """
        home = self._home()
        hint = key_hint if self.target.kind == "cluster" else None
        connection = home.connections.get(hint)
        if connection is None:
            connection = Connection(self.target, deadline_s=self._deadline_s, key_hint=hint)
            home.connections[hint] = connection
        return connection

    def blocking(self, key_hint: bytes | None = None) -> BlockingConnection:
        """Make a connection for a blocking wait. The caller owns it and closes it."""
        connection = BlockingConnection(self.target, deadline_s=self._deadline_s, key_hint=key_hint)
        self._home().blocking.add(connection)
        return connection

    def waiter(self, bases: Sequence[bytes]) -> WakeWaiter:
        """Make what waits for the wake markers of the queues whose keys begin with ``bases``. The caller closes it.

        In a cluster it has one connection per queue, elsewhere one.
        """
        groups = [(base,) for base in bases] if self.target.kind == "cluster" else [tuple(bases)]
        return WakeWaiter([(self.blocking(group[0]), [base + b"wake" for base in group]) for group in groups])

    def subscriber(self) -> Subscriber:
        """Give the running loop's subscriber."""
        home = self._home()
        if home.subscriber is None:
            home.subscriber = Subscriber(self.target, deadline_s=self._deadline_s)
        return home.subscriber

    async def aclose(self) -> None:
        """Close what belongs to the running loop, and what closed loops left behind.

        Loops that run in other threads keep theirs. Whoever asks afterwards gets new connections.
        """
        with self._moving:
            home = self._homes.pop(id(asyncio.get_running_loop()), None)
            self._dispose_of_the_dead()
        if home is not None:
            await home.guard.aclose()

    def _home(self) -> _Home:
        loop = asyncio.get_running_loop()
        home = self._homes.get(id(loop))
        if home is not None:  # it holds the loop, so no other can have this id
            return home
        with self._moving:
            self._dispose_of_the_dead()
            home = self._homes[id(loop)] = _Home(loop)
        home.guard = self._until_the_loop_ends(home)
        # Up to its yield, nothing in it waits: so it can be started from here.
        with suppress(StopIteration):
            home.guard.__anext__().send(None)
        return home

    def _dispose_of_the_dead(self) -> None:
        for key, home in list(self._homes.items()):
            if home.loop.is_closed():
                del self._homes[key]
                home.dispose()

    async def _until_the_loop_ends(self, home: _Home) -> AsyncGenerator[None]:
        # The loop closes the async generators that began in it before it closes itself: the one public way for a
        # library to be told, and in time to close a connection properly.
        try:
            yield
        finally:
            if self._homes.get(id(home.loop)) is home:
                del self._homes[id(home.loop)]
            await home.aclose()


class _Home:
    """What belongs to one loop."""

    guard: AsyncGenerator[None]

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.connections: dict[bytes | None, Connection] = {}
        self.subscriber: Subscriber | None = None
        self.blocking: weakref.WeakSet[BlockingConnection] = weakref.WeakSet()

    async def aclose(self) -> None:
        for part in self._parts():
            await part.aclose()

    def dispose(self) -> None:
        for part in self._parts():
            part.dispose()

    def _parts(self) -> list[Connection | Subscriber | BlockingConnection]:
        shared = [self.subscriber] if self.subscriber is not None else []
        return [*self.connections.values(), *shared, *self.blocking]
