"""Under fakeredis, in one process: as people test code that uses arq."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest
from fakeredis import FakeServer
from fakeredis.aioredis import FakeRedis

from arq_web.arq import Retry, Worker, func
from arq_web.arq.connections import ArqRedis
from arq_web.arq.jobs import JobStatus
from arq_web.arq.utils import timestamp_ms
from arq_web.arq.worker import create_worker

Ctx = dict[Any, Any]


async def add(ctx: Ctx, a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def retries(ctx: Ctx) -> int:
    """Ask for a second try."""
    if ctx["job_try"] < 2:
        raise Retry
    return 2


@pytest.fixture
def pool() -> ArqRedis:
    """On a fake server of its own."""
    return ArqRedis(pool_or_conn=FakeRedis(server=FakeServer()).connection_pool)


async def test_a_worker_runs_jobs_of_a_fake_server(pool: ArqRedis) -> None:
    """The lease, the wake-up and the push of results included."""
    job = await pool.enqueue_job("add", 1, b=2)
    assert job is not None
    waiting = asyncio.create_task(job.result(timeout=5))
    worker = Worker([add], redis_pool=pool, burst=True)

    assert await worker.run_check() == 1

    assert await waiting == 3
    assert await job.status() is JobStatus.complete
    await worker.close()
    await pool.aclose()


async def test_a_lease_is_renewed_on_a_fake_server(pool: ArqRedis) -> None:
    """By the thread, over a blocking client of the same fake server: a cancellation comes with it."""
    started = asyncio.Event()

    async def sleeps(ctx: Ctx) -> None:
        started.set()
        await asyncio.sleep(60)

    job = await pool.enqueue_job("sleeps")
    assert job is not None
    worker = Worker([func(sleeps, name="sleeps")], redis_pool=pool, burst=True)
    working = asyncio.create_task(worker.main())
    await started.wait()

    assert await job.abort(timeout=5) is True

    await working
    await worker.close()
    await pool.aclose()


async def test_jobs_may_be_run_by_hand_on_a_fake_server(pool: ArqRedis) -> None:
    """As test suites of error trackers do."""

    class WorkerSettings:
        functions: ClassVar = [add, retries]
        redis_pool = pool

    worker = create_worker(WorkerSettings)
    for name, args, runs in (("add", (1, 2), 1), ("retries", (), 2)):
        job = await pool.enqueue_job(name, *args)
        assert job is not None
        for _ in range(runs):
            await worker.run_job(job.job_id, timestamp_ms())
        info = await job.result_info()
        assert info is not None
        assert (info.success, info.job_try) == (True, runs)
    await worker.close()
    await pool.aclose()


async def test_two_fake_servers_are_two(pool: ArqRedis) -> None:
    other = ArqRedis(pool_or_conn=FakeRedis(server=FakeServer()).connection_pool)
    await pool.enqueue_job("add", _job_id="one")

    assert await other.enqueue_job("add", _job_id="one") is not None
    await pool.aclose()
    await other.aclose()
