"""What happens to a job, told through the public API alone."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from arq_web import (
    INJECTED,
    Backoff,
    Config,
    DoNotRetry,
    Hub,
    Job,
    JobCancelled,
    JobContext,
    JobExpired,
    JobFailed,
    JobInfo,
    JobNotFound,
    JobState,
    Progress,
    Queue,
    Retry,
    Snooze,
    task,
)
from arq_web.errors import JobIdConflict, ResultNotKept
from tests.support.waiting import wait_until
from tests.support.working import make_hub, queue_of, working

SOON = Backoff(base_s=0.01, cap_s=0.02)
ran: list[tuple[str, object]] = []
gates: dict[str, threading.Event] = {}


@task
async def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@task
def add_in_a_thread(a: int) -> str:
    """Say which thread it is."""
    return threading.current_thread().name


@task(max_tries=3, retry=SOON)
async def fails_twice(ctx: JobContext = INJECTED) -> int:
    """Fail until the third attempt."""
    if ctx.attempt < 3:
        raise ConnectionError(f"no answer in attempt {ctx.attempt}")
    return ctx.attempt


@task(max_tries=2, retry=SOON)
async def always_fails() -> None:
    """Fail, always."""
    raise ValueError("the provider said no")


@task(max_tries=5, no_retry_on=KeyError)
async def fails_for_good(kind: str) -> None:
    """Raise what must not be retried."""
    raise KeyError(kind) if kind == "key" else DoNotRetry(kind)


@task
async def asks_to_retry(ctx: JobContext = INJECTED) -> int:
    """Name the delay itself."""
    if ctx.attempt == 1:
        raise Retry("429", delay=timedelta(milliseconds=10))
    return ctx.failures


@task
async def snoozes(ctx: JobContext = INJECTED) -> int:
    """Not yet: later, at no cost."""
    if ctx.attempt == 1:
        raise Snooze("not yet", delay=0.01)
    return ctx.failures


@task(timeout=0.05, max_tries=1)
async def too_slow() -> None:
    """Never end."""
    await asyncio.Event().wait()


@task(max_tries=1)
def exits() -> None:
    """Call sys.exit() in a thread."""
    sys.exit("bye")


@task
async def waits(name: str) -> None:
    """Wait until it is cancelled, and say so."""
    ran.append(("started", name))
    try:
        await asyncio.Event().wait()
    finally:
        ran.append(("cleaned up", name))


@task
async def says(what: int) -> None:
    """Write down that it ran."""
    ran.append(("said", what))


@task
async def measure(text: str) -> int:
    """Take something large."""
    return len(text)


@task
async def reports(progress: Progress = INJECTED) -> None:
    """Tell how far it is, then wait."""
    await progress(0.4, "resizing")
    await asyncio.Event().wait()


@task
def reports_from_a_thread(gate: str, progress: Progress = INJECTED) -> None:
    """Tell how far it is, and wait."""
    progress.report(0.4, "resizing")
    gates[gate].wait(10)


@task(max_tries=1)
def awaits_nothing(progress: Progress = INJECTED) -> None:
    """Do as an async task does, without its await."""
    progress(0.4)  # type: ignore[unused-coroutine]


@task
async def enqueues_another(queue: Queue = INJECTED) -> str:
    """A task may ask for the queue."""
    return (await queue.enqueue(add, 1, 2)).id


@pytest.fixture
async def hub(redis_url: str, namespace: str) -> Hub:
    """An app with the tasks above."""
    tasks = (add, add_in_a_thread, fails_twice, always_fails, fails_for_good, asks_to_retry, snoozes, too_slow, waits)
    ran.clear()
    threads = (reports_from_a_thread, awaits_nothing)
    return make_hub(redis_url, namespace, *tasks, *threads, exits, says, reports, enqueues_another)


@pytest.fixture
async def queue(hub: Hub) -> AsyncIterator[Queue]:
    """Its default queue."""
    async with queue_of(hub) as queue:
        yield queue


async def test_a_job_is_queued_then_runs_then_has_its_result(hub: Hub, queue: Queue) -> None:
    """The whole story in six lines."""
    job = await queue.enqueue(add, 1, b=2)
    assert (job.created, await job.status()) == (True, JobState.QUEUED)

    async with working(hub) as worker:
        assert await job.result(timeout=5) == 3

    info = await job.info()
    assert (info.state, info.attempt, info.failures, info.crashes) == (JobState.SUCCEEDED, 1, 0, 0)
    assert info.worker == worker.id


async def test_a_def_task_runs_in_a_thread(hub: Hub, queue: Queue) -> None:
    """It may block: the loop goes on."""
    async with working(hub):
        name = await (await queue.enqueue(add_in_a_thread, 1)).result(timeout=5)

    assert name != threading.main_thread().name


async def test_a_failed_attempt_is_retried_until_it_succeeds(hub: Hub, queue: Queue) -> None:
    """Two failures are spent of three tries."""
    async with working(hub):
        job = await queue.enqueue(fails_twice)
        assert await job.result(timeout=5) == 3

    info = await job.info()
    assert (info.attempt, info.failures) == (3, 2)


async def test_a_job_out_of_tries_is_dead_and_keeps_its_error(hub: Hub, queue: Queue) -> None:
    """Type, message and traceback are there for whoever looks; redrive puts it back."""
    async with working(hub):
        job = await queue.enqueue(always_fails)
        with pytest.raises(JobFailed, match="ValueError: the provider said no") as failed:
            await job.result(timeout=5)

    assert failed.value.error_type == "ValueError"
    assert "always_fails" in failed.value.traceback
    assert (await job.info()).failures == 2
    assert await job.redrive() == "redriven"
    info = await job.info()
    assert (info.state, info.failures, info.attempt) == (JobState.QUEUED, 0, 2)
    assert await job.cancel() == "cancelled"


@pytest.mark.parametrize("kind", ["key", "other"])
async def test_what_must_not_be_retried_is_dead_at_once(hub: Hub, queue: Queue, kind: str) -> None:
    """By the exception's class, or by raising DoNotRetry."""
    async with working(hub):
        job = await queue.enqueue(fails_for_good, kind)
        with pytest.raises(JobFailed):
            await job.result(timeout=5)

    assert (await job.info()).attempt == 1


async def test_retry_spends_a_failure_and_snooze_does_not(hub: Hub, queue: Queue) -> None:
    """Both come again after the delay that they name."""
    async with working(hub):
        assert await (await queue.enqueue(asks_to_retry)).result(timeout=5) == 1
        assert await (await queue.enqueue(snoozes)).result(timeout=5) == 0


async def test_sys_exit_ends_the_attempt_and_not_the_worker(hub: Hub, queue: Queue) -> None:
    """A library that calls it must not take the other jobs along."""
    async with working(hub):
        with pytest.raises(JobFailed, match="SystemExit: bye"):
            await (await queue.enqueue(exits)).result(timeout=5)
        assert await (await queue.enqueue(add, 1)).result(timeout=5) == 2


async def test_a_timeout_is_a_failure(hub: Hub, queue: Queue) -> None:
    """An attempt that takes too long is cancelled; the reason is in the record."""
    async with working(hub):
        job = await queue.enqueue(too_slow)
        with pytest.raises(JobFailed, match=r"longer than its timeout of 0\.05 s") as failed:
            await job.result(timeout=5)

    assert failed.value.reason == "timeout"


async def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_soon(hub: Hub, queue: Queue) -> None:
    """The running task gets its CancelledError and cleans up before the job counts as cancelled."""
    waiting = await queue.enqueue(add.options(delay=3600), 1)
    assert await waiting.cancel() == "cancelled"
    async with working(hub):
        running = await queue.enqueue(waits, "a")
        await wait_until(lambda: ("started", "a") in ran, description="it runs")
        assert await running.cancel() == "requested"
        with pytest.raises(JobCancelled):
            await running.result(timeout=5)

    assert ran == [("started", "a"), ("cleaned up", "a")]
    with pytest.raises(JobCancelled):
        await waiting.result(timeout=5)
    assert await running.cancel() == "cancelled"


async def test_an_id_names_one_job_until_it_is_forgotten(hub: Hub, queue: Queue) -> None:
    """The second enqueue gets the first's job, also when that has finished; ``on_finished`` changes that."""
    async with working(hub):
        first = await queue.enqueue(add.options(id="sum:1"), 1, 2)
        again = await queue.enqueue(add.options(id="sum:1"), 5, 5)
        assert await first.result(timeout=5) == 3
        finished = await queue.enqueue(add.options(id="sum:1"), 5, 5)
        replaced = await queue.enqueue(add.options(id="sum:1", on_finished="replace"), 5, 5)
        assert await replaced.result(timeout=5) == 10

    assert [first.created, again.created, finished.created, replaced.created] == [True, False, False, True]
    assert first == again == finished


async def test_a_unique_key_lets_one_job_live(hub: Hub, queue: Queue) -> None:
    """The second enqueue gets the live one; when it has ended, the key is free."""
    first = await queue.enqueue(add.options(unique="sum"), 1)
    second = await queue.enqueue(add.options(unique="sum"), 2)
    async with working(hub):
        await first.result(timeout=5)
    third = await queue.enqueue(add.options(unique="sum"), 3)

    assert (second.id, second.created, third.created) == (first.id, False, True)
    await third.cancel()


async def test_a_unique_key_may_be_held_by_another_task(hub: Hub, queue: Queue) -> None:
    """The handle leads to that job, and its result is read as that task's, not as the one that was asked for."""
    holder = await queue.enqueue(add.options(unique="nightly"), 1)
    same: Job[Any] = await queue.enqueue(add_in_a_thread.options(unique="nightly"), 1)

    async with working(hub):
        assert (same, same.created, same.task) == (holder, False, None)
        assert await same.result(timeout=5) == 2


async def test_a_client_without_the_app_meets_its_own_unique_job(hub: Hub, queue: Queue, redis_url: str) -> None:
    """It has no registry to look a name up, but knows what it has enqueued."""
    async with Queue.connect(redis_url, config=hub.config) as client, working(hub):
        await client.enqueue(add.options(unique="nightly", delay=0.2), 1)
        same = await client.enqueue(add.options(unique="nightly"), 5)

        assert same.created is False
        assert await same.result(timeout=5) == 2


async def test_a_delayed_job_is_scheduled_and_runs_in_its_time(hub: Hub, queue: Queue) -> None:
    """By delay (server time) or at an aware datetime; never early."""
    job = await queue.enqueue(add.options(delay=0.2), 1)
    at = await queue.enqueue(add.options(at=datetime.now(UTC) + timedelta(milliseconds=200)), 1)
    assert await job.status() == await at.status() == JobState.SCHEDULED

    async with working(hub):
        await job.result(timeout=5)
        await at.result(timeout=5)

    info = await job.info()
    assert info.started_at_ms is not None
    assert info.started_at_ms - info.enqueued_at_ms >= 200


async def test_priorities_come_first_and_then_the_order_of_enqueueing(hub: Hub, queue: Queue) -> None:
    """Seen by the start times of a worker with one slot."""
    jobs = [await queue.enqueue(says.options(priority=p), p) for p in (0, 5, -5, 5)]
    async with working(hub, concurrency=1):
        for job in jobs:
            await job.result(timeout=5)

    started = [what for word, what in ran if word == "said"]
    assert started == [5, 5, 0, -5]


async def test_a_job_that_cannot_start_in_time_expires(hub: Hub, queue: Queue) -> None:
    """``expires`` is the latest start of an attempt."""
    job = await queue.enqueue(add.options(expires=datetime.now(UTC) - timedelta(seconds=1)), 1)

    async with working(hub):
        with pytest.raises(JobExpired):
            await job.result(timeout=5)


async def test_a_result_that_is_not_kept_is_said_to_be_so(hub: Hub, queue: Queue) -> None:
    """The job itself is known for another minute."""
    async with working(hub):
        job = await queue.enqueue(add.options(keep_result=0), 1)
        with pytest.raises(ResultNotKept):
            await job.result(timeout=5)

    assert await job.status() is JobState.SUCCEEDED


async def test_progress_is_seen_while_the_job_runs(hub: Hub, queue: Queue) -> None:
    """Whoever looks at the job sees the fraction and the message."""
    async with working(hub):
        job = await queue.enqueue(reports)
        await wait_until(lambda: _has_progress(job.info), description="progress is stored")
        info = await job.info()
        await job.cancel()
        with pytest.raises(JobCancelled):
            await job.result(timeout=5)

    assert info.progress is not None
    assert (info.progress.fraction, info.progress.message) == (0.4, "resizing")


async def test_a_def_task_reports_its_progress_from_its_thread(hub: Hub, queue: Queue) -> None:
    """Nothing can be awaited there; and who forgets it is told, for otherwise nothing would ever be seen."""
    gate = gates["reports"] = threading.Event()
    async with working(hub):
        job = await queue.enqueue(reports_from_a_thread, "reports")
        await wait_until(lambda: _has_progress(job.info), description="progress is stored")
        info = await job.info()
        gate.set()
        await job.result(timeout=5)
        with pytest.raises(JobFailed, match=r"runs in a thread.*Call progress\.report"):
            await (await queue.enqueue(awaits_nothing)).result(timeout=5)

    assert info.progress is not None
    assert (info.progress.fraction, info.progress.message) == (0.4, "resizing")


async def test_a_task_may_enqueue_another(hub: Hub, queue: Queue) -> None:
    """It asks for the queue by annotation."""
    async with working(hub):
        other_id = await (await queue.enqueue(enqueues_another)).result(timeout=5)
        assert await queue.job(other_id, add).result(timeout=5) == 3


async def test_waiting_for_a_result_has_a_limit(queue: Queue) -> None:
    """The job goes on; only the waiting ends."""
    job = await queue.enqueue(add, 1)
    with pytest.raises(TimeoutError):
        await job.result(timeout=0.05)

    assert await job.cancel() == "cancelled"


async def test_an_unknown_job_is_not_found(queue: Queue) -> None:
    """By whatever one asks of it."""
    ghost: Job[object] = queue.job("nobody")
    for ask in (ghost.info, ghost.status, ghost.cancel, ghost.redrive, ghost.result):
        with pytest.raises(JobNotFound, match="'nobody'"):
            await ask()


async def test_many_calls_travel_together(hub: Hub, queue: Queue) -> None:
    """``enqueue_many`` keeps the order of its calls."""
    jobs = await queue.enqueue_many([add.call(n, 0) for n in range(1500)])
    async with working(hub, concurrency=50):
        results = await asyncio.gather(*(job.result(timeout=20) for job in jobs))

    assert results == list(range(1500))


async def test_large_calls_travel_in_several_scripts(redis_url: str, namespace: str) -> None:
    """4 MiB each: more would not pass a slow link within the deadline. What went before a refused one is enqueued."""
    config = Config(namespace=namespace, max_payload_bytes=4 << 20)
    async with queue_of(make_hub(redis_url, namespace, measure, add, config=config)) as queue:
        taken = await queue.enqueue(add.options(id="taken"), 1)
        large = "x" * (3 << 20)
        calls = [measure.options(id=each).call(large) for each in ("one", "taken")]
        with pytest.raises(JobIdConflict):
            await queue.enqueue_many(calls)
        with pytest.raises(JobIdConflict):
            await queue.enqueue_many([measure.options(id=each).call("small") for each in ("two", "taken")])

        assert await queue.job("one").cancel() == "cancelled"
        with pytest.raises(JobNotFound):
            await queue.job("two").info()
        jobs = await queue.enqueue_many([measure.options(id=each).call(large) for each in "abc"])
        assert [job.id for job in jobs] == ["a", "b", "c"]
        for job in (taken, *jobs):
            await job.cancel()


async def _has_progress(look: Callable[[], Awaitable[JobInfo]]) -> bool:
    return (await look()).progress is not None
