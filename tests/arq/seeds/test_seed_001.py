"""The second document: a welcome mail that survives crashes, and three common mistakes. Claims: README.md."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from arq_web.arq import ArqRedis
from arq_web.arq.jobs import Job, JobStatus, SerializationError
from tests.arq.seeds.support import Document, lines_of, stopped

Open = Callable[..., AbstractAsyncContextManager[Document]]
SETTINGS = "app.tasks.worker.WorkerSettings"
ADA = {"email": "ada@example.com", "name": "Ada"}


async def test_a_job_survives_the_web_server_and_runs_after_its_two_seconds(document: Open) -> None:
    """``python -m arq_web.arq`` is the worker's command here; the server is killed before it starts."""
    async with document("seed_001") as it:
        client, web = await it.serve("app.main:app")
        answer = await client.post("/auth/register", json=ADA)
        enqueued_s = time.monotonic()
        web.process.kill()
        await web.ended()

        worker = await it.worker(SETTINGS, module="arq_web.arq")
        [mail] = await lines_of(it, "mail", 1)
        await worker.says("Welcome email sent to ada@example.com")
        status = await stopped(worker)

    assert answer.status_code == 201
    assert answer.json() == {"id": 3, **ADA}
    assert mail.endswith("ada@example.com Welcome! Hi Ada!")
    assert float(mail.split()[0]) - enqueued_s > 1.8
    assert status == 0


async def test_the_same_id_is_enqueued_once(document: Open, pool: ArqRedis) -> None:
    """A user who registers twice gets one mail; the second enqueue answers None."""
    async with document("seed_001") as it:
        client, _ = await it.serve("app.main:app")
        for _ in range(2):
            assert (await client.post("/auth/register", json=ADA)).status_code == 201
        [queued] = await pool.queued_jobs()
        await (await it.worker(SETTINGS, "--burst")).ended()

        assert queued.job_id == "welcome:3"
        assert len(it.file("mail")) == 1


async def test_a_job_that_raises_is_retried_with_growing_delays_up_to_max_tries(document: Open, pool: ArqRedis) -> None:
    """Three times, since the settings say so; then its own exception is the result."""
    async with document("seed_001") as it:
        (it.folder / "mail-is-down").touch()
        job = await pool.enqueue_job("send_welcome_email", 1, "ada@example.com", "Ada")
        worker = await it.worker(SETTINGS, "--burst")
        await worker.ended()
        at_s = [float(line.split()[0]) for line in it.file("mail")]

        assert job is not None
        with pytest.raises(ConnectionError, match="the mail server is down"):
            await job.result(timeout=1)
    assert len(at_s) == 3
    assert 0.7 < at_s[1] - at_s[0] < at_s[2] - at_s[1] < 4
    assert worker.count("Email failed: the mail server is down") == 3


async def test_a_job_whose_worker_was_killed_runs_again(document: Open, pool: ArqRedis) -> None:
    """The question at the document's end: after the crash, another worker sends the mail, within seconds."""
    async with document("seed_001") as it:
        (it.folder / "mail-hangs").touch()
        job = await pool.enqueue_job("send_welcome_email", 1, "ada@example.com", "Ada")
        first = await it.worker(SETTINGS)
        await lines_of(it, "mail", 1)
        first.process.kill()
        await first.ended()
        (it.folder / "mail-hangs").unlink()

        second = await it.worker(SETTINGS)
        await second.says("Welcome email sent to ada@example.com")

        assert job is not None
        assert await job.result(timeout=5) is None
        await stopped(second)
        assert len(it.file("mail")) == 2


async def test_without_a_worker_a_job_waits(pool: ArqRedis) -> None:
    """Mistake 3: it sits in the queue, visible."""
    job = await pool.enqueue_job("send_welcome_email", 1, "ada@example.com", "Ada")

    assert job is not None
    assert await job.status() == JobStatus.queued
    assert [each.function for each in await pool.queued_jobs()] == ["send_welcome_email"]


async def test_the_mistakes_and_their_remedies(document: Open, pool: ArqRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an id two jobs, with one a single one; a session does not travel."""
    async with document("seed_001") as it:
        monkeypatch.setenv("TEST_FOLDER", str(it.folder))
        monkeypatch.syspath_prepend(str(it.project.folder))
        mistakes = __import__("app.mistakes", fromlist=["*"])

        assert None not in [await mistakes.without_an_id(pool, 7) for _ in range(2)]
        first, second = [await mistakes.with_a_stable_id(pool, 7) for _ in range(2)]
        with pytest.raises(SerializationError, match='unable to serialize job "task"'):
            await mistakes.with_a_session(pool)
        for name in [name for name in sys.modules if name == "app" or name.startswith("app.")]:
            del sys.modules[name]

    assert first.job_id == "welcome:7"
    assert second is None


async def test_jobs_share_the_pool_of_the_startup(document: Open, pool: ArqRedis) -> None:
    """Opened once, used by each job, closed at the end."""
    async with document("seed_001") as it:
        jobs = [await pool.enqueue_job("resize_post_image", f"{n}.png", n) for n in (1, 2)]
        worker = await it.worker(SETTINGS)
        results = [await job.result(timeout=10) for job in jobs if job is not None]
        await stopped(worker)
        sql = [json.loads(line) for line in it.file("sql")]

    assert results == ["1.small.png", "2.small.png"]
    assert sql[0] == ["opened", {"dsn": "postgresql://localhost/app", "min_size": 2, "max_size": 5}]
    assert sorted(args for _, *args in sql[1:-1]) == [["1.small.png", 1], ["2.small.png", 2]]
    assert sql[-1] == ["closed"]


async def test_a_result_is_kept_for_an_hour(document: Open, pool: ArqRedis, redis: Any, namespace: str) -> None:
    """``keep_result = 3600``."""
    async with document("seed_001") as it:
        job = await pool.enqueue_job("resize_post_image", "1.png", 1, _job_id="resize-1")
        await (await it.worker(SETTINGS, "--burst")).ended()

        assert job is not None
        assert await job.result(timeout=1) == "1.small.png"
        ttls = [await redis.ttl(key) async for key in redis.scan_iter(f"{namespace}:*resize-1")]
    assert ttls
    assert all(3500 < ttl <= 3600 for ttl in ttls)


async def test_ten_jobs_run_at_the_same_time_and_not_more(document: Open, pool: ArqRedis) -> None:
    """``max_jobs = 10``."""
    async with document("seed_001") as it:
        (it.folder / "mail-hangs").touch()
        for number in range(12):
            await pool.enqueue_job("send_welcome_email", number, "ada@example.com", "Ada")
        worker = await it.worker(SETTINGS)
        await lines_of(it, "mail", 10)
        states = [await Job(each.job_id or "", pool).status() for each in await pool.queued_jobs()]
        running = len(it.file("mail"))
        (it.folder / "mail-hangs").unlink()
        await lines_of(it, "mail", 12)
        await stopped(worker)

    assert running == 10
    assert states.count(JobStatus.queued) == 2


@pytest.mark.parametrize(
    "options", [{"_defer_by": 5}, {"_defer_until": datetime.now(UTC) + timedelta(hours=1)}], ids=["by", "until"]
)
async def test_a_job_may_be_deferred(pool: ArqRedis, options: dict[str, Any]) -> None:
    """The quick reference's two ways."""
    job = await pool.enqueue_job("task_name", 1, 2, **options)

    assert job is not None
    assert await job.status() == JobStatus.deferred
