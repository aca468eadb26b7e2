"""P1, P3, P4: workers die without a word, and nothing is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from arq_web import Config, Job, JobState, Queue
from tests.chaos.shop import nap
from tests.support.fleet import worker_fleet
from tests.support.journal import counts, read_journal
from tests.support.waiting import wait_until

TARGET = "tests.chaos.shop:hub"


@pytest.mark.timeout(180)
async def test_p1_p3_five_kills_among_300_jobs_lose_nothing_and_orphans_are_back_within_ten_seconds(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """A killed worker's jobs run again elsewhere soon, whatever their timeout (300 s here)."""
    config = Config(namespace=namespace)
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        jobs = await queue.enqueue_many([nap.call(50) for _ in range(300)])
        victim, _ = await fleet.start(TARGET, "--concurrency", "3"), await fleet.start(TARGET, "--concurrency", "3")
        waits_s = []
        for _ in range(5):
            orphans = await _orphans_of(queue, jobs, victim.pid)
            await victim.kill()
            waits_s.append(asyncio.create_task(_seconds_until_requeued(queue, orphans)))
            victim = await fleet.start(TARGET, "--concurrency", "3")

        results = await asyncio.gather(*(job.result(timeout=90) for job in jobs))
        worst_s = max(await asyncio.gather(*waits_s))

    infos = read_journal(tmp_path / "journal")
    assert results == [50] * 300
    assert worst_s <= 10
    assert set(counts(infos, "end")) == {job.id for job in jobs}


@pytest.mark.timeout(120)
async def test_p4_a_crash_costs_a_crash_and_never_a_failure(redis_url: str, namespace: str, tmp_path: Path) -> None:
    """max_tries is 1 here: if a lost worker spent a failure, the job would be dead."""
    config = Config(namespace=namespace)
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        worker = await fleet.start(TARGET)
        job = await queue.enqueue(nap, 2000)
        await wait_until(
            lambda: counts(read_journal(tmp_path / "journal"), "start")[job.id] == 1, description="it runs"
        )
        await worker.kill()
        await fleet.start(TARGET)

        assert await job.result(timeout=30) == 2000
        info = await job.info()

    assert (info.failures, info.crashes, info.attempt) == (0, 1, 2)


async def _orphans_of(queue: Queue, jobs: list[Job[int]], pid: int) -> list[Job[int]]:
    """The jobs that the worker of that pid runs right now: at least one."""
    found: list[Job[int]] = []

    async def some_run() -> bool:
        infos = await asyncio.gather(*(job.info() for job in jobs))
        found[:] = [
            job
            for job, info in zip(jobs, infos, strict=True)
            if info.state is JobState.RUNNING and info.worker_pid == pid
        ]
        return bool(found)

    await wait_until(some_run, description=f"worker {pid} runs something")
    return found


async def _seconds_until_requeued(queue: Queue, orphans: list[Job[int]]) -> float:
    """From now until every orphan has a new attempt, or was settled by the old one in its last moment."""
    before = {job.id: (await job.info()).attempt for job in orphans}
    loop = asyncio.get_running_loop()
    started_s = loop.time()

    async def all_back() -> bool:
        infos = await asyncio.gather(*(job.info() for job in orphans))
        return all(info.state is not JobState.RUNNING or info.attempt > before[info.id] for info in infos)

    await wait_until(all_back, timeout_s=30, description="every orphan is queued again")
    return loop.time() - started_s
