"""Waiting for jobs to end by push: one reply channel per process and loop, however many wait."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from arq_web.errors import StoreError
from arq_web.job import JobInfo
from arq_web.store.record import UnreadableRecord, read_info

if TYPE_CHECKING:
    from arq_web.store.connection import Connections, Subscriber
    from arq_web.store.store import Store

REWATCH_S = 30.0
"""The promise to publish lasts a minute (watch.lua); it is renewed at half of that."""


class Watcher:
    """Tells waiters when their jobs end. Belongs to one running loop."""

    def __init__(self, connections: Connections, namespace: str) -> None:
        self.channel = f"{namespace}:1:reply:{secrets.token_hex(8)}"
        self._subscriber: Subscriber = connections.subscriber()
        self._waiting: dict[tuple[bytes, str], set[asyncio.Future[bytes]]] = {}
        self._again = asyncio.Event()
        self._subscribed: asyncio.Task[None] | None = None

    async def wait(self, store: Store, job_id: str) -> JobInfo | None:
        """The job once it has ended; None when there is no such job. Waits for ever: the caller sets the limit."""
        await self._subscribe()
        key, future = (store.base, job_id), asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, set()).add(future)
        try:
            while True:
                with contextlib.suppress(StoreError):  # a lost Redis is waited out; the caller's limit still holds
                    word, info = await store.watch(job_id, self.channel)
                    if word != "watching":
                        return info
                raw = await self._published(future)
                if raw is not None:
                    with contextlib.suppress(UnreadableRecord):
                        return read_info(job_id, store.queue, raw)
        finally:
            self._forget(key, future)

    async def _published(self, future: asyncio.Future[bytes]) -> bytes | None:
        """What was published for this waiter; None when it is time to watch again."""
        again = asyncio.ensure_future(self._again.wait())
        try:
            await asyncio.wait((future, again), timeout=REWATCH_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            again.cancel()
        return future.result() if future.done() else None

    async def _subscribe(self) -> None:
        if self._subscribed is None or (self._subscribed.done() and self._subscribed.exception() is not None):
            self._subscriber.on_reconnect = self._watch_all_again
            subscribing = self._subscriber.subscribe(self.channel.encode(), self._received)
            self._subscribed = asyncio.ensure_future(subscribing)
        await asyncio.shield(self._subscribed)

    def _received(self, message: bytes) -> None:
        base, _, rest = message.partition(b"\n")
        job_id, _, raw = rest.partition(b"\n")
        for future in self._waiting.get((base, job_id.decode(errors="replace")), ()):
            if not future.done():
                future.set_result(raw)

    def _watch_all_again(self) -> None:
        """What was published while the connection was lost is not said twice: everybody looks again."""
        self._again.set()
        self._again = asyncio.Event()

    def _forget(self, key: tuple[bytes, str], future: asyncio.Future[bytes]) -> None:
        waiters = self._waiting.get(key)
        if waiters is not None:
            waiters.discard(future)
            if not waiters:
                del self._waiting[key]


WatcherFactory = Callable[[], Watcher]
