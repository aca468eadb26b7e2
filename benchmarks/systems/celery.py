"""Celery with Redis as broker and result backend: lists, a hash of what is unacknowledged, SETEX and PUBLISH.

Settings: https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html. userguide/tasks.html:
acks_late for jobs that may run twice (the default acknowledges before a job runs: at most once), reject_on_worker_lost
for those of a pool's child that is killed (else acknowledged all the same); what a whole killed worker held goes back
after the visibility timeout, 1 h. userguide/concurrency/: prefork "as the starting point"; of the pools that run many
jobs at a time, threads drained twice as much here as gevent.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime

from celery import Celery, group
from celery.result import AsyncResult

from benchmarks.systems import base
from benchmarks.systems.base import TaskName, WorkerSpec

PACKAGES = ("celery", "kombu")
DELIVERY = "at least once"
RESULTS_OPTIONAL = True
SETTINGS = {
    "": "task_acks_late, task_reject_on_worker_lost, else defaults (prefork: a job per core); the producer blocks",
    "threads": "the same with --pool=threads --concurrency; the producer blocks",
}
ROUGH_RATE = {"": 900, "threads": 700}
SPAWNS_PROCESSES = False

app = Celery("benchmarks.systems.celery", broker=base.spec().redis_url, backend=base.spec().redis_url)
# "based on the number of active threads/green-threads" (userguide/optimizing.html#broker-connection-pools); redis-py's
# own limit of 100 fails those above it.
CONNECTIONS = 2 * base.spec().concurrency
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=not base.spec().results,
    broker_pool_limit=base.spec().concurrency,
    broker_transport_options={"max_connections": CONNECTIONS},
    redis_max_connections=CONNECTIONS,
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop")
def noop(index: int, payload: str) -> int:
    return base.ran(index)


@app.task(name="sleep50")
def sleep50(index: int, payload: str) -> int:
    return base.sleep50_blocking(index)


@app.task(name="cpu200")
def cpu200(index: int, payload: str) -> int:
    return base.cpu200(index)


def worker_command(spec: WorkerSpec) -> list[str]:
    pool = ["--pool=threads", f"--concurrency={spec.concurrency}"] if spec.variant == "threads" else []
    node = f"--hostname=bench-{os.getpid()}@localhost"  # two of one name would take each other's control messages
    return ["-m", "celery", "--app=benchmarks.systems.celery", "worker", node, *pool]


class Producer:
    """``apply_async``, which blocks the loop: Celery's client is synchronous. ``group`` sends one by one as well."""

    async def open(self, spec: WorkerSpec) -> None:
        del spec  # the app above has read it

    async def close(self) -> None:
        app.close()

    async def enqueue(self, task: TaskName, index: int, delay_until: float | None = None) -> AsyncResult[int]:
        eta = None if delay_until is None else datetime.fromtimestamp(delay_until, UTC)
        return app.tasks[task].apply_async((index, base.PAYLOAD), eta=eta)

    async def enqueue_many(self, task: TaskName, indices: Sequence[int]) -> None:
        group(app.tasks[task].s(index, base.PAYLOAD) for index in indices).apply_async()

    async def result(self, handle: AsyncResult[int]) -> int:
        return int(handle.get())
