"""P1, P2, P8: somebody empties Redis, its scripts, its connections or its hints; workers stay and go on at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest
import redis
import redis.asyncio as redis_async

from arq_web import Config, Queue
from arq_web.store import scripts
from arq_web.store.gathering import enqueue_arguments
from tests.chaos.shop import nap
from tests.support.fleet import worker_fleet
from tests.support.journal import counts, read_journal
from tests.support.load import judge_survivors, longest_silence_s, starts_s, under_load, until_work_goes_on
from tests.support.redis_server import RedisServer, running_redis
from tests.support.verdict import Verdict, judge
from tests.support.waiting import wait_until

TARGET = "tests.chaos.shop:hub"
STORM_S = 5.0
Report = Callable[[Verdict], None]


@pytest.fixture
async def own_redis() -> AsyncGenerator[RedisServer]:
    """A server that a test may empty."""
    with running_redis() as server:
        yield server


@pytest.mark.timeout(60)
@pytest.mark.parametrize("running_count", [3, 10], ids=["slots free", "all slots taken"])
async def test_p2_p8_after_a_flush_the_next_jobs_run_at_once_and_the_old_ones_change_nothing(
    own_redis: RedisServer, namespace: str, tmp_path: Path, report: Report, running_count: int
) -> None:
    """The jobs are gone, as promised (P8). The worker learns of it with its next renewal, and has its slots back."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with (
        redis_async.Redis.from_url(own_redis.url) as operator,
        worker_fleet(tmp_path, own_redis.url, namespace) as fleet,
        Queue.connect(own_redis.url, config=config) as queue,
    ):
        worker = await fleet.start(TARGET, "--concurrency", "10")
        gone = await queue.enqueue_many([nap.call(5_000) for _ in range(running_count)])
        await wait_until(lambda: len(counts(read_journal(journal), "start")) == len(gone), description="they run")
        await operator.flushall()
        flushed_s = time.monotonic()
        jobs = [await queue.enqueue(nap, 50) for _ in range(10)]
        recovery_s = await until_work_goes_on(journal, flushed_s)
        results = await asyncio.gather(*(job.result(timeout=30) for job in jobs))
        await wait_until(lambda: len(worker.events("lease.lost")) == len(gone), description="the worker has noticed")
        verdict = await judge(f"FLUSHALL, {running_count} of 10 slots taken", jobs, fleet, worst_recovery_s=recovery_s)
        kept = [key async for key in operator.scan_iter() if any(job.id.encode() in key for job in gone)]
        assert worker.is_alive

    report(verdict)
    assert results == [50] * 10
    assert recovery_s <= (1 if running_count < 10 else 1.5)  # with all slots taken: the next renewal, then a claim
    assert (verdict.lost, verdict.started_twice, verdict.accepted_twice) == (0, 0, 0)
    assert kept == []
    assert not counts(read_journal(journal), "end").keys() & {job.id for job in gone}


@pytest.mark.timeout(60)
async def test_p9_nobody_notices_that_scripts_are_flushed_and_connections_killed_all_the_time(
    own_redis: RedisServer, namespace: str, tmp_path: Path, report: Report
) -> None:
    """Each is a routine of operators (a failover, a memory clean-up): no enqueue raises, no job runs twice."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with (
        redis_async.Redis.from_url(own_redis.url) as operator,
        worker_fleet(tmp_path, own_redis.url, namespace) as fleet,
        Queue.connect(own_redis.url, config=config) as queue,
    ):
        await fleet.start(TARGET)
        await fleet.start(TARGET)
        async with under_load(queue, nap) as load:
            began_s = time.monotonic()
            while time.monotonic() < began_s + STORM_S:
                await operator.script_flush()
                await operator.client_kill_filter(_type="normal", skipme=True)
                await asyncio.sleep(0.1)  # the storm's own pace
            silence_s = longest_silence_s(journal, began_s, time.monotonic())
        verdict = await judge_survivors(
            "SCRIPT FLUSH and CLIENT KILL each 0.1 s", load, fleet, worst_recovery_s=silence_s
        )

    report(verdict)
    assert load.raised == []
    assert silence_s <= 1
    assert (verdict.lost, verdict.started_twice, verdict.accepted_twice) == (0, 0, 0)


@pytest.mark.timeout(60)
async def test_p1_a_wake_marker_that_is_deleted_at_any_moment_costs_two_seconds_at_most(
    own_redis: RedisServer, namespace: str, tmp_path: Path, report: Report
) -> None:
    """It is a hint: an idle worker looks each two seconds all the same."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    late_s = []
    async with (
        redis_async.Redis.from_url(own_redis.url) as operator,
        worker_fleet(tmp_path, own_redis.url, namespace) as fleet,
        Queue.connect(own_redis.url, config=config) as queue,
    ):
        await fleet.start(TARGET)
        deleting = asyncio.create_task(_delete_markers(operator, queue))
        jobs = []
        for _ in range(20):
            asked_s = time.monotonic()
            jobs.append(await queue.enqueue(nap, 10))
            late_s.append(await until_work_goes_on(journal, asked_s))
        deleting.cancel()
        await asyncio.gather(*(job.result(timeout=5) for job in jobs))
        verdict = await judge("the wake marker deleted all the time", jobs, fleet, worst_recovery_s=max(late_s))

    report(verdict)
    assert max(late_s) <= 2.1
    assert (verdict.lost, verdict.started_twice, verdict.accepted_twice) == (0, 0, 0)


@pytest.mark.timeout(60)
async def test_p1_a_wake_marker_that_nobody_ever_sees_costs_two_seconds_at_most(
    own_redis: RedisServer, namespace: str, tmp_path: Path
) -> None:
    """Deleted within the transaction of the enqueue, so that no blocked worker is served: the hint is lost for sure."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    late_s = []
    async with (
        redis_async.Redis.from_url(own_redis.url) as operator,
        worker_fleet(tmp_path, own_redis.url, namespace) as fleet,
        Queue.connect(own_redis.url, config=config) as queue,
    ):
        await fleet.start(TARGET)
        for _ in range(3):
            asked_s = time.monotonic()
            arguments = enqueue_arguments([queue.new_job(nap.call(10))])
            async with operator.pipeline(transaction=True) as transaction:
                transaction.execute_command("EVAL", scripts.ENQUEUE.script.text, 1, queue.store.base, *arguments)
                transaction.execute_command("DEL", queue.store.base + b"wake")
                await transaction.execute()
            late_s.append(await until_work_goes_on(journal, asked_s))

    assert len(starts_s(journal)) == 3
    assert max(late_s) <= 2.1
    assert max(late_s) > 0.1  # or the marker was seen, and this proved nothing


async def _delete_markers(operator: redis_async.Redis, queue: Queue) -> None:
    with contextlib.suppress(redis.RedisError):
        while True:
            await operator.delete(queue.store.base + b"wake")
