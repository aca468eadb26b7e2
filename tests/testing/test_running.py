"""run_all: a real worker, and time that passes by command instead of being waited for."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from arq_web import Hub, JobState, Queue, task
from arq_web.testing import JobsFailed, JobTester, RunSummary, TooManyAttempts
from tests.testing.conftest import MakeTester
from tests.testing.shop import (
    broken,
    count_up,
    for_ever,
    in_process,
    send_reminders,
    send_welcome,
    third_time,
    wait_for_word,
)

Journal = list[tuple[Any, ...]]


def ends(summary: RunSummary) -> list[tuple[str, str, int, object]]:
    return [(job.task.rpartition(":")[2], job.state.value, job.attempts, job.result) for job in summary]


async def test_everything_runs_in_its_order(hub: Hub, make_tester: MakeTester, journal: Journal) -> None:
    """In threads and on the loop, in all queues; each job's result is in the summary."""
    async with make_tester() as jobs:
        first = await hub.queue().enqueue(send_welcome, 1)
        await hub.queue().enqueue(count_up, 2)
        await hub.queue().enqueue(in_process, 3)

        summary = await jobs.run_all()

        assert await first.result(timeout=5) == "welcome, ann@example.com"
    assert ends(summary) == [
        ("send_welcome", "succeeded", 1, "welcome, ann@example.com"),
        ("count_up", "succeeded", 1, 2),
        ("in_process", "succeeded", 1, 3),
    ]
    assert sorted(journal) == [("counted", 1), ("counted", 2), ("processed", 3), ("welcome", 1)]
    assert "count_up(to=2)" in str(summary)
    assert (len(summary), summary[1].result) == (3, 2)


async def test_retries_and_snoozes_are_not_waited_for(hub: Hub, make_tester: MakeTester, journal: Journal) -> None:
    """Ten minutes twice, a minute three times."""
    began_at = time.monotonic()
    async with make_tester() as jobs:
        await hub.queue().enqueue(third_time)
        await hub.queue().enqueue(wait_for_word, 3)

        summary = await jobs.run_all()

    assert ends(summary) == [("third_time", "succeeded", 3, 3), ("wait_for_word", "succeeded", 4, 4)]
    assert time.monotonic() - began_at < 20


async def test_what_a_job_enqueues_runs_too(hub: Hub, make_tester: MakeTester, journal: Journal) -> None:
    """That for later, later."""
    async with make_tester() as jobs:
        await hub.queue().enqueue(send_reminders, [1, 2])

        summary = await jobs.run_all()

    assert [job.args for job in summary if job.task == send_welcome.name] == [
        (1,),
        (2,),
        (0,),
    ]
    assert journal == [("welcome", 1), ("welcome", 2), ("welcome", 0)]


async def test_until_says_how_much_time_passes(hub: Hub, make_tester: MakeTester, journal: Journal) -> None:
    """What passes in one call has passed in the next."""
    async with make_tester() as jobs:
        for hours in (1, 2, 3):
            await hub.queue().enqueue(send_welcome.options(delay=timedelta(hours=hours)), hours)

        assert len(await jobs.run_all(until=timedelta(minutes=59))) == 0
        assert [job.args[0] for job in await jobs.run_all(until=timedelta(minutes=62))] == [1, 2]
        until = datetime.now(UTC) + timedelta(minutes=50)
        assert len(await jobs.run_all(until=until)) == 0
        assert [job.args[0] for job in await jobs.run_all(until=until)] == [3]
    assert journal == [("welcome", 1), ("welcome", 2), ("welcome", 3)]


async def test_time_is_real_to_the_engine(hub: Hub, make_tester: MakeTester, journal: Journal) -> None:
    """A job that may start within two minutes is not tried again after ten; and the delay that it had is remembered."""
    async with make_tester() as jobs:
        await hub.queue().enqueue(third_time.options(delay=60, expires=120))

        summary = await jobs.run_all()

        assert ends(summary) == [("third_time", "expired", 1, None)]
        jobs.assert_enqueued(third_time, delay=60)
    assert journal == [("tried", 1)]


async def test_a_summary_tells_of_this_run_alone(hub: Hub, make_tester: MakeTester) -> None:
    async with make_tester() as jobs:
        await hub.queue().enqueue(send_welcome, 1)
        await jobs.run_all()
        await hub.queue().enqueue(send_welcome, 2)

        assert [job.args[0] for job in await jobs.run_all()] == [2]
        assert len(await jobs.run_all()) == 0
        jobs.assert_enqueued(send_welcome, count=2)


async def test_a_dead_job_fails_the_run_with_its_cause(hub: Hub, make_tester: MakeTester) -> None:
    """The others have run."""
    async with make_tester() as jobs:
        await hub.queue().enqueue(broken, 7)
        await hub.queue().enqueue(send_welcome, 1)

        with pytest.raises(JobsFailed) as caught:
            await jobs.run_all()

        assert [job.args for job in caught.value.jobs] == [(7,)]
        text = str(caught.value)
        assert "broken(order_id=7) is dead after 2 attempts (reason failed, id " in text
        assert "ValueError: order 7 has no address" in text
        assert "shop.py" in text
        assert "worker/attempt.py" not in text
        assert jobs.enqueued[1].state is JobState.SUCCEEDED


async def test_a_dead_job_may_be_what_the_test_is_about(hub: Hub, make_tester: MakeTester) -> None:
    async with make_tester(raise_failures=False) as jobs:
        await hub.queue().enqueue(broken, 7)

        [job] = await jobs.run_all()

    assert job.state is JobState.DEAD
    assert job.error is not None
    assert (job.error.type, job.failures) == ("ValueError", 2)


async def test_an_endless_chain_is_named(hub: Hub, make_tester: MakeTester) -> None:
    async with make_tester(most_attempts=10) as jobs:
        await hub.queue().enqueue(for_ever)

        with pytest.raises(TooManyAttempts, match=r"After 10 attempts .*for_ever 10 times"):
            await jobs.run_all()
        assert len(await jobs.run_all(until=timedelta(minutes=3, seconds=1))) == 3


async def test_a_job_that_no_worker_here_can_run_fails_at_once(hub: Hub, make_tester: MakeTester) -> None:
    """A real worker would keep it for a day."""
    async with make_tester() as jobs:
        job = await hub.queue().enqueue(send_welcome, 1)
        record = hub.queue().store.base + b"j:" + job.id.encode()
        raw = await hub.queue().store.connections.get().execute("GET", record)
        assert isinstance(raw, bytes)
        await hub.queue().store.connections.get().execute("SET", record, raw.replace(b"send_welcome", b"gone"))

        with pytest.raises(JobsFailed, match=r"gone\(<no task of that name.*can be run by no worker here"):
            await jobs.run_all()

        jobs.raise_failures = False
        await jobs.run_all()
        assert jobs.enqueued[0].is_parked


async def test_jobs_that_wait_for_each_other_need_room(make_tester: MakeTester) -> None:
    @task(name="outer", timeout=10)
    async def outer(queue: Queue) -> str:
        job = await queue.enqueue(send_welcome, 1)
        return await job.result(timeout=5)

    hub = Hub(url="redis://127.0.0.1:1", tasks=[outer, send_welcome])
    async with make_tester(hub, concurrency=2) as jobs:
        await hub.queue().enqueue(outer)  # type: ignore[call-arg]

        assert [job.state for job in await jobs.run_all()] == [JobState.SUCCEEDED] * 2


def test_a_sync_test_runs_them_without_a_loop(hub: Hub, make_tester: MakeTester, journal: Journal) -> None:
    with make_tester() as jobs:
        asyncio.run(_enqueue(hub))

        assert [job.result for job in jobs.run_all_sync()] == ["welcome, ann@example.com"]
    assert journal == [("welcome", 1)]


async def _enqueue(hub: Hub) -> None:
    await hub.queue().enqueue(send_welcome, 1)


async def test_an_async_test_is_told_to_await(make_tester: MakeTester) -> None:
    """It would wait for itself."""
    async with make_tester() as jobs:
        with pytest.raises(RuntimeError, match=r"write `await jobs\.run_all\(\)`"):
            jobs.run_all_sync()


async def test_a_job_that_was_never_run_fails_a_test_in_mode_drain(hub: Hub, make_tester: MakeTester) -> None:
    """What is for later may be left."""
    jobs = make_tester(mode="drain")
    with pytest.raises(AssertionError, match=r"never run \(run_all(.|\n)*send_welcome\(user_id=2"):  # noqa: PT012
        async with jobs:
            await hub.queue().enqueue(send_welcome, 1)
            await hub.queue().enqueue(send_welcome.options(delay=60), 3)
            await jobs.run_all(until=timedelta(seconds=1))
            await hub.queue().enqueue(send_welcome, 2)


def test_outside_of_its_block_it_says_so(hub: Hub) -> None:
    with pytest.raises(RuntimeError, match="within `with JobTester"):
        _ = JobTester(hub).enqueued


async def test_as_many_attempts_as_may_are_not_too_many(hub: Hub, make_tester: MakeTester) -> None:
    """Nothing is left to run: what is due later stays."""
    async with make_tester(most_attempts=2) as jobs:
        for user_id in (1, 2):
            await hub.queue().enqueue(send_welcome, user_id)
        await hub.queue().enqueue(send_welcome.options(delay=3600), 3)

        assert len(await jobs.run_all(until=60)) == 2
        assert len(await jobs.run_all()) == 1
