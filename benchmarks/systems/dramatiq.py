"""dramatiq: a list and a hash, one script for everything, threads.

Settings: https://dramatiq.io/guide.html and cookbook.html#results. Threads are its own way ("-t"); jobs that wait do so
in ``time.sleep``. "Messages are only ever acknowledged to (removed from) the broker after they have been successfully
processed" (advanced.html#message-persistence); those of a dead process go back after heartbeat_timeout, 60 s.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import dramatiq
from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.systems import base
from benchmarks.systems.base import TaskName, WorkerSpec

PACKAGES = ("dramatiq",)
DELIVERY = "at least once"
RESULTS_OPTIONAL = True
SETTINGS = {
    "": "all defaults (an idle consumer looks after 5 ms, then up to 1 s), threads = concurrency; the producer blocks",
    "tuned": "dramatiq_worker_timeout 20 ms (an idle consumer waits no longer), else the same; the producer blocks",
}
ROUGH_RATE = {"": 1500, "tuned": 1500}
SPAWNS_PROCESSES = True
TUNED_POLL_MS = "20"

# A thread takes a connection; redis-py's own limit of 100 fails the threads above it.
REDIS_URL = f"{base.spec().redis_url}?max_connections={2 * base.spec().concurrency}"

broker = RedisBroker(url=REDIS_URL)
if base.spec().results:
    broker.add_middleware(Results(backend=RedisBackend(url=REDIS_URL), store_results=True))
dramatiq.set_broker(broker)


def _returned(index: int) -> int | None:
    """A result that is not stored is worth a warning to dramatiq, for each job."""
    return index if base.spec().results else None


@dramatiq.actor
def noop(index: int, payload: str) -> int | None:
    return _returned(base.ran(index))


@dramatiq.actor
def sleep50(index: int, payload: str) -> int | None:
    return _returned(base.sleep50_blocking(index))


@dramatiq.actor
def cpu200(index: int, payload: str) -> int | None:
    return _returned(base.cpu200(index))


def worker_command(spec: WorkerSpec) -> list[str]:
    if spec.variant == "tuned":
        os.environ["dramatiq_worker_timeout"] = TUNED_POLL_MS  # noqa: SIM112 - its name; the command inherits it
    threads, processes = f"--threads={spec.concurrency}", f"--processes={spec.processes}"
    return ["-m", "dramatiq", "benchmarks.systems.dramatiq", threads, processes]


class Producer:
    """``send``, which blocks the loop: dramatiq's client is synchronous. ``group`` sends one by one as well."""

    async def open(self, spec: WorkerSpec) -> None:
        del spec  # the broker above has read it

    async def close(self) -> None:
        broker.close()

    async def enqueue(self, task: TaskName, index: int, delay_until: float | None = None) -> Message[int]:
        delay_ms = None if delay_until is None else max(0, round((delay_until - time.time()) * 1000))
        return broker.get_actor(task).send_with_options(args=(index, base.PAYLOAD), delay=delay_ms)

    async def enqueue_many(self, task: TaskName, indices: Sequence[int]) -> None:
        actor = broker.get_actor(task)
        dramatiq.group(actor.message(index, base.PAYLOAD) for index in indices).run()

    async def result(self, handle: Message[int]) -> int:
        return int(handle.get_result(block=True))
