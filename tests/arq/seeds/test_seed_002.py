"""The third document: HTTP, a database, crons, FastAPI. Claims: README.md."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any

import pytest

from arq_web.arq import ArqRedis
from arq_web.arq.jobs import JobStatus
from tests.arq.seeds.support import Document, HttpServer, http_server, stopped
from tests.support.waiting import wait_until

Open = Callable[..., AbstractAsyncContextManager[Document]]
SETTINGS = "tasks.WorkerSettings"


@pytest.fixture
async def mail() -> AsyncIterator[HttpServer]:
    """What ``api.email.com`` and ``data.example.com`` are here."""
    async with http_server() as server:
        yield server


async def test_the_email_goes_out_and_its_answer_is_the_result(
    document: Open, pool: ArqRedis, mail: HttpServer
) -> None:
    """In a burst, which ends when the queue is empty."""
    async with document("seed_002") as it:
        it.project.env |= {"TEST_HTTP": mail.url, "EMAIL_API_KEY": "key"}
        job = await pool.enqueue_job("send_email", "ada@example.com", "Hi", "Hello")
        worker = await it.worker(SETTINGS, "--burst")

        assert await worker.ended() == 0
        assert job is not None
        assert await job.result(timeout=30) == {"id": "m1"}
    [request] = mail.requests
    assert request.startswith("POST /send ")
    assert '"ada@example.com"' in request


async def test_a_rate_limited_email_comes_again_when_the_server_says(
    document: Open, pool: ArqRedis, mail: HttpServer
) -> None:
    """429 with Retry-After: ``Retry(defer=timedelta(...))``."""
    async with document("seed_002") as it:
        it.project.env |= {"TEST_HTTP": mail.url, "EMAIL_API_KEY": "key"}
        mail.answers.append((429, {"Retry-After": "2"}, "{}"))
        job = await pool.enqueue_job("send_email", "ada@example.com", "Hi", "Hello")
        worker = await it.worker(SETTINGS, "--burst")
        await worker.ended()

        assert job is not None
        assert await job.result(timeout=1) == {"id": "m1"}
    assert "retrying job in 2.00s" in worker.log
    assert len(mail.requests) == 2


async def test_a_failing_email_is_retried_with_exponential_backoff(
    document: Open, pool: ArqRedis, mail: HttpServer
) -> None:
    """``send_email.max_tries = 5``: any exception counts."""
    async with document("seed_002") as it:
        it.project.env |= {"TEST_HTTP": mail.url, "EMAIL_API_KEY": "key"}
        mail.answers += [(503, {}, "{}")] * 2
        job = await pool.enqueue_job("send_email", "ada@example.com", "Hi", "Hello")
        worker = await it.worker(SETTINGS, "--burst")
        await worker.ended()

        assert job is not None
        info = await job.result_info()
    assert info is not None
    assert (info.success, info.job_try) == (True, 3)
    assert len(mail.requests) == 3


@pytest.mark.slow
async def test_after_five_tries_the_email_has_failed(document: Open, pool: ArqRedis, mail: HttpServer) -> None:
    """With 1, 2, 4 and 8 seconds between them."""
    async with document("seed_002") as it:
        it.project.env |= {"TEST_HTTP": mail.url, "EMAIL_API_KEY": "key"}
        mail.answers += [(503, {}, "{}")] * 9
        job = await pool.enqueue_job("send_email", "ada@example.com", "Hi", "Hello")
        worker = await it.worker(SETTINGS, "--burst")
        await worker.ended(within_s=40)

        assert job is not None
        assert await job.status() == JobStatus.complete
    assert len(mail.requests) == 5
    assert worker.count("failed, ClientResponseError: 503") == 1
    assert "try=5" in worker.log


async def test_images_and_foreign_data_go_through_the_shared_pool(
    document: Open, pool: ArqRedis, mail: HttpServer
) -> None:
    """One HTTP session, one database pool, for all jobs of the worker."""
    async with document("seed_002") as it:
        it.project.env |= {"TEST_HTTP": mail.url, "EMAIL_API_KEY": "key"}
        mail.answers.append((200, {}, '[{"id": 1}, {"id": 2}]'))
        image = await pool.enqueue_job("process_image", 7, ["crop"])
        data = await pool.enqueue_job("sync_external_data", "rates", "fx")
        await (await it.worker(SETTINGS, "--burst")).ended()
        sql = [json.loads(line) for line in it.file("sql")]

        assert image is not None
        assert data is not None
        assert await image.result(timeout=1) == {"image_id": 7, "output_url": "/processed/7.webp", "ops": ["crop"]}
        assert await data.result(timeout=1) == 2
    assert [what for what, *_ in sql].count("opened") == 1
    assert sql[-1] == ["closed"]
    assert ["UPDATE images SET status='done', output_url=$1 WHERE id=$2", "/processed/7.webp", 7] in sql
    assert [[{"id": 1}], [{"id": 2}]] in [args[0] for what, *args in sql if what.startswith("INSERT INTO fx")]


async def test_functions_and_crons_of_one_function_live_in_one_worker(document: Open, pool: ArqRedis) -> None:
    """``health_ping`` is both; the attributes of the settings may be annotated."""
    async with document("seed_002") as it:
        ping = await pool.enqueue_job("health_ping")
        worker = await it.worker(SETTINGS)
        assert ping is not None
        assert str(await ping.result(timeout=10)).startswith("ok at ")
        status = await stopped(worker)

    functions = "send_email, process_image, sync_external_data, health_ping"
    crons = "cron:send_daily_digest, cron:cleanup_old_jobs, cron:health_ping"
    assert f"Starting worker for 7 functions: {functions}, {crons}" in worker.log
    assert status == 0


async def test_twenty_jobs_run_at_the_same_time_in_one_process(document: Open, pool: ArqRedis) -> None:
    """``max_jobs = 20``: as many have started as may, before the first one (of half a second) ends."""
    async with document("seed_002") as it:
        for number in range(25):
            await pool.enqueue_job("process_image", number, [])
        worker = await it.worker(SETTINGS, "--burst")
        await worker.ended()

    assert worker.log[: worker.log.index("←")].count("→") == 20
    assert worker.count("←") == 25


async def test_the_fastapi_example(document: Open, pool: ArqRedis) -> None:
    """The second request for an image gets None from ``enqueue_job``, and the example trips over it."""
    async with document("seed_002") as it:
        client, web = await it.serve("app.main:app")
        welcome = await client.post("/users/1/welcome", params={"email": "ada@example.com"})
        image = await client.post("/images/7/process", json=["crop"])
        again = await client.post("/images/7/process", json=["crop"])
        queued = {each.function: each for each in await pool.queued_jobs()}

        assert re.fullmatch("[0-9a-f]{32}", welcome.json()["job_id"])
        assert image.json() == {"job_id": "image-7", "status": "deferred"}
        assert again.status_code == 500
        await web.says("'NoneType' object has no attribute 'job_id'")
        await stopped(web)
        assert "Application shutdown complete" in web.log
    assert queued["send_email"].args == ("ada@example.com", "Welcome!", "Thanks for signing up.")
    assert queued["process_image"].args == (7, ["crop"])


async def test_the_module_run_as_a_program_enqueues_a_job(document: Open, pool: ArqRedis) -> None:
    """``python tasks.py``."""
    async with document("seed_002") as it:
        demo = await it.python("tasks.py")
        assert await demo.ended() == 0
        [queued] = await pool.queued_jobs()

    assert f"Enqueued job_id={queued.job_id}" in demo.log
    assert re.search(r"Status: .*queued", demo.log)
    assert queued.function == "send_email"


async def test_the_health_key_proves_that_the_worker_lives(document: Open, redis: Any) -> None:
    """``health_check_interval = 30``; ``--check`` looks for it."""
    async with document("seed_002") as it:
        before = await it.run(SETTINGS, "--check")
        worker = await it.worker(SETTINGS)
        await wait_until(lambda: redis.exists("arq:queue:health-check"), description="the health key")
        during = await it.run(SETTINGS, "--check")
        ttl_s = await redis.ttl("arq:queue:health-check")
        await stopped(worker)
        after = await it.run(SETTINGS, "--check")

    assert (before.code, during.code, after.code) == (1, 0, 1)
    assert "Health check failed: no health check sentinel value found" in before.err
    assert "Health check successful: " in during.err
    assert 25 <= ttl_s <= 31


# -- the prose of its first paragraph ------------------------------------------------------


@pytest.fixture
def prose(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of statements, in this process."""
    sys.modules.pop("prose", None)
    monkeypatch.syspath_prepend(str(__import__("pathlib").Path(__file__).parent / "seed_002"))
    yield __import__("prose")
    sys.modules.pop("prose", None)


async def test_results_come_back_to_whoever_waits(document: Open, pool: ArqRedis, prose: Any) -> None:
    """``await job.result(timeout=30)``."""
    async with document("seed_002") as it:
        worker = await it.worker("prose.WorkerSettings")

        assert await prose.job_result(pool, 21) == 42
        await stopped(worker)
    assert "db closed" in worker.log


async def test_deferred_and_scheduled_jobs(document: Open, pool: ArqRedis, prose: Any) -> None:
    """``defer_by=`` and ``run_at=`` are options, also without an underscore; a moment of the past is now."""
    delayed, scheduled = await prose.delayed(pool), await prose.scheduled(pool)
    delayed_info, scheduled_info = await delayed.info(), await scheduled.info()

    assert await delayed.status() == JobStatus.deferred
    assert delayed_info.score - delayed_info.enqueue_time.timestamp() * 1000 == pytest.approx(300_000, abs=1000)
    assert await scheduled.status() == JobStatus.queued
    assert (delayed_info.kwargs, scheduled_info.kwargs) == ({}, {})
    async with document("seed_002") as it:
        worker = await it.worker("prose.WorkerSettings")
        assert await scheduled.result(timeout=10) == "has db: True"
        await stopped(worker)
    assert await delayed.abort(timeout=5)


async def test_a_naive_moment_is_local_time(pool: ArqRedis) -> None:
    """As ``_defer_until``; the document gives none with a zone."""
    at = (datetime.now() + timedelta(hours=2)).replace(microsecond=0)  # noqa: DTZ005 - it must be naive
    job = await pool.enqueue_job("task", run_at=at)

    assert job is not None
    info = await job.info()
    assert info is not None
    assert info.score == int(at.timestamp() * 1000)


async def test_the_words_of_a_status(document: Open, pool: ArqRedis, prose: Any) -> None:
    """deferred, queued, in_progress, complete, not_found."""
    seen = {(await prose.delayed(pool)).job_id: JobStatus.deferred}
    job = await prose.unique(pool)
    assert await job.status() == JobStatus.queued
    assert await prose.unique(pool) is None
    async with document("seed_002") as it:
        worker = await it.worker("prose.WorkerSettings")
        await job.result(timeout=10)
        await stopped(worker)

    assert await job.status() == JobStatus.complete
    assert await type(job)("nobody", pool).status() == JobStatus.not_found
    assert [each.job_id for each in await pool.queued_jobs()] == list(seen)


async def test_a_running_job_is_aborted_without_any_setting(document: Open, pool: ArqRedis) -> None:
    """``await job.abort()``: true when it was; its result is a CancelledError."""
    async with document("seed_002") as it:
        worker = await it.worker("prose.WorkerSettings")
        job = await pool.enqueue_job("busy")
        assert job is not None
        await worker.says("retrying job in 10.00s")

        assert await job.abort(timeout=5)
        with pytest.raises(asyncio.CancelledError):
            await job.result(timeout=1)
        await stopped(worker)


async def test_function_attributes_are_settings_of_the_function(document: Open, prose: Any) -> None:
    """``slow_task.job_timeout = 600``, ``fetch.max_tries = 5``."""
    from arq_web.arq.worker import create_worker  # noqa: PLC0415 - beside what it looks at

    worker = create_worker(prose.WorkerSettings, handle_signals=False)

    assert worker.functions["slow_task"].timeout_s == 600
    assert worker.functions["fetch"].max_tries == 5
    assert worker.job_timeout_s == 300
    assert worker.max_jobs == 10
    assert worker.keep_result_s == 3600
    assert worker.health_check_interval == 30


async def test_the_app_enqueues_as_the_prose_says(document: Open, pool: ArqRedis) -> None:
    """``create_pool(RedisSettings())`` and ``enqueue_job`` in one line."""
    async with document("seed_002") as it:
        program = "import asyncio, prose; print((await_ := asyncio.run(prose.enqueue_from_app())).job_id)"
        done = await it.python("-c", program)
        assert await done.ended() == 0, done.log
        [queued] = await pool.queued_jobs()

    assert str(queued.job_id) in done.log
    assert queued.args == ("[email protected]", "Hi")
