"""arq: a sorted set, polled; WATCH and MULTI for each job."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import arq
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import Job

from benchmarks.systems import base
from benchmarks.systems.base import TaskName, WorkerSpec

PACKAGES = ("arq",)
DELIVERY = "at least once"
RESULTS_OPTIONAL = True
SETTINGS = {
    "": "all defaults (poll_delay 0.5 s, keep_result 1 h), max_jobs = concurrency, uvloop",
    "tuned": "poll_delay 20 ms in the worker and where a result is waited for, else defaults; uvloop",
}
ROUGH_RATE = {"": 1000, "tuned": 2000}
SPAWNS_PROCESSES = False
POLL_S = {"": 0.5, "tuned": 0.02}
QUIET = {"version": 1, "disable_existing_loggers": False, "loggers": {"arq": {"level": "WARNING"}}}
"""arq writes two lines of log per job; nobody's log is measured here."""


def worker_command(spec: WorkerSpec) -> list[str]:
    del spec  # it is read from the environment, below
    return ["-m", "arq", "benchmarks.systems.arq.WorkerSettings", "--custom-log-dict", "benchmarks.systems.arq.QUIET"]


async def noop(ctx: dict[Any, Any], index: int, payload: str) -> int:
    return base.ran(index)


async def sleep50(ctx: dict[Any, Any], index: int, payload: str) -> int:
    return await base.sleep50(index)


async def cpu200(ctx: dict[Any, Any], index: int, payload: str) -> int:
    return base.cpu200(index)


class WorkerSettings:
    """What arq's command reads."""

    functions = [noop, sleep50, cpu200]  # noqa: RUF012 - as arq's users write it
    redis_settings = RedisSettings.from_dsn(base.spec().redis_url)
    max_jobs = base.spec().concurrency
    poll_delay = POLL_S[base.spec().variant]
    keep_result = 3600 if base.spec().results else 0


base.install_uvloop()


class Producer:
    """``create_pool`` and ``enqueue_job``; there is no bulk call."""

    async def open(self, spec: WorkerSpec) -> None:
        self._poll_s = POLL_S[spec.variant]
        self._pool: ArqRedis = await arq.create_pool(RedisSettings.from_dsn(spec.redis_url))

    async def close(self) -> None:
        await self._pool.aclose()

    async def enqueue(self, task: TaskName, index: int, delay_until: float | None = None) -> Job | None:
        until = None if delay_until is None else datetime.fromtimestamp(delay_until, UTC)
        return await self._pool.enqueue_job(task, index, base.PAYLOAD, _defer_until=until)

    async def enqueue_many(self, task: TaskName, indices: Sequence[int]) -> None:
        await base.gathered(self, task, indices)

    async def result(self, handle: Job) -> int:
        return int(await handle.result(poll_delay=self._poll_s))
