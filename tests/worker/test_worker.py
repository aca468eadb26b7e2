"""What a worker does when something around it goes wrong: found by review, each reproduced before it was mended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from arq_web import INJECTED, Config, JobFailed, JobState, Progress, Task, every, schedule, task
from arq_web.context import JobContext
from arq_web.errors import InvalidOption, StoreUnavailable
from arq_web.store.record import ClaimedJob, Note
from arq_web.worker import claimer as claimer_module
from arq_web.worker import running as running_module
from arq_web.worker.running import HeldInQueue, Running, RunningTable
from tests.support.proxy import running_proxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.working import make_hub, queue_of, working

started: list[str] = []
signals: dict[str, asyncio.Event] = {}


class RustPanic(BaseException):
    """As pyo3 raises it: no Exception."""


@task
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@task
async def wait_for_ever(ctx: JobContext = INJECTED) -> None:
    """Never end by itself."""
    started.append(ctx.job_id)
    await asyncio.Event().wait()


@task(max_tries=1)
async def panics() -> None:
    """Raise what is no Exception."""
    raise RustPanic("in a library")


@task(max_tries=1)
async def fails() -> None:
    """Raise something that the framework describes."""
    raise LookupError("no such page")


@task(max_tries=1)
async def reports_and_ends(progress: Progress = INJECTED) -> str:
    """Report progress whatever Redis does."""
    started.append("reporting")
    await signals["go on"].wait()
    await progress(0.5, "half")
    started.append("reported")
    return "done"


class Describes:
    """A framework's part whose words cannot be written as JSON."""

    @asynccontextmanager
    async def resolve(self, task: Task[..., Any], ctx: JobContext) -> AsyncGenerator[Mapping[str, object]]:
        """Nothing to fill in."""
        yield {}

    def describe(self, error: BaseException) -> dict[str, object] | None:
        """A lone surrogate, as undecodable file names have it."""
        return {"detail": "caf\udce9"}


@pytest.fixture(autouse=True)
def forget() -> None:
    """Begin anew."""
    started.clear()
    signals["go on"] = asyncio.Event()  # of this test's loop


async def test_a_worker_that_is_cancelled_hands_back_what_it_ran(redis_url: str, namespace: str) -> None:
    """A web server that cancels the lifespan must not leave attempts running without a lease."""
    hub = make_hub(redis_url, namespace, wait_for_ever)
    async with queue_of(hub) as queue:
        job = await queue.enqueue(wait_for_ever)
        running = asyncio.create_task(hub.worker().run())
        await wait_until(lambda: started == [job.id], description="it runs")

        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        info = await job.info()
        await job.cancel()

    assert (info.state, info.failures, info.crashes) == (JobState.QUEUED, 0, 0)
    assert not [each for each in asyncio.all_tasks() if each.get_name().startswith("arq_web")]


async def test_what_is_no_exception_fails_the_attempt_and_nothing_else(redis_url: str, namespace: str) -> None:
    """A panic in a library costs a try, as any error; its neighbours go on."""
    hub = make_hub(redis_url, namespace, panics, add)
    async with queue_of(hub) as queue, working(hub):
        job, neighbour = await queue.enqueue(panics), await queue.enqueue(add, 1, 2)
        with pytest.raises(JobFailed, match="RustPanic: in a library"):
            await job.result(timeout=5)
        assert await neighbour.result(timeout=5) == 3

    assert (await job.info()).failures == 1


async def test_an_error_whose_description_cannot_be_stored_is_stored_without_it(redis_url: str, namespace: str) -> None:
    """Type, message and traceback are there; the slot is free again."""
    hub = make_hub(redis_url, namespace, fails, add)
    hub.resolver = Describes()
    async with queue_of(hub) as queue, working(hub, concurrency=1):
        job = await queue.enqueue(fails)
        with pytest.raises(JobFailed, match="LookupError: no such page"):
            await job.result(timeout=5)
        assert await (await queue.enqueue(add, 1, 2)).result(timeout=5) == 3


async def test_a_log_filter_that_raises_takes_nobody_along(redis_url: str, namespace: str) -> None:
    """All jobs of a group are settled, though the line of each could not be written."""

    def refuse(record: logging.LogRecord) -> bool:
        raise RuntimeError("a broken filter")

    hub = make_hub(redis_url, namespace, add)
    logger = logging.getLogger("arq_web.worker")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addFilter(refuse)
    try:
        async with queue_of(hub) as queue:
            jobs = await queue.enqueue_many([add.call(n, 1) for n in range(20)])
            async with working(hub, concurrency=10):
                assert [await job.result(timeout=5) for job in jobs] == list(range(1, 21))
    finally:
        logger.removeFilter(refuse)
        logger.setLevel(level)


async def test_a_schedule_fires_once_whichever_queues_the_workers_serve(redis_url: str, namespace: str) -> None:
    """A schedule without a queue of its own belongs to the app's first queue, not to each worker's."""
    hub = make_hub(
        redis_url, namespace, schedules=[schedule(wait_for_ever, every(1), name="tick")], queues=("default", "slow")
    )
    async with queue_of(hub) as queue, working(hub, queues=["default"]), working(hub, queues=["slow"]):
        await wait_until(lambda: len(started) >= 2, timeout_s=8, description="two ticks")
        assert await hub.queue("slow").store.read(started[0]) is None
        for each in tuple(started):
            await queue.job(each).cancel()

    assert len(set(started)) == len(started)


async def test_a_schedule_for_an_undeclared_queue_is_refused_at_the_start(redis_url: str, namespace: str) -> None:
    """Before anything was started that would have to be stopped."""
    hub = make_hub(redis_url, namespace, schedules=[schedule(add.options(queue="nope").call(1, 2), every(1), name="t")])
    with pytest.raises(InvalidOption, match="declared queues"):
        hub.worker()
    await hub.aclose()


async def test_progress_that_redis_does_not_take_costs_no_attempt(redis_server: RedisServer, namespace: str) -> None:
    """It is a hint: the job has one try here, and keeps it."""
    config = Config(namespace=namespace, command_deadline_s=0.3)
    async with running_proxy(redis_server.port) as proxy:
        hub = make_hub(proxy.url, namespace, reports_and_ends, config=config)
        async with queue_of(hub) as queue, working(hub):
            job = await queue.enqueue(reports_and_ends)
            await wait_until(lambda: started == ["reporting"], description="it runs")
            proxy.refuse()
            signals["go on"].set()
            await wait_until(lambda: "reported" in started, description="the report was given up")
            await proxy.accept()

            assert await job.result(timeout=15) == "done"


@pytest.mark.leaves_keys("the job's lease is left to lapse")
async def test_a_worker_can_be_stopped_while_redis_is_away_and_a_settle_waits_for_it(
    redis_server: RedisServer, namespace: str
) -> None:
    """What it has to say is not heard; its lease lapses. It must not wait for Redis for ever."""
    config = Config(namespace=namespace, command_deadline_s=0.3)
    async with running_proxy(redis_server.port) as proxy:
        hub = make_hub(proxy.url, namespace, reports_and_ends, config=config)
        async with queue_of(hub) as queue:
            worker = hub.worker(drain_s=0.2)
            running = asyncio.create_task(worker.run())
            job = await queue.enqueue(reports_and_ends)
            await wait_until(lambda: started == ["reporting"], description="it runs")
            proxy.refuse()
            signals["go on"].set()
            await wait_until(lambda: "reported" in started, description="the attempt has ended")

            worker.stop()
            await asyncio.wait_for(running, 8)
            await proxy.accept()

            async def is_heard() -> bool:
                with contextlib.suppress(StoreUnavailable):  # the deadline is short for a busy machine
                    await job.cancel()
                    return True
                return False

            await wait_until(is_heard, description="Redis is back")


async def test_a_full_worker_still_promotes_what_is_due_in_its_other_queues(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that is never reached in strict order must not be forgotten: nobody else may look after it."""
    monkeypatch.setattr(claimer_module, "FORGET_S", 0.1)
    hub = make_hub(redis_url, namespace, wait_for_ever, add, queues=("first", "second"))
    busy = await hub.queue("first").enqueue(wait_for_ever)
    async with working(hub, concurrency=1):
        await wait_until(lambda: started == [busy.id], description="the only slot is taken")
        waiting = await hub.queue("second").enqueue(add.options(delay=0.05), 1, 2)

        async def is_promoted() -> bool:
            return await waiting.status() is JobState.QUEUED

        await wait_until(is_promoted, description="it is promoted")
        await busy.cancel()
        assert await waiting.result(timeout=5) == 3
    await hub.aclose()


def test_the_same_attempt_of_two_lives_of_an_id_is_two_entries() -> None:
    """After a FLUSHALL an id may begin again at attempt 1 while a thread still runs the old one."""
    table = RunningTable(2)
    old, new = (Running(claimed(token), store=None, timeout_s=1) for token in ("a", "b"))  # type: ignore[arg-type]
    table.add_claimed("default", "a", [old])
    table.add_claimed("default", "b", [new])

    table.remove(old)

    assert table.all() == [new]


def test_a_claim_that_is_not_answered_for_long_is_in_the_renewals_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop is blocked by a job of another queue: only the renewal can hand back what the claim took."""
    table, store = RunningTable(2), SimpleNamespace(queue="default")
    table.add_claimed("default", "1.first", [])
    table.expect_claim(store)  # type: ignore[arg-type]
    assert table.held_by_queue() == []

    monkeypatch.setattr(running_module, "UNANSWERED_S", -1.0)  # a second has passed
    assert table.held_by_queue() == [HeldInQueue(store, "1.first", [])]  # type: ignore[arg-type]
    table.add_claimed("default", "2.answered", [])

    assert table.held_by_queue() == []


def claimed(token: str) -> ClaimedJob:
    """A job as it was claimed under ``token``."""
    return ClaimedJob(
        id="x",
        queue="default",
        task="t",
        attempt=1,
        token=token,
        failures=0,
        crashes=0,
        max_crashes=3,
        enqueued_at_ms=0,
        claimed_at_ms=0,
        keep_result_ms=0,
        expires_at_ms=0,
        note=Note(),
        payload=b"{}",
        extra={},
    )
