"""``cron``: when a job recurs, and that each run is one job."""

from __future__ import annotations

import asyncio
import random
import zoneinfo
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from arq_web.arq import cron
from arq_web.arq._cron_times import CronTimes, system_zone
from arq_web.arq._crons import cron_zone, firings_of
from arq_web.arq.connections import ArqRedis
from arq_web.arq.cron import CronJob, next_cron
from arq_web.arq.worker import Worker
from tests.arq.conftest import MakeWorker
from tests.support.store_helpers import command
from tests.support.waiting import wait_until

Ctx = dict[Any, Any]
TZ = timezone(timedelta(hours=3))
LONDON = zoneinfo.ZoneInfo("Europe/London")


async def foobar(ctx: Ctx) -> int:
    """Return 42."""
    return 42


async def other(ctx: Ctx) -> int:
    """Return 24."""
    return 24


def at(*numbers: int) -> datetime:
    """A moment three hours east."""
    return datetime(*numbers, tzinfo=TZ)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("previous", "expected", "fields"),
    [
        (at(2016, 6, 1, 12, 10, 10), at(2016, 6, 1, 12, 10, 20, 123_456), {"second": 20}),
        (at(2016, 6, 1, 12, 10, 10), at(2016, 6, 1, 12, 11, 0, 123_456), {"minute": 11}),
        (at(2016, 6, 1, 12, 10, 10), at(2016, 6, 1, 12, 11), {"minute": 11, "microsecond": 0}),
        (
            at(2016, 6, 1, 12, 10, 10, 1),
            at(2016, 7, 1, 12, 10, 10),
            {"day": 1, "hour": 12, "minute": 10, "second": 10, "microsecond": 0},
        ),
        (at(2032, 1, 31), at(2032, 2, 28, 0, 0, 0, 123_456), {"day": 28}),
        (at(2032, 2, 5), at(2032, 3, 31, 0, 0, 0, 123_456), {"day": 31}),
        (at(2032, 1, 1, 0, 5), at(2032, 1, 1, 4, 2, 0, 123_456), {"hour": 4, "minute": {2, 4, 6}}),
        (at(2001, 1, 1), at(2001, 1, 7, 0, 0, 0, 123_456), {"weekday": "Sun"}),
        (at(2001, 1, 1), at(2001, 11, 7, 0, 0, 0, 123_456), {"month": 11, "weekday": 2}),
        (at(2032, 2, 14), at(2032, 8, 13, 0, 0, 0, 123_456), {"day": 13, "weekday": "fri"}),
    ],
)
def test_the_next_time_after_a_moment(previous: datetime, expected: datetime, fields: dict[str, Any]) -> None:
    """All given fields must match: a day and a weekday are two conditions."""
    assert next_cron(previous, **fields) == expected
    assert next_cron(previous, **fields).tzinfo is TZ


@pytest.mark.parametrize("fields", [{"minute": {0, 20, 40}}, {"hour": 3}, {"second": {10, 50}}, {"weekday": {5, 6}}])
def test_the_ticks_of_a_schedule_are_the_times_on_the_wall(fields: dict[str, Any]) -> None:
    """Where no clock is changed: arq's function and the engine's schedule agree, to the millisecond."""
    job = cron(foobar, **fields)
    for _ in range(20):
        moment = datetime.fromtimestamp(random.uniform(1.5e9, 2e9), UTC)
        tick_ms = CronTimes(job.fields, UTC).next_after_ms(int(moment.timestamp() * 1000))
        on_the_wall = next_cron(moment - timedelta(seconds=1), **fields)
        assert abs(on_the_wall.timestamp() * 1000 - tick_ms) < 60_001 if fields.get("minute") else True
        assert datetime.fromtimestamp(tick_ms / 1000, UTC) > moment


def ticks(job: CronJob, zone: zoneinfo.ZoneInfo, first: datetime, count: int) -> list[str]:
    """Some ticks after ``first``, in UTC."""
    times, tick_ms, found = CronTimes(job.fields, zone), int(first.timestamp() * 1000), list[str]()
    for _ in range(count):
        tick_ms = times.next_after_ms(tick_ms)
        found.append(f"{datetime.fromtimestamp(tick_ms / 1000, UTC):%H:%M}")
    return found


def test_a_change_of_the_clocks_neither_repeats_nor_forgets_a_run() -> None:
    """arq runs the hour of spring twice, and skips the second of autumn's."""
    job = cron(foobar, minute={0, 20, 40})
    spring, autumn = datetime(2026, 3, 29, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)

    assert ticks(job, LONDON, spring, 5) == ["00:40", "01:00", "01:20", "01:40", "02:00"]
    assert ticks(job, LONDON, autumn, 5) == ["00:40", "01:00", "01:20", "01:40", "02:00"]


def test_a_time_that_does_not_exist_in_spring_runs_once() -> None:
    job = cron(foobar, hour=1, minute=30, second=5)

    assert ticks(job, LONDON, datetime(2026, 3, 28, 12, 0, tzinfo=UTC), 2) == ["01:00", "00:30"]


@pytest.mark.parametrize(
    "fields",
    [{"hour": 24}, {"minute": {1, 60}}, {"weekday": "monday"}, {"day": 0}, {"second": 1.5}, {"microsecond": -1}],
)
def test_a_field_out_of_range_is_refused_where_it_is_written(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        cron(foobar, **fields)


def test_a_date_that_never_comes_is_refused() -> None:
    """arq looks for it until the year 10000, and dies."""
    with pytest.raises(ValueError, match="no date"):
        cron(foobar, month=2, day=30)


def test_a_cron_job_has_arqs_attributes() -> None:
    job = cron(foobar, hour=1, run_at_startup=True)

    assert str(job).startswith("<CronJob name=cron:foobar coroutine=<function foobar at")
    assert (job.keep_result_s, job.max_tries, job.unique, job.second, job.next_run) == (0, 1, True, 0, None)
    assert cron("asyncio.sleep").name == "cron:asyncio.sleep"
    with pytest.raises(RuntimeError, match="is not a coroutine function"):
        cron(lambda ctx: None)  # type: ignore[arg-type]


async def test_a_job_at_startup_runs_in_a_burst(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """Once per start of a worker; its line has no id."""
    caplog.set_level("INFO")
    worker = make_worker(cron_jobs=[cron(foobar, hour=1, run_at_startup=True), cron(other, hour=1)])

    await worker.main()

    assert worker.jobs_complete == 1
    assert any(text.endswith("s → cron:foobar()") for text in caplog.messages)
    assert any(text.endswith("s ← cron:foobar ● 42") for text in caplog.messages)
    assert not any("cron:other()" in text for text in caplog.messages)
    for each in worker.cron_jobs:
        assert each.next_run is not None
        assert each.next_run.tzinfo is not None


async def test_cron_jobs_of_one_id_are_one_job(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """Of two functions too."""
    one = [cron(function, minute=10, run_at_startup=True, job_id="singleton") for function in (foobar, other)]
    two = [cron(foobar, minute=10, run_at_startup=True, job_id=name) for name in ("first", "second")]

    for jobs, expected in ((one, 1), (two, 2)):
        worker = make_worker(cron_jobs=jobs)
        await worker.main()
        assert worker.jobs_complete == expected


async def test_a_tick_is_one_job_among_any_number_of_workers(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """Due now: the stored tick is moved, not the clock. arq may run it again a minute later."""
    ran: list[str] = []

    async def runs(ctx: Ctx) -> None:
        ran.append(ctx["job_id"])

    job = cron(runs, name="cron:runs", hour=3, minute=4)
    workers = [make_worker(cron_jobs=[job], burst=False, timezone=UTC) for _ in range(3)]
    store = pool.link.store("arq:queue")
    tick_ms = await store.server_now_ms() - 200
    firing = firings_of(workers[0], store)[0]
    await store.declare("cron:runs", firing.schedule.fingerprint, tick_ms)

    working = [asyncio.create_task(each.async_run()) for each in workers]
    await wait_until(lambda: ran, description="it runs")
    await asyncio.sleep(0.3)
    for each in working:
        each.cancel()
    await asyncio.wait(working)

    assert ran == [f"cron:runs:{tick_ms}"]


async def test_a_missed_tick_is_not_made_up_for(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """As in arq: what was due while no worker ran, more than a minute ago, does not run."""
    worker = make_worker(cron_jobs=[cron(foobar, name="cron:late", hour=3)], burst=False)
    store = pool.link.store("arq:queue")
    firing = firings_of(worker, store)[0]
    missed_ms = await store.server_now_ms() - 120_000
    await store.declare("cron:late", firing.schedule.fingerprint, missed_ms)
    working = asyncio.create_task(worker.async_run())

    async def has_moved_on() -> bool:
        raw = await command(store, "GET", store.base + b"s:cron:late")
        return isinstance(raw, bytes) and not raw.startswith(str(missed_ms).encode())

    await wait_until(has_moved_on, description="the tick was skipped")
    working.cancel()
    await asyncio.wait((working,))

    assert worker.jobs_complete == 0


async def test_a_tick_whose_id_belongs_to_another_function_is_skipped(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """Two cron jobs of one ``job_id``: the schedule goes on."""
    worker = make_worker(cron_jobs=[cron(foobar, name="cron:shared", hour=3, job_id="taken")], burst=False)
    await pool.enqueue_job("another", _job_id="taken", _defer_by=60)
    store = pool.link.store("arq:queue")
    firing = firings_of(worker, store)[0]
    tick_ms = await store.server_now_ms() - 100
    await store.declare("cron:shared", firing.schedule.fingerprint, tick_ms)
    working = asyncio.create_task(worker.async_run())

    async def has_moved_on() -> bool:
        raw = await command(store, "GET", store.base + b"s:cron:shared")
        return isinstance(raw, bytes) and not raw.startswith(str(tick_ms).encode())

    await wait_until(has_moved_on, description="the tick was skipped")
    working.cancel()
    await asyncio.wait((working,))


async def test_each_worker_runs_what_is_not_unique(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """``unique=False``: one job per worker and tick, enqueued a moment before, and due at its time."""
    workers = [make_worker(cron_jobs=[cron(foobar, hour=3, unique=False)], burst=False) for _ in range(2)]
    for worker in workers:
        due = datetime.now(UTC) + timedelta(seconds=0.5)
        worker.ctx["redis"] = pool
        await worker.run_cron(datetime.now(UTC), 0)
        worker.cron_jobs[0].next_run = due
        await worker.run_cron(datetime.now(UTC), 0.5)

    jobs = await pool.queued_jobs()
    assert [each.function for each in jobs] == ["cron:foobar", "cron:foobar"]
    assert len({each.job_id for each in jobs}) == 2


async def test_a_cron_job_whose_function_cancels_itself_is_tried_as_often_as_said(
    pool: ArqRedis, make_worker: MakeWorker
) -> None:
    async def cancels(ctx: Ctx) -> None:
        if ctx["job_try"] == 1:
            raise asyncio.CancelledError

    worker = make_worker(cron_jobs=[cron(cancels, hour=1, run_at_startup=True, max_tries=2)])
    await worker.main()

    assert (worker.jobs_complete, worker.jobs_retried, worker.jobs_failed) == (1, 1, 0)


async def test_two_schedules_of_one_name_are_two(pool: ArqRedis) -> None:
    """arq's ids of their runs are the name and the time: one where they coincide."""
    worker = Worker(cron_jobs=[cron(foobar, hour=1), cron(foobar, hour=2)], redis_pool=pool)

    first, second = firings_of(worker, pool.link.store("q"))

    assert (first.name, second.name) == ("cron:foobar", "cron:foobar#2")
    assert first.new_job(5).id == second.new_job(5).id == "cron:foobar:5"


@pytest.mark.parametrize(("name", "key"), [("Europe/Berlin", "Europe/Berlin"), (":Asia/Tokyo", "Asia/Tokyo")])
def test_the_zone_of_the_host_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch, name: str, key: str) -> None:
    """An offset alone (arq's default) is an hour off after the next change of the clocks."""
    monkeypatch.setenv("TZ", name)

    assert system_zone() == zoneinfo.ZoneInfo(key)


def test_a_zone_that_is_unknown_leaves_the_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Nowhere/Atall")

    assert system_zone().utcoffset(datetime.now(UTC)) is not None


class LikePytz:
    """Other libraries' zones are taken by their name."""

    zone = "Europe/Berlin"


@pytest.mark.parametrize("given", ["Europe/Berlin", LikePytz(), zoneinfo.ZoneInfo("Europe/Berlin")])
def test_a_worker_may_have_a_zone_of_its_own(given: Any) -> None:
    worker = Worker([foobar], timezone=given)

    assert cron_zone(worker) == zoneinfo.ZoneInfo("Europe/Berlin")
