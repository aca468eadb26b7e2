"""Where this API deliberately differs from arq's: one test per row of the table in docs/how-to/coming-from-arq.md.

``row`` names the row; tests/docs/test_from_arq.py holds the two against each other.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
import time
import zoneinfo
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypeVar

import pytest
import redis.asyncio as redis_async

from arq_web.arq import Retry, cron, func, job
from arq_web.arq._cron_times import CronTimes
from arq_web.arq._crons import cron_zone, firings_of
from arq_web.arq._settings import make_client
from arq_web.arq._translate import stored_id
from arq_web.arq.cli import _start
from arq_web.arq.connections import ArqRedis, RedisSettings, create_pool
from arq_web.arq.jobs import Job, JobStatus
from arq_web.arq.utils import get_tz, ms_to_datetime
from arq_web.arq.worker import JobExecutionFailed, Worker, create_worker
from arq_web.store.store import Settlement, WorkerKind
from tests.arq.conftest import MakeWorker
from tests.support.proxy import running_proxy
from tests.support.redis_server import RedisServer, running_redis
from tests.support.store_helpers import command
from tests.support.waiting import wait_until

Ctx = dict[Any, Any]
F = TypeVar("F", bound=Callable[..., Any])
ROWS: dict[str, list[str]] = {}


def row(name: str) -> Callable[[F], F]:
    """The row of the table that this test checks."""

    def note(test: F) -> F:
        ROWS.setdefault(name, []).append(test.__name__)
        return test

    return note


@pytest.fixture(autouse=True)
def show_info(caplog: pytest.LogCaptureFixture) -> None:
    """As arq's users see it."""
    caplog.set_level(logging.INFO)


async def enqueued(pool: ArqRedis, name: str = "f", *args: Any, **options: Any) -> Job:
    """A job that is new."""
    handle = await pool.enqueue_job(name, *args, **options)
    assert handle is not None
    return handle


def counts(worker: Worker) -> tuple[int, int, int]:
    """Complete, failed, retried."""
    return worker.jobs_complete, worker.jobs_failed, worker.jobs_retried


async def ok(ctx: Ctx) -> str:
    """Return."""
    return "ok"


async def fails(ctx: Ctx) -> None:
    """Raise."""
    raise OSError("no route")


# -- how jobs end -------------------------------------------------------------------------


@row("Exceptions")
@pytest.mark.parametrize("where", ["nowhere", "func", "attribute", "job", "settings"])
async def test_exceptions(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    """One second, doubling, ±20 %: where somebody has set max_tries."""

    async def f(ctx: Ctx) -> None:
        raise OSError("no route")

    if where == "attribute":
        f.max_tries = 2  # type: ignore[attr-defined]
    f = job(max_tries=2)(f) if where == "job" else f
    await enqueued(pool)
    options: Any = {"max_tries": 2} if where == "settings" else {}
    worker = make_worker([func(f, name="f", max_tries=2 if where == "func" else None)], **options)
    began_s = time.monotonic()
    await worker.main()

    assert counts(worker) == ((0, 1, 0) if where == "nowhere" else (0, 1, 1))
    if where != "nowhere":
        assert time.monotonic() - began_s > 0.8
        assert any(0.8 <= float(text.split("retrying job in ")[1].split("s")[0]) <= 1.2 for text in _retrying(caplog))


def _retrying(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for text in caplog.messages if "retrying job in" in text]


@row("Timeouts")
async def test_timeouts(pool: ArqRedis, make_worker: MakeWorker) -> None:
    async def f(ctx: Ctx) -> None:
        await asyncio.Event().wait()

    handle = await enqueued(pool)
    worker = make_worker([func(f, name="f", timeout=0.05, max_tries=5)])
    await worker.main()

    assert counts(worker) == (0, 1, 0)
    with pytest.raises(TimeoutError):
        await handle.result()


@row("`Retry` at the last try")
async def test_retry_at_the_last_try(pool: ArqRedis, make_worker: MakeWorker) -> None:
    async def f(ctx: Ctx) -> None:
        raise Retry(defer=3600)

    handle = await enqueued(pool)
    worker = make_worker([func(f, name="f", max_tries=1)])
    await asyncio.wait_for(worker.main(), 5)

    with pytest.raises(JobExecutionFailed, match="max 1 retries exceeded"):
        await handle.result()


@row("Shutdown and crashes")
async def test_shutdown_and_crashes(pool: ArqRedis, make_worker: MakeWorker) -> None:
    tries: list[int] = []

    async def f(ctx: Ctx) -> None:
        tries.append(ctx["job_try"])
        await asyncio.Event().wait()

    handle = await enqueued(pool)
    store = pool.link.store("arq:queue")
    for n in range(2):  # two workers stop, and the process of two others dies
        worker = make_worker([func(f, name="f")])
        working = asyncio.create_task(worker.async_run())
        await wait_until(lambda n=n: len(tries) == n + 1, description="it runs")
        worker.handle_sig(signal.SIGTERM)
        await asyncio.wait((working,))
        await worker.close()
        await _die(store, n)
    assert tries == [1, 1]
    assert await handle.status() is JobStatus.queued

    await _die(store, 3)
    with pytest.raises(JobExecutionFailed, match="the process that ran it died 3 times"):
        await handle.result()


async def _die(store: Any, n: int) -> None:
    [claimed] = (await store.claim("w", WorkerKind.EXTERNAL, f"{n + 1}.t", 1, 8000)).jobs
    await store.settle("w", [Settlement(claimed.id, claimed.attempt, claimed.token, "crash")])


@row("A killed worker")
@pytest.mark.timeout(30)
async def test_a_killed_worker(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """It says nothing any more: its lease of 8 s lapses, with a timeout of a day as well."""
    handle = await enqueued(pool, "ok")
    store = pool.link.store("arq:queue")
    assert len((await store.claim("dead", WorkerKind.EXTERNAL, "1.t", 1, 8000)).jobs) == 1
    worker = make_worker([func(ok, name="ok", timeout=86_400)], burst=False)
    working = asyncio.create_task(worker.async_run())
    began_s = time.monotonic()

    assert await handle.result(timeout=15) == "ok"
    assert time.monotonic() - began_s < 10.5
    working.cancel()
    await asyncio.wait((working,))


@row("A job longer than its mark")
async def test_a_job_longer_than_its_mark(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """Another worker finds nothing to do while the lease is renewed: each second, for 8 s."""
    started = asyncio.Event()

    async def f(ctx: Ctx) -> str:
        started.set()
        await asyncio.sleep(2.5)
        return "once"

    handle = await enqueued(pool)
    worker = make_worker([func(f, name="f")], job_timeout=None)
    working = asyncio.create_task(worker.main())
    await started.wait()
    store = pool.link.store("arq:queue")
    first = float(dict(await _leases(store))[handle.job_id])

    async def is_renewed() -> bool:
        leases = dict(await _leases(store))
        return float(leases.get(handle.job_id, 0)) >= first + 900

    await wait_until(is_renewed, timeout_s=3, description="the lease is renewed")
    await working
    assert counts(worker) == (1, 0, 0)


async def _leases(store: Any) -> list[tuple[str, bytes]]:
    found: Any = await command(store, "ZRANGE", store.base + b"leases", "0", "-1", "WITHSCORES")
    pairs = found if found and isinstance(found[0], list) else list(zip(found[::2], found[1::2], strict=True))
    return [(name.decode(), score) for name, score in pairs]


@row("Redis away")
async def test_redis_away(redis_server: RedisServer, own_namespace: str) -> None:
    go_on = asyncio.Event()

    async def f(ctx: Ctx) -> str:
        await go_on.wait()
        return "settled later"

    async with running_proxy(redis_server.port) as proxy, ArqRedis.from_url(redis_server.url) as pool:
        first = await enqueued(pool)
        worker = Worker([func(f, name="f"), func(ok, name="ok")], redis_settings=proxy.url, handle_signals=False)
        working = asyncio.create_task(worker.async_run())
        await wait_until(lambda: worker.tasks, description="it runs")
        proxy.refuse()
        go_on.set()
        await wait_until(lambda: worker.jobs_complete == 1, description="it has ended meanwhile")
        second = await enqueued(pool, "ok")
        await proxy.accept()

        assert [await first.result(timeout=10), await second.result(timeout=10)] == ["settled later", "ok"]
        assert not working.done()
        await worker.close()
        await asyncio.wait((working,))


@row("A hook that raises")
async def test_a_hook_that_raises(pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture) -> None:
    async def raises(ctx: Ctx) -> None:
        raise ZeroDivisionError("in a hook")

    async def result(**hooks: Any) -> Any:
        handle = await enqueued(pool, "ok")
        await make_worker([func(ok, name="ok")], **hooks).main()
        return await handle.result()

    with pytest.raises(ZeroDivisionError):
        await result(on_job_start=raises)
    assert await result(on_job_end=raises) == "ok"
    assert await result(after_job_end=raises) == "ok"
    assert "on_job_end of" in caplog.text
    assert "after_job_end of" in caplog.text
    with pytest.raises(ZeroDivisionError):
        await make_worker([ok], on_startup=raises).main()


class _BadRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@row("A result whose `repr` raises")
async def test_a_result_whose_repr_raises(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    async def f(ctx: Ctx) -> Any:
        return _BadRepr()

    handle = await enqueued(pool)
    worker = make_worker([func(f, name="f")])
    await worker.main()

    assert isinstance(await handle.result(), _BadRepr)
    assert "● <_BadRepr that cannot be shown: RuntimeError>" in caplog.text


# -- waiting ------------------------------------------------------------------------------


@row("Picking up")
async def test_picking_up(pool: ArqRedis, make_worker: MakeWorker) -> None:
    worker = make_worker([func(ok, name="ok")], burst=False, poll_delay=3600, queue_read_limit=1)
    working = asyncio.create_task(worker.async_run())
    assert await (await enqueued(pool, "ok")).result(timeout=5) == "ok"
    began_s = time.monotonic()
    handles = [await enqueued(pool, "ok") for _ in range(10)]

    await asyncio.gather(*(each.result(timeout=5) for each in handles))
    assert time.monotonic() - began_s < 0.5
    working.cancel()
    await asyncio.wait((working,))


@row("`job.result()`")
async def test_job_result(pool: ArqRedis, make_worker: MakeWorker) -> None:
    handle = await enqueued(pool, "ok")
    waiting = asyncio.create_task(handle.result(timeout=10, poll_delay=3600))
    await make_worker([func(ok, name="ok")]).main()

    assert await asyncio.wait_for(waiting, 2) == "ok"


@row("`run_job` by hand")
async def test_run_job_by_hand(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """What it took with it is back at its place, unspent."""
    others = [await enqueued(pool, "ok") for _ in range(3)]
    mine = await enqueued(pool, "ok")
    await make_worker([func(ok, name="ok")]).run_job(mine.job_id, 0)

    assert await mine.result(timeout=0) == "ok"
    assert {each.job_id for each in await pool.queued_jobs()} == {each.job_id for each in others}
    infos = [await pool.link.store("arq:queue").read(each.job_id) for each in others]
    assert [info and (info.failures, info.crashes) for info in infos] == [(0, 0)] * 3


# -- ids and results ----------------------------------------------------------------------


@row("`_job_id`")
async def test_job_id(pool: ArqRedis) -> None:
    assert await pool.enqueue_job("f", _job_id="one") is not None
    assert await pool.enqueue_job("f", _job_id="one") is None
    assert await pool.enqueue_job("f", _job_id="one", _queue_name="other") is not None


@row("An id is free again")
async def test_an_id_is_free_again(pool: ArqRedis, make_worker: MakeWorker) -> None:
    for name in ("ok", "fails"):
        await enqueued(pool, name, _job_id=name)
    functions = [func(ok, name="ok", keep_result=0), func(fails, name="fails", keep_result=0)]
    await make_worker(functions, keep_result=3600).main()

    for name in ("ok", "fails"):
        assert await pool.enqueue_job(name, _job_id=name) is not None


@row("`keep_result_forever`")
async def test_keep_result_forever(pool: ArqRedis, make_worker: MakeWorker, namespace: str) -> None:
    for name in ("ok", "fails"):
        await enqueued(pool, name, _job_id=name)
    await make_worker([func(ok, name="ok"), func(fails, name="fails")], keep_result_forever=True).main()

    for name in ("ok", "fails"):
        years = await pool.ttl(f"{namespace}:1:{{arq:queue}}:j:{name}") / (86_400 * 365.25)
        assert 3100 < years < 3200


@row("Ids and function names")
async def test_ids_and_function_names(pool: ArqRedis, make_worker: MakeWorker) -> None:
    text = "an id, with spaces/ä"
    handle = await enqueued(pool, "my function", _job_id=text)
    await make_worker([func(ok, name="my function")]).main()

    assert (await handle.result(), handle.job_id) == ("ok", text)
    assert len(stored_id(" ")) == 3
    assert await pool.enqueue_job("f", _job_id="x" * 1024) is not None
    for too_long in ("x" * 1025, " " * 342):
        with pytest.raises(ValueError, match="too long"):
            await pool.enqueue_job("f", _job_id=too_long)


@row("An expired job")
async def test_an_expired_job(pool: ArqRedis, make_worker: MakeWorker) -> None:
    handle = await enqueued(pool, "ok", "argument", _expires=0.01)
    store = pool.link.store("arq:queue")
    enqueued_ms = await store.server_now_ms()

    async def is_late() -> bool:
        return await store.server_now_ms() > enqueued_ms + 20

    await wait_until(is_late, description="Redis says that its time has passed")
    definition = await handle.info()
    assert definition is not None
    assert (definition.args, await handle.status()) == (("argument",), JobStatus.queued)
    await make_worker([func(ok, name="ok")]).main()
    with pytest.raises(JobExecutionFailed, match="job expired"):
        await handle.result()


@row("Keys")
async def test_keys(pool: ArqRedis, namespace: str) -> None:
    await enqueued(pool, "ok")
    await enqueued(pool, "ok", _defer_by=3600)

    assert len(await pool.keys(f"{namespace}:1:{{arq:queue}}:j:*")) == 2
    assert await pool.keys("arq:[jir]*") == []  # jobs, marks, results, retries
    assert await pool.exists("arq:queue", "arq:abort") == 0


# -- aborting -----------------------------------------------------------------------------


@row("`abort()`")
async def test_abort(pool: ArqRedis, make_worker: MakeWorker) -> None:
    ran, go_on = list[str](), asyncio.Event()

    async def f(ctx: Ctx) -> str:
        ran.append(ctx["job_id"])
        await go_on.wait()
        return "done"

    async def abort_of(running: str, **options: Any) -> object:
        handle, worker = await enqueued(pool, _job_id=running), make_worker([func(f, name="f")], **options)
        working = asyncio.create_task(worker.main())
        await wait_until(lambda: running in ran, description="it runs")
        try:
            return await handle.abort(timeout=2.5)
        except TimeoutError:
            return "it goes on"
        finally:
            go_on.set()
            await working

    deferred = await enqueued(pool, _job_id="deferred", _defer_by=3600)
    assert await deferred.abort(timeout=5) is True
    assert await abort_of("by default") is True
    go_on.clear()
    assert await abort_of("protected", allow_abort_jobs=False) == "it goes on"
    waiting = await enqueued(pool, _job_id="waiting", _defer_by=3600)
    assert await waiting.abort(timeout=5) is True
    assert ran == ["by default", "protected"]


@row("Marks of aborted jobs")
async def test_marks_of_aborted_jobs(pool: ArqRedis, make_worker: MakeWorker) -> None:
    worker = make_worker([func(ok, name="ok", keep_result=0)])
    await enqueued(pool, "ok", _job_id="one")
    await worker.main()
    assert await Job("one", pool).abort(timeout=5) is False
    await enqueued(pool, "ok", _job_id="one")
    await worker.main()

    assert counts(worker) == (2, 0, 0)


@row("The result of an aborted job")
async def test_the_result_of_an_aborted_job(pool: ArqRedis, make_worker: MakeWorker, namespace: str) -> None:
    started = asyncio.Event()

    async def f(ctx: Ctx) -> None:
        started.set()
        await asyncio.Event().wait()

    waiting = await enqueued(pool, _job_id="waiting", _defer_by=3600)
    assert await waiting.abort(timeout=5)
    running = await enqueued(pool, _job_id="running")
    working = asyncio.create_task(make_worker([func(f, name="f", keep_result=86_400)]).main())
    await started.wait()
    assert await running.abort(timeout=5)
    await working

    for name, kept_s in (("waiting", 3600), ("running", 86_400)):
        assert kept_s - 100 < await pool.ttl(f"{namespace}:1:{{arq:queue}}:j:{name}") <= kept_s


# -- enqueue_job --------------------------------------------------------------------------


@row("`defer_by=`, `run_at=`, `job_timeout=`")
@pytest.mark.parametrize("name", ["defer_by", "run_at", "job_timeout"])
async def test_options_without_an_underscore(pool: ArqRedis, name: str) -> None:
    values: dict[str, Any] = {"defer_by": 3600, "run_at": datetime.now(UTC) + timedelta(hours=1), "job_timeout": 7}
    handle = await enqueued(pool, "f", **{name: values[name]})
    definition = await handle.info()
    assert definition is not None
    assert definition.kwargs == {}
    assert await handle.status() is (JobStatus.queued if name == "job_timeout" else JobStatus.deferred)
    names: dict[str, Any] = {}
    exec(f"async def f(ctx, {name}): pass", names)  # noqa: S102
    with pytest.raises(RuntimeError, match=f"f has a parameter '{name}'"):
        Worker([names["f"]])


@row("`_priority=`")
async def test_priority(pool: ArqRedis, make_worker: MakeWorker) -> None:
    ran: list[int] = []

    async def f(ctx: Ctx, priority: int) -> None:
        ran.append(priority)

    for priority in (0, -10, 10, 5):
        await enqueued(pool, "f", priority, _priority=priority)
    await make_worker([func(f, name="f")], max_jobs=1).main()

    assert ran == [10, 5, 0, -10]


# -- health -------------------------------------------------------------------------------


@row("Health check")
async def test_health_check(pool: ArqRedis, make_worker: MakeWorker) -> None:
    workers = [make_worker([ok], burst=False, queue_name="health") for _ in range(2)]
    working = [asyncio.create_task(each.async_run()) for each in workers]
    store = pool.link.store("health")

    async def both_work() -> bool:
        return len(await store.workers()) == 2

    await wait_until(both_work, description="both work")
    text: Any = await pool.get("health:health-check")
    assert text is not None
    assert text.endswith(b" j_complete=0 j_failed=0 j_retried=0 j_ongoing=0 queued=0")
    for worker, task, is_left in zip(workers, working, (1, 0), strict=True):
        task.cancel()
        await asyncio.wait((task,))
        await worker.close()
        assert await pool.exists("health:health-check") == is_left


# -- crons --------------------------------------------------------------------------------


@row("Crons in several workers")
@pytest.mark.parametrize(("late_ms", "expected"), [(200, 1), (120_000, 0)])
async def test_crons_in_several_workers(pool: ArqRedis, make_worker: MakeWorker, late_ms: int, expected: int) -> None:
    """A tick of a moment ago runs once; one of two minutes ago does not. The stored tick is moved, not the clock."""
    ran: list[str] = []

    async def f(ctx: Ctx) -> None:
        ran.append(ctx["job_id"])

    workers = [make_worker(cron_jobs=[cron(f, name="tick", hour=3)], burst=False, timezone=UTC) for _ in range(2)]
    store = pool.link.store("arq:queue")
    tick_ms = await store.server_now_ms() - late_ms
    await store.declare("tick", firings_of(workers[0], store)[0].schedule.fingerprint, tick_ms)
    working = [asyncio.create_task(each.async_run()) for each in workers]

    async def has_moved_on() -> bool:
        raw = await command(store, "GET", store.base + b"s:tick")
        return isinstance(raw, bytes) and not raw.startswith(str(tick_ms).encode())

    await wait_until(has_moved_on, description="the schedule has moved on")
    await wait_until(lambda: len(ran) == expected, description="it runs")
    for each in working:
        each.cancel()
    await asyncio.wait(working)
    assert ran == [f"tick:{tick_ms}"] * expected


@row("Daylight saving")
def test_daylight_saving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine o'clock is nine o'clock on both sides of the change, also for a worker that runs since before it."""
    monkeypatch.setenv("TZ", "Europe/London")
    zone = cron_zone(Worker([ok]))
    times = CronTimes(cron(ok, hour=9, minute=0).fields, zone)
    tick_ms, hours = int(datetime(2026, 3, 27, 12, tzinfo=UTC).timestamp() * 1000), list[str]()
    for _ in range(3):
        tick_ms = times.next_after_ms(tick_ms)
        hours.append(f"{datetime.fromtimestamp(tick_ms / 1000, UTC):%d %H:%M}")

    assert zone == zoneinfo.ZoneInfo("Europe/London")
    assert hours == ["28 09:00", "29 08:00", "30 08:00"]


@row("Zones")
def test_zones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARQ_TIMEZONE", "Asia/Shanghai")
    get_tz.cache_clear()
    moment = ms_to_datetime(1_647_345_420_000)
    get_tz.cache_clear()

    assert moment.isoformat() == "2022-03-15T19:57:00+08:00"
    assert moment.tzinfo == zoneinfo.ZoneInfo("Asia/Shanghai")


@row("Crons on impossible dates")
def test_crons_on_impossible_dates() -> None:
    with pytest.raises(ValueError, match="30"):
        cron(ok, month=2, day=30)


# -- settings -----------------------------------------------------------------------------


@row("Two functions of one name")
async def test_two_functions_of_one_name(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    handle = await enqueued(pool, "f")
    await make_worker([func(fails, name="f"), func(ok, name="f")]).main()

    assert await handle.result() == "ok"
    assert "two functions are called 'f': only the later one will run" in caplog.messages


@row("Settings")
def test_settings() -> None:
    class Base:
        max_jobs = 3

    class Settings(Base):
        functions: ClassVar = [ok]

    assert create_worker(Settings).max_jobs == 3


@row("`redis_settings`")
async def test_redis_settings(redis_url: str, own_namespace: str) -> None:
    client = redis_async.Redis.from_url(redis_url)
    for given in (redis_url, client, RedisSettings.from_dsn(redis_url)):
        worker = Worker([ok], redis_settings=given, burst=True)
        await worker.main()
        await worker.close()
    await client.aclose()


@row("`--watch`")
async def test_watch(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker is another process (tests/arq/test_cli.py changes a file, and sees the new code run)."""
    monkeypatch.chdir(tmp_path)
    child = await _start(["--version"])
    assert await child.wait() == 0


@row("Signals")
async def test_signals(pool: ArqRedis, make_worker: MakeWorker) -> None:
    before, during = signal.getsignal(signal.SIGTERM), list[object]()

    async def f(ctx: Ctx) -> None:
        during.append(signal.getsignal(signal.SIGTERM))

    await enqueued(pool)
    worker = make_worker([func(f, name="f")])
    assert signal.getsignal(signal.SIGTERM) is before
    await worker.main()

    assert signal.getsignal(signal.SIGTERM) is before
    assert during != [before]


@row("`Worker(redis_pool=...)`")
async def test_worker_with_a_pool(pool: ArqRedis, settings: RedisSettings) -> None:
    given, own = Worker([ok], redis_pool=pool, burst=True), Worker([ok], redis_settings=settings, burst=True)
    for worker in (given, own):
        await worker.main()
    its_pool = own.pool
    for worker in (given, own):
        await worker.close()

    assert (pool.is_closed, its_pool.is_closed) == (False, True)


@row("Methods that take and end jobs")
@pytest.mark.parametrize("name", ["start_jobs", "finish_job", "finish_failed_job", "sem"])
def test_methods_that_take_and_end_jobs(name: str) -> None:
    with pytest.raises(AttributeError, match="the engine"):
        getattr(Worker([ok]), name)


@row("A burst whose Redis goes away")
async def test_a_burst_whose_redis_goes_away(own_namespace: str) -> None:
    with running_redis() as first:
        async with ArqRedis.from_url(first.url) as client:
            await enqueued(client, "f", _defer_by=3600)
        worker = Worker([func(ok, name="f")], redis_settings=first.url, burst=True, handle_signals=False)
        working = asyncio.create_task(worker.async_run())
        async with ArqRedis.from_url(first.url) as client:
            await wait_until(client.link.store("arq:queue").workers, description="it works")
        first.process.kill()
        first.process.wait()
    done, _ = await asyncio.wait((working,), timeout=1.5)  # the fault itself
    assert not done
    with running_redis(port=first.port):  # an empty one: nothing is left to do
        await asyncio.wait_for(working, 10)
        await worker.close()


# -- where Redis is -----------------------------------------------------------------------


@row("Password")
async def test_password() -> None:
    settings = RedisSettings(password="s3cret-word", port=1, conn_retries=0)
    with pytest.raises(redis_async.RedisError) as caught:
        _ = await create_pool(settings)

    client: Any = make_client(ArqRedis, settings)
    for text in (repr(settings), str(settings), str(caught.value), client.link.connections.target.address):
        assert "s3cret-word" not in text
    assert "password='***'" in repr(settings)


@row("DSN")
def test_dsn() -> None:
    settings = RedisSettings.from_dsn("rediss://a%40b:p%2Fw@h:7/2?ssl_cert_reqs=none&ssl_ca_certs=/ca.pem")

    assert (settings.username, settings.password, settings.database) == ("a@b", "p/w", 2)
    assert (settings.ssl, settings.ssl_cert_reqs, settings.ssl_ca_certs) == (True, "none", "/ca.pem")


@row("TLS to Sentinel")
def test_tls_to_sentinel() -> None:
    settings = RedisSettings(host=[("h", 1)], sentinel=True, ssl=True, ssl_ca_certs="/ca.pem", ssl_cert_reqs="optional")
    options = make_client(ArqRedis, settings).connection_pool.connection_kwargs

    assert options["ssl_ca_certs"] == "/ca.pem"
    assert options["ssl_cert_reqs"] in ("optional", ssl.CERT_OPTIONAL)
