"""The fourth document: a page of claims and gotchas without code. Claims: README.md."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path

import pytest
import redis as redis_sync

from arq_web.arq import ArqRedis
from arq_web.arq.connections import RedisSettings
from arq_web.arq.jobs import JobStatus, ResultNotFound
from arq_web.arq.worker import JobExecutionFailed
from tests.arq.seeds.support import Document, document_in, stopped
from tests.support.redis_server import running_redis
from tests.support.waiting import wait_until

Open = Callable[..., AbstractAsyncContextManager[Document]]


async def test_an_unregistered_function_does_not_fail_silently(document: Open, pool: ArqRedis) -> None:
    """The enqueue takes it, since it cannot know; the worker says so, and so does the result."""
    async with document("seed_003") as it:
        job = await pool.enqueue_job("nobody_has_this", 1)
        worker = await it.worker("tasks.WorkerSettings", "--burst")
        await worker.ended()

        assert job is not None
        with pytest.raises(JobExecutionFailed, match="function 'nobody_has_this' not found"):
            await job.result(timeout=1)
    assert f"job {job.job_id}, function 'nobody_has_this' not found" in worker.log


async def test_higher_priorities_first(document: Open, pool: ArqRedis) -> None:
    """``_priority=`` on the enqueue; the same priority in the order of the enqueues."""
    async with document("seed_003") as it:
        for word, priority in (("low", -1), ("first", 0), ("second", 0), ("high", 5)):
            await pool.enqueue_job("note", word, _priority=priority)
        worker = await it.worker("tasks.OneAtATime", "--burst")
        await worker.ended()

    assert re.findall("noted (.+)", worker.log) == ["high", "first", "second", "low"]


async def test_separate_queues_do_not_mix(document: Open, pool: ArqRedis) -> None:
    """The other way to set jobs apart."""
    async with document("seed_003") as it:
        elsewhere = await pool.enqueue_job("note", "elsewhere", _queue_name="arq:other")
        here = await pool.enqueue_job("note", "here")
        await (await it.worker("tasks.WorkerSettings", "--burst")).ended()

        assert here is not None
        assert elsewhere is not None
        assert await here.status() == JobStatus.complete
        assert await elsewhere.status() == JobStatus.queued


async def test_the_same_webhook_is_processed_once(pool: ArqRedis) -> None:
    """``_job_id`` deduplicates."""
    first = await pool.enqueue_job("note", "event", _job_id="webhook-1")

    assert first is not None
    assert await pool.enqueue_job("note", "event", _job_id="webhook-1") is None


async def test_a_result_that_is_not_kept_cannot_be_had(document: Open, pool: ArqRedis) -> None:
    """Results expire by ``keep_result`` (the document names another setting)."""
    async with document("seed_003") as it:
        job = await pool.enqueue_job("note", "gone")
        await (await it.worker("tasks.ShortLived", "--burst")).ended()

        assert job is not None
        with pytest.raises(ResultNotFound):
            await job.result(timeout=1)


async def test_work_in_an_executor_does_not_block_the_others(document: Open, pool: ArqRedis) -> None:
    """``loop.run_in_executor()``."""
    async with document("seed_003") as it:
        slow = await pool.enqueue_job("cpu_bound", 1.0)
        worker = await it.worker("tasks.WorkerSettings")
        await worker.says("cpu_bound(1.0)")
        quick = await pool.enqueue_job("note", "meanwhile")

        assert quick is not None
        assert slow is not None
        assert await quick.result(timeout=10) == "meanwhile"
        assert await slow.status() == JobStatus.in_progress
        assert await slow.result(timeout=10) == "crunched"
        await stopped(worker)


async def test_crons_and_jobs_mix_and_each_tick_runs_once_among_two_workers(document: Open, pool: ArqRedis) -> None:
    """Of two processes, one runs it."""
    async with document("seed_003") as it:
        workers = [await it.worker("tasks.EverySecond") for _ in range(2)]
        job = await pool.enqueue_job("note", "between")
        assert job is not None
        assert await job.result(timeout=10) == "between"
        await wait_until(lambda: sum(each.count("tick ") for each in workers) >= 4, description="four ticks")
        for each in workers:
            await stopped(each)
    ticks = [tick for each in workers for tick in re.findall("^tick (.+)$", each.log, re.MULTILINE)]

    assert len(ticks) == len(set(ticks))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ("NotACron", "cron_jobs, must be instances of CronJob"),
        ("Nothing", "at least one function or cron_job must be registered"),
    ],
)
async def test_settings_that_cannot_work_are_a_clear_error(document: Open, settings: str, why: str) -> None:
    """No traceback, and status 2."""
    async with document("seed_003") as it:
        done = await it.run(f"tasks.{settings}")

    assert done.code == 2
    assert why in done.err
    assert "Traceback" not in done.err


async def test_the_password_is_in_the_url_and_nowhere_else(tmp_path: Path, namespace: str) -> None:
    """Neither in the repr nor in what a worker writes, when it is right and when it is wrong."""
    with running_redis() as server:
        with closing(redis_sync.Redis.from_url(server.url)) as client:
            client.config_set("requirepass", "s3cret p@ss")
        async with document_in(tmp_path, "seed_003", server.url, namespace) as it:
            it.project.write(
                "secret.py",
                "import os\nfrom arq_web.arq.connections import RedisSettings\nfrom tasks import note\n"
                "class WorkerSettings:\n    functions = [note]\n"
                "    redis_settings = RedisSettings.from_dsn(os.environ['DSN'])\n",
            )
            it.project.env["DSN"] = f"redis://:s3cret%20p%40ss@127.0.0.1:{server.port}/0"
            worker = await it.worker("secret.WorkerSettings", "-v")
            await stopped(worker)
            it.project.env["DSN"] = f"redis://:wr0ng%20p%40ss@127.0.0.1:{server.port}/0"
            wrong = await it.run("secret.WorkerSettings", "--burst")

    assert "s3cret" not in repr(RedisSettings.from_dsn("redis://user:s3cret@localhost:1/0"))
    assert "password=None" in repr(RedisSettings())
    assert wrong.code != 0
    for log in (worker.log, wrong.out, wrong.err):
        assert "s3cret" not in log
        assert "wr0ng" not in log


async def test_a_job_is_picked_up_at_once_by_an_idle_worker(document: Open, pool: ArqRedis) -> None:
    """A job that is enqueued is picked up at once, not at the next look at the queue."""
    async with document("seed_003") as it:
        worker = await it.worker("tasks.WorkerSettings")
        waits_s = []
        for number in range(5):
            started = time.monotonic()
            job = await pool.enqueue_job("note", number)
            assert job is not None
            await job.result(timeout=10, poll_delay=0.5)
            waits_s.append(time.monotonic() - started)
        await stopped(worker)

    assert sorted(waits_s)[2] < 0.25
