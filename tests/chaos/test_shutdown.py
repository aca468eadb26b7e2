"""P7: a stopping worker drains, hands back what is left, and costs nothing."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from arq_web import Config, JobState, Queue
from tests.chaos.shop import nap
from tests.support.fleet import worker_fleet
from tests.support.journal import counts, read_journal
from tests.support.waiting import wait_until

TARGET = "tests.chaos.shop:hub"


@pytest.mark.timeout(120)
async def test_p7_sigterm_in_the_middle_of_20_jobs_loses_none_and_fails_none(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """Short jobs finish within the drain time; the rest stays queued, at no cost."""
    config = Config(namespace=namespace)
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        jobs = await queue.enqueue_many([nap.call(400) for _ in range(20)])
        worker = await fleet.start(TARGET, "--concurrency", "5", "--drain-timeout", "5")
        journal = tmp_path / "journal"
        await wait_until(lambda: sum(counts(read_journal(journal), "start").values()) >= 6, description="some run")

        worker.send(signal.SIGTERM)
        stopped_s = time.monotonic()
        code = await asyncio.wait_for(worker.process.wait(), 10)
        took_s = time.monotonic() - stopped_s
        infos = [await job.info() for job in jobs]
        await fleet.start(TARGET)
        results = await asyncio.gather(*(job.result(timeout=30) for job in jobs))

    assert code == 0
    assert took_s <= 5 + 1
    assert {info.state for info in infos} == {JobState.SUCCEEDED, JobState.QUEUED}
    assert all(info.failures == info.crashes == 0 for info in infos)
    assert results == [400] * 20
    assert set(counts(read_journal(journal), "start").values()) == {1}  # nothing ran twice either


@pytest.mark.timeout(120)
async def test_p7_a_job_longer_than_the_drain_is_handed_back_unspent(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """The attempt is interrupted at the drain's end, and the next worker begins at once: no lease to wait for."""
    config = Config(namespace=namespace)
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        worker = await fleet.start(TARGET, "--drain-timeout", "0.5")
        job = await queue.enqueue(nap, 60_000)
        journal = tmp_path / "journal"
        await wait_until(lambda: counts(read_journal(journal), "start")[job.id] == 1, description="it runs")

        worker.send(signal.SIGTERM)
        await asyncio.wait_for(worker.process.wait(), 5)
        info = await job.info()
        await job.cancel()

    assert info.state is JobState.QUEUED
    assert (info.attempt, info.failures, info.crashes) == (1, 0, 0)
