"""Collecting: what was enqueued, as it will arrive; and messages that say what was enqueued instead."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest

from arq_web import Hub, JobState
from arq_web.errors import UnknownTask
from arq_web.task import task
from tests.testing import shop
from tests.testing.conftest import MakeTester
from tests.testing.shop import count_up, send_welcome, third_time, with_own_count

LATER = datetime.now(UTC) + timedelta(hours=1)


async def test_what_was_enqueued_is_seen_as_the_worker_would_get_it(hub: Hub, make_tester: MakeTester) -> None:
    async with make_tester() as jobs:
        await hub.queue().enqueue(send_welcome.options(delay=60, unique="u", priority=3, expires=90), 42, email="b@c")
        await hub.queue().enqueue(count_up, 3)

        first, second = jobs.enqueued

    assert (first.task, first.args, first.kwargs) == (send_welcome.name, (42, "b@c"), {})
    assert (first.queue, first.state, first.delay) == ("default", JobState.SCHEDULED, timedelta(seconds=60))
    assert (first.unique, first.priority, first.attempts) == ("u", 3, 0)
    assert first.due_at is not None
    assert first.due_at - first.enqueued_at == timedelta(seconds=60)
    assert first.expires_at is not None
    assert first.expires_at - first.enqueued_at == timedelta(seconds=90)
    assert (second.queue, second.state, second.due_at) == ("slow", JobState.QUEUED, None)
    assert str(second) == f"{count_up.name}(to=3)"
    assert shop.journal == []


async def test_they_come_in_the_order_of_their_enqueueing(hub: Hub, make_tester: MakeTester) -> None:
    """Whatever their queue, their priority, their delay; those of one round trip, too."""
    async with make_tester() as jobs:
        await hub.queue().enqueue(count_up, 0)
        await hub.queue().enqueue_many([send_welcome.options(delay=9 - n, priority=n).call(n) for n in range(3)])
        await hub.queue().enqueue(count_up, 9)

        assert [job.args[0] for job in jobs.enqueued] == [0, 0, 1, 2, 9]


async def test_what_is_not_named_may_be_anything(hub: Hub, make_tester: MakeTester) -> None:
    async with make_tester() as jobs:
        at = datetime.now(UTC) + timedelta(hours=1)
        job = await hub.queue().enqueue(send_welcome.options(at=at, id="mine", priority=2), 42)

        [found] = jobs.assert_enqueued(send_welcome)
        jobs.assert_enqueued(send_welcome, 42)
        jobs.assert_enqueued(send_welcome, email="ann@example.com")  # by its default
        jobs.assert_enqueued(send_welcome, mock.ANY, queue="default", count=1)
        jobs.assert_enqueued(send_welcome, delay=timedelta(hours=1))
        jobs.assert_enqueued(send_welcome.options(at=at, id="mine", priority=2), user_id=42)
        jobs.assert_enqueued(send_welcome.name, 42)
        jobs.refute_enqueued(send_welcome, 43)
        jobs.refute_enqueued(send_welcome, 42, delay=0)
        jobs.refute_enqueued(send_welcome.options(at=at + timedelta(minutes=1)))
        jobs.refute_enqueued(count_up)

    assert found.id == job.id


async def test_the_message_shows_what_was_enqueued_instead_the_nearest_first(hub: Hub, make_tester: MakeTester) -> None:
    async with make_tester() as jobs:
        await hub.queue().enqueue(count_up, 3)
        await hub.queue().enqueue(send_welcome, 41, email="other@example.com")
        await hub.queue().enqueue(send_welcome.options(delay=90), 42)

        with pytest.raises(AssertionError) as caught:
            jobs.assert_enqueued(send_welcome, 42, "ann@example.com", delay=60)

    lines = str(caught.value).splitlines()
    assert lines[0] == (
        f"No job was enqueued as expected: {send_welcome.name}(user_id=42, email='ann@example.com') with delay=60 s."
    )
    shown = [re.split(r"  +", line)[-1] for line in lines[4:]]
    assert shown == [
        "delay is 90 s, not 60 s",
        "user_id is 41, not 42; email is 'other@example.com', not 'ann@example.com'; delay is -, not 60 s",
        "another task",
    ]
    assert "user_id=41" in lines[5]


async def test_each_option_that_differs_is_named(hub: Hub, make_tester: MakeTester) -> None:
    async with make_tester() as jobs:
        await hub.queue().enqueue(send_welcome.options(id="a", unique="b", priority=1), 42)

        with pytest.raises(AssertionError, match=r"id is 'a', not 'x'; unique is 'b', not 'y'; priority is 1, not 2"):
            jobs.assert_enqueued(send_welcome.options(id="x", unique="y", priority=2))
        with pytest.raises(AssertionError, match=r"queue is 'default', not 'slow'"):
            jobs.assert_enqueued(send_welcome, queue="slow")
        with pytest.raises(AssertionError, match=r"at is .*, not 2031-"):
            jobs.assert_enqueued(send_welcome.options(at=datetime(2031, 1, 1, tzinfo=UTC)))


@pytest.mark.parametrize(
    ("option", "given", "other"),
    [
        ("max_tries", 5, 6),
        ("timeout", 7, 8),
        ("keep_result", 0.5, 1),
        ("owner", "ann", "bob"),
        ("expires", 60, 70),
        ("expires", LATER, LATER + timedelta(minutes=1)),
        ("id", "a", "b"),
        ("unique", "a", "b"),
        ("priority", 1, 2),
        ("queue", "slow", "default"),
        ("delay", 60, 70),
        ("at", LATER, LATER + timedelta(minutes=1)),
    ],
)
async def test_every_option_is_compared(hub: Hub, make_tester: MakeTester, option: str, given: Any, other: Any) -> None:
    async with make_tester() as jobs:
        await hub.queue().enqueue(send_welcome.options(**{option: given}), 42)

        jobs.assert_enqueued(send_welcome.options(**{option: given}), 42)
        for wrong in (other,):
            with pytest.raises(AssertionError, match=rf" with {option}=(.|\n)* {option} is .*, not "):
                jobs.assert_enqueued(send_welcome.options(**{option: wrong}), 42)
        await hub.queue().enqueue(count_up, 1)
        if option != "queue":  # its task has one
            jobs.refute_enqueued(count_up.options(**{option: given}))


async def test_what_the_task_says_counts_where_its_call_says_nothing(hub: Hub, make_tester: MakeTester) -> None:
    async with make_tester() as jobs:
        await hub.queue().enqueue(third_time)

        [job] = jobs.assert_enqueued(third_time.options(max_tries=3))
    assert (job.max_tries, job.timeout, job.owner, job.expires_in) == (3, None, None, None)


async def test_an_option_without_a_trace_cannot_be_expected(make_tester: MakeTester) -> None:
    async with make_tester() as jobs:
        with pytest.raises(TypeError, match=r"options\(on_finished=\.\.\.\) cannot be expected"):
            jobs.assert_enqueued(send_welcome.options(id="a", on_finished="replace"), 42)


async def test_times_are_those_that_were_asked_for_whatever_has_passed(hub: Hub, make_tester: MakeTester) -> None:
    async with make_tester() as jobs:
        at = datetime.now(UTC) + timedelta(hours=1)
        await hub.queue().enqueue(send_welcome.options(at=at, expires=7200), 1)
        for _ in range(2):
            await jobs.run_all(until=timedelta(minutes=25))

            jobs.assert_enqueued(send_welcome.options(at=at, expires=7200), 1)
            jobs.assert_enqueued(send_welcome, 1, delay=3600)
            jobs.assert_enqueued(send_welcome.options(expires=at + timedelta(hours=1)), 1)
        await jobs.run_all()
        jobs.assert_enqueued(send_welcome.options(at=at), 1, delay=3600)


async def test_nothing_at_all_is_said_so(make_tester: MakeTester) -> None:
    async with make_tester() as jobs:
        with pytest.raises(AssertionError, match=r"No job was enqueued at all; expected .*send_welcome\(user_id=1\)"):
            jobs.assert_enqueued(send_welcome, 1)
        jobs.assert_enqueued(send_welcome, count=0)


async def test_a_count_is_exact(hub: Hub, make_tester: MakeTester) -> None:
    async with make_tester() as jobs:
        for user_id in (1, 1, 2):
            await hub.queue().enqueue(send_welcome, user_id)

        assert len(jobs.assert_enqueued(send_welcome, 1, count=2)) == 2
        with pytest.raises(AssertionError, match=r"2 jobs, not 1, were enqueued as expected(.|\n)*user_id=2"):
            jobs.assert_enqueued(send_welcome, 1, count=1)
        with pytest.raises(AssertionError, match=r"3 jobs, not 0"):
            jobs.assert_enqueued(send_welcome, count=0)
        with pytest.raises(AssertionError, match=r"^1 job, not 2, was enqueued as expected"):
            jobs.assert_enqueued(send_welcome, 2, count=2)


async def test_what_should_not_have_been_enqueued_is_shown(hub: Hub, make_tester: MakeTester) -> None:
    async with make_tester() as jobs:
        await hub.queue().enqueue(send_welcome, 42)

        with pytest.raises(AssertionError, match=r"No job should .*, but 1 was:(.|\n)*user_id=42, email="):
            jobs.refute_enqueued(send_welcome)


async def test_a_job_that_existed_already_is_one_job(hub: Hub, make_tester: MakeTester) -> None:
    """The store is the truth: an id or a key that is taken makes no other job."""
    async with make_tester() as jobs:
        for _ in range(2):
            await hub.queue().enqueue(send_welcome.options(unique="once"), 1)

        jobs.assert_enqueued(send_welcome, count=1)


async def test_an_expectation_that_cannot_be_met_is_an_error_of_the_test(make_tester: MakeTester) -> None:
    @task
    async def stranger() -> None: ...

    async with make_tester() as jobs:
        with pytest.raises(TypeError, match=r"send_welcome\(user_id: int.* is not called like that: .*'user'"):
            jobs.assert_enqueued(send_welcome, user=42)
        with pytest.raises(TypeError, match=r"has a parameter of its own named 'count'"):
            jobs.assert_enqueued(with_own_count, count=3)
        with pytest.raises(UnknownTask, match="stranger"):
            jobs.refute_enqueued(stranger)
        with pytest.raises(UnknownTask, match="Did you mean"):
            jobs.refute_enqueued(send_welcome.name + "s")


async def test_parameters_named_like_options_are_given_by_position(hub: Hub, make_tester: MakeTester) -> None:
    async with make_tester() as jobs:
        await hub.queue().enqueue(with_own_count, 3, queue="q")

        jobs.assert_enqueued(with_own_count, 3, "q")
        with pytest.raises(AssertionError, match="count is 3, not 4"):
            jobs.assert_enqueued(with_own_count.options(queue="default"), 4)


async def test_all_can_be_forgotten(hub: Hub, make_tester: MakeTester) -> None:
    async with make_tester() as jobs:
        await hub.queue().enqueue(send_welcome.options(id="a"), 1)
        jobs.clear()

        assert jobs.enqueued == []
        assert (await hub.queue().enqueue(send_welcome.options(id="a"), 2)).created


async def test_arguments_that_a_middleware_has_encrypted_are_shown_as_they_were(make_tester: MakeTester) -> None:
    """What is stored, only the app itself can read."""

    async def encrypted(job: object, call_next: object) -> object:
        job.payload = bytes(255 - byte for byte in job.payload)  # type: ignore[attr-defined]
        return await call_next(job)  # type: ignore[operator]

    hub = Hub(url="redis://127.0.0.1:1", tasks=[send_welcome], enqueue_middleware=[encrypted])
    async with make_tester(hub) as jobs:
        await hub.queue().enqueue(send_welcome, 42)

        jobs.assert_enqueued(send_welcome, 42)
    assert hub.enqueue_middleware == [encrypted]
