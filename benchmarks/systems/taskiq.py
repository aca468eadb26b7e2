"""taskiq with taskiq-redis: a stream with a consumer group, a key per result, polled."""

from __future__ import annotations

from collections.abc import Sequence

from taskiq import AsyncTaskiqTask
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.systems import base
from benchmarks.systems.base import TaskName, Unsupported, WorkerSpec

PACKAGES = ("taskiq", "taskiq-redis")
DELIVERY = "at least once"
RESULTS_OPTIONAL = True
SETTINGS = {
    "": "RedisStreamBroker, all defaults; results in Redis for 1 h; --max-async-tasks = concurrency; uvloop",
    "tuned": "the same; results are polled every 1 ms instead of every 200 ms",
}
ROUGH_RATE = {"": 1900, "tuned": 1900}
SPAWNS_PROCESSES = True
CHECK_INTERVAL_S = {"": 0.2, "tuned": 0.001}


def worker_command(spec: WorkerSpec) -> list[str]:
    options = ["--workers", str(spec.processes), "--max-async-tasks", str(spec.concurrency), "--log-level", "WARNING"]
    return ["-m", "taskiq", "worker", "benchmarks.systems.taskiq:broker", *options]


broker = RedisStreamBroker(base.spec().redis_url)
if base.spec().results:
    broker = broker.with_result_backend(RedisAsyncResultBackend(base.spec().redis_url, result_ex_time=3600))


@broker.task
async def noop(index: int, payload: str) -> int:
    return base.ran(index)


@broker.task
async def sleep50(index: int, payload: str) -> int:
    return await base.sleep50(index)


@broker.task
async def cpu200(index: int, payload: str) -> int:
    return base.cpu200(index)


TASKS = {"noop": noop, "sleep50": sleep50, "cpu200": cpu200}


class Producer:
    """``task.kiq``; there is no bulk call."""

    async def open(self, spec: WorkerSpec) -> None:
        self._check_interval_s = CHECK_INTERVAL_S[spec.variant]
        await broker.startup()

    async def close(self) -> None:
        await broker.shutdown()

    async def enqueue(self, task: TaskName, index: int, delay_until: float | None = None) -> AsyncTaskiqTask[int]:
        if delay_until is not None:
            raise Unsupported("a delay needs taskiq's scheduler, a process of its own that looks once a second")
        return await TASKS[task].kiq(index, base.PAYLOAD)

    async def enqueue_many(self, task: TaskName, indices: Sequence[int]) -> None:
        await base.gathered(self, task, indices)

    async def result(self, handle: AsyncTaskiqTask[int]) -> int:
        return (await handle.wait_result(check_interval=self._check_interval_s)).return_value
