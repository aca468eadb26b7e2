"""``Worker``: what it runs and how often, what it says and counts, how it begins and ends."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import os
import re
import signal
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import MagicMock

import pytest
import redis.asyncio as redis_async

from arq_web.arq import Worker, check_health, func, job, run_worker
from arq_web.arq.connections import ArqRedis, RedisSettings
from arq_web.arq.jobs import DeserializationError, Job, JobStatus
from arq_web.arq.utils import timestamp_ms
from arq_web.arq.worker import (
    FailedJobs,
    Function,
    JobExecutionFailed,
    Retry,
    RetryJob,
    async_check_health,
    create_worker,
    get_kwargs,
)
from tests.arq.conftest import MakeWorker
from tests.support.proxy import running_proxy
from tests.support.redis_server import RedisServer, running_redis
from tests.support.waiting import wait_until

Ctx = dict[Any, Any]


async def foobar(ctx: Ctx) -> int:
    """Return 42."""
    return 42


async def fails(ctx: Ctx) -> None:
    """Fail."""
    raise TypeError("my type error")


class CannotBeRead:
    """Pickles, but does not unpickle."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


class BadRepr:
    """A result that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.fixture(autouse=True)
def show_info(caplog: pytest.LogCaptureFixture) -> None:
    """As arq's users see it."""
    caplog.set_level(logging.INFO)


def lines(caplog: pytest.LogCaptureFixture) -> str:
    """The log without its times."""
    return re.sub(r"\d+\.\d\ds", "X.XXs", "\n".join(caplog.messages))


def counts(worker: Worker) -> tuple[int, int, int]:
    """Complete, failed, retried."""
    return worker.jobs_complete, worker.jobs_failed, worker.jobs_retried


# -- one job ------------------------------------------------------------------------------


async def test_a_job_that_returns_is_complete(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """Two lines, as arq writes them; the engine's own do not come between."""
    await pool.enqueue_job("foobar", _job_id="testing")
    worker = make_worker([foobar])

    await worker.main()

    assert counts(worker) == (1, 0, 0)
    assert lines(caplog).endswith("X.XXs → testing:foobar()\n  X.XXs ← testing:foobar ● 42")
    assert lines(caplog).startswith("Starting worker for 1 functions: foobar\nredis_version=")
    assert str(worker) == "<Worker j_complete=1 j_failed=0 j_retried=0 j_ongoing=0>"
    assert all(record.name.startswith("arq.") for record in caplog.records)


async def test_results_are_only_logged_where_that_is_wanted(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    await pool.enqueue_job("foobar", _job_id="testing")

    await make_worker([foobar], log_results=False).main()

    assert lines(caplog).endswith("X.XXs ← testing:foobar ● ")


async def test_the_context_of_a_job(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """A copy per job: shared resources, own facts; nothing but redis that could not be pickled."""
    seen: list[Ctx] = []

    async def looks(ctx: Ctx) -> None:
        seen.append(ctx)

    before_ms = timestamp_ms()
    await pool.enqueue_job("looks", _job_id="one")
    worker = make_worker([func(looks, name="looks")], ctx={"db": "shared"})
    await worker.main()

    [ctx] = seen
    assert set(ctx) == {"redis", "db", "job_id", "job_try", "enqueue_time", "score"}
    assert (ctx["redis"], ctx["db"], ctx["job_id"], ctx["job_try"]) == (pool, "shared", "one", 1)
    assert abs(ctx["score"] - before_ms) < 1000
    assert isinstance(ctx["enqueue_time"], datetime)
    assert ctx["enqueue_time"].utcoffset() == timedelta(0)
    assert set(worker.ctx) == {"redis", "db"}


async def test_a_late_job_says_by_how_much(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    await pool.enqueue_job("foobar", _job_id="testing", _defer_by=-2)

    await make_worker([foobar]).main()

    assert re.search(r"→ testing:foobar\(\) delayed=2\.\d\ds", caplog.text)


async def test_an_exception_is_the_end_of_a_job(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """As in arq, where nobody has set ``max_tries``; with its traceback, and what the exception has to add."""

    class CustomError(RuntimeError):
        def extra(self) -> dict[str, str]:
            return {"x": "y"}

    async def errs(ctx: Ctx) -> None:
        raise CustomError("this is the error")

    await pool.enqueue_job("errs", _job_id="testing")
    worker = make_worker([func(errs, name="errs")])

    await worker.main()

    assert counts(worker) == (0, 1, 0)
    assert "X.XXs ! testing:errs failed, CustomError: this is the error" in lines(caplog)
    [error] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert error.__dict__["extra"] == {"x": "y"}
    assert error.exc_info is not None


async def test_a_timeout_ends_a_job_whatever_max_tries_says(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    async def sleeps(ctx: Ctx) -> None:
        await asyncio.sleep(60)

    handle = await pool.enqueue_job("sleeps", _job_id="testing")
    assert handle is not None
    worker = make_worker([func(sleeps, name="sleeps", max_tries=3)], job_timeout=0.05)

    await worker.main()

    assert counts(worker) == (0, 1, 0)
    assert "X.XXs ! testing:sleeps failed, TimeoutError:" in lines(caplog)
    with pytest.raises(TimeoutError):
        await handle.result()


@pytest.mark.parametrize("where", ["enqueue", "func", "attribute", "decorator", "worker"])
async def test_a_timeout_may_be_said_in_many_places(pool: ArqRedis, make_worker: MakeWorker, where: str) -> None:
    async def sleeps(ctx: Ctx) -> None:
        await asyncio.sleep(60)

    if where == "attribute":
        sleeps.job_timeout = 0.05  # type: ignore[attr-defined]
    if where == "decorator":
        job(job_timeout=timedelta(milliseconds=50))(sleeps)
    await pool.enqueue_job("sleeps", job_timeout=0.05 if where == "enqueue" else None)
    function = func(sleeps, name="sleeps", timeout=0.05 if where == "func" else None)

    worker = make_worker([function], job_timeout=0.05 if where == "worker" else 300)
    await worker.main()

    assert counts(worker) == (0, 1, 0)


async def test_a_job_may_have_no_timeout(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """In arq the lease is then ten seconds, and others start it again."""
    await pool.enqueue_job("foobar")
    worker = make_worker([foobar, fails], job_timeout=None)

    await worker.main()

    assert counts(worker) == (1, 0, 0)


async def test_an_unknown_function_is_a_failure_that_names_it(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    await pool.enqueue_job("missing", _job_id="testing")
    worker = make_worker([foobar])

    with pytest.raises(FailedJobs) as caught:
        await worker.run_check()

    assert "job testing, function 'missing' not found" in caplog.messages
    assert (caught.value.count, len(caught.value.job_results)) == (1, 1)
    assert caught.value.job_results[0].result == JobExecutionFailed("function 'missing' not found")
    assert caught.value.job_results[0].result != 123


async def test_arguments_that_cannot_be_read_are_a_failure(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    await pool.enqueue_job("foobar", CannotBeRead(), _job_id="testing")

    with pytest.raises(FailedJobs) as caught:
        await make_worker([foobar]).run_check()

    assert str(caught.value) == "1 job failed DeserializationError('unable to deserialize job')"
    assert isinstance(caught.value.job_results[0].result, DeserializationError)
    assert "deserializing job testing failed" in caplog.messages


async def test_a_job_that_comes_too_late_has_expired(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """``_expires`` is its latest start, by the clock of Redis."""
    await pool.enqueue_job("foobar", _job_id="testing", _expires=0.01)
    await asyncio.sleep(0.05)

    with pytest.raises(FailedJobs) as caught:
        await make_worker([foobar]).run_check()

    assert str(caught.value) == "1 job failed JobExecutionFailed('job expired')"
    assert "job testing expired" in caplog.messages


@pytest.mark.parametrize("extra_ms", [None, 10])
async def test_by_default_a_job_expires_a_day_after_its_time(
    pool: ArqRedis, make_worker: MakeWorker, extra_ms: int | None
) -> None:
    """Or after the pool's ``expires_extra_ms``; the time it was deferred does not count."""
    if extra_ms is not None:
        pool.expires_extra_ms = extra_ms
    await pool.enqueue_job("foobar")
    await asyncio.sleep(0.05)
    worker = make_worker([foobar])

    await worker.main()

    assert counts(worker) == ((1, 0, 0) if extra_ms is None else (0, 1, 0))


async def test_what_a_job_returns_need_not_be_shown(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """In arq a ``__repr__`` that raises fails the job."""

    async def returns_it(ctx: Ctx, value: object) -> int:
        _ = BadRepr()
        return 1

    await pool.enqueue_job("f", 1)
    worker = make_worker([func(returns_it, name="f")])
    await worker.main()

    assert counts(worker) == (1, 0, 0)


async def test_sys_exit_in_a_job_is_its_failure_only(pool: ArqRedis, make_worker: MakeWorker) -> None:
    async def exits(ctx: Ctx) -> None:
        raise SystemExit(3)

    await pool.enqueue_job("exits")
    await pool.enqueue_job("foobar")
    worker = make_worker([func(exits, name="exits"), foobar])
    await worker.main()

    assert counts(worker) == (1, 1, 0)


# -- retries ------------------------------------------------------------------------------


async def test_a_job_may_ask_to_run_again(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    async def retries(ctx: Ctx) -> None:
        if ctx["job_try"] <= 2:
            raise Retry(defer=0.01)

    await pool.enqueue_job("retries", _job_id="testing")
    worker = make_worker([func(retries, name="retries")])

    await worker.main()

    assert counts(worker) == (1, 0, 2)
    assert "  X.XXs ↻ testing:retries retrying job in X.XXs\n" in lines(caplog)
    assert "  X.XXs → testing:retries() try=2\n" in lines(caplog)
    assert "  X.XXs ← testing:retries ●" in lines(caplog)


async def test_a_job_that_asks_too_often_fails(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """Five times by default, and at once with the last one."""
    tries: list[int] = []

    async def retries(ctx: Ctx) -> None:
        tries.append(ctx["job_try"])
        raise Retry

    await pool.enqueue_job("retries", _job_id="testing")
    worker = make_worker([func(retries, name="retries")])

    with pytest.raises(FailedJobs, match="max 5 retries exceeded"):
        await worker.run_check()

    assert tries == [1, 2, 3, 4, 5]
    assert counts(worker) == (0, 1, 5)
    assert "  X.XXs ! testing:retries max retries 5 exceeded" in lines(caplog)


@pytest.mark.parametrize("error", [RetryJob(), asyncio.CancelledError()])
async def test_a_job_that_is_cancelled_by_itself_runs_again(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """A library in it may raise CancelledError: that costs a try, or it would be for ever."""

    async def retries(ctx: Ctx) -> int:
        if ctx["job_try"] == 1:
            raise error
        return int(ctx["job_try"])

    handle = await pool.enqueue_job("retries", _job_id="testing")
    assert handle is not None
    worker = make_worker([func(retries, name="retries")])
    await worker.main()

    assert counts(worker) == (1, 0, 1)
    assert "X.XXs ↻ testing:retries cancelled, will be run again" in lines(caplog)
    assert await handle.result() == 2


async def test_a_worker_may_be_told_to_try_nothing_again(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    async def retries(ctx: Ctx) -> None:
        raise Retry(defer=0.01)

    await pool.enqueue_job("retries", _job_id="testing")

    with pytest.raises(FailedJobs) as caught:
        await make_worker([func(retries, name="retries")]).run_check(retry_jobs=False)

    assert str(caught.value) == "1 job failed <Retry defer 0.01s>"
    assert "↻" not in caplog.text
    assert "! testing:retries failed, Retry: <Retry defer 0.01s>" in caplog.text


@pytest.mark.parametrize("where", ["func", "attribute", "decorator", "worker"])
async def test_an_exception_is_retried_where_max_tries_was_set(
    pool: ArqRedis, make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """What documents about arq promise. With growing delays, here made short."""
    delays: list[int] = []

    def backoff(failures: int, error: BaseException) -> float:
        delays.append(failures)
        return 0.01

    monkeypatch.setattr("arq_web.arq._attempt.BACKOFF", backoff)

    async def flaky(ctx: Ctx) -> int:
        if ctx["job_try"] < 3:
            raise OSError("no route")
        return int(ctx["job_try"])

    if where == "attribute":
        flaky.max_tries = 3  # type: ignore[attr-defined]
    if where == "decorator":
        job(max_tries=3)(flaky)
    handle = await pool.enqueue_job("flaky")
    assert handle is not None
    function = func(flaky, name="flaky", max_tries=3 if where == "func" else None)
    worker = make_worker([function], **({"max_tries": 3} if where == "worker" else {}))

    await worker.main()

    assert await handle.result() == 3
    assert counts(worker) == (1, 0, 2)
    assert delays == [1, 2]


async def test_the_last_exception_is_the_result(pool: ArqRedis, make_worker: MakeWorker) -> None:
    handle = await pool.enqueue_job("fails")
    assert handle is not None
    worker = make_worker([func(fails, max_tries=1)])
    await worker.main()

    with pytest.raises(TypeError, match="my type error"):
        await handle.result()
    assert counts(worker) == (0, 1, 0)


def test_the_delays_between_tries_grow_visibly() -> None:
    """About a second, then twice as long each time; five tries well within a few minutes."""
    from arq_web.arq._attempt import BACKOFF  # noqa: PLC0415

    delays = [BACKOFF(failures, OSError()) for failures in range(1, 5)]

    assert all(0.8 * 2**n <= delay <= 1.2 * 2**n for n, delay in enumerate(delays))


@pytest.mark.parametrize(("seed", "expected"), [(None, 1), (3, 3), (0, 1)])
async def test_the_number_of_the_first_try_may_be_given(
    pool: ArqRedis, make_worker: MakeWorker, seed: int | None, expected: int
) -> None:
    async def which(ctx: Ctx) -> int:
        if ctx["job_try"] == 3 and ctx["again"]:
            ctx["again"].pop()
            raise Retry
        return int(ctx["job_try"])

    handle = await pool.enqueue_job("which", _job_try=seed)
    assert handle is not None
    await make_worker([func(which, name="which")], ctx={"again": [1]}).main()

    assert await handle.result() == (4 if seed == 3 else expected)


async def test_a_job_that_begins_beyond_its_tries_does_not_begin(pool: ArqRedis, make_worker: MakeWorker) -> None:
    handle = await pool.enqueue_job("foobar", _job_try=6)
    assert handle is not None
    worker = make_worker([foobar])
    await worker.main()

    with pytest.raises(JobExecutionFailed, match="max 5 retries exceeded"):
        await handle.result()
    assert counts(worker) == (0, 1, 0)


# -- hooks --------------------------------------------------------------------------------


async def test_hooks_are_called_in_their_order(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """``after_job_end`` when the result is recorded."""
    calls: list[Any] = []

    async def on_start(ctx: Ctx) -> None:
        ctx["note"] = "of this job"
        calls.append(("start", ctx["job_id"]))

    async def on_end(ctx: Ctx) -> None:
        calls.append(("end", ctx["note"], await Job(ctx["job_id"], ctx["redis"]).status()))

    async def after_end(ctx: Ctx) -> None:
        calls.append(("after", ctx["note"], await Job(ctx["job_id"], ctx["redis"]).status()))

    async def startup(ctx: Ctx) -> None:
        calls.append("startup")
        ctx["db"] = 1

    def shutdown(ctx: Ctx) -> None:  # a plain def is fine too
        calls.append(("shutdown", sorted(ctx)))

    await pool.enqueue_job("foobar", _job_id="one")
    hooks = {"on_job_start": on_start, "on_job_end": on_end, "after_job_end": after_end}
    worker = make_worker([foobar], on_startup=startup, on_shutdown=shutdown, **hooks)
    await worker.main()
    await worker.close()

    assert calls == [
        "startup",
        ("start", "one"),
        ("end", "of this job", JobStatus.in_progress),
        ("after", "of this job", JobStatus.complete),
        ("shutdown", ["db", "redis"]),
    ]


@pytest.mark.parametrize(
    ("hook", "expected"), [("on_job_start", (0, 2, 0)), ("on_job_end", (2, 0, 0)), ("after_job_end", (2, 0, 0))]
)
async def test_a_hook_that_raises_does_not_end_the_worker(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture, hook: str, expected: tuple[int, int, int]
) -> None:
    """In arq it does."""

    async def raises(ctx: Ctx) -> None:
        raise ZeroDivisionError("in a hook")

    for _ in range(2):
        await pool.enqueue_job("foobar")
    worker = make_worker([foobar], **{hook: raises})
    await worker.main()

    assert counts(worker) == expected
    assert "in a hook" in caplog.text


# -- bursts -------------------------------------------------------------------------------


async def test_a_check_of_jobs_that_went_well_says_how_many(pool: ArqRedis, make_worker: MakeWorker) -> None:
    for _ in range(2):
        await pool.enqueue_job("foobar")

    assert await make_worker([foobar]).run_check() == 2


async def test_a_check_names_what_failed(pool: ArqRedis, make_worker: MakeWorker) -> None:
    for _ in range(2):
        await pool.enqueue_job("fails")

    with pytest.raises(FailedJobs, match="2 jobs failed:\n") as caught:
        await make_worker([fails]).run_check()

    assert len(caught.value.job_results) == 2
    assert repr(caught.value).startswith("<2 jobs failed:")


async def test_counters_of_one_worker_add_up(pool: ArqRedis, make_worker: MakeWorker) -> None:
    worker = make_worker([foobar])
    for expected in (1, 2):
        await pool.enqueue_job("foobar")
        assert await worker.run_check() == expected


async def test_a_burst_waits_for_deferred_jobs(pool: ArqRedis, make_worker: MakeWorker) -> None:
    await pool.enqueue_job("foobar", _defer_by=0.3)
    worker = make_worker([foobar])

    await asyncio.wait_for(worker.main(), 5)

    assert counts(worker) == (1, 0, 0)


async def test_a_burst_may_be_limited(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """A retry is one of them; what is beyond stays."""

    async def retries(ctx: Ctx) -> None:
        raise Retry(defer=0.01)

    for name in ("foobar", "foobar", "retries"):
        await pool.enqueue_job(name)
    worker = make_worker([foobar, func(retries, name="retries")])

    assert await worker.run_check(max_burst_jobs=1) == 1
    assert len(await pool.queued_jobs()) == 2
    assert await worker.run_check(max_burst_jobs=3) == 2
    assert counts(worker) == (2, 0, 1)
    assert await worker.run_check(max_burst_jobs=0) == 2
    assert counts(worker) == (2, 0, 1)


async def test_a_job_may_enqueue_another(pool: ArqRedis, make_worker: MakeWorker) -> None:
    async def parent(ctx: Ctx) -> str:
        inner = await ctx["redis"].enqueue_job("foobar")
        return str(inner.job_id)

    handle = await pool.enqueue_job("parent")
    assert handle is not None
    await make_worker([func(parent, name="parent"), foobar]).main()

    assert await Job(await handle.result(), pool).result() == 42  # type: ignore[arg-type]


async def test_no_job_runs_twice_among_many(pool: ArqRedis, make_worker: MakeWorker) -> None:
    ran: list[int] = []

    async def count(ctx: Ctx, n: int) -> None:
        ran.append(n)

    twice = [pool.enqueue_job("count", n, _job_id=f"v-{n}") for n in range(50) for _ in range(2)]
    await asyncio.gather(*twice)
    first, second = make_worker([func(count, name="count")]), make_worker([func(count, name="count")])
    await asyncio.gather(first.main(), second.main())

    assert sorted(ran) == list(range(50))


# -- the end ------------------------------------------------------------------------------


async def test_a_worker_works_until_it_is_cancelled(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """Outside of a burst; a job that comes later is taken at once, without polling."""
    worker = make_worker([foobar], burst=False)
    working = asyncio.create_task(worker.async_run())
    await asyncio.sleep(0.1)
    handle = await pool.enqueue_job("foobar")
    assert handle is not None

    assert await handle.result(timeout=1) == 42

    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working


async def test_a_job_goes_on_when_main_is_cancelled(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """``asyncio.wait_for(worker.main(), …)`` leaves it in progress, under its lease; ``close`` waits for it."""
    go_on = asyncio.Event()

    async def waits(ctx: Ctx) -> str:
        await go_on.wait()
        return "done"

    handle = await pool.enqueue_job("waits")
    assert handle is not None
    worker = make_worker([func(waits, name="waits")])
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(worker.main(), 0.2)

    assert await handle.status() is JobStatus.in_progress
    assert len(worker.tasks) == 1
    go_on.set()
    await worker.close()
    assert await handle.result(timeout=0) == "done"


async def test_a_signal_cancels_what_runs_and_costs_it_nothing(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """arq counts a try: five deployments, and the job has failed."""
    tries: list[int] = []

    async def waits(ctx: Ctx) -> None:
        tries.append(ctx["job_try"])
        if len(tries) < 3:
            await asyncio.Event().wait()

    await pool.enqueue_job("waits", _job_id="one")
    for n in (1, 2):
        worker = make_worker([func(waits, name="waits", max_tries=1)])
        working = asyncio.create_task(worker.async_run())
        await wait_until(lambda n=n: len(tries) == n, description="it runs")
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(asyncio.CancelledError):
            await working
        await worker.close()
        assert counts(worker) == (0, 0, 1)
        assert await Job("one", pool).status() is JobStatus.queued

    await make_worker([func(waits, name="waits", max_tries=1)]).main()
    assert tries == [1, 1, 1]
    assert "shutdown on SIGTERM ◆ 0 jobs complete ◆ 0 failed ◆ 0 retries ◆ 1 ongoing to cancel" in caplog.messages
    assert "X.XXs ↻ one:waits cancelled, will be run again" in lines(caplog)


async def test_a_job_that_was_claimed_and_has_not_begun_does_not_begin_after_a_signal(
    pool: ArqRedis, make_worker: MakeWorker
) -> None:
    """One claim brings several jobs: the signal comes when the first of them runs and the second has no task."""
    begun: list[str] = []

    async def waits(ctx: Ctx) -> None:
        begun.append(ctx["job_id"])
        worker.handle_sig(signal.SIGTERM)
        await asyncio.Event().wait()

    jobs = [await pool.enqueue_job("waits", _job_id=job_id) for job_id in ("one", "two")]
    worker = make_worker([func(waits, name="waits")])
    await asyncio.wait((asyncio.create_task(worker.async_run()),))
    await asyncio.wait_for(worker.close(), 5)

    assert begun == ["one"]
    assert [await job.status() for job in jobs if job is not None] == [JobStatus.queued, JobStatus.queued]


@pytest.mark.parametrize("wait", [0, 5])
@pytest.mark.parametrize("awaits", ["the server", "its startup"])
async def test_a_signal_before_its_first_job_stops_it(
    redis_server: RedisServer, own_namespace: str, caplog: pytest.LogCaptureFixture, wait: int, awaits: str
) -> None:
    """Also where what the worker awaits just then swallows the cancellation."""
    async with running_proxy(redis_server.port) as proxy:
        worker = Worker([foobar], redis_settings=RedisSettings(port=proxy.port), job_completion_wait=wait)
        swallowed: list[str] = []
        if awaits == "its startup":
            worker.on_startup = functools.partial(_swallow, swallowed)
        working = asyncio.create_task(worker._run_and_close())
        if awaits == "its startup":
            await wait_until(lambda: swallowed == ["waits"], description="its startup waits")
        else:
            await wait_until(lambda: "Starting worker" in caplog.text, description="it begins")
            proxy.black_hole(requests=False)
        os.kill(os.getpid(), signal.SIGTERM)
        await wait_until(lambda: "shutdown on SIGTERM" in caplog.text, description="the signal is heard")
        proxy.heal()
        await asyncio.wait((working,), timeout=5)

        assert working.done()
        assert working.exception() is None


async def _swallow(said: list[str], ctx: Ctx) -> None:
    said.append("waits")
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


async def test_jobs_may_get_time_to_end_after_a_signal(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    async def sleeps(ctx: Ctx, seconds: float) -> None:
        await asyncio.sleep(seconds)

    await pool.enqueue_job("sleeps", 0.3, _job_id="short")
    await pool.enqueue_job("sleeps", 60, _job_id="long")
    worker = make_worker([func(sleeps, name="sleeps")], job_completion_wait=0.6)
    working = asyncio.create_task(worker.async_run())
    await wait_until(lambda: len(worker.tasks) == 2, description="both run")

    worker.handle_sig_wait_for_completion(signal.SIGINT)
    assert worker.allow_pick_jobs is False
    await pool.enqueue_job("sleeps", 0, _job_id="later")
    with pytest.raises(asyncio.CancelledError):
        await working
    await worker.close()

    assert counts(worker) == (1, 0, 1)
    assert "Setting allow_pick_jobs to `False`" in caplog.messages
    assert "shutdown on SIGINT ◆ 0 jobs complete ◆ 0 failed ◆ 0 retries ◆ 2 to be completed" in caplog.messages
    waited = "shutdown on SIGINT, wait complete ◆ 1 jobs complete ◆ 0 failed ◆ 0 retries ◆ 1 ongoing to cancel"
    assert waited in caplog.messages
    assert "long:sleeps cancelled, will be run again" in caplog.messages[-1]
    assert sorted([each.job_id for each in await pool.queued_jobs()], key=str) == ["later", "long"]


async def test_handlers_of_signals_are_there_while_it_runs_only(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """arq installs them in the constructor, and takes a web server's away."""
    both, mine = (signal.SIGINT, signal.SIGTERM), lambda *_: None
    before = [signal.signal(each, mine) for each in both]
    try:
        worker = make_worker([foobar])
        assert [signal.getsignal(each) for each in both] == [mine, mine]
        await worker.main()
        assert [signal.getsignal(each) for each in both] == [mine, mine]
    finally:
        for each, known in zip(both, before, strict=True):
            signal.signal(each, known)


async def test_a_signal_stops_every_worker_of_the_loop(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """And the handlers are there until the last one has ended, whichever ends first."""
    before = signal.getsignal(signal.SIGTERM)
    workers = [make_worker([foobar], burst=False, queue_name=name) for name in ("one", "two", "three")]
    working = [asyncio.create_task(each.async_run()) for each in workers]
    for each in workers:
        store = pool.link.store(each.queue_name)
        await wait_until(store.workers, description="it works")
    working[0].cancel()
    await asyncio.wait(working[:1])

    os.kill(os.getpid(), signal.SIGTERM)
    done, _ = await asyncio.wait(working, timeout=5)

    assert len(done) == 3
    assert signal.getsignal(signal.SIGTERM) is before


async def test_a_worker_without_signals_is_ended_by_close(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker([foobar], handle_signals=False)
    worker.main_task = MagicMock()
    done, ongoing = MagicMock(**{"done.return_value": True}), MagicMock(**{"done.return_value": False})
    worker.tasks = {"0": done, "1": ongoing}

    await worker.close()

    assert caplog.messages == ["shutdown on SIGUSR1 ◆ 0 jobs complete ◆ 0 failed ◆ 0 retries ◆ 2 ongoing to cancel"]
    assert (done.cancel.call_count, ongoing.cancel.call_count) == (0, 1)
    assert worker.main_task.cancel.call_count == 1


async def test_a_pool_that_was_given_is_left_open(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """arq closes it, and with it the web app's."""
    worker = make_worker([foobar])
    await worker.main()
    await worker.close()

    assert not pool.is_closed
    await pool.enqueue_job("foobar")
    assert await worker.run_check() == 1


async def test_a_pool_of_its_own_is_closed(settings: RedisSettings) -> None:
    worker = Worker([foobar], redis_settings=settings, burst=True)
    await worker.main()
    own = worker.pool
    await worker.close()

    assert own.is_closed


async def test_a_worker_waits_for_a_redis_that_is_restarted(caplog: pytest.LogCaptureFixture) -> None:
    """arq's dies of it."""
    with running_redis() as first:
        worker = Worker([foobar], redis_settings=first.url, health_check_interval=0.1)
        working = asyncio.create_task(worker.async_run())
        await wait_until(lambda: "redis_version" in caplog.text, description="it works")
        first.process.kill()
        first.process.wait()
    await asyncio.sleep(1)  # the fault itself
    with running_redis(port=first.port) as second:
        async with ArqRedis.from_url(second.url) as client:
            handle = await client.enqueue_job("foobar")
            assert handle is not None
            assert await handle.result(timeout=10) == 42
        working.cancel()
        await asyncio.wait((working,))
        await worker.close()


# -- settings -----------------------------------------------------------------------------


def test_a_worker_needs_a_function() -> None:
    with pytest.raises(RuntimeError, match="at least one function"):
        Worker([])


def test_what_is_no_coroutine_function_is_refused() -> None:
    with pytest.raises(RuntimeError, match="is not a coroutine function"):
        Worker([lambda ctx: None])  # type: ignore[list-item]
    with pytest.raises(RuntimeError, match="must be instances of CronJob"):
        Worker([foobar], cron_jobs=[foobar])  # type: ignore[list-item]


def test_a_queue_has_a_name_or_a_pool_that_knows_it() -> None:
    with pytest.raises(ValueError, match="redis_pool must be present"):
        Worker([foobar], queue_name=None)
    assert Worker([foobar], queue_name=None, redis_pool=ArqRedis(default_queue_name="mine")).queue_name == "mine"


@pytest.mark.parametrize("name", ["defer_by", "run_at", "job_timeout"])
def test_a_function_cannot_have_a_parameter_that_enqueue_job_takes(name: str) -> None:
    """Its argument would never arrive: better said at the start."""
    names: dict[str, Any] = {}
    exec(f"async def f(ctx, {name}): pass", names)  # noqa: S102

    with pytest.raises(RuntimeError, match=f"f has a parameter '{name}'"):
        Worker([names["f"]])


def test_a_function_is_known_by_its_name() -> None:
    async def inner(ctx: Ctx) -> None:
        pass

    worker = Worker([foobar, func(inner, name="inner"), "asyncio.sleep"])

    assert list(worker.functions) == ["foobar", "inner", "asyncio.sleep"]
    assert worker.functions["foobar"] == Function("foobar", foobar, None, None, None, None)
    assert func(worker.functions["inner"]) is worker.functions["inner"]  # type: ignore[arg-type]


def test_two_functions_of_one_name_are_said(caplog: pytest.LogCaptureFixture) -> None:
    """arq says nothing; the later one runs."""
    Worker([foobar, func(fails, name="foobar")])

    assert caplog.messages == ["two functions are called 'foobar': only the later one will run"]


def test_the_signature_is_arqs() -> None:
    """Settings classes are read by it, by other people's code as well."""
    parameters = inspect.signature(Worker).parameters

    assert list(parameters)[:4] == ["functions", "queue_name", "cron_jobs", "redis_settings"]
    assert {name: parameters[name].default for name in ("max_tries", "max_jobs", "keep_result", "job_timeout")} == {
        "max_tries": 5,
        "max_jobs": 10,
        "keep_result": 3600,
        "job_timeout": 300,
    }
    assert Worker([foobar], max_jobs=22).queue_read_limit == 110
    assert Worker([foobar], queue_read_limit=2).queue_read_limit == 2
    assert Worker([foobar]).timezone == datetime.now(UTC).astimezone().tzinfo


class Base:
    functions: ClassVar = [foobar]
    keep_result = timedelta(hours=24)
    max_jobs: int = 20


class Inherited(Base):
    health_check_interval = 30
    not_a_parameter = 1

    @staticmethod
    async def on_startup(ctx: Ctx) -> None:
        ctx["started"] = True


class WithSelf(Base):
    async def on_startup(self, ctx: Ctx) -> None:
        ctx["self"] = type(self)

    async def on_shutdown(self, ctx: Ctx) -> None:
        ctx["ended"] = type(self)


@pytest.mark.parametrize(
    "given",
    [
        Inherited,
        Inherited(),
        {"functions": [foobar], "keep_result": 86_400, "max_jobs": 20, "health_check_interval": 30},
        type("Made", (Inherited,), {}),
        SimpleNamespace(functions=[foobar], keep_result=86_400.0, max_jobs=20, health_check_interval=30),
    ],
)
def test_settings_are_a_class_an_object_or_a_dict(given: Any) -> None:
    """Inherited attributes count (in arq they do not)."""
    worker = create_worker(given, max_jobs=5)

    assert (worker.keep_result_s, worker.health_check_interval, worker.max_jobs) == (86_400, 30, 5)
    assert "not_a_parameter" not in get_kwargs(given)


async def test_a_hook_may_be_a_static_function_or_a_method() -> None:
    """Documents about arq write ``async def on_startup(self, ctx)``."""
    ctx: Ctx = {}
    await get_kwargs(Inherited)["on_startup"](ctx)
    await get_kwargs(WithSelf)["on_startup"](ctx)
    await get_kwargs(WithSelf())["on_shutdown"](ctx)

    assert ctx == {"started": True, "self": WithSelf, "ended": WithSelf}


def test_run_worker_runs_and_closes(redis_url: str, own_namespace: str) -> None:
    """On a loop of its own, from a script; the settings' Redis may be a client, whose address is taken."""

    class Settings:
        functions: ClassVar = [foobar]
        burst = True
        redis_settings = redis_async.Redis.from_url(redis_url)

    async def enqueue() -> None:
        async with ArqRedis.from_url(redis_url) as client:
            await client.enqueue_job("foobar")

    asyncio.run(enqueue())
    worker = run_worker(Settings)

    assert counts(worker) == (1, 0, 0)


# -- health -------------------------------------------------------------------------------


async def test_the_health_check_is_a_key_that_says_what_was_done(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """Monitors parse it."""
    await pool.enqueue_job("foobar")
    worker = make_worker([foobar], health_check_interval=0, health_check_key="arq:test:health-check")
    await worker.main()

    text: Any = await pool.get("arq:test:health-check")
    assert re.fullmatch(
        rb"\w{3}-\d\d \d\d:\d\d:\d\d j_complete=1 j_failed=0 j_retried=0 j_ongoing=0 queued=0", text or b""
    )
    assert "recording health: " in caplog.text
    await worker.close()
    assert await pool.get("arq:test:health-check") is None


async def test_the_end_of_one_worker_leaves_the_key_of_the_others(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """In arq it deletes everybody's."""
    first, second = make_worker([foobar], burst=False), make_worker([foobar], burst=False)
    working = [asyncio.create_task(each.async_run()) for each in (first, second)]
    store = pool.link.store("arq:queue")

    async def both_work() -> bool:
        return len(await store.workers()) == 2

    await wait_until(both_work, description="both work")
    working[0].cancel()
    await asyncio.wait((working[0],))
    await first.close()
    assert await pool.exists(second.health_check_key) == 1

    working[1].cancel()
    await asyncio.wait((working[1],))
    await second.close()
    assert await pool.exists(second.health_check_key) == 0


async def test_a_health_check_says_whether_the_key_is_there(
    pool: ArqRedis, settings: RedisSettings, caplog: pytest.LogCaptureFixture
) -> None:
    assert await async_check_health(settings, health_check_key="arq-test:h") == 1
    await pool.set("arq-test:h", b"1", ex=5)
    assert await async_check_health(settings, health_check_key="arq-test:h") == 0
    await pool.delete("arq-test:h")
    assert "Health check failed: no health check sentinel value found" in caplog.messages
    assert "Health check successful: b'1'" in caplog.messages


def test_a_health_check_of_settings_is_an_exit_status(settings: RedisSettings) -> None:
    assert check_health({"redis_settings": settings, "queue_name": "nobody", "functions": [foobar]}) == 1


# -- what other people's code does --------------------------------------------------------


async def test_run_job_may_be_wrapped(pool: ArqRedis, make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Error trackers do: every job goes through it."""
    wrapped: list[str] = []
    inner = Worker.run_job

    @functools.wraps(inner)
    async def run_job(self: Worker, job_id: str, score: int) -> None:
        wrapped.append(job_id)
        assert isinstance(score, int)
        await inner(self, job_id, score)

    monkeypatch.setattr(Worker, "run_job", run_job)
    await pool.enqueue_job("foobar", _job_id="one")
    worker = make_worker([foobar])
    await worker.main()

    assert (wrapped, counts(worker)) == (["one"], (1, 0, 0))


async def test_a_wrapper_of_run_job_can_read_the_result(
    pool: ArqRedis, make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is recorded when ``run_job`` returns, and ``after_job_end`` was called: of aborted and failed jobs, too."""
    seen: dict[str, Any] = {}
    ended: list[str] = []
    inner = Worker.run_job

    async def run_job(self: Worker, job_id: str, score: int) -> None:
        await inner(self, job_id, score)
        info = await Job(job_id, pool).result_info()
        seen[job_id] = info and repr(info.result), job_id in ended

    async def after_end(ctx: Ctx) -> None:
        ended.append(ctx["job_id"])

    async def waits(ctx: Ctx) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Worker, "run_job", run_job)
    for name in ("foobar", "fails", "waits"):
        await pool.enqueue_job(name, _job_id=name)
    worker = make_worker([foobar, fails, func(waits, name="waits")], after_job_end=after_end)
    working = asyncio.create_task(worker.main())
    await wait_until(lambda: "waits" in worker.job_tasks, description="it waits")
    assert await Job("waits", pool).abort(timeout=10)
    await working

    assert seen == {
        "foobar": ("42", True),
        "fails": ("TypeError('my type error')", True),
        "waits": ("CancelledError()", True),
    }


async def test_ends_are_recorded_in_groups_though_each_waits_for_its_own(
    redis_server: RedisServer, own_namespace: str
) -> None:
    """A hundred jobs that end together are not a hundred commands."""
    async with running_proxy(redis_server.port) as proxy:
        pool = ArqRedis.from_url(proxy.url)
        await asyncio.gather(*(pool.enqueue_job("foobar") for _ in range(100)))
        worker = Worker([foobar], redis_pool=pool, burst=True, max_jobs=100, after_job_end=_nothing)
        before = proxy.request_count
        await worker.main()

        assert worker.jobs_complete == 100
        assert proxy.request_count - before < 50
        await worker.close()
        await pool.aclose()


async def _nothing(ctx: Ctx) -> None: ...


async def test_a_wrapper_that_raises_is_the_failure_of_its_job(
    pool: ArqRedis, make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run_job(self: Worker, job_id: str, score: int) -> None:
        raise LookupError("in a wrapper")

    monkeypatch.setattr(Worker, "run_job", run_job)
    handle = await pool.enqueue_job("foobar")
    assert handle is not None
    worker = make_worker([foobar])
    await worker.main()

    with pytest.raises(LookupError):
        await handle.result()
    assert counts(worker) == (0, 1, 0)


async def test_a_job_may_be_run_by_hand(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """By a worker that does not work; the others in the queue stay where they are."""

    async def retries(ctx: Ctx) -> int:
        if ctx["job_try"] == 1:
            raise Retry
        return int(ctx["job_try"])

    await pool.enqueue_job("foobar", _job_id="other")
    handle = await pool.enqueue_job("retries")
    assert handle is not None
    worker = make_worker([func(retries, name="retries"), foobar])

    await worker.run_job(handle.job_id, timestamp_ms())
    await worker.run_job(handle.job_id, timestamp_ms())

    assert await handle.result() == 2
    assert [each.job_id for each in await pool.queued_jobs()] == ["other"]
    assert counts(worker) == (1, 0, 1)


@pytest.mark.parametrize("name", ["start_jobs", "finish_job", "finish_failed_job", "sem", "_poll_iteration"])
def test_what_arqs_worker_has_and_ours_cannot_is_said(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever calls it hears why; whoever overrides it hears that it is never called."""
    worker = Worker([foobar])
    with pytest.raises(AttributeError, match=rf"no attribute '{name}': "):
        getattr(worker, name)
    assert not hasattr(worker, name)

    type("Mine", (Worker,), {name: lambda self: None})([foobar])
    assert f"Mine.{name} is never called: " in caplog.text


async def test_a_subclass_may_extend_what_is_done_now_and_then(pool: ArqRedis) -> None:
    """The heart beat, the health check, the crons; and it may look how many jobs run."""
    called: list[Any] = []

    class Mine(Worker):
        async def heart_beat(self) -> None:
            called.append("heart_beat")
            await super().heart_beat()

        async def record_health(self) -> None:
            called.append("record_health")
            await super().record_health()

        async def run_cron(self, n: datetime, delay: float, num_windows: int = 2) -> None:
            called.append(n.utcoffset() is not None)
            await super().run_cron(n, delay, num_windows)

    async def looks(ctx: Ctx) -> int:
        return worker.job_counter

    worker = Mine([func(looks, name="looks")], redis_pool=pool, burst=True)
    handle = await pool.enqueue_job("looks")
    assert handle is not None
    await worker.main()
    await worker.close()

    assert await handle.result() == 1
    assert called[:3] == ["heart_beat", "record_health", True]
    assert worker.job_counter == 0


async def test_the_coroutine_of_a_function_may_be_replaced(pool: ArqRedis, make_worker: MakeWorker) -> None:
    async def other(ctx: Ctx) -> int:
        return 43

    function = func(foobar)
    function.coroutine = other
    handle = await pool.enqueue_job("foobar")
    assert handle is not None
    await make_worker([function]).main()

    assert await handle.result() == 43
