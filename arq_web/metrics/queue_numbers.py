"""The numbers of the queues: read on the event loop each few seconds, told by one process for each queue.

A queue's numbers are the same whoever reads them; told by every worker, their sum would be nonsense. So one process
leads each queue (``measure.lua``): of those that are scraped at all, the first that asked; when it is gone, the next
one, within seconds. A leader whose numbers are older than its lead tells nothing, for by then another may lead.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from arq_web.errors import StoreError, StoreUnavailable
from arq_web.metrics.tally import RedisTally
from arq_web.queue import DEFAULT_QUEUE, QueueSet
from arq_web.store.measuring import Measured, measure_as_leader, resign
from arq_web.store.store import Store
from arq_web.worker.loop_watch import LoopWatch

T = TypeVar("T")

LOOK_EVERY_S = 5.0
LEAD_S = 12.0
"""How long a lead lasts without another look, and how old the numbers may be that are told."""
SCRAPED_WITHIN_S = 150.0
"""Whom nobody has scraped for so long does not look: nobody would see his numbers, and he would keep others from it."""
LEAVE_LIMIT_S = 0.5
FIRST_LOOK_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Told:
    """The numbers of one queue, and when this process asked for them (``time.monotonic``)."""

    measured: Measured
    asked_at_s: float

    @property
    def age_s(self) -> float:
        """How old they are."""
        return time.monotonic() - self.asked_at_s

    @property
    def oldest_ready_age_s(self) -> float:
        """Of the oldest job that waits, by the time of this question: meanwhile it may have been taken."""
        return self.measured.oldest_ready_age_ms / 1000


class Numbers:
    """What this process has to tell of the queues and of its loops. Written on the loop, read by any thread."""

    def __init__(self) -> None:
        self._watches: list[LoopWatch] = []
        self._watches_lock = threading.Lock()
        self._ended_blocked_s = 0.0
        self._told: dict[str, Told] = {}
        self._scraped_at_s = float("-inf")

    def note_scrape(self) -> None:
        """Somebody reads them."""
        self._scraped_at_s = time.monotonic()

    @property
    def is_scraped(self) -> bool:
        """True while somebody reads them now and then."""
        return time.monotonic() - self._scraped_at_s < SCRAPED_WITHIN_S

    @property
    def loop_lag_s(self) -> float:
        """The longest of all loops of this process."""
        return max((watch.longest_s for watch in list(self._watches)), default=0.0)

    @property
    def loop_blocked_s(self) -> float:
        """Of all loops that this process has, or had, together."""
        with self._watches_lock:
            return self._ended_blocked_s + sum(watch.blocked_s for watch in self._watches)

    @contextmanager
    def loop_watched(self) -> Generator[None]:
        """Meanwhile the running loop counts."""
        watch = LoopWatch()
        self._watches.append(watch)
        try:
            yield
        finally:
            watch.stop()
            with self._watches_lock:
                self._watches.remove(watch)
                self._ended_blocked_s += watch.blocked_s

    def tell(self, queue: str, told: Told | None) -> None:
        """These are the numbers; None: they are another's to tell."""
        if told is None:
            self._told.pop(queue, None)
        else:
            self._told[queue] = told

    def to_tell(self) -> Mapping[str, Told]:
        """Of the queues that this process leads at this moment, by name."""
        return {name: told for name, told in sorted(self._told.items()) if told.age_s < LEAD_S}


class Measurer:
    """A companion: keeps the numbers fresh, in each process that is scraped."""

    name = "metrics"

    def __init__(
        self, numbers: Numbers, redis: RedisTally, queues: Callable[[], QueueSet], names: Sequence[str]
    ) -> None:
        """Ask nothing yet.

        Args:
            numbers: where what was read goes.
            redis: where goes how Redis answered.
            queues: of the app.
            names: of the queues to tell of; of none, only whether Redis is there.
        """
        self._numbers, self._redis, self._queues, self._names = numbers, redis, queues, names
        self._leader = f"{socket.gethostname().replace(' ', '-')}:{os.getpid()}:{secrets.token_hex(4)}"

    async def run(self) -> None:
        """Look until cancelled; then let another lead."""
        try:
            with self._numbers.loop_watched():
                while True:
                    if self._numbers.is_scraped:
                        await self._look_around()
                    await asyncio.sleep(self.pause_s)
        finally:
            await self._resign()

    @property
    def pause_s(self) -> float:
        """Until the next look. Before the first scrape it comes soon after that."""
        return LOOK_EVERY_S if self._numbers.is_scraped else FIRST_LOOK_EVERY_S

    async def catch_up(self) -> None:
        """Nothing to do before a burst."""

    async def _look_around(self) -> None:
        """At each queue; where none is to be told of, whether Redis is there."""
        if self._names:
            await asyncio.gather(*map(self._look, self._names))
            return
        first = (self._queues().names or (DEFAULT_QUEUE,))[0]
        with contextlib.suppress(StoreError):
            await self._answered(self._store(first).server_now_ms())

    async def _look(self, name: str) -> None:
        asked_at_s = time.monotonic()
        with contextlib.suppress(
            StoreError
        ):  # the log says so already; the numbers grow old, and are not told any more
            measured = await self._answered(measure_as_leader(self._store(name), self._leader, int(LEAD_S * 1000)))
            self._numbers.tell(name, None if measured is None else Told(measured, asked_at_s))

    async def _answered(self, question: Awaitable[T]) -> T:
        asked_at_s = time.monotonic()
        try:
            answer = await question
        except StoreError as error:
            self._redis.failed(is_up=not isinstance(error, StoreUnavailable))
            raise
        self._redis.answered(time.monotonic() - asked_at_s)
        return answer

    async def _resign(self) -> None:
        led = self._numbers.to_tell()
        for name in led:
            self._numbers.tell(name, None)
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(LEAVE_LIMIT_S):
                await asyncio.gather(*(resign(self._store(name), self._leader) for name in led))

    def _store(self, name: str) -> Store:
        return self._queues().queue(name).store
