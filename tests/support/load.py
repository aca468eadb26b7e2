"""Jobs that are enqueued all the time while something breaks, and what became of each enqueue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from arq_web import Job, Queue, Task
from arq_web.errors import JobError, StoreUnavailable
from tests.support.fleet import Fleet
from tests.support.journal import read_journal
from tests.support.verdict import Verdict, judge
from tests.support.waiting import wait_until

CLIENTS = 4
BACKLOG_COUNT = 200
"""Jobs that wait already: so every worker is busy, and has something to settle, when the fault comes."""
WARM_COUNT = 40
"""Jobs before the fault may come."""
PAUSE_S = 0.02
"""Before somebody whose enqueue raised asks again."""


@dataclass(eq=False)
class Load:
    """What was enqueued so far. An enqueue that raised was asked for again, with the same id, until it was answered."""

    jobs: list[Job[int]] = field(default_factory=list)
    raised: list[StoreUnavailable] = field(default_factory=list)
    longest_enqueue_s: float = 0.0
    """The longest that one call took, whether it raised or not."""
    _is_over: asyncio.Event = field(default_factory=asyncio.Event)
    _clients: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, queue: Queue, task: Task[[int], int], ms: int, every_s: float) -> None:
        """Begin, from ``CLIENTS`` sides."""
        self._clients = [
            asyncio.create_task(self._enqueue_all(queue, task, ms, f"load-{name}", every_s)) for name in range(CLIENTS)
        ]

    async def stop(self) -> None:
        """Enqueue no more; returns when the last enqueue was answered. Safe to repeat."""
        self._is_over.set()
        async with asyncio.timeout(30):
            await asyncio.gather(*self._clients)

    async def ended(self, *, timeout_s: float = 60.0) -> None:
        """Wait until every job has come to an end, whichever, or is gone."""
        async with asyncio.timeout(timeout_s):
            results = await asyncio.gather(*(job.result() for job in self.jobs), return_exceptions=True)
        unexpected = [each for each in results if isinstance(each, BaseException) and not isinstance(each, JobError)]
        assert unexpected == []

    async def _enqueue_all(self, queue: Queue, task: Task[[int], int], ms: int, name: str, every_s: float) -> None:
        """Enqueue a job each ``every_s`` until stopped, one after the other, as a web server's requests do."""
        number = 0
        while not self._is_over.is_set():
            number += 1
            self.jobs.append(await self._enqueue(queue, task, ms, f"{name}-{number}"))
            await asyncio.sleep(every_s)  # the pace of those who ask

    async def _enqueue(self, queue: Queue, task: Task[[int], int], ms: int, job_id: str) -> Job[int]:
        while True:
            began_s = time.monotonic()
            try:
                return await queue.enqueue(task.options(id=job_id), ms)
            except StoreUnavailable as error:
                self.raised.append(error)
            finally:
                self.longest_enqueue_s = max(self.longest_enqueue_s, time.monotonic() - began_s)
            await asyncio.sleep(PAUSE_S)


@asynccontextmanager
async def under_load(
    queue: Queue, task: Task[[int], int], ms: int = 100, *, every_s: float = 0.04
) -> AsyncGenerator[Load]:
    """Enqueue from ``CLIENTS`` sides at once, from some jobs before the block until its end."""
    load = Load(await queue.enqueue_many([task.call(ms) for _ in range(BACKLOG_COUNT)]))
    load.start(queue, task, ms, every_s)
    try:
        await wait_until(lambda: len(load.jobs) >= BACKLOG_COUNT + WARM_COUNT, description="the load has begun")
        yield load
    finally:
        await load.stop()


async def judge_survivors(
    scenario: str, load: Load, fleet: Fleet, *, worst_recovery_s: float | None = None, redis_url: str | None = None
) -> Verdict:
    """Wait until the last job has ended, see that no worker has, and judge."""
    await load.ended()
    assert [worker.log for worker in fleet.workers if not worker.is_alive] == []
    return await judge(scenario, load.jobs, fleet, worst_recovery_s=worst_recovery_s, redis_url=redis_url)


def starts_s(journal: Path) -> list[float]:
    """When jobs started, in order; seconds of ``time.monotonic``."""
    return sorted(entry.at_s for entry in read_journal(journal) if entry.what == "start")


async def until_work_goes_on(journal: Path, since_s: float, *, timeout_s: float = 30.0) -> float:
    """Wait for the first start of a job after ``since_s``; how long after it that was, seconds.

    Starts only: what runs also ends while Redis is gone.
    """

    def later_starts() -> list[float]:
        return [at_s for at_s in starts_s(journal) if at_s >= since_s]

    await wait_until(later_starts, timeout_s=timeout_s, description="work goes on")
    return later_starts()[0] - since_s


def longest_silence_s(journal: Path, from_s: float, until_s: float) -> float:
    """The longest time without a start in between."""
    moments = [from_s, *(at_s for at_s in starts_s(journal) if from_s < at_s < until_s), until_s]
    return max(later - earlier for earlier, later in pairwise(moments))
