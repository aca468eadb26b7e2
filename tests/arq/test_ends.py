"""Jobs that end where an end is hard to say or to record: each ends once, and none runs for ever."""

from __future__ import annotations

import asyncio
import json
import pickle
from datetime import timedelta
from typing import Any

import pytest

from arq_web import Hub, task
from arq_web.arq import Worker, cron, func
from arq_web.arq.connections import ArqRedis
from arq_web.arq.jobs import Job
from arq_web.arq.worker import Function
from arq_web.job import JobState
from tests.arq.conftest import MakeWorker
from tests.support.waiting import wait_until

Ctx = dict[Any, Any]
QUEUE = "arq:queue"


async def ok(ctx: Ctx) -> str:
    """Return."""
    return "ok"


async def fails(ctx: Ctx) -> None:
    """Raise."""
    raise OSError("no route")


async def test_a_serializer_may_return_text(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """json.dumps does, and arq takes it; a job that failed could not be recorded, and ran again for ever."""
    codec: dict[str, Any] = {"job_serializer": json.dumps, "job_deserializer": json.loads}
    pool.job_serializer, pool.job_deserializer = json.dumps, json.loads  # type: ignore[assignment]
    for name in ("ok", "fails"):
        await pool.enqueue_job(name, _job_id=name)
    worker = make_worker([ok, fails], **codec)
    await asyncio.wait_for(worker.main(), 10)

    assert (worker.jobs_complete, worker.jobs_failed) == (1, 1)
    good, bad = [await Job(name, pool, _deserializer=json.loads).result_info() for name in ("ok", "fails")]
    assert good is not None
    assert (good.success, good.result) == (True, "ok")
    assert bad is not None
    assert (bad.success, bad.result) == (False, "unable to serialize result")


@pytest.mark.parametrize("given", [fails, ok])
async def test_a_job_whose_end_cannot_be_recorded_ends_all_the_same(
    pool: ArqRedis, make_worker: MakeWorker, given: Any
) -> None:
    """Somebody changed the limits after the worker had checked them."""
    await pool.enqueue_job("f", _job_id="one")
    worker = make_worker([func(given, name="f")])
    worker.functions["f"].keep_result_s = "60"  # type: ignore[assignment]
    await asyncio.wait_for(worker.main(), 10)

    assert (worker.jobs_complete, worker.jobs_failed) == (0, 1)
    info = await pool.link.store(QUEUE).read("one")
    assert info is not None
    assert (info.state, info.failures) == (JobState.DEAD, 1)


async def test_what_fails_around_an_attempt_is_bounded_too(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """A fault of the runner costs a try: of those that the function has."""

    class Breaks(Worker):
        @property
        def allow_abort_jobs(self) -> bool:
            raise RuntimeError("broken")

        @allow_abort_jobs.setter
        def allow_abort_jobs(self, value: bool) -> None:
            pass

    await pool.enqueue_job("ok", _job_id="one")
    worker = Breaks([func(ok, max_tries=1)], redis_pool=pool, burst=True)
    await asyncio.wait_for(worker.main(), 10)
    await worker.close()

    info = await pool.link.store(QUEUE).read("one")
    assert info is not None
    assert info.state is JobState.DEAD


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("keep_result", "60", TypeError),
        ("keep_result", float("inf"), ValueError),
        ("keep_result", -1, ValueError),
        ("keep_result", float("nan"), ValueError),
        ("timeout", "60", TypeError),
        ("timeout", -1, ValueError),
        ("max_tries", "5", TypeError),
        ("max_tries", 0, ValueError),
    ],
)
def test_limits_that_mean_nothing_are_refused_at_once(name: str, value: Any, error: type[Exception]) -> None:
    of_worker = "job_timeout" if name == "timeout" else name
    with pytest.raises(error, match=f"ok: {name} is "):
        func(ok, name="ok", **{name: value})
    with pytest.raises(error, match=f"cron:ok: {name} is "):
        cron(ok, **{name: value})
    with pytest.raises(error, match=f"^{of_worker} is "):
        Worker([ok], **{of_worker: value})
    fields = {"timeout_s": None, "keep_result_s": None, "keep_result_forever": None, "max_tries": None}
    by_hand = Function("ok", ok, **{**fields, name if name == "max_tries" else f"{name}_s": value})
    with pytest.raises(error, match=f"ok: {name} is "):
        Worker([by_hand])


def test_limits_that_mean_something_are_taken() -> None:
    """No limit, none kept, timedeltas."""
    Worker([func(ok, timeout=float("inf"), keep_result=timedelta(days=400), max_tries=1)], job_timeout=None)
    Worker([func(ok, timeout=timedelta(seconds=1), keep_result=0)], keep_result=timedelta(0), max_tries=1)


async def test_a_job_of_another_api_is_left_to_its_own_worker(
    pool: ArqRedis, make_worker: MakeWorker, redis_url: str, own_namespace: str
) -> None:
    """Its payload is not for our pickle.loads."""

    @task(name="native")
    async def native(text: str) -> str:
        return text

    ran: list[bytes] = []

    def loads(raw: bytes) -> Any:
        ran.append(raw)
        return pickle.loads(raw)  # noqa: S301

    hub = Hub(tasks=[native], url=redis_url, queues=(QUEUE,))
    handle = await hub.queue(QUEUE).enqueue(native, "x")
    worker = make_worker([ok], burst=False, job_deserializer=loads)
    working = asyncio.create_task(worker.async_run())
    store = pool.link.store(QUEUE)

    async def is_done_with() -> bool:
        info = await store.read(handle.id)
        return info is not None and info.attempt > 0 and info.state is not JobState.RUNNING

    await wait_until(is_done_with, description="the worker had it")
    working.cancel()
    await asyncio.wait((working,))
    await worker.close()
    info = await store.read(handle.id)
    await hub.aclose()

    assert info is not None
    assert (info.state, info.failures) == (JobState.SCHEDULED, 0)
    assert (ran, worker.jobs_failed) == ([], 0)


async def test_the_timeout_is_the_functions_alone(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """on_job_start may take its time, as with arq."""

    async def slow_start(ctx: Ctx) -> None:
        await asyncio.sleep(0.3)

    async def short(ctx: Ctx) -> str:
        await asyncio.sleep(0.01)
        return "ok"

    await pool.enqueue_job("f")
    worker = make_worker([func(short, name="f", timeout=0.2)], on_job_start=slow_start)
    await worker.main()

    assert (worker.jobs_complete, worker.jobs_failed) == (1, 0)


async def test_a_job_behind_thousands_can_be_run_by_hand(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """It is not expired because a claim takes a thousand jobs at most; the others stay, in their order."""
    names = [f"job-{number:04}" for number in range(1003)]
    for name in names:
        await pool.enqueue_job("ok", _job_id=name)
    worker = make_worker([ok])
    await worker.run_job(names[-1], 0)

    assert (worker.jobs_complete, worker.jobs_failed) == (1, 0)
    store = pool.link.store(QUEUE)
    first = await store.read(names[0])
    assert first is not None
    assert first.state is JobState.QUEUED
    assert len(await pool.queued_jobs()) == 1002


async def test_a_worker_that_has_ended_leaves_nothing_that_watches_it(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """It is closed after its burst: there is nothing left to hurry."""
    await pool.enqueue_job("ok")
    worker = make_worker([ok])
    await worker.main()

    await worker.close()

    assert "arq_web.arq.watch" not in {each.get_name() for each in asyncio.all_tasks()}
