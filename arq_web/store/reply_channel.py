"""The channel on which Redis tells this process of its jobs: one per process and loop, whoever waits for whatever."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arq_web.store.connection import Connections, Subscriber

OnNews = Callable[[bytes, str, bytes], None]
"""Gets the base of the queue's keys, the job's id and, when it has ended, its record (else nothing: it has changed)."""


class ReplyChannel:
    """Hands what is published to those who attached themselves. Belongs to one running loop."""

    def __init__(self, connections: Connections, namespace: str) -> None:
        self.name = f"{namespace}:1:reply:{secrets.token_hex(8)}"
        self._connections = connections
        self._attached: list[tuple[OnNews, Callable[[], None]]] = []
        self._subscriber: Subscriber | None = None
        self._subscribed: asyncio.Task[None] | None = None

    def attach(self, on_news: OnNews, on_gap: Callable[[], None]) -> None:
        """Call ``on_news`` with every message, and ``on_gap`` when some may have been missed: they are not repeated."""
        self._attached.append((on_news, on_gap))

    @property
    def is_open(self) -> bool:
        """True once Redis has confirmed the subscription; it is kept up from then on, until the connections close."""
        task = self._subscribed
        is_confirmed = task is not None and task.done() and not task.cancelled() and task.exception() is None
        return is_confirmed and self._connections.subscriber() is self._subscriber

    async def open(self) -> None:
        """Subscribe, if that has not been done yet; returns once Redis has confirmed.

        Raises:
            StoreUnavailable: Redis did not answer.
            StoreRefused: the credentials or rights do not suffice.
        """
        subscriber, task = self._connections.subscriber(), self._subscribed
        has_failed = task is not None and task.done() and (task.cancelled() or task.exception() is not None)
        if task is None or has_failed or subscriber is not self._subscriber:
            self._subscriber = subscriber
            subscriber.on_reconnect = self._missed_some
            task = asyncio.ensure_future(subscriber.subscribe(self.name.encode(), self._received))
            # Whoever waited for it may have given up.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._subscribed = task
        await asyncio.shield(task)

    def _received(self, message: bytes) -> None:
        base, _, rest = message.partition(b"\n")
        job_id, _, raw = rest.partition(b"\n")
        for on_news, _ in self._attached:
            on_news(base, job_id.decode(errors="replace"), raw)

    def _missed_some(self) -> None:
        for _, on_gap in self._attached:
            on_gap()
