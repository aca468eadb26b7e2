"""SAQ: BLMOVE by each of the worker's slots, one transaction to finish a job, pub/sub for who waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from saq import Job, Queue

from benchmarks.systems import base
from benchmarks.systems.base import TaskName, WorkerSpec

PACKAGES = ("saq",)
DELIVERY = "at least once"
RESULTS_OPTIONAL = True
SETTINGS = {"": "all defaults (results kept 600 s), concurrency, uvloop; results are waited for by job.refresh"}
ROUGH_RATE = {"": 2500}
SPAWNS_PROCESSES = False
RESULT_WAIT_S = 1.0


def worker_command(spec: WorkerSpec) -> list[str]:
    del spec  # it is read from the environment, below
    return ["-m", "saq", "benchmarks.systems.saq.settings"]


async def noop(ctx: dict[str, Any], *, index: int, payload: str) -> int:
    return base.ran(index)


async def sleep50(ctx: dict[str, Any], *, index: int, payload: str) -> int:
    return await base.sleep50(index)


async def cpu200(ctx: dict[str, Any], *, index: int, payload: str) -> int:
    return base.cpu200(index)


base.install_uvloop()
settings = {
    "queue": Queue.from_url(base.spec().redis_url),
    "functions": [noop, sleep50, cpu200],
    "concurrency": base.spec().concurrency,
}


class Producer:
    """``queue.enqueue`` with keywords, as SAQ's jobs take nothing else; there is no bulk call."""

    async def open(self, spec: WorkerSpec) -> None:
        self._queue = Queue.from_url(spec.redis_url)
        self._options = {} if spec.results else {"ttl": -1}
        await self._queue.connect()

    async def close(self) -> None:
        await self._queue.disconnect()

    async def enqueue(self, task: TaskName, index: int, delay_until: float | None = None) -> Job | None:
        # Whole seconds: the next one, never too early.
        delay = {} if delay_until is None else {"scheduled": int(-(-delay_until // 1))}
        return await self._queue.enqueue(task, index=index, payload=base.PAYLOAD, **delay, **self._options)

    async def enqueue_many(self, task: TaskName, indices: Sequence[int]) -> None:
        await base.gathered(self, task, indices)

    async def result(self, handle: Job) -> int:
        # A job that ends between the look and the subscription is not told of; the next look sees it.
        while not handle.completed:
            with contextlib.suppress(asyncio.TimeoutError):
                await handle.refresh(until_complete=RESULT_WAIT_S)
        return int(handle.result)
