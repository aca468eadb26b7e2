"""P1, P3: Redis is full (``maxmemory``, ``noeviction``) in the middle of work: no job gets in, all else goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis.asyncio as redis_async

from arq_web import Config, Job, JobState, Queue
from arq_web.errors import StoreFull
from tests.chaos.shop import nap
from tests.support.fleet import Fleet, worker_fleet
from tests.support.journal import counts, read_journal
from tests.support.load import until_work_goes_on
from tests.support.redis_server import running_redis
from tests.support.verdict import Verdict, judge
from tests.support.waiting import wait_until

TARGET = "tests.chaos.shop:hub"
SHORT_LEASE = {"ARQ_WEB_LEASE_S": "2", "ARQ_WEB_COMMAND_DEADLINE_S": "1"}
JOB_COUNT = 150
Report = Callable[[Verdict], None]


@pytest.mark.timeout(120)
async def test_p1_a_redis_that_is_full_takes_no_job_and_lets_all_that_it_has_be_done(
    namespace: str, tmp_path: Path, report: Report
) -> None:
    """Claims, renewals (the long jobs outlive three leases) and settles pass; an enqueue says what is wrong at once."""
    async with _small_redis(tmp_path, namespace) as (fleet, queue, operator):
        await fleet.start(TARGET, env=SHORT_LEASE)
        await fleet.start(TARGET, env=SHORT_LEASE)
        jobs = await queue.enqueue_many([nap.call(6000 if n < 3 else 300) for n in range(JOB_COUNT)])
        await _some_run(tmp_path / "journal")

        await operator.config_set("maxmemory", "1")
        refused_s = await _refusal_s(queue)
        await _all_ended(jobs)
        refused_s = max(refused_s, await _refusal_s(queue))
        await operator.config_set("maxmemory", "0")
        freed_s = time.monotonic()
        jobs.append(await queue.enqueue(nap, 10))
        recovery_s = await until_work_goes_on(tmp_path / "journal", freed_s)
        await _all_ended(jobs)
        verdict = await judge("Redis full", jobs, fleet, worst_recovery_s=recovery_s)
        assert all(worker.is_alive for worker in fleet.workers)

    report(verdict)
    assert refused_s <= 0.5
    assert recovery_s <= 1
    assert (verdict.lost, verdict.started_twice, verdict.accepted_twice) == (0, 0, 0)


@pytest.mark.timeout(120)
async def test_p3_a_redis_that_is_full_gives_the_jobs_of_a_killed_worker_to_another_and_takes_cancellations(
    namespace: str, tmp_path: Path, report: Report
) -> None:
    """What frees memory, and what brings jobs to their end, must not wait for memory."""
    async with _small_redis(tmp_path, namespace) as (fleet, queue, operator):
        victim = await fleet.start(TARGET, "--concurrency", "5", env=SHORT_LEASE)
        heir = await fleet.start(TARGET, "--concurrency", "5", env=SHORT_LEASE)
        jobs = await queue.enqueue_many([nap.call(3000 if n < 10 else 100) for n in range(50)])
        journal = tmp_path / "journal"
        await wait_until(lambda: len(counts(read_journal(journal), "start")) == 10, description="ten run")
        orphans = {entry.job_id for entry in read_journal(journal) if entry.pid == victim.pid}

        await operator.config_set("maxmemory", "1")
        running = [job for job in jobs[:10] if job.id not in orphans]
        asked = await asyncio.gather(*(job.cancel() for job in running))
        words = await asyncio.gather(*(job.cancel() for job in jobs[-5:]))
        await victim.kill()
        killed_s = time.monotonic()
        await _all_ended(jobs)
        again_s = [
            entry.at_s - killed_s
            for entry in read_journal(journal)
            if entry.what == "start" and entry.job_id in orphans and entry.pid == heir.pid
        ]
        verdict = await judge("Redis full, a worker killed", jobs, fleet, worst_recovery_s=max(again_s))
        states = {await job.status() for job in (*running, *jobs[-5:])}
        infos = [await job.info() for job in jobs if job.id in orphans]
        assert heir.is_alive

    report(verdict)
    assert (set(asked), set(words), states) == ({"requested"}, {"cancelled"}, {JobState.CANCELLED})
    assert {(info.state, info.failures, info.crashes) for info in infos} == {(JobState.SUCCEEDED, 0, 1)}
    assert max(again_s) <= 10
    assert (verdict.lost, verdict.accepted_twice, verdict.started_twice) == (0, 0, 5)


@asynccontextmanager
async def _small_redis(folder: Path, namespace: str) -> AsyncGenerator[tuple[Fleet, Queue, redis_async.Redis]]:
    config = Config(namespace=namespace)
    with running_redis("--maxmemory-policy", "noeviction") as server:
        async with (
            redis_async.Redis.from_url(server.url) as operator,
            worker_fleet(folder, server.url, namespace) as fleet,
            Queue.connect(server.url, config=config) as queue,
        ):
            yield fleet, queue, operator


async def _some_run(journal: Path) -> None:
    await wait_until(lambda: len(counts(read_journal(journal), "start")) >= 10, description="some run")


async def _refusal_s(queue: Queue) -> float:
    """How long an enqueue takes to say that Redis is full."""
    began_s = time.monotonic()
    with pytest.raises(StoreFull, match="memory"):
        await queue.enqueue(nap, 1)
    return time.monotonic() - began_s


async def _all_ended(jobs: list[Job[int]]) -> None:
    """Also while Redis takes no promise to tell us: then a result comes by looking."""
    async with asyncio.timeout(60):
        await asyncio.gather(*(job.result() for job in jobs), return_exceptions=True)
