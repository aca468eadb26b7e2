"""RQ: lists and hashes; a process for each job.

Settings: https://python-rq.org/docs/workers/: "Each worker will process a single job at a time ... simply start more
workers" (here a worker pool), "Performance Notes" (import before the fork); SimpleWorker "is not recommended for
production use unless you fully understand these limitations". What a killed worker held is run again only if it has a
Retry (/docs/exceptions/); without one, RQ's default, it goes to the failed jobs (StartedJobRegistry.cleanup).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from redis import Redis
from rq import Queue, Retry, SimpleWorker, Worker
from rq.job import Job
from rq.worker_pool import WorkerPool

from benchmarks.systems import base
from benchmarks.systems.base import TaskName, WorkerSpec

PACKAGES = ("rq",)
DELIVERY = "at least once"
RESULTS_OPTIONAL = True
SETTINGS = {
    "": "Retry(max=3), else defaults; a pool of 4 workers per process, each one job at a time; the producer blocks",
    "simple": "the same with SimpleWorker: no fork per job, no heartbeat while one runs; the producer blocks",
}
ROUGH_RATE = {"": 60, "simple": 450}
SPAWNS_PROCESSES = True
WORKERS = 4
"""Of a pool, in the place of one process of the others: more of them do not drain faster on a few cores."""
QUEUE = "bench"


def noop(index: int, payload: str) -> int:
    return base.ran(index)


def sleep50(index: int, payload: str) -> int:
    return base.sleep50_blocking(index)


def cpu200(index: int, payload: str) -> int:
    return base.cpu200(index)


TASKS = {"noop": noop, "sleep50": sleep50, "cpu200": cpu200}


def worker_command(spec: WorkerSpec) -> list[str]:
    del spec  # it is read from the environment, below
    return ["-m", "benchmarks.systems.rq"]


def work(spec: WorkerSpec) -> None:
    """A worker script "with the necessary modules imported before the fork", as that page advises."""
    kind = SimpleWorker if spec.variant == "simple" else Worker
    pool = WorkerPool([QUEUE], Redis.from_url(spec.redis_url), WORKERS * spec.processes, kind)
    pool.start(logging_level="WARNING")


class Producer:
    """``Queue.enqueue`` and ``enqueue_many``, which block the loop: RQ's client is synchronous."""

    async def open(self, spec: WorkerSpec) -> None:
        self._queue = Queue(QUEUE, connection=Redis.from_url(spec.redis_url))
        self._options = {"retry": Retry(max=3), "result_ttl": 500 if spec.results else 0}

    async def close(self) -> None:
        self._queue.connection.close()

    async def enqueue(self, task: TaskName, index: int, delay_until: float | None = None) -> Job:
        if delay_until is None:
            return self._queue.enqueue(TASKS[task], index, base.PAYLOAD, **self._options)
        moment = datetime.fromtimestamp(delay_until, UTC)
        return self._queue.enqueue_at(moment, TASKS[task], index, base.PAYLOAD, **self._options)

    async def enqueue_many(self, task: TaskName, indices: Sequence[int]) -> None:
        prepared = [Queue.prepare_data(TASKS[task], (index, base.PAYLOAD), **self._options) for index in indices]
        self._queue.enqueue_many(prepared)

    async def result(self, handle: Job) -> int:
        found = handle.latest_result(timeout=60)
        if found is None:
            raise TimeoutError(f"RQ had no result of {handle.id} within 60 s")
        return int(found.return_value)


if __name__ == "__main__":
    # By the name that jobs carry, so that it is imported already in each fork.
    from benchmarks.systems import rq as preloaded  # noqa: PLW0406

    preloaded.work(base.spec())
