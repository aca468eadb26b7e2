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
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from arq_web.errors import StoreError
from arq_web.metrics.tally import Spread
from arq_web.queue import QueueSet
from arq_web.store.measuring import Measured, measure_as_leader, resign
from arq_web.store.store import Store

LOOK_EVERY_S = 5.0
LEAD_S = 12.0
"""How long a lead lasts without another look, and how old the numbers may be that are told."""
SCRAPED_WITHIN_S = 150.0
"""Whom nobody has scraped for so long does not look: nobody would see his numbers, and he would keep others from it."""
LEAVE_LIMIT_S = 0.5
BEAT_S = 0.25
LAG_WINDOW_S = 15.0


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


class LoopLag:
    """How long the event loop did not run: by a beat on it, which comes late when it is blocked."""

    def __init__(self) -> None:
        now_s = time.monotonic()
        self._due_at_s, self._window_ends_at_s = now_s + BEAT_S, now_s + LAG_WINDOW_S
        self._longest_s = self._longest_before_s = 0.0

    @property
    def longest_s(self) -> float:
        """In this window of time and the last one; or up to now, when the loop is blocked at this moment."""
        silent_s = time.monotonic() - self._due_at_s
        return max(0.0, self._longest_s, self._longest_before_s, silent_s)

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            self._due_at_s = time.monotonic() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self._note(time.monotonic())

    def _note(self, now_s: float) -> None:
        if now_s >= self._window_ends_at_s:
            self._longest_before_s, self._longest_s = self._longest_s, 0.0
            self._window_ends_at_s = now_s + LAG_WINDOW_S
        self._longest_s = max(self._longest_s, now_s - self._due_at_s)


class Numbers:
    """What this process has to tell of the queues and of its loops. Written on the loop, read by any thread."""

    def __init__(self) -> None:
        self.lags: list[LoopLag] = []
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
        return max((lag.longest_s for lag in list(self.lags)), default=0.0)

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
        self, numbers: Numbers, round_trips: Spread, queues: Callable[[], QueueSet], names: Sequence[str]
    ) -> None:
        """Ask nothing yet.

        Args:
            numbers: where what was read goes.
            round_trips: where goes how long it took.
            queues: of the app.
            names: of the queues to look at.
        """
        self._numbers, self._round_trips, self._queues, self._names = numbers, round_trips, queues, names
        self._leader = f"{socket.gethostname().replace(' ', '-')}:{os.getpid()}:{secrets.token_hex(4)}"

    async def run(self) -> None:
        """Look until cancelled; then let another lead."""
        lag = LoopLag()
        self._numbers.lags.append(lag)
        beating = asyncio.create_task(lag.run(), name="arq_web.loop_lag")
        try:
            while True:
                if self._numbers.is_scraped:
                    await asyncio.gather(*map(self._look, self._names))
                await asyncio.sleep(self.pause_s)
        finally:
            beating.cancel()
            self._numbers.lags.remove(lag)
            await self._resign()

    @property
    def pause_s(self) -> float:
        """Until the next look. Before the first scrape it comes soon after that."""
        return LOOK_EVERY_S if self._numbers.is_scraped else BEAT_S

    async def catch_up(self) -> None:
        """Nothing to do before a burst."""

    async def _look(self, name: str) -> None:
        asked_at_s = time.monotonic()
        try:
            measured = await measure_as_leader(self._store(name), self._leader, int(LEAD_S * 1000))
        except StoreError:  # the log says so already; the numbers grow old, and are not told any more
            return
        self._round_trips.add(time.monotonic() - asked_at_s)
        self._numbers.tell(name, None if measured is None else Told(measured, asked_at_s))

    async def _resign(self) -> None:
        led = self._numbers.to_tell()
        for name in led:
            self._numbers.tell(name, None)
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(LEAVE_LIMIT_S):
                await asyncio.gather(*(resign(self._store(name), self._leader) for name in led))

    def _store(self, name: str) -> Store:
        return self._queues().queue(name).store
