"""What a worker does beside its jobs: signals, health check, heart beat, its end."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from arq_web.arq import Worker
from arq_web.arq._settings import as_settings
from arq_web.arq.connections import ArqRedis, RedisSettings
from tests.arq.conftest import MakeWorker
from tests.support.redis_server import running_redis
from tests.support.waiting import wait_until

Ctx = dict[Any, Any]
KEY = "arq:queue:health-check"


async def ok(ctx: Ctx) -> str:
    """Return."""
    return "ok"


async def test_a_second_close_does_nothing(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """on_shutdown closes what on_startup opened: once, until the worker runs again."""
    calls: list[str] = []

    async def on_shutdown(ctx: Ctx) -> None:
        calls.append("shutdown")

    worker = make_worker([ok], on_shutdown=on_shutdown)
    await worker.main()
    await asyncio.gather(worker.close(), worker.close())
    await worker.close()
    assert calls == ["shutdown"]

    await worker.main()
    await worker.close()
    assert calls == ["shutdown"] * 2


async def test_a_loops_own_handler_works_again_afterwards(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """A worker in a web app, whose server listens on the same loop."""
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    before = signal.getsignal(signal.SIGTERM)
    loop.add_signal_handler(signal.SIGTERM, heard.set)
    try:
        worker = make_worker([ok])
        await worker.main()
        await worker.close()

        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(heard.wait(), 5)
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, before)


async def test_a_handler_that_came_meanwhile_stays(pool: ArqRedis, make_worker: MakeWorker) -> None:
    before, theirs = signal.getsignal(signal.SIGTERM), lambda *_: None

    async def on_job_start(ctx: Ctx) -> None:
        signal.signal(signal.SIGTERM, theirs)

    await pool.enqueue_job("ok")
    try:
        await make_worker([ok], on_job_start=on_job_start).main()
        assert signal.getsignal(signal.SIGTERM) is theirs
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_the_health_check_comes_back_after_a_restart_of_redis() -> None:
    """Within seconds; the interval may be an hour, and a monitor would restart the worker meanwhile."""
    with running_redis() as first:
        worker = Worker([ok], redis_settings=first.url, handle_signals=False)
        working = asyncio.create_task(worker.async_run())
        async with ArqRedis.from_url(first.url) as client:
            await wait_until(lambda: client.exists(KEY), description="it is there")
        first.process.kill()
        first.process.wait()
    with running_redis(port=first.port) as second:
        async with ArqRedis.from_url(second.url) as client:
            await wait_until(lambda: client.exists(KEY), description="it is there again", timeout_s=15)
        working.cancel()
        await asyncio.wait((working,))
        await worker.close()


async def test_a_write_that_failed_is_tried_again_soon(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """Somebody's key of another type is in the way."""
    await pool.lpush(KEY, "x")
    worker = make_worker([ok], burst=False)
    working = asyncio.create_task(worker.async_run())
    await wait_until(pool.link.store("arq:queue").workers, description="it works")
    await pool.delete(KEY)
    await wait_until(lambda: pool.exists(KEY), description="it is there", timeout_s=10)
    working.cancel()
    await asyncio.wait((working,))


async def test_a_heart_beat_goes_on_whatever_it_meets(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """An overridden record_health, arguments of a cron job that cannot be serialised: said, and tried again."""
    beats: list[int] = []

    class Mine(Worker):
        async def record_health(self) -> None:
            beats.append(1)
            raise LookupError("no such monitor")

    worker = Mine([ok], redis_pool=pool)
    working = asyncio.create_task(worker.async_run())
    await wait_until(lambda: len(beats) > 2, description="it beats on")
    working.cancel()
    await asyncio.wait((working,))
    await worker.close()

    [said, *_] = [each for each in caplog.records if each.getMessage() == "heart beat failed"]
    assert said.exc_info is not None
    assert isinstance(said.exc_info[1], LookupError)


def test_unknown_settings_are_not_shown() -> None:
    """Their repr may hold a password."""

    class Odd:
        def __repr__(self) -> str:
            return "Odd(password='s3cret')"

    with pytest.raises(TypeError, match=r"Odd: give RedisSettings") as caught:
        as_settings(Odd())
    assert "s3cret" not in str(caught.value)


def test_what_is_a_url_as_text_will_do() -> None:
    """pydantic's RedisDsn is no str."""

    class Dsn:
        def __str__(self) -> str:
            return "redis://u:p@h:7/2"

    assert as_settings(Dsn()) == RedisSettings(host="h", port=7, database=2, username="u", password="p")
