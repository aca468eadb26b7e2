"""What ``app-worker top`` shows, read from Redis: so many commands per queue, however much is in it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from arq_web.job import JobInfo, JobState
from arq_web.store.inspection import Inspector
from arq_web.store.measuring import Measured, measure
from arq_web.store.messages import WorkerSeen
from arq_web.store.store import WORKER_ALIVE_MS, Store

MOST_RUNNING = 50
"""Running jobs that are read of each queue."""
MOST_WORKERS = 100
"""Workers of each queue that are asked for what they hold."""
_MINUTE_MS = 60_000
_RATE_OVER_MS = 10_000
_COUNTED_IN = ("enqueued", "redriven")
_COUNTED_OUT = ("complete", "bury", "lost", "cancel", "expired")
_COUNTED_FAILED = ("retry", "bury", "lost", "crash")

Counters: TypeAlias = Mapping[int, Mapping[str, int]]
"""Minute → what happened in it."""


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """One queue, now. Rates are per second, over the last ten (at first: over the last minute)."""

    name: str
    measured: Measured
    in_per_s: float
    """Enqueued, or redriven."""
    out_per_s: float
    """Ended, well or not."""
    failed_per_s: float
    """Attempts that failed, and jobs that died."""


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """One worker, in all queues that it serves."""

    id: str
    kind: str
    queues: tuple[str, ...]
    running: int
    slots: int
    seen_ms: int
    """Since it was heard of last."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One frame."""

    at_ms: int
    """By the clock of Redis."""
    queues: list[QueueFacts] = field(default_factory=list)
    workers: list[WorkerFacts] = field(default_factory=list)
    running: list[JobInfo] = field(default_factory=list)
    """Some of them: ``MOST_RUNNING`` of each queue."""


class Watch:
    """Looks at the same queues again and again."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self._stores = stores
        self._rates = {store.queue: Rates() for store in stores}

    async def look(self) -> Snapshot:
        """One look at all of them.

        Raises:
            StoreError: Redis does not answer, or not as it should.
        """
        found = await asyncio.gather(*(self._look_at(store) for store in self._stores))
        workers: dict[str, WorkerFacts] = {}
        for _, of_queue, _ in found:
            for worker in of_queue:
                workers[worker.id] = _merged(workers.get(worker.id), worker)
        return Snapshot(
            max((queue.measured.at_ms for queue, _, _ in found), default=0),
            [queue for queue, _, _ in found],
            sorted(workers.values(), key=lambda worker: worker.id),
            [info for _, _, running in found for info in running],
        )

    async def _look_at(self, store: Store) -> tuple[QueueFacts, list[WorkerFacts], list[JobInfo]]:
        inspector = Inspector(store)
        measured, workers, page = await asyncio.gather(
            measure(store), inspector.workers(), inspector.jobs(JobState.RUNNING, limit=MOST_RUNNING)
        )
        minute = measured.at_ms // _MINUTE_MS
        asked = workers[:MOST_WORKERS]
        counters, held = await asyncio.gather(
            inspector.counters([minute - 1, minute]), inspector.held_counts([worker.id for worker in asked])
        )
        rates = self._rates[store.queue].per_s(measured.at_ms, counters)
        facts = QueueFacts(store.queue, measured, *(_sum(rates, names) for names in _RATES))
        seen = [_worker(worker, store.queue, count, measured.at_ms) for worker, count in zip(asked, held, strict=True)]
        return facts, seen, page.jobs


class Rates:
    """Turns counters per minute into events per second."""

    def __init__(self) -> None:
        self._looks: deque[tuple[int, Counters]] = deque()

    def per_s(self, at_ms: int, counters: Counters) -> dict[str, float]:
        """Over the last ten seconds; with nothing to compare, over the last minute.

        Args:
            at_ms: server time of this look.
            counters: of its minute and the one before.
        """
        looks = self._looks
        if looks and at_ms - looks[-1][0] >= _MINUTE_MS:  # of what happened meanwhile a part is forgotten
            looks.clear()
        looks.append((at_ms, counters))
        while len(looks) > 2 and at_ms - looks[1][0] >= _RATE_OVER_MS:
            looks.popleft()
        since_ms, before = looks[0]
        if at_ms - since_ms < 1000:
            return _over_a_minute(at_ms, counters)
        counted: dict[str, float] = {}
        for minute, of_minute in counters.items():
            for name, count in of_minute.items():
                counted[name] = counted.get(name, 0) + count - before.get(minute, {}).get(name, 0)
        return {name: max(0.0, count * 1000 / (at_ms - since_ms)) for name, count in counted.items()}


def _over_a_minute(at_ms: int, counters: Counters) -> dict[str, float]:
    """The minute that runs, and as much of the one before as fills it up to sixty seconds."""
    minute, elapsed_ms = divmod(at_ms, _MINUTE_MS)
    now, before = counters.get(minute, {}), counters.get(minute - 1, {})
    share = 1 - elapsed_ms / _MINUTE_MS
    return {name: (now.get(name, 0) + before.get(name, 0) * share) / 60 for name in {*now, *before}}


_RATES = (_COUNTED_IN, _COUNTED_OUT, _COUNTED_FAILED)


def _sum(rates: Mapping[str, float], names: Sequence[str]) -> float:
    return sum(rates.get(name, 0.0) for name in names)


def _worker(seen: WorkerSeen, queue: str, running: int, now_ms: int) -> WorkerFacts:
    kind = "external" if seen.external else "embedded"
    seen_ms = max(0, now_ms - (seen.expires_ms - WORKER_ALIVE_MS))
    return WorkerFacts(seen.id, kind, (queue,), running, seen.slots, seen_ms)


def _merged(known: WorkerFacts | None, more: WorkerFacts) -> WorkerFacts:
    if known is None:
        return more
    return replace(
        known,
        queues=known.queues + more.queues,
        running=known.running + more.running,
        seen_ms=min(known.seen_ms, more.seen_ms),
    )
