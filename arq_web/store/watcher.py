"""Waiting for jobs to end by push."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from arq_web.errors import StoreFull, StoreUnavailable
from arq_web.job import JobInfo
from arq_web.store.record import UnreadableRecord, read_info
from arq_web.store.reply_channel import ReplyChannel

if TYPE_CHECKING:
    from arq_web.store.store import Store

REWATCH_S = 30.0
"""The promise to publish lasts a minute (watch.lua); it is renewed at half of that."""
RETRY_S = 1.0
"""After Redis took no promise: gone, or full. Then a result comes by looking, not by push."""


class Watcher:
    """Tells waiters when their jobs end. Belongs to one running loop."""

    def __init__(self, replies: ReplyChannel) -> None:
        self._replies = replies
        self._waiting: dict[tuple[bytes, str], set[asyncio.Future[bytes | None]]] = {}
        replies.attach(self._received, self._watch_all_again)

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
                    await self._replies.open()
                    word, info = await store.watch(job_id, self._replies.name)
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

    def _received(self, base: bytes, job_id: str, raw: bytes) -> None:
        if not raw:  # it has changed, and not ended
            return
        for future in self._waiting.get((base, job_id), ()):
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
