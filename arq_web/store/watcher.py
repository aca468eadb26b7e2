"""Waiting for jobs to end by push: one reply channel per process and loop, however many wait."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING

from arq_web.errors import StoreFull, StoreUnavailable
from arq_web.job import JobInfo
from arq_web.store.record import UnreadableRecord, read_info

if TYPE_CHECKING:
    from arq_web.store.connection import Connections, Subscriber
    from arq_web.store.store import Store

REWATCH_S = 30.0
"""The promise to publish lasts a minute (watch.lua); it is renewed at half of that."""
RETRY_S = 1.0
"""After Redis took no promise: gone, or full. Then a result comes by looking, not by push."""


class Watcher:
    """Tells waiters when their jobs end. Belongs to one running loop."""

    def __init__(self, connections: Connections, namespace: str) -> None:
        self.channel = f"{namespace}:1:reply:{secrets.token_hex(8)}"
        self._connections = connections
        self._waiting: dict[tuple[bytes, str], set[asyncio.Future[bytes | None]]] = {}
        self._subscriber: Subscriber | None = None
        self._subscribed: asyncio.Task[None] | None = None

    async def wait(self, store: Store, job_id: str) -> JobInfo | None:
        """The job once it has ended; None when there is no such job.

        Waits for ever, also for a Redis that is gone: the caller sets the limit.

        Raises:
            StoreRefused, StoreCorrupt: waiting would not help.
        """
        key = (store.base, job_id)
        while True:
            future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(key, set()).add(future)
            try:
                pause_s = REWATCH_S
                try:
                    await self._subscribe()
                    word, info = await store.watch(job_id, self.channel)
                    if word != "watching":
                        return info
                except (StoreUnavailable, StoreFull):
                    pause_s = RETRY_S
                await asyncio.wait((future,), timeout=pause_s)
            finally:
                self._forget(key, future)
            raw = future.result() if future.done() else None
            if raw is not None:
                # What cannot be read here is looked at once more, and then named as an error.
                with contextlib.suppress(UnreadableRecord):
                    return read_info(job_id, store.queue, raw)

    async def _subscribe(self) -> None:
        subscriber, task = self._connections.subscriber(), self._subscribed
        has_failed = task is not None and task.done() and (task.cancelled() or task.exception() is not None)
        if task is None or has_failed or subscriber is not self._subscriber:
            self._subscriber = subscriber
            subscriber.on_reconnect = self._watch_all_again
            task = asyncio.ensure_future(subscriber.subscribe(self.channel.encode(), self._received))
            # Whoever waited for it may have given up.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._subscribed = task
        await asyncio.shield(task)

    def _received(self, message: bytes) -> None:
        base, _, rest = message.partition(b"\n")
        job_id, _, raw = rest.partition(b"\n")
        for future in self._waiting.get((base, job_id.decode(errors="replace")), ()):
            if not future.done():
                future.set_result(raw)

    def _watch_all_again(self) -> None:
        """What was published while the connection was lost is not said twice: everybody looks again."""
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_result(None)

    def _forget(self, key: tuple[bytes, str], future: asyncio.Future[bytes | None]) -> None:
        waiters = self._waiting.get(key)
        if waiters is not None:
            waiters.discard(future)
            if not waiters:
                del self._waiting[key]
