"""The first document: an email and an image in the background, ``ctx``, and four pitfalls. Claims: README.md."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from arq_web.arq import ArqRedis, Worker, create_pool
from arq_web.arq.connections import RedisSettings
from arq_web.arq.jobs import JobStatus, SerializationError
from arq_web.arq.worker import JobExecutionFailed
from tests.arq.seeds.support import Document, document_in, stopped
from tests.support.redis_server import running_redis

Open = Callable[..., AbstractAsyncContextManager[Document]]


async def test_the_request_is_answered_at_once_and_the_worker_sends_the_email(document: Open) -> None:
    """``enqueue_job`` only leaves a message; the two seconds are the worker's."""
    async with document("seed_000", cwd="shop") as it:
        it.project.folder = it.project.folder.parent
        client, _ = await it.serve("shop.main:app")
        it.project.folder /= "shop"

        started = time.monotonic()
        answer = await client.post("/signup", json={"email": "ada@example.com"})
        answered_after_s = time.monotonic() - started
        worker = await it.worker("tasks.WorkerSettings")
        await worker.says("Email sent! (Not really)")
        status = await stopped(worker)

    assert answer.json() == {"status": "ok", "message": "User created, email queued."}
    assert answered_after_s < 1.5
    assert "Pretending to send 'Welcome!' to ada@example.com..." in worker.log
    assert status == 0


async def test_resources_are_made_once_for_all_jobs_and_closed_at_the_end(document: Open, pool: ArqRedis) -> None:
    """``on_startup`` and ``on_shutdown`` are methods with ``self`` here."""
    async with document("seed_000", cwd="shop") as it:
        for name in ("ada", "grace"):
            await pool.enqueue_job("send_email", to_address=name, subject="Welcome!", body="Hi")
        worker = await it.worker("tasks.WorkerSettings")
        await worker.says("Email sent! (Not really)", times=2)
        await stopped(worker)

    assert worker.count("Worker has started up, resources ready.") == 1
    log = worker.log
    assert log.index("db_pool closed") < log.index("s3_client closed") < log.index("Worker shutting down, cleaned up")


async def test_the_first_settings_run_their_functions_without_any_hook(document: Open, pool: ArqRedis) -> None:
    """And what fails for want of ``ctx["email_server"]`` says so."""
    async with document("seed_000", cwd="shop") as it:
        image = await pool.enqueue_job("process_image", "cat.png")
        email = await pool.enqueue_job("send_email", to_address="ada", subject="Hi", body="Hi")
        worker = await it.worker("tasks.FirstWorkerSettings", "--burst")
        assert await worker.ended() == 0
        assert image is not None
        assert email is not None

        assert await image.result(timeout=1) is None
        with pytest.raises(KeyError, match="email_server"):
            await email.result(timeout=1)
    assert "Crunching pixels for cat.png..." in worker.log
    assert "Image processed!" in worker.log


async def test_what_is_not_in_the_list_is_not_run(document: Open, pool: ArqRedis) -> None:
    """Nobody can have ``os.system`` run."""
    async with document("seed_000", cwd="shop") as it:
        job = await pool.enqueue_job("os.system", f"echo yes > {it.folder}/pwned")
        await (await it.worker("tasks.WorkerSettings", "--burst")).ended()

        assert job is not None
        with pytest.raises(JobExecutionFailed, match=r"function 'os\.system' not found"):
            await job.result(timeout=1)
    assert it.file("pwned") == []


async def test_a_job_has_an_id_a_status_and_a_result_to_ask_for(document: Open, pool: ArqRedis) -> None:
    """The one-way ticket has a stub."""
    async with document("seed_000", cwd="shop") as it:
        job = await pool.enqueue_job("plain")
        assert job is not None
        assert await job.status() == JobStatus.queued
        await (await it.worker("timeouts.WorkerSettings", "--burst")).ended()

        assert await job.status() == JobStatus.complete
        assert await job.result(timeout=1) == job.job_id


async def test_arguments_must_be_picklable_and_arrive_as_they_were(pool: ArqRedis) -> None:
    """A database connection is not."""
    with pytest.raises(SerializationError, match='unable to serialize job "process_image"') as refused:
        await pool.enqueue_job("process_image", threading.Lock())
    await pool.enqueue_job("process_image", {1, 2}, when=time.gmtime(0))

    assert isinstance(refused.value.__cause__, (TypeError, pickle.PicklingError))
    [queued] = await pool.queued_jobs()
    assert (queued.args, queued.kwargs) == (({1, 2},), {"when": time.gmtime(0)})


async def test_the_default_timeout_is_five_minutes() -> None:
    """``job_timeout`` of the settings changes it."""

    async def nothing(ctx: dict[str, object]) -> None: ...

    worker = Worker([nothing], redis_settings=RedisSettings(), handle_signals=False)

    assert worker.job_timeout_s == 300


async def test_a_job_that_runs_too_long_is_cancelled_and_failed(document: Open, pool: ArqRedis) -> None:
    """By the ``@job`` decorator, or by ``job_timeout`` of the one enqueue; and not again, for it is final."""
    async with document("seed_000", cwd="shop") as it:
        by_decorator = await pool.enqueue_job("impatient", 5)
        by_enqueue = await pool.enqueue_job("patient", 5, job_timeout=0.3)
        in_time = await pool.enqueue_job("patient", 0.5, job_timeout=3)
        worker = await it.worker("timeouts.WorkerSettings", "--burst")
        await worker.ended()

        for job in (by_decorator, by_enqueue):
            assert job is not None
            with pytest.raises(TimeoutError):
                await job.result(timeout=1)
            assert worker.count(f"→ {job.job_id}") == 1
        assert in_time is not None
        assert await in_time.result(timeout=1) == "slept"


async def test_a_worker_survives_the_restart_of_redis(
    tmp_path: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is down nothing is enqueued; then all goes on without anybody's hand."""
    monkeypatch.setenv("ARQ_WEB_NAMESPACE", namespace)
    with running_redis() as first:
        port = first.port
        settings = RedisSettings(host="127.0.0.1", port=port, conn_retries=0)
        async with document_in(tmp_path, "seed_000", first.url, namespace, cwd="shop") as it:
            worker = await it.worker("timeouts.WorkerSettings")
            pool = await create_pool(settings)
            first.process.kill()
            first.process.wait()
            with pytest.raises(Exception, match=r"(?i)connect|unavailable|answer"):
                await pool.enqueue_job("plain")

            with running_redis(port=port):
                job = await pool.enqueue_job("plain")
                assert job is not None
                assert await job.result(timeout=20) == job.job_id
                await pool.aclose()
                assert await stopped(worker) == 0
    assert urlsplit(first.url).port == port
