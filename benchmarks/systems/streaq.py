"""streaQ: a Redis stream, consumer groups, four trips to Redis for each job.

Settings: https://streaq.readthedocs.io/en/latest/worker.html and, for uvloop and coredis's optimized mode, "Worker
optimization" of its docs. Delivery: task.html ("at-least-once"); a job is acknowledged (XACK, XDEL) in the transaction
that stores its result. Waiting for a result takes 0.1 s: with the coredis it installs, leaving a subscription does.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

os.environ["COREDIS_OPTIMIZED"] = "true"  # read when coredis is imported; the worker's command inherits it

from streaq import Worker
from streaq.task import Task

from benchmarks.systems import base
from benchmarks.systems.base import TaskName, WorkerSpec

PACKAGES = ("streaq",)
DELIVERY = "at least once"
RESULTS_OPTIONAL = True
SETTINGS = {
    "": "all defaults (idle_timeout 60 s, result ttl 5 min; polls what is due each 0.5 s), coredis optimized, uvloop"
}
ROUGH_RATE = {"": 1300}
SPAWNS_PROCESSES = False  # `--workers` starts some, but SIGTERM ends the first only
RESULT_TTL = timedelta(minutes=5)

worker = Worker(redis_url=base.spec().redis_url, concurrency=base.spec().concurrency, anyio_kwargs={"use_uvloop": True})
# silent: two lines of log per job else; nobody's log is measured here.
_ttl = RESULT_TTL if base.spec().results else 0


@worker.task(ttl=_ttl, silent=True)
async def noop(index: int, payload: str) -> int:
    return base.ran(index)


@worker.task(ttl=_ttl, silent=True)
async def sleep50(index: int, payload: str) -> int:
    return await base.sleep50(index)


@worker.task(ttl=_ttl, silent=True)
async def cpu200(index: int, payload: str) -> int:
    return base.cpu200(index)


def worker_command(spec: WorkerSpec) -> list[str]:
    del spec  # it is read from the environment, above
    return ["-m", "streaq", "run", "benchmarks.systems.streaq:worker"]


class Producer:
    """``task.enqueue`` and ``enqueue_many``, on the worker object, which is also the client."""

    async def open(self, spec: WorkerSpec) -> None:
        del spec  # the worker above has read it
        await worker.__aenter__()

    async def close(self) -> None:
        await worker.__aexit__(None, None, None)

    async def enqueue(self, task: TaskName, index: int, delay_until: float | None = None) -> Task[Any, Any]:
        job = worker.registry[task].enqueue(index, base.PAYLOAD)
        if delay_until is not None:
            job = job.start(schedule=datetime.fromtimestamp(delay_until, UTC))
        return await job

    async def enqueue_many(self, task: TaskName, indices: Sequence[int]) -> None:
        registered = worker.registry[task]
        await worker.enqueue_many([registered.enqueue(index, base.PAYLOAD) for index in indices])

    async def result(self, handle: Task[Any, Any]) -> int:
        return int((await handle.result()).result)
