"""docket: a Redis stream and a consumer group, a hash for each job, scripts.

Settings: https://docket.lol/en/latest/production/ ("Worker Configuration", "State and Result Storage"). Its command has
no option for ``execution_ttl``, so the worker is started as that page starts one in code. A job is acknowledged by the
script that ends it ("the same at-least-once delivery you get when a worker crashes", same page).
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import uvloop
from docket import Docket, Execution, Worker

from benchmarks.systems import base
from benchmarks.systems.base import TaskName, WorkerSpec

PACKAGES = ("pydocket",)
DELIVERY = "at least once"
RESULTS_OPTIONAL = True
SETTINGS = {
    "": "all defaults (looks each 250 ms while its slots are full, execution_ttl 15 min, redelivery 5 min), uvloop",
    "tuned": "minimum_check_interval and scheduling_resolution 20 ms, else defaults; uvloop",
}
ROUGH_RATE = {"": 400, "tuned": 1300}
SPAWNS_PROCESSES = False
TUNED_POLL = timedelta(milliseconds=20)


async def noop(index: int, payload: str) -> int:
    return base.ran(index)


async def sleep50(index: int, payload: str) -> int:
    return await base.sleep50(index)


async def cpu200(index: int, payload: str) -> int:
    return base.cpu200(index)


TASKS = {"noop": noop, "sleep50": sleep50, "cpu200": cpu200}


def worker_command(spec: WorkerSpec) -> list[str]:
    del spec  # it is read from the environment, below
    return ["-m", "benchmarks.systems.docket"]


def _docket(spec: WorkerSpec) -> Docket:
    # Without results there is no state of ended jobs either: "fire-and-forget mode" is one setting for both.
    # "setting max_connections to match or exceed your worker concurrency": redis-py's own limit is 100.
    url = f"{spec.redis_url}?max_connections={2 * spec.concurrency}"
    docket = Docket("bench", url, execution_ttl=timedelta(minutes=15 if spec.results else 0))
    for task in TASKS.values():
        docket.register(task)
    return docket


async def _work(spec: WorkerSpec) -> None:
    tuned = {"minimum_check_interval": TUNED_POLL, "scheduling_resolution": TUNED_POLL}
    async with (
        _docket(spec) as docket,
        Worker(docket, concurrency=spec.concurrency, **tuned if spec.variant == "tuned" else {}) as worker,
    ):
        working = asyncio.create_task(worker.run_forever())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
        await asyncio.wait((working,))


class Producer:
    """``docket.add`` and ``docket.add_many``."""

    async def open(self, spec: WorkerSpec) -> None:
        self._open = AsyncExitStack()
        self._docket = await self._open.enter_async_context(_docket(spec))

    async def close(self) -> None:
        await self._open.aclose()

    async def enqueue(self, task: TaskName, index: int, delay_until: float | None = None) -> Execution:
        when = None if delay_until is None else datetime.fromtimestamp(delay_until, UTC)
        return await self._docket.add(TASKS[task], when=when)(index, base.PAYLOAD)

    async def enqueue_many(self, task: TaskName, indices: Sequence[int]) -> None:
        await self._docket.add_many([self._docket.call(TASKS[task])(index, base.PAYLOAD) for index in indices])

    async def result(self, handle: Execution) -> int:
        return int(await handle.get_result())


if __name__ == "__main__":
    uvloop.run(_work(base.spec()))
